"""A stage for the leader's side: replicas of the memory twins in virtual time, which can be stopped, skewed, killed.

A `Process` stands for one replica's process: SIGSTOP holds it at its next call or sleep, a tripwire kills it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from scheduler.core.arming import plan_all
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable, Unsure
from scheduler.core.leadership import LeaseTimings, Term
from scheduler.core.model.schedule import Definition
from scheduler.core.model.status import StatusRow
from scheduler.core.planning import late_one_shots
from scheduler.core.triggers import EPOCH, compile_trigger
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.events import MemoryEvents
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.leader import Leader, Tenure
from scheduler.services.planner import Planner
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.ids import parse_nominal
from scheduler.wire.names import LEADER_KEY, Names
from scheduler.wire.schedule import ScheduleLimits, parse_schedule
from scheduler.wire.status import decode_lease, decode_status
from scheduler.wire.timeline import decode_armed

TIMINGS = LeaseTimings(15.0, 10.0, 2.0)
HORIZON = timedelta(seconds=20)
TIMEOUT_S = 5.0  # of a request, as the adapter has it


class Process:
    """What happens to a replica from outside. `kill_at` counts its calls; `late`: the deadly one still takes effect."""

    def __init__(self, clock: VirtualClock, *, kill_at: int = 0, late: bool = False) -> None:
        self.clock = ProcessClock(clock, self)
        self.calls = 0
        self.hanging: set[str] = set()
        """Names of methods whose answers get lost; what they ask for happens all the same."""
        self.on_call: Callable[[str], object] = lambda name: None
        self.problem: ScheddError | None = None
        """Instead of killing: what the call with that number raises."""
        self._kill_at, self._late = kill_at, late
        self._runs = asyncio.Event()
        self._runs.set()

    @property
    def is_dead(self) -> bool:
        return self.problem is None and 0 < self._kill_at <= self.calls

    def stop(self) -> None:
        self._runs.clear()

    def cont(self) -> None:
        self._runs.set()

    @property
    def is_stopped(self) -> bool:
        return not self._runs.is_set()

    async def awake(self) -> None:
        await self._runs.wait()

    def around(self, port: Any) -> Any:
        return _Port(port, self)

    async def call(self, name: str, method: Any, *args: Any, **kwargs: Any) -> Any:
        await self.awake()
        if self.is_dead:
            raise asyncio.CancelledError
        self.calls += 1
        self.on_call(name)
        await self.awake()
        is_hit = self.calls == self._kill_at
        if is_hit and not self._late:
            raise self.problem or asyncio.CancelledError
        result = await method(*args, **kwargs)
        if is_hit:
            raise self.problem or asyncio.CancelledError
        if name in self.hanging:
            await self.clock.sleep(TIMEOUT_S)
            raise Unsure("no answer from NATS in time")
        await self.awake()
        return result


class _Port:
    def __init__(self, port: Any, process: Process) -> None:
        self._port, self._process = port, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return functools.partial(self._process.call, name, found) if inspect.iscoroutinefunction(found) else found


class ProcessClock:
    """The world's time, as a process sees it: with a skewed wall clock, and asleep while stopped."""

    def __init__(self, clock: VirtualClock, process: Process) -> None:
        self._clock, self._process = clock, process
        self.skew_s = 0.0

    def now(self) -> datetime:
        return self._clock.now()

    def boottime_s(self) -> float:
        return self._clock.boottime_s()

    def offset_s(self) -> float:
        return self.skew_s

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        """The offset is what the test says."""

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._process.awake()


