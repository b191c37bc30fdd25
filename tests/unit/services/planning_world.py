"""A stage for the leader's side: replicas of the memory twins in virtual time, and what a timeline should hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from scheduler.core.arming import plan_all
from scheduler.core.dispatching import InForce
from scheduler.core.errors import Fenced, InvalidArgument, ScheddError, Unavailable
from scheduler.core.leadership import LeaseTimings, Term
from scheduler.core.model.queue import QueueEdit
from scheduler.core.model.schedule import Definition
from scheduler.core.model.status import StatusRow
from scheduler.core.planning import late_one_shots
from scheduler.core.triggers import EPOCH, compile_trigger
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import START, VirtualClock
from scheduler.memory.events import MemoryEvents
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Office, Stored, Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.calendars import CalendarCache
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.planner import CLAIM_FLOOR, Planner
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.ids import parse_nominal
from scheduler.wire.instants import format_instant
from scheduler.wire.names import LEADER_KEY, Names
from scheduler.wire.schedule import ScheduleLimits, parse_schedule
from scheduler.wire.status import decode_lease, decode_status
from scheduler.wire.timeline import decode_armed, decode_watermark
from tests.unit.services.processes import Process

TIMINGS = LeaseTimings(15.0, 10.0, 2.0)
HORIZON = timedelta(seconds=20)
SECOND = timedelta(seconds=1)
HALF = 0.5  # a moment after START at which nothing is due


class World:
    """What outlives replicas."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.names = Names()
        self.server = MemoryServer(self.clock, self.names)
        self.control = MemoryBucket(self.server, self.names.control)
        self.schedules = MemoryBucket(self.server, self.names.schedules)
        self.status = MemoryBucket(self.server, self.names.status)
        self.calendars: MemoryBucket | None = None
        """Only where a test is about them: they cost calls."""
        self.timeline = MemoryTimeline(self.server)
        self.events = MemoryEvents(self.server)
        self.history: dict[str, list[tuple[datetime, InForce | None]]] = {}

    # --- schedules

    def put(self, schedule_id: str, **definition: Any) -> int:
        """As any NATS client puts it."""
        return self.put_raw(schedule_id, msgspec.json.encode({"queue": "Q", "type": "t", **definition}))

    def put_raw(self, schedule_id: str, value: bytes) -> int:
        revision = self.schedules.put_raw(schedule_id, value)
        self._remember(schedule_id, value, revision)
        return revision

    def delete(self, schedule_id: str) -> int:
        self._remember(schedule_id, b"", 0)
        return self.schedules.put_raw(schedule_id, b"", {"KV-Operation": "DEL"})

    def _remember(self, schedule_id: str, value: bytes, revision: int) -> None:
        in_force: InForce | None = None
        with contextlib.suppress(InvalidArgument):
            schedule = parse_schedule(schedule_id, value)
            definition = Definition(schedule=schedule, generation=revision, effective_at=self.clock.now())
            in_force = InForce(definition, compile_trigger(schedule))
        self.history.setdefault(schedule_id, []).append((self.clock.now(), in_force))

    def expected(self, until: datetime) -> dict[str, list[datetime]]:
        """What every schedule owes up to a nominal time, by its definitions alone."""
        owed = {schedule_id: self._owed_by(history, until) for schedule_id, history in self.history.items()}
        return {schedule_id: sorted(nominals) for schedule_id, nominals in owed.items() if nominals}

    def expected_of(self, schedule_id: str, after: datetime, until: datetime) -> list[datetime]:
        """What the newest definition of a schedule yields in (after, until]."""
        in_force = self.history[schedule_id][-1][1]
        return [] if in_force is None else [each.nominal_at for each in plan_all(in_force, after, until)[0]]

    def _owed_by(self, history: list[tuple[datetime, InForce | None]], until: datetime) -> set[datetime]:
        owed: set[datetime] = set()
        ends = [*(at for at, _ in history[1:]), until]
        for number, (each, end) in enumerate(zip(history, ends, strict=True)):
            if each[1] is None:
                continue
            before = history[number - 1][1] if number else None
            definition, paused = each[1].definition, each[1].definition.schedule.is_paused_at
            owed |= {
                at
                for at in late_one_shots(
                    definition, each[1].trigger, previous=None if before is None else before.definition
                )
                if not paused(at)
            }
            owed |= {each.nominal_at for each in plan_all(each[1], each[0], end)[0]}
        return owed

    async def row(self, schedule_id: str) -> StatusRow | None:
        entry = await self.status.get(schedule_id)
        return None if entry is None or entry.deleted else decode_status(entry.value)

    # --- the timeline

    def armed(self) -> dict[str, list[datetime]]:
        """What is armed, disarmed subjects left out."""
        return self._nominals(f"{self.names.namespace}.arm.", bool)

    def due(self) -> dict[str, list[datetime]]:
        return self._nominals(f"{self.names.namespace}.due.", lambda _: True)

    def owed(self) -> dict[str, list[datetime]]:
        """Armed or fired, each as often as it stands there."""
        owed = self.armed()
        for schedule_id, nominals in self.due().items():
            owed[schedule_id] = sorted(owed.get(schedule_id, []) + nominals)
        return owed

    def _nominals(self, prefix: str, wanted: Callable[[bytes], bool]) -> dict[str, list[datetime]]:
        found: dict[str, list[datetime]] = {}
        for message in self.server.timeline.messages.values():
            if message.subject.startswith(prefix) and wanted(message.data):
                schedule_id, _, nominal = message.subject.removeprefix(prefix).rpartition(".")
                found.setdefault(schedule_id, []).append(parse_nominal(nominal))
        return {schedule_id: sorted(nominals) for schedule_id, nominals in found.items()}

    def generations(self, schedule_id: str) -> set[int]:
        """Of the definitions that the schedule's arms come from."""
        prefix = f"{self.names.namespace}.arm.{schedule_id}."
        messages = self.server.timeline.messages.values()
        return {
            decode_armed(each.data).generation for each in messages if each.subject.startswith(prefix) and each.data
        }

    async def mark(self) -> Watermark:
        stored = await self.timeline.watermark()
        assert stored is not None
        assert stored.watermark is not None
        return stored.watermark

    # --- the lease

    async def holder(self) -> str:
        """Who holds the lease, by label; empty if nobody does."""
        entry = await self.control.get(LEADER_KEY)
        return "" if entry is None or entry.deleted else decode_lease(entry.value).holder.rpartition("-")[0]


