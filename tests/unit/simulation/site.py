"""The simulated world: the server with a journal of all it stores, replicas on networks of their own, a client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from msgspec import Struct

from scheduler.config import Settings
from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import Execution
from scheduler.core.model.schedule import Definition
from scheduler.core.triggers import CompiledTrigger, compile_trigger
from scheduler.memory.acting import MemoryActions
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.cancelling import MemoryCancels
from scheduler.memory.event_feed import MemoryEventFeed
from scheduler.memory.events import MemoryEvents
from scheduler.memory.logs import MemoryLogs
from scheduler.memory.messages import Message
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.reports import MemoryReports
from scheduler.memory.server import MemoryServer
from scheduler.memory.signals import MemorySignals
from scheduler.memory.storage import MemoryStorage
from scheduler.memory.streams import MemoryStream
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.checkpoints import NoCheckpoints
from scheduler.ports.stores import StreamSeen
from scheduler.services.together import kept_running
from scheduler.wire.events import decode_event
from scheduler.wire.ids import is_schedule_id
from scheduler.wire.instants import parse_instant
from scheduler.wire.record import decode_execution
from scheduler.wire.schedule import parse_schedule
from scheduler.wire.tasks import WITHHELD, parse_claim_subject
from scheduler.wire.timeline import decode_armed, decode_epoch, decode_watermark
from scheduler.wiring import Wiring
from tests.unit.simulation.clocks import OwnClock, Wall
from tests.unit.simulation.network import Network, Trouble
from tests.unit.simulation.virtual_time import SimulatedClock

SETTINGS: dict[str, Any] = {
    "horizon_s": 20.0,
    "lease_s": 6.0,
    "lease_renew_deadline_s": 4.0,
    "lease_retry_s": 1.0,
    "reconcile_every_s": 8.0,
    "reconcile_grace_s": 8.0,
    "claim_floor_s": 120.0,
    "max_pending": 25,
    "monitor": None,
    "admin": None,
}
FACTS = frozenset({"applied", "verdicts"})  # events that are told until somebody has heard it, under one id


class Version(Struct, frozen=True):
    """One write to a schedule's key; no definition: deleted or invalid from then on."""

    revision: int
    at: datetime
    definition: Definition | None = None
    trigger: CompiledTrigger | None = None
    deleted: bool = False


class Mark(Struct, frozen=True):
    """The watermark as it was stored at `at`."""

    at: datetime
    until: datetime
    applied: int


class Told(Struct, frozen=True):
    """A range of verdicts, told at `at`."""

    at: datetime
    id: str
    first: datetime
    last: datetime
    count: int
    verdict: str
    reason: str


class Journal:
    """All that the server ever stored, as far as the checks ask for it."""

    def __init__(self, stored_twice: Callable[[], None]) -> None:
        self.stored_twice = stored_twice
        """Called for an event that came again and was not kept out: no stream of the simulation drops a Nats-Msg-Id."""
        self._facts: set[str] = set()
        self.versions: dict[str, list[Version]] = {}
        self.marks: list[Mark] = []
        self.records: dict[str, list[tuple[datetime, Execution]]] = {}
        self.pairs: dict[tuple[str, int], list[datetime]] = {}
        self.ranges: dict[str, list[Told]] = {}
        """Verdicts for ranges of nominal times, by schedule; each fact once."""
        self.epochs: list[tuple[int, int]] = []
        """Sequence, and the lease's revision it was taken under."""
        self.arms: list[tuple[int, int]] = []
        """Sequence, and the epoch that stands in it."""
        self.told_ends: dict[tuple[str, int], list[tuple[str, str]]] = {}
        """What events tell of each execution and drive: their ids, and the state in them."""

    def note_schedule(self, key: str, message: Message) -> None:
        if not is_schedule_id(key):
            return
        version = Version(message.seq, message.at, deleted=not message.data and "KV-Operation" in message.headers)
        try:
            schedule = parse_schedule(key, message.data)
            definition = Definition(schedule=schedule, generation=message.seq, effective_at=message.at)
            version = Version(message.seq, message.at, definition, compile_trigger(schedule))
        except ScheddError:
            pass
        self.versions.setdefault(key, []).append(version)

    def note_record(self, key: str, message: Message) -> None:
        if message.data and not key.startswith("_nonce."):
            self.records.setdefault(key, []).append((message.at, decode_execution(message.data)))

    def note_event(self, message: Message) -> None:
        event = decode_event(message.data)
        if event.kind in FACTS:
            if event.id in self._facts:
                self.stored_twice()
            self._facts.add(event.id)
        if event.kind == "verdicts" and event.schedule_id is not None:
            data = event.data
            first, last = parse_instant(data["from"]), parse_instant(data["to"])
            told = Told(message.at, event.id, first, last, data["count"], data["verdict"], data["reason"])
            ranges = self.ranges.setdefault(event.schedule_id, [])
            if told.id not in {each.id for each in ranges}:
                ranges.append(told)
        if event.kind == "finished":
            key = (event.data["execution_id"], event.data["drive"])
            self.told_ends.setdefault(key, []).append((event.id, event.data["state"]))

    def told_of(self, schedule_id: str, nominal: datetime) -> list[Told]:
        """The ranges that a nominal time lies in."""
        return [each for each in self.ranges.get(schedule_id, []) if each.first <= nominal <= each.last]

    def ends(self) -> Iterator[Execution]:
        """Every end of every drive."""
        for revisions in self.records.values():
            seen: set[int] = set()
            for _, each in revisions:
                if each.state in TERMINAL and each.drive not in seen:
                    seen.add(each.drive)
                    yield each

    def version_at(self, schedule_id: str, at: datetime) -> Version | None:
        """The version in force at an instant."""
        found = (v for v in self.versions.get(schedule_id, []) if v.at < at)
        return max(found, key=lambda v: v.revision, default=None)

    def last(self) -> dict[str, Execution]:
        return {key: revisions[-1][1] for key, revisions in self.records.items()}