class World:
    """What outlives replicas."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.names = Names()
        self.server = MemoryServer(self.clock, self.names)
        self.control = MemoryBucket(self.server, self.names.control)
        self.schedules = MemoryBucket(self.server, self.names.schedules)
        self.status = MemoryBucket(self.server, self.names.status)
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
                for at in late_one_shots(definition, previous=None if before is None else before.definition)
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


class Candidate:
    """One replica that stands for office. Its duty notes its writes: every 0.5 s a fenced batch that says so."""

    def __init__(self, world: World, label: str, *, timings: LeaseTimings = TIMINGS, duty: Any = None) -> None:
        self.world, self.label = world, label
        self.process = Process(world.clock)
        self.control = world.control.replica()
        self.timeline = self.process.around(MemoryTimeline(world.server))
        self.telemetry = RecordingTelemetry()
        self.tenures: list[Tenure] = []
        self.writes: list[tuple[float, int]] = []
        """(boottime, epoch) of every fenced write that the storage took."""
        self.refused = 0
        self.duty_survives = False
        """Whether the duty waits out a storage that is away, as the planner does."""
        self.timeline_fault: Callable[[], Awaitable[None]] | None = None
        self.leader = Leader(
            control=self.process.around(self.control),
            timeline=self.timeline,
            clock=self.process.clock,
            telemetry=self.telemetry,
            replica=label,
            version="1",
            timings=timings,
            duty=duty or self._write_on,
            first_watermark=self._first_watermark,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.leader.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.cont()
        self.process.hanging.clear()
        self.leader.stop()
        assert self._task is not None
        while not self._task.done():
            await self.world.clock.advance(1.0)
        if not self._task.cancelled():
            self._task.result()

    @property
    def leads(self) -> bool:
        """Whether it believes so, and its term still holds."""
        tenure = self.leader.tenure
        return tenure is not None and tenure.remaining_s > 0

    @property
    def epochs(self) -> list[int]:
        return [tenure.office.epoch for tenure in self.tenures]

    @property
    def has_ended(self) -> bool:
        return self._task is not None and self._task.done()

    async def _first_watermark(self) -> Watermark:
        if self.timeline_fault is not None:
            await self.timeline_fault()
        return Watermark(self.world.clock.now())

    async def _write_on(self, tenure: Tenure) -> None:
        self.tenures.append(tenure)
        while True:
            try:
                await self.write(tenure)
            except Unavailable:
                if not self.duty_survives:
                    raise
            await self.process.clock.sleep(0.5)

    async def write(self, tenure: Tenure, *, checked: bool = True) -> None:
        if checked:
            tenure.check()
        try:
            mark = Watermark(self.world.clock.now())
            tenure.office = await self.timeline.commit(tenure.office, arms=(), disarms=(), watermark=mark)
        except BaseException:
            self.refused += 1
            raise
        self.writes.append((self.world.clock.boottime_s(), tenure.office.epoch))


class _Queues(MemoryTaskQueues):
    def __init__(self, server: MemoryServer, replica: PlanningReplica) -> None:
        super().__init__(server)
        self._replica = replica

    async def ensure(self, queue: str) -> None:
        if self._replica.queue_problem is not None:
            raise self._replica.queue_problem
        await super().ensure(queue)


class _Timeline(MemoryTimeline):
    def __init__(self, server: MemoryServer, replica: PlanningReplica) -> None:
        super().__init__(server)
        self._replica = replica

    async def commit(self, *args: Any, **kwargs: Any) -> Office:
        if self._replica.timeline_problem is not None:
            raise self._replica.timeline_problem
        if self._replica.slow_commit_s:
            self._replica.committing = True
            await self._replica.world.clock.sleep(self._replica.slow_commit_s)
        return await super().commit(*args, **kwargs)


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
    ) -> None:
        self.world = world
        self.process = Process(world.clock, kill_at=kill_at, late=late)
        around = self.process.around
        self.telemetry = RecordingTelemetry()
        self.bucket = world.schedules.replica()
        self.status = world.status.replica()
        self.schedules = ScheduleCache(around(self.bucket), self.process.clock, ScheduleLimits())
        self.queues = _Queues(world.server, self)
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
        )
        self.since = not_before
        self.timeline_problem: ScheddError | None = None
        self.queue_problem: ScheddError | None = None
        """What every commit, and every making of a queue, raises."""
        self.slow_commit_s = 0.0
        self.committing = False
        """How long a batch is on its way, and whether a slow one was."""
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
        timeline, clock = self.world.timeline, self.world.clock
        epoch, mark = await timeline.epoch(), await timeline.watermark()
        watermark = mark.watermark if mark is not None else first or Watermark(clock.now())
        assert watermark is not None
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
            await asyncio.gather(self.task, return_exceptions=True)
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