async def _nothing() -> None:
    """What happens after a commit, unless a test says otherwise."""


class _Queues(MemoryTaskQueues):
    def __init__(self, server: MemoryServer, replica: PlanningReplica) -> None:
        super().__init__(server)
        self._replica = replica

    async def ensure(self, queue: str, edit: QueueEdit | None = None) -> None:
        if self._replica.queue_problem is not None:
            raise self._replica.queue_problem
        await super().ensure(queue, edit)


class _Timeline(MemoryTimeline):
    def __init__(self, server: MemoryServer, replica: PlanningReplica) -> None:
        super().__init__(server)
        self._replica = replica

    async def watermark(self) -> Stored | None:
        if self._replica.slow_reading_s:
            self._replica.reading = True
            await self._replica.world.clock.sleep(self._replica.slow_reading_s)
        return await super().watermark()

    async def commit(self, *args: Any, **kwargs: Any) -> Office:
        if self._replica.timeline_problem is not None:
            raise self._replica.timeline_problem
        if self._replica.slow_commit_s:
            self._replica.committing = True
            await self._replica.world.clock.sleep(self._replica.slow_commit_s)
        office = await super().commit(*args, **kwargs)
        self._replica.commits += 1
        await self._replica.after_commit()
        return office


class PlanningReplica:
    """A planner with everything it needs, for one term."""

    def __init__(
        self,
        world: World,
        *,
        horizon: timedelta = HORIZON,
        kill_at: int = 0,
        late: bool = False,
        not_before: datetime = EPOCH,
        claim_floor: timedelta = CLAIM_FLOOR,
    ) -> None:
        self.world = world
        self.process = Process(world.clock, kill_at=kill_at, late=late)
        around = self.process.around
        self.telemetry = RecordingTelemetry()
        self.bucket = world.schedules.replica()
        self.status = world.status.replica()
        calendars = None if world.calendars is None else CalendarCache(around(world.calendars), self.process.clock)
        self.schedules = ScheduleCache(around(self.bucket), self.process.clock, ScheduleLimits(), calendars)
        self.queues = _Queues(world.server, self)
        self.reconnects = 0
        self.timeline = _Timeline(world.server, self)
        self.planner = Planner(
            timeline=around(self.timeline),
            schedules=self.schedules,
            rows=StatusRows(around(self.status)),
            queues=around(self.queues),
            announcer=Announcer(around(MemoryEvents(world.server))),
            clock=self.process.clock,
            telemetry=self.telemetry,
            horizon=horizon,
            not_before=self._not_before,
            reconnects=lambda: self.reconnects,
            claim_floor=claim_floor,
        )
        self.since = not_before
        self.timeline_problem: ScheddError | None = None
        self.queue_problem: ScheddError | None = None
        """What every commit, and every making of a queue, raises."""
        self.commits = 0
        self.after_commit: Callable[[], Awaitable[None]] = _nothing
        self.slow_commit_s = 0.0
        self.committing = False
        """How long a batch is on its way, and whether a slow one was."""
        self.slow_reading_s = 0.0
        self.reading = False
        """How long the reading of a watermark is, and whether a slow one was."""
        self.tenure: Tenure | None = None
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def mark(self) -> Watermark:
        """As the planner believes it to be."""
        assert self.tenure is not None
        return self.tenure.office.watermark

    async def _not_before(self) -> datetime:
        return self.since

    async def start_through_faults(self) -> None:
        """As `start`, tried again when the one fault hits it."""
        with contextlib.suppress(Unavailable):
            await self.start()
            return
        await self.schedules.stop()
        await self.start()

    async def start(self, *, lasts_s: float = 1e9, first: Watermark | None = None) -> None:
        """Fill the cache, take office, plan. A replica that is killed meanwhile has simply ended."""
        try:
            await self.schedules.start()
            self.tenure = await self.take_office(lasts_s=lasts_s, first=first)
        except asyncio.CancelledError:
            return
        self.task = asyncio.create_task(self.planner.run(self.tenure))

    async def take_office(self, *, lasts_s: float = 1e9, first: Watermark | None = None) -> Tenure:
        """As the leader does it: tried again until it is known to be taken."""
        timeline, clock = self.world.timeline, self.world.clock
        while True:
            epoch, mark = await timeline.epoch(), await timeline.watermark()
            watermark = mark.watermark if mark is not None else first or Watermark(clock.now())
            assert watermark is not None
            with contextlib.suppress(Fenced, Unavailable):
                office = await timeline.take_office(
                    holder="a",
                    lease_rev=1,
                    at=clock.now(),
                    expect_epoch=0 if epoch is None else epoch.seq,
                    watermark=watermark,
                    expect_watermark=0 if mark is None else mark.seq,
                )
                return Tenure(self.process.clock, Term(1, clock.boottime_s() + lasts_s), office)

    async def end(self) -> None:
        """As when the term ends: the duty is cancelled."""
        if self.task is not None:
            self.task.cancel()
            (ending,) = await asyncio.gather(self.task, return_exceptions=True)
            if not isinstance(ending, asyncio.CancelledError | Deposed | ScheddError | None):
                raise ending
        await self.schedules.stop()

    async def until(self, condition: Callable[[], Awaitable[bool]], *, within_s: float = 60.0) -> None:
        """Let time pass until it holds, or this replica has ended."""
        for _ in range(int(within_s / 0.1)):
            if self.task is None or self.task.done() or await condition():
                return
            await self.world.clock.advance(0.1)
        raise AssertionError(f"not within {within_s} s")

    async def plans(self, *, applied: int | None = None, until: datetime | None = None) -> None:
        """Until every edit so far is applied and everything up to the horizon (or `until`) is planned."""
        newest = self.world.schedules.stream.last_seq if applied is None else applied
        end = until or self.world.clock.now() + timedelta(seconds=10)

        async def planned() -> bool:
            mark = await self.world.mark()
            return mark.applied >= newest and mark.until >= end

        await self.until(planned)


