"""Real processes under test: a replica of schedd and workers, each with its log, each ended with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scheduler.embedded import _dies_with_parent
from tests import deeds
from tests.acceptance.evidence import Delivery

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.02
STOPPED_S = 5.0
"""How long a signal may take to stop a process."""


def clean_environment() -> dict[str, str]:
    """Ours, without what would configure schedd or NATS behind a test's back."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SCHEDD_", "NATS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


class Process:
    """A Python process with its output in a file. `inside`: what its command begins with."""

    kind = "process"

    def __init__(
        self, name: str, folder: Path, arguments: list[str], env: Mapping[str, str], inside: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._told_to_stop = False
        self.log_place = folder / f"{name}.log"
        with self.log_place.open("ab") as log:
            self._process = subprocess.Popen(
                [*inside, sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**clean_environment(), **env},
                preexec_fn=_dies_with_parent(),  # noqa: PLW1509 - one system call, made ready before the fork
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_place.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """KILL, TERM, STOP, CONT ...; to a process that has ended: nothing. Returns from a STOP when it is stopped."""
        self._told_to_stop |= number is signal.SIGSTOP
        if self.exit_code is None and number is not signal.SIGCONT:
            deeds.note(f"{number.name} to a {self.kind}")
        self._process.send_signal(number)
        until_s = time.monotonic() + STOPPED_S
        while number is signal.SIGSTOP and self.exit_code is None and not self.is_stopped:
            assert time.monotonic() < until_s, f"{self.name} goes on after a SIGSTOP"
            time.sleep(0.001)

    async def ended(self, within_s: float = 20) -> int:
        """Wait for the end; the exit code."""
        async with asyncio.timeout(within_s):
            while (code := self.exit_code) is None:
                await asyncio.sleep(POLL_S)
        return code

    async def stopped(self, within_s: float = 30) -> None:
        """Wait until a SIGSTOP holds it, its own for instance."""
        async with asyncio.timeout(within_s):
            while not self.is_stopped:
                assert self.exit_code is None, f"{self.name} ended with {self.exit_code}:\n{self.log[-3000:]}"
                await asyncio.sleep(POLL_S)
        if not self._told_to_stop:
            deeds.note(f"a {self.kind} stopped at a step of its own")

    @property
    def is_stopped(self) -> bool:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    @property
    def open_files(self) -> int:
        """Files and sockets it holds open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def kill(self) -> None:
        """kill -9, and wait; harmless if it has ended."""
        self.signal(signal.SIGKILL)
        await self.ended()


class Replica(Process):
    """`python -m scheduler`, set up by its environment."""

    kind = "replica"

    def __init__(self, name: str, folder: Path, env: Mapping[str, str], inside: Sequence[str] = ()) -> None:
        settings = {"SCHEDD_REPLICA": name, "SCHEDD_MONITOR": "127.0.0.1:0", "SCHEDD_ADMIN": "off"}
        super().__init__(name, folder, ["-m", "scheduler"], {**settings, "SCHEDD_LOG_FORMAT": "json", **env}, inside)

    def events(self, event: str) -> list[dict[str, Any]]:
        """Log lines of that event so far."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> list[dict[str, Any]]:
        """The log, parsed; a line that is no JSON has the event not_json."""
        lines = []
        for text in self.log.splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                lines.append({"event": "not_json", "message": text})
        return lines

    async def logged(self, event: str, within_s: float = 30) -> dict[str, Any]:
        """Wait for a log line of that event; the first."""
        began_s = time.monotonic()
        while not (found := self.events(event)):
            assert self.exit_code is None, f"{self.name} ended with {self.exit_code}:\n{self.log[-3000:]}"
            assert time.monotonic() - began_s < within_s, f"{self.name} never logged {event}:\n{self.log[-3000:]}"
            await asyncio.sleep(POLL_S)
        return found[0]

    async def ready(self, within_s: float = 40) -> None:
        await self.logged("ready", within_s)

    async def http(self, path: str) -> tuple[int, str]:
        """GET from the monitor port: status and body."""
        host, _, port = str((await self.logged("http.listening"))["address"]).rpartition(":")
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                reply = (await reader.read()).decode()
            finally:
                writer.close()
        head, _, body = reply.partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def metrics(self) -> dict[str, float]:
        """All series by name, labels included as Prometheus writes them."""
        status, body = await self.http("/metrics")
        assert status == 200
        lines = (line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


class PlainWorker(Process):
    """A worker process that knows nothing of schedd; what it got is in its evidence file."""

    kind = "worker"

    def __init__(
        self, name: str, folder: Path, url: str, queue: str, how: str = "ack", env: Mapping[str, str] | None = None
    ) -> None:
        self.queue, self.how = queue, how
        self.evidence_place = folder / f"{name}.evidence"
        self.evidence_place.touch()
        arguments = ["-m", "tests.acceptance.plain_worker", queue, str(self.evidence_place), how]
        super().__init__(name, folder, arguments, {"NATS_URL": url, **(env or {})})

    def deliveries(self) -> list[Delivery]:
        """All so far; a last line cut short by a kill -9 was never answered."""
        lines = self.evidence_place.read_bytes().split(b"\n")[:-1]
        return [delivery_of(json.loads(line)) for line in lines]


class SdkWorker(Process):
    """A worker of the SDK: a program that calls `worker.run()`. `EVIDENCE` names a file that it may append to."""

    kind = "worker of the SDK"

    def __init__(self, name: str, folder: Path, url: str, program: str, env: Mapping[str, str] | None = None) -> None:
        self.evidence_place = folder / f"{name}.evidence"
        self.evidence_place.touch()
        settings = {"NATS_URL": url, "EVIDENCE": str(self.evidence_place), **(env or {})}
        super().__init__(name, folder, ["-c", program], settings)

    def notes(self) -> list[dict[str, Any]]:
        """What the program has noted, one JSON object a line."""
        return [json.loads(line) for line in self.evidence_place.read_bytes().split(b"\n")[:-1]]


def delivery_of(line: Mapping[str, Any]) -> Delivery:
    return Delivery(
        id=line["id"],
        seq=line["seq"],
        delivered=line["delivered"],
        at=datetime.fromisoformat(line["at"]),
        nominal_at=datetime.fromisoformat(line["nominal_at"]),
        headers=line["headers"],
        body=line["body"],
    )
