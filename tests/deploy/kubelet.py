"""What a kubelet does with a pod, with a real process for its container.

Arguments, environment, ports and probes are those of the rendered pod. Changed is only what this machine needs: the
port that the container listens on is any free one of 127.0.0.1, and the servers of NATS are the test's. A process is
started, probed (startup first, then readiness and liveness, each with its period, timeout and thresholds), restarted
when it ends or its liveness fails, and ended by SIGTERM, the grace period, SIGKILL.

Sources: the Pod API, https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.acceptance.processes import Process, Replica

PROGRAMS = {"schedd": ["-m", "cli.schedd"], "python3": []}
POLL_S = 0.02
BACKOFF_S = (0.0, 10.0, 20.0, 40.0)  # before the n-th restart in a row


class Probe(Struct, frozen=True):
    """As in the Pod API; `initialDelaySeconds` and the like default as there."""

    path: str
    port: str
    period_s: float
    timeout_s: float
    failures: int
    successes: int
    delay_s: float

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Probe:
        return cls(
            path=given["httpGet"]["path"],
            port=given["httpGet"]["port"],
            period_s=given.get("periodSeconds", 10),
            timeout_s=given.get("timeoutSeconds", 1),
            failures=given.get("failureThreshold", 3),
            successes=given.get("successThreshold", 1),
            delay_s=given.get("initialDelaySeconds", 0),
        )

    async def ask(self, address: str) -> bool:
        """One GET: well if the answer is 200 to 399 in time."""
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError, ValueError, IndexError, TimeoutError):
            async with asyncio.timeout(self.timeout_s):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    writer.write(f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                    return 200 <= int((await reader.readline()).split()[1]) < 400
                finally:
                    writer.close()
        return False


class Container(Process):
    """The process of one run of the container; it tells by itself where it listens."""

    lines = Replica.lines
    events = Replica.events

    @property
    def address(self) -> str:
        """Where its monitor listens; empty until it does."""
        found: list[dict[str, Any]] = self.events("http.listening")  # type: ignore[arg-type]  # it reads only the log
        return str(found[0]["address"]) if found else ""


class Pod:
    """One pod on a node. `ready` and `ready_since` are what the rest of the cluster goes by."""

    def __init__(self, name: str, node: str, template: Mapping[str, Any], folder: Path, env: Mapping[str, str]) -> None:
        self.name, self.node, self.template = name, node, template
        self._spec, [self._container] = template["spec"], template["spec"]["containers"]
        self._folder, self._env = folder, env
        self.runs: list[Container] = []
        self.restarts: list[str] = []
        self.ready, self.ready_since = False, 0.0
        self.terminating_since: float | None = None
        self.killed_after_grace = False
        self._tending = asyncio.create_task(self._tend(), name=f"kubelet of {name}")
        self._ending: asyncio.Task[None] | None = None

    @property
    def grace_s(self) -> float:
        return float(self._spec["terminationGracePeriodSeconds"])

    @property
    def gone(self) -> bool:
        return self._ending is not None and self._ending.done()

    @property
    def exit_codes(self) -> list[int | None]:
        return [run.exit_code for run in self.runs]

    def available(self, min_ready_s: float) -> bool:
        """Ready for that long, and meant to stay."""
        return self.ready and self.terminating_since is None and time.monotonic() - self.ready_since >= min_ready_s

    # --- from start to end

    def terminate(self) -> None:
        """Begin to end it: unready at once, SIGTERM, the grace period, SIGKILL. Idempotent."""
        if self._ending is None:
            self.terminating_since = time.monotonic()
            self.ready = False
            self._tending.cancel()
            self._ending = asyncio.create_task(self._end(), name=f"end of {self.name}")

    async def _end(self) -> None:
        run = self.runs[-1] if self.runs else None
        if run is None or run.exit_code is not None:
            return
        run.signal(signal.SIGTERM)
        try:
            await run.ended(self.grace_s)
        except TimeoutError:
            self.killed_after_grace = True
            await run.kill()

    async def close(self) -> None:
        """Take it away without ceremony, at the end of a test."""
        self._tending.cancel()
        if self._ending is not None:
            self._ending.cancel()
        for run in self.runs:
            await run.kill()
        await asyncio.gather(self._tending, *([self._ending] if self._ending else []), return_exceptions=True)

    async def _tend(self) -> None:
        while True:
            run = self._start()
            reason = await self._watch(run)
            self.ready = False
            self.restarts.append(reason)
            if run.exit_code is None:
                run.signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await run.ended(self.grace_s)
            await run.kill()
            await asyncio.sleep(BACKOFF_S[min(len(self.restarts), len(BACKOFF_S)) - 1])

    def _start(self) -> Container:
        program, *arguments = [*self._container.get("command", ["schedd"]), *self._container.get("args", [])]
        env = {**resolved(self._container.get("env", []), self.name), **self._env}
        name = f"{self.name}.{len(self.runs)}" if self.runs else self.name
        run = Container(name, self._folder, [*PROGRAMS[program], *here(arguments)], env)
        self.runs.append(run)
        return run

    # --- probes

    async def _watch(self, run: Container) -> str:
        """Until it has to be started again; why."""
        probes = (
            asyncio.create_task(self._probe_all(run)),
            asyncio.create_task(self._ended(run)),
        )
        try:
            done, _ = await asyncio.wait(probes, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def _ended(self, run: Container) -> str:
        while run.exit_code is None:
            await asyncio.sleep(POLL_S)
        return f"ended with {run.exit_code}"

    async def _probe_all(self, run: Container) -> str:
        startup, readiness, liveness = (
            Probe.of(self._container[kind]) for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        )
        if not await self._until(startup, run, well=True):
            return "startup probe failed"
        following = asyncio.create_task(self._follow(readiness, run))
        try:
            await self._until(liveness, run, well=False)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        return "liveness probe failed"

    async def _until(self, probe: Probe, run: Container, *, well: bool) -> bool:
        """Probe until it is well (or, `well` false, until it is not); False if the failures are over before that."""
        await asyncio.sleep(probe.delay_s)
        failures = 0
        while failures < probe.failures:
            good = await probe.ask(self._address(probe, run))
            if good and well:
                return True
            failures = 0 if good else failures + 1
            await asyncio.sleep(probe.period_s)
        return False

    async def _follow(self, probe: Probe, run: Container) -> None:
        """Keep `ready` up to date."""
        await asyncio.sleep(probe.delay_s)
        good = bad = 0
        while True:
            well = await probe.ask(self._address(probe, run))
            good, bad = (good + 1, 0) if well else (0, bad + 1)
            if good >= probe.successes and not self.ready:
                self.ready, self.ready_since = True, time.monotonic()
            if bad >= probe.failures:
                self.ready = False
            await asyncio.sleep(probe.period_s)

    def _address(self, probe: Probe, run: Container) -> str:
        """The probe's port by name has to be one of the container's, which has to be the one it was told to open."""
        [port] = [each["containerPort"] for each in self._container["ports"] if each["name"] == probe.port]
        monitor = next((each for each in self._container["args"] if each.startswith("--monitor=")), f":{port}")
        assert monitor.endswith(f":{port}"), f"{monitor} is not the container's port {port}"
        return run.address


def resolved(env: Sequence[Mapping[str, Any]], pod: str) -> dict[str, str]:
    """The environment of a container; what comes from a Secret has to be given by the test."""
    found = {}
    for each in env:
        source = each.get("valueFrom", {})
        if source.get("fieldRef", {}).get("fieldPath") == "metadata.name":
            found[each["name"]] = pod
        elif "value" in each:
            found[each["name"]] = each["value"]
    return found


def here(arguments: Sequence[str]) -> list[str]:
    """Any free port of this machine for the one of the pod's own address."""
    return ["--monitor=127.0.0.1:0" if each.startswith("--monitor=") else each for each in arguments]