def instant(seconds: float) -> str:
    return format_instant(START + timedelta(seconds=seconds))


def revision_of(world: World, schedule_id: str) -> int:
    entry = world.schedules.stream.last_of(f"$KV.{world.names.schedules}.{schedule_id}")
    assert entry is not None
    return entry.seq


async def check_mark(world: World) -> None:
    """For every schedule whose newest write is applied: all that is owed up to W, and nothing that is not yielded."""
    stored = world.server.timeline.last_of(world.names.watermark)
    assert stored is not None
    mark, now = decode_watermark(stored.data), world.clock.now()
    armed = world.armed()
    for name, history in world.history.items():
        if revision_of(world, name) > mark.applied:
            continue
        in_force = history[-1][1]
        there = [at for at in armed.get(name, []) if at > now]
        owed = [at for at in world.expected_of(name, max(history[-1][0], now), mark.until) if at > now]
        assert [at for at in there if at <= mark.until] == owed, (name, in_force, mark)
        beyond = [at for at in there if at > mark.until]
        assert not beyond or in_force is not None
        for at in beyond:
            assert in_force is not None
            assert in_force.trigger.yields(at)
            assert not in_force.definition.schedule.is_paused_at(at)


async def planned_world() -> World:
    """One leader planned schedules of every kind; then it was gone, and half of them were edited."""
    world = World()
    await world.clock.advance(HALF)
    world.put("every", every="1s")
    world.put("cron", cron="*/5 * * * * *")
    world.put("at", at=[instant(-60), instant(6), instant(12)])
    world.put("manual", manual=True)
    world.put("paused", every="2s", paused=True)
    world.put("delayed", every="3s", start_delay="5s")
    for name in ("edited", "gone", "broken", "resting", "back", "a", "a.b"):
        world.put(name, every="1s")
    async with PlanningReplica(world) as first:
        await first.plans()
    await world.clock.advance(HALF / 4)
    world.put("edited", every="3s")
    world.delete("gone")
    world.put_raw("broken", b'{"every": "1s", "qeue": "Q"}')
    world.put("resting", every="1s", paused=True, paused_until=instant(9.5))
    world.put("paused", every="2s")
    world.delete("back")
    world.put("back", every="4s")
    world.delete("a")
    world.put("new", every="2s")
    world.put("at", at=[instant(-60), instant(6), instant(14)])
    world.schedules.put_raw("no schedule.", b"{}")
    return world