def _tap(stream: MemoryStream, note: Callable[[Message], None]) -> None:
    store = stream._store

    def stored(write: Any) -> None:
        store(write)
        note(stream.messages[stream.last_seq])

    stream._store = stored  # type: ignore[method-assign]


class Site:
    """What outlives replicas."""

    def __init__(self, clock: SimulatedClock, seed: int) -> None:
        self.clock, self.seed = clock, seed
        self.rng = random.Random(seed)
        self.trouble = Trouble(clock)
        self.server = MemoryServer(clock)
        names = self.names = self.server.names
        self.buckets = {
            word: MemoryBucket(self.server, names.bucket(word))
            for word in ("schedules", "executions", "status", "control", "workers", "calendars")
        }
        self.journal = Journal(lambda: self.trouble.note("stored twice"))
        for word, note in (("schedules", self.journal.note_schedule), ("executions", self.journal.note_record)):
            prefix = f"$KV.{names.bucket(word)}."
            _tap(self.buckets[word].stream, lambda m, n=note, p=prefix: n(m.subject.removeprefix(p), m))
        _tap(self.server.tasks, self._note_task)
        _tap(self.server.timeline, self._note_mark)
        _tap(self.server.events, self.journal.note_event)
        self.replicas: list[Replica] = []
        self.walls: dict[str, Wall] | None = None
        """The wall clocks of machines, by label; None: all show the server's time."""

    def _note_task(self, message: Message) -> None:
        if message.subject.startswith(f"{self.names.namespace}.claim.") and message.data != WITHHELD:
            self.journal.pairs.setdefault(parse_claim_subject(self.names, message.subject), []).append(message.at)

    def _note_mark(self, message: Message) -> None:
        if message.subject == self.names.watermark:
            body = decode_watermark(message.data)
            self.journal.marks.append(Mark(message.at, body.until, body.applied))
        elif message.subject == self.names.epoch:
            body_of_epoch = decode_epoch(message.data)
            self.journal.epochs.append((message.seq, body_of_epoch.lease_rev))
            if any(each.is_sure_to_lead(besides=body_of_epoch.holder) for each in self.alive):
                self.trouble.note("two leaders")
        elif message.target:
            self.journal.arms.append((message.seq, decode_armed(message.data).epoch))

    def put(self, schedule_id: str, value: bytes) -> None:
        self.buckets["schedules"].put_raw(schedule_id, value)

    def remove(self, schedule_id: str) -> None:
        self.buckets["schedules"].put_raw(schedule_id, b"", {"KV-Operation": "DEL"})

    def now(self) -> datetime:
        return self.clock.now()

    def later(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    # --- replicas

    def start(self, label: str) -> Replica:
        replica = Replica(self, label)
        self.replicas.append(replica)
        return replica

    @property
    def alive(self) -> list[Replica]:
        return [each for each in self.replicas if not each.is_over]


class Replica:
    """One process of schedd, wired by `scheduler.wiring` as the daemon does it."""

    def __init__(self, site: Site, label: str) -> None:
        self.site, self.label = site, label
        self.network = Network(site.clock, random.Random(site.rng.random()), site.trouble)
        if site.walls is not None:
            self.network.clock = OwnClock(site.clock, site.walls.setdefault(label, Wall()), self.network)
        self.clock = self.network.clock
        self.telemetry = RecordingTelemetry()
        self.events = _Events(MemoryEvents(site.server), self.network, random.Random(f"{site.seed} {label}"))
        self.is_over = False
        self.wiring: Wiring | None = None
        self._serving = asyncio.ensure_future(self._serve())

    def _wired(self) -> Wiring:
        around, server = self.network.around, self.site.server
        adapters = SimpleNamespace(
            timeline=around(MemoryTimeline(server)),
            queues=around(MemoryTaskQueues(server)),
            reports=around(MemoryReports(server)),
            signals=around(MemorySignals(server)),
            cancels=around(MemoryCancels(server)),
            logs=around(MemoryLogs(server)),
            actions=around(MemoryActions(server)),
            storage=around(MemoryStorage(server)),
            events=self.events,
            feed=lambda: around(MemoryEventFeed(server)),
            ensure=_nothing_missing,
            births=_no_streams,
            raise_above=_nothing_raised,
            reconnects=lambda: 0,
            lease=self.network.apart(self.site.buckets["control"].replica()),
            received=lambda: self.network.received,
            server_version="2.15.1",
            **{word: around(bucket.replica()) for word, bucket in self.site.buckets.items()},
        )
        settings = Settings(replica=self.label, **SETTINGS)
        return Wiring(settings, cast("Any", adapters), self.clock, cast("Any", self.telemetry), NoCheckpoints())

    async def _serve(self) -> None:
        wiring = await self._opened()
        kept = [kept_running(name, self.clock, run) for name, run in wiring.services().items()]
        await asyncio.gather(wiring.leader.run(), *kept)

    async def _opened(self) -> Wiring:
        """A process that cannot start is started again."""
        while True:
            wiring = self.wiring = self._wired()
            try:
                await asyncio.gather(wiring.schedules.start(), wiring.index.start())
            except ScheddError:
                await self._close_watches()
                await self.clock.sleep(0.5)
            else:
                return wiring

    def is_sure_to_lead(self, *, besides: str) -> bool:
        """Whether it thinks that it is in office: an ex-leader that is frozen or cut off does."""
        leader = None if self.wiring is None else vars(self.wiring).get("leader")  # looking does not make one
        return leader is not None and leader.tenure is not None and leader.holder != besides

    async def kill(self) -> None:
        """SIGKILL."""
        self.network.kill()
        await self._end()

    async def stop(self) -> None:
        """SIGTERM: the lease first, then what is under way."""
        if self.wiring is not None:
            self.wiring.leader.stop()
            await asyncio.sleep(1.0)
        await self._end()
        if self.wiring is not None:
            await self.wiring.settlement.flush()
        await self.events.close()
        self.network.kill()

    async def _end(self) -> None:
        self.is_over = True
        self._serving.cancel()
        await asyncio.wait([self._serving])
        if not self._serving.cancelled():
            self._serving.result()
        await self._close_watches()

    async def _close_watches(self) -> None:
        watches, self.network.watches = self.network.watches, []
        for watch in watches:
            await watch.stop()


class _Events:
    """Evidence goes over the network like everything else; what is published soon is nobody's to wait for, and dies
    with the process."""

    def __init__(self, events: MemoryEvents, network: Network, rng: random.Random) -> None:
        self._events, self._network, self._rng = events, network, rng
        self._around = network.around(events)
        self._sending: set[asyncio.Task[None]] = set()

    async def publish(
        self, kind: str, schedule_id: str | None, data: dict[str, object], *, event_id: str | None = None
    ) -> None:
        sending = asyncio.ensure_future(self._send(kind, schedule_id, data, event_id))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _send(self, kind: str, schedule_id: str | None, data: dict[str, object], event_id: str | None) -> None:
        await self._network.pause(self._rng.choice((0.001, 0.01, 1.0)))
        await self._events.publish(kind, schedule_id, data, event_id=event_id)

    async def close(self) -> None:
        """Send what is left."""
        await asyncio.gather(*self._sending, return_exceptions=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._around, name)


async def _nothing_missing() -> list[str]:
    return []


async def _no_streams() -> dict[str, StreamSeen | None]:
    return {}


async def _nothing_raised(stream: str, above: int) -> int:
    return 0
