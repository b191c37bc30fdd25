"""A site under test: a real NATS, real replicas, real workers, and a client that knows nothing of schedd.

    async with Site(tmp_path, server.url) as site:
        await site.replicas("a", "b", "c")
        put = await site.put("hello", {"every": "2s", "queue": "default", "type": "hello"})
        worker = site.worker("default")

Whatever is running at the end is killed, and if the block fails, what the replicas logged is shown.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import nats
from msgspec import Struct
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.kv import KeyValue

from tests import deeds
from tests.acceptance.evidence import Delivery, Expected, Findings, check
from tests.acceptance.plain_worker import sign_in_by
from tests.acceptance.processes import PlainWorker, Process, Replica, SdkWorker
from tests.nats_servers import Server

R3 = {"SCHEDD_STREAM_REPLICAS": "3", "SCHEDD_LEASE": "8", "SCHEDD_HORIZON": "30s"}
"""Settings of a replica where every stream has three copies: an election takes seconds."""
SHORT = {"SCHEDD_LEASE": "3", "SCHEDD_RECONCILE_EVERY": "2", "SCHEDD_RECONCILE_GRACE": "3", "SCHEDD_DUE_ACK_WAIT": "2"}
ENDED = {"succeeded", "failed", "cancelled", "timed_out", "lost"}
TERMINAL = ENDED | {"skipped", "missed", "paused", "superseded", "expired"}
SCHEDULES, EXECUTIONS, STATUS, CONTROL = "schedd-schedules", "schedd-executions", "schedd-status", "schedd-control"
LOG_SHOWN = 4000
READ_AT_ONCE, READ_S = 500, 2.0
MARKERS = {"KV-Operation", "Nats-Marker-Reason"}
"""Headers of a message that says that its key is gone (ADR-8, ADR-43)."""
Found = TypeVar("Found")


class Put(Struct, frozen=True):
    """An acknowledged write to a bucket: its revision, and the instant the server gave it."""

    revision: int
    at: datetime


class Site:
    """`env`: settings of every replica, on top of short waits. `url` may name several servers. `sign_in`: variables by
    which the site's own client and its plain workers sign in."""

    def __init__(
        self, folder: Path, url: str, *, env: Mapping[str, str] | None = None, sign_in: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.url = folder, url
        self.env, self.sign_in = {**SHORT, **(env or {})}, sign_in or {}
        self.processes: list[Process] = []
        self.client: Any = None
        self.js: Any = None

    async def __aenter__(self) -> Self:
        self.client = await nats.connect(
            self.url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1, connect_timeout=2, error_cb=_quiet,
            **sign_in_by(self.sign_in),
        )  # fmt: skip
        self.js = self.client.jetstream(timeout=5)
        return self

    async def __aexit__(self, kind: object, problem: object, _: object) -> None:
        try:
            with deeds.quietly():
                await asyncio.gather(*(process.kill() for process in self.processes))
        finally:
            await self.client.close()
        if problem is not None:
            self.show_logs()

    def show_logs(self) -> None:
        for process in self.processes:
            print(f"\n--- {process.name} (exit {process.exit_code}), the end of its log\n{process.log[-LOG_SHOWN:]}")

    # --- processes

    def replica(self, name: str, *, inside: Sequence[str] = (), **env: str) -> Replica:
        """Start one, without waiting. `inside`: what its command begins with."""
        count = sum(process.name.split(".")[0] == name for process in self.processes)
        unique = f"{name}.{count}" if count else name
        started = Replica(
            unique, self.folder, {**self.env, "NATS_URL": self.url, "SCHEDD_REPLICA": name, **env}, inside
        )
        self.processes.append(started)
        return started

    async def replicas(self, *names: str, **env: str) -> list[Replica]:
        """Start several at once and wait until each is ready."""
        started = [self.replica(name, **env) for name in names]
        await asyncio.gather(*(replica.ready() for replica in started))
        return started

    def worker(self, queue: str, how: str = "ack", *, name: str = "", url: str = "") -> PlainWorker:
        """Start a plain worker: ack, nak, term, never, or the seconds it works before it acks."""
        unique = name or f"worker-{queue}-{len(self.processes)}"
        started = PlainWorker(unique, self.folder, url or self.url, queue, how, self.sign_in)
        self.processes.append(started)
        return started

    def sdk_worker(self, program: str, *, name: str = "", **env: str) -> SdkWorker:
        started = SdkWorker(name or f"sdk-{len(self.processes)}", self.folder, self.url, program, env)
        self.processes.append(started)
        return started

    # --- buckets, by a plain client

    async def bucket(self, name: str) -> KeyValue:
        found: KeyValue = await self.js.key_value(name)
        return found

    async def put(self, key: str, value: Mapping[str, Any] | bytes) -> Put:
        """Write a schedule as any NATS client would; not even the key is looked at."""
        body = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        ack = await self.js.publish(f"$KV.{SCHEDULES}.{key}", body)
        return await self._stored(ack.seq)

    async def delete(self, key: str) -> Put:
        ack = await self.js.publish(f"$KV.{SCHEDULES}.{key}", b"", headers={"KV-Operation": "DEL"})
        return await self._stored(ack.seq)

    async def _stored(self, seq: int) -> Put:
        message = (await self.api(f"STREAM.MSG.GET.KV_{SCHEDULES}", {"seq": seq}))["message"]
        return Put(seq, datetime.fromisoformat(message["time"]))

    async def api(self, subject: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One JetStream API request; raises on an error reply."""
        body = json.dumps(request).encode() if request else b""
        reply: dict[str, Any] = json.loads((await self.client.request(f"$JS.API.{subject}", body, timeout=5)).data)
        if "error" in reply:
            raise KeyError(f"{subject}: {reply['error']}")
        return reply

    async def value(self, bucket: str, key: str) -> dict[str, Any] | None:
        """The JSON under a key; None if there is none."""
        try:
            reply = await self.api(f"STREAM.MSG.GET.KV_{bucket}", {"last_by_subj": f"$KV.{bucket}.{key}"})
        except KeyError:
            return None
        data = base64.b64decode(reply["message"].get("data", ""))
        return json.loads(data) if data else None

    async def status(self, schedule: str) -> dict[str, Any]:
        return await self.value(STATUS, schedule) or {}

    async def records(self) -> dict[str, dict[str, Any]]:
        """Every execution record as it is now."""
        found = await self._values(EXECUTIONS)
        return {key: json.loads(value) for key, value in found.items() if not key.startswith("_")}

    async def keys(self, bucket: str) -> list[str]:
        return list(await self._values(bucket))

    async def _values(self, bucket: str) -> dict[str, bytes]:
        """What stands under each key that the server lists. nats-py's `keys` and `watchall` guess their end from two
        counts of different moments: while somebody writes to the bucket, a third of their answers lack something."""
        stream, prefix = f"KV_{bucket}", f"$KV.{bucket}."
        listed = (await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": f"{prefix}>"}))["state"].get("subjects")
        found = await self._read(stream, prefix)
        missed = [subject for subject in listed or {} if subject not in found]
        found.update(zip(missed, await asyncio.gather(*(self._last(stream, each) for each in missed)), strict=True))
        return {subject.removeprefix(prefix): value for subject, value in found.items() if value is not None}

    async def _read(self, stream: str, prefix: str) -> dict[str, bytes | None]:
        """The last message of most subjects, in bulk; None for one that says that its key is gone."""
        config = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, ack_policy=AckPolicy.NONE)
        pull = await self.js.pull_subscribe(f"{prefix}>", stream=stream, config=config)
        consumer = await pull.consumer_info()
        found: dict[str, bytes | None] = {}
        left = consumer.num_pending
        try:
            while left:
                for message in await pull.fetch(min(left, READ_AT_ONCE), timeout=READ_S):
                    left = message.metadata.num_pending
                    found[message.subject] = message.data if MARKERS.isdisjoint(message.headers or ()) else None
        except NatsTimeoutError:  # what was left has been replaced meanwhile
            return found
        finally:
            await pull.unsubscribe()
            await self.api(f"CONSUMER.DELETE.{stream}.{consumer.name}")
        return found

    async def _last(self, stream: str, subject: str) -> bytes | None:
        try:
            message = (await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
        except KeyError:
            return None
        headers = base64.b64decode(message.get("hdrs", "")).decode()
        return None if any(name in headers for name in MARKERS) else base64.b64decode(message.get("data", ""))

    async def events(self, kind: str, schedule: str) -> list[dict[str, Any]]:
        """The events of a kind about a schedule, oldest first."""
        subject, seq, found = f"schedd.event.{kind}.{schedule}", 1, []
        while True:
            try:
                reply = await self.api("STREAM.MSG.GET.SCHEDD_EVENTS", {"seq": seq, "next_by_subj": subject})
            except KeyError:
                return found
            found.append(json.loads(base64.b64decode(reply["message"]["data"])))
            seq = reply["message"]["seq"] + 1

    async def stored_count(self, stream: str, pattern: str) -> int:
        """How many messages a stream holds on subjects like the pattern."""
        info = await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern})
        return sum((info["state"].get("subjects") or {}).values())

    async def request(self, endpoint: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request to schedd's own API."""
        reply = await self.client.request(f"schedd.api.v1.{endpoint}", json.dumps(body or {}).encode(), timeout=10)
        found: dict[str, Any] = json.loads(reply.data)
        return found

    # --- who leads

    async def leader_record(self) -> dict[str, Any]:
        return await self.value(CONTROL, "leader") or {}

    async def leader(self, *, other_than: Replica | None = None, within_s: float = 30) -> Replica:
        """The running replica that holds the lease; waits while there is none."""

        async def look() -> Replica | None:
            held = await self.leader_record()
            for process in self.processes:
                leads = process.name.split(".")[0] == held.get("replica") and held.get("holder")
                if isinstance(process, Replica) and leads and process.exit_code is None and process is not other_than:
                    return process
            return None

        return await eventually(look, within_s=within_s, what="a leader")

    def complaints(self) -> list[str]:
        """Warnings and errors that replicas have logged."""
        replicas = [process for process in self.processes if isinstance(process, Replica)]
        lines = [(replica.name, line) for replica in replicas for line in replica.lines()]
        return [f"{name}: {line}" for name, line in lines if line.get("level") not in {"info", "debug"}]

    # --- verdict

    async def settle(
        self, expected: Expected, workers: list[PlainWorker], *, within_s: float = 30, records: bool = True
    ) -> tuple[list[Delivery], dict[str, dict[str, Any]]]:
        """Wait until everything expected was delivered and is settled, at most that long; what is there then."""
        until_s = time.monotonic() + within_s
        while True:
            deliveries = [each for worker in workers for each in worker.deliveries()]
            missing = expected.must.keys() - {each.id for each in deliveries}
            over = time.monotonic() >= until_s
            if not missing or over:
                stored = await self.records() if records else {}
                unsettled = [id_ for id_ in expected.must if stored.get(id_, {}).get("state") not in TERMINAL]
                if over or not records or not unsettled:
                    return deliveries, stored
            await asyncio.sleep(0.5)

    async def verify(
        self, expected: Expected, workers: list[PlainWorker], *, late_max_s: float, within_s: float = 30
    ) -> Findings:
        """Settle and check; fails with what was found."""
        deliveries, stored = await self.settle(expected, workers, within_s=within_s)
        findings = check(expected, deliveries, stored, late_max_s=late_max_s)
        print(findings)
        assert findings.clean, f"{findings}\n{first_fault(findings, deliveries, stored)}"
        return findings


def first_fault(findings: Findings, deliveries: list[Delivery], stored: Mapping[str, Any]) -> str:
    """All there is about the first id at fault."""
    ids = [text.split()[0] for found in findings.faults.values() for text in found]
    told = next((id_ for id_ in ids if id_ in stored or any(each.id == id_ for each in deliveries)), ids[0])
    seen = [f"seq {each.seq}, delivery {each.delivered}, at {each.at}" for each in deliveries if each.id == told]
    return f"{told}: {seen or 'never delivered'}; record {json.dumps(stored.get(told), indent=1)}"


async def eventually(look: Callable[[], Awaitable[Found | None]], *, within_s: float = 10, what: str = "it") -> Found:
    """The first true answer of `look`."""
    until_s = time.monotonic() + within_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < until_s, f"waited {within_s:g} s for {what}; last seen: {found!r}"
        await asyncio.sleep(0.05)


def utc_now() -> datetime:
    """This machine's clock, which is the server's too."""
    return datetime.now(UTC)


def roomy_server(folder: Path) -> Server:
    """One NATS that takes messages of 8 MB, so that oversized values reach schedd at all."""
    return Server(folder / "nats", config="max_payload: 8MB")


async def on_sites_of_their_own(folder: Path, jobs: Mapping[str, Callable[[Site], Awaitable[None]]]) -> None:
    """Run each job on a site and a server of its own, all at once: they mostly wait. Fails with all their failures."""

    async def one(name: str, job: Callable[[Site], Awaitable[None]]) -> None:
        server = roomy_server(folder / name)
        await server.start()
        try:
            async with Site(folder / name, server.url) as site:
                await job(site)
        except Exception as problem:
            problem.add_note(f"on the site of {name}")
            raise
        finally:
            await server.kill()

    results = await asyncio.gather(*(one(name, job) for name, job in jobs.items()), return_exceptions=True)
    problems = [result for result in results if isinstance(result, BaseException)]
    if problems:
        raise BaseExceptionGroup(f"{len(problems)} of {len(jobs)} failed", problems)


async def _quiet(problem: Exception) -> None:
    return
