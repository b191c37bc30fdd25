"""A stage for tracker and reconciler: the memory twins, a launcher that queues, workers of both kinds, and a tripwire
that kills a replica before or after any one of its calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

from msgspec import Raw

from scheduler.core.dispatching import claim
from scheduler.core.leadership import Term
from scheduler.core.model.execution import Execution, Failure, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.queue import QueueSettings
from scheduler.core.model.schedule import Cron, Definition, Overlap, Schedule
from scheduler.core.model.status import StatusRow
from scheduler.core.overlap import Terms
from scheduler.core.triggers import compile_trigger
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.cancelling import MemoryCancels
from scheduler.memory.clock import VirtualClock
from scheduler.memory.event_feed import MemoryEventFeed
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Delivery, Limits
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.reports import MemoryReports
from scheduler.memory.server import MemoryServer
from scheduler.memory.signals import MemorySignals
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.api.retrying import Retries
from scheduler.services.cancelling import Canceller
from scheduler.services.chains import Chains
from scheduler.services.deadlines import Deadlines
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate, Result
from scheduler.services.leader import Tenure
from scheduler.services.lost_tasks import LostTasks
from scheduler.services.promotion import Promoter
from scheduler.services.queues import QueueKeeper
from scheduler.services.reconcile import Ground, Reconciler
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.tracker import Tracker
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.wire.record import decode_execution, encode_execution
from scheduler.wire.reports import Finished, Outcome, Running, Started, WorkerRow, encode
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.status import decode_status, encode_status
from scheduler.wire.tasks import execution_of

QUEUE = "Q"
DAILY = Cron(("0 9 * * *",))
EVERY_DAY = b'{"cron": "0 9 * * *", "queue": "Q", "type": "t"}'
BOOM = Failure("ValueError", "boom", "trace")


class Tripwire:
    """Counts the calls of a replica to its ports and kills it at one of them: `late` means after it took effect."""

    def __init__(self, at: int = 0, *, late: bool = False) -> None:
        self.at, self.late, self.count = at, late, 0

    @property
    def tripped(self) -> bool:
        return 0 < self.at <= self.count

    def around(self, port: Any) -> Any:
        return _Wired(port, self)

    async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        is_here = self.count == self.at
        if self.tripped and not is_here:
            raise asyncio.CancelledError  # dead is dead
        if is_here and not self.late:
            raise asyncio.CancelledError
        result = await method(*args, **kwargs)
        if is_here:
            raise asyncio.CancelledError
        return result


class _Wired:
    def __init__(self, port: Any, wire: Tripwire) -> None:
        self._port, self._wire = port, wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return functools.partial(self._wire.call, found)


class World:
    """What outlives replicas: the server with its streams and buckets, and the workers."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.names = Names()
        self.server = MemoryServer(self.clock, self.names)
        self.executions = MemoryBucket(self.server, self.names.executions)
        self.status = MemoryBucket(self.server, self.names.status)
        self.schedules = MemoryBucket(self.server, self.names.schedules)
        self.workers = MemoryBucket(self.server, self.names.workers)
        self.control = MemoryBucket(self.server, self.names.control)
        self.queue = self.server.queue(QUEUE, Limits(ack_wait_s=30.0, max_deliver=5, max_ack_pending=1000))
        self.timeline = MemoryTimeline(self.server)

    # --- what is stored

    async def record(self, execution_id: str) -> Execution:
        entry = await self.executions.get(execution_id)
        assert entry is not None
        return decode_execution(entry.value)

    async def store(self, execution: Execution) -> None:
        await self.executions.put(execution.id, encode_execution(execution))

    async def row(self, schedule_id: str = "a") -> StatusRow:
        entry = await self.status.get(schedule_id)
        return StatusRow() if entry is None else decode_status(entry.value)

    async def hold(self, *execution_ids: str, schedule_id: str = "a") -> None:
        await self.status.put(schedule_id, encode_status(StatusRow(active=execution_ids)))

    def tasks(self) -> list[int]:
        prefix = f"{self.names.namespace}.task."
        return [seq for seq, each in self.server.tasks.messages.items() if each.subject.startswith(prefix)]

    def note_removals(self) -> list[State]:
        """From now on the state of its execution at the moment in which a task is removed by us."""
        states: list[State] = []
        remove = self.server.remove_task

        def noted(seq: int) -> bool:
            task = self.server.tasks.messages.get(seq)
            if task is not None:
                key = f"$KV.{self.names.executions}.{execution_of(self.names, task.subject)}"
                record = self.executions.stream.last_of(key)
                states.extend([] if record is None else [decode_execution(record.data).state])
            return remove(seq)

        self.server.remove_task = noted  # type: ignore[method-assign]  # as said
        return states

    def finished_events(self) -> list[dict[str, Any]]:
        return [event.data for event in MemoryEvents(self.server).of("finished")]

    # --- plain workers

    def take(self) -> Delivery:
        (delivery,) = self.queue.take(1)
        return delivery

    # --- SDK workers

    async def beat(self, *running: tuple[str, int], worker: str = "w1", types: Sequence[str] = ("t",)) -> None:
        row = WorkerRow(
            worker=worker,
            queues=(QUEUE,),
            types=tuple(types),
            running=tuple(Running(*each) for each in running),
            started_at=self.clock.now(),
            at=self.clock.now(),
        )
        await self.workers.put(worker, encode(row), ttl_s=30)

    def start(self, execution_id: str, attempt: int = 1, *, worker: str = "w1", by: str | None = None) -> None:
        subject = self.names.report(QUEUE, execution_id, attempt, "started")
        body = encode(Started(worker=worker, at=self.clock.now(), by=by))
        self.server.report(subject, body, claim=True)

    def finish(
        self,
        execution_id: str,
        outcome: Outcome = Outcome.SUCCEEDED,
        attempt: int = 1,
        *,
        result: bytes = b"",
        error: Failure | None = None,
    ) -> None:
        subject = self.names.report(QUEUE, execution_id, attempt, "finished")
        self.server.report(subject, encode(Finished(outcome=outcome, result=Raw(result), error=error)))


class Replica:
    """One replica's tracker and reconciler, on ports that may kill it."""

    def __init__(self, world: World, wire: Tripwire | None = None, *, overlap: Overlap = Overlap.SKIP) -> None:
        self.world = world
        self.wire = wire or Tripwire()
        self.overlap = overlap
        clock, around = world.clock, self.wire.around
        self.telemetry = RecordingTelemetry()
        self.records = Records(around(world.executions.replica()), self.telemetry, claim_floor_s=1800.0)
        self.rows = StatusRows(around(world.status.replica()))
        self.slots = SlotKeeper(self.rows, lambda _: Terms(self.overlap))
        events = around(MemoryEvents(world.server))
        self.schedules = ScheduleCache(world.schedules.replica(), clock, ScheduleLimits())
        self.chains = Chains(self.rows, self.schedules, clock, self.telemetry)
        self.settlement = Settlement(self.slots, events, clock, lambda _: True, self.telemetry, chains=self.chains)
        self.index = ExecutionIndex(world.executions.replica(), clock, self.telemetry)
        self.queues = around(MemoryTaskQueues(world.server))
        self.rearmed: list[Occurrence] = []
        self.lost_tasks = LostTasks()
        self.tracker = Tracker(
            reports=around(MemoryReports(world.server)),
            signals=around(MemorySignals(world.server)),
            queues=self.queues,
            workers=around(world.workers.replica()),
            records=self.records,
            rows=self.rows,
            slots=self.slots,
            settlement=self.settlement,
            index=self.index,
            lost_tasks=self.lost_tasks,
            clock=clock,
            telemetry=self.telemetry,
        )
        self.slots.inspect = self.tracker.inspector.inspect
        self.launcher = Launcher(
            records=self.records,
            slots=self.slots,
            queues=self.queues,
            settlement=self.settlement,
            clock=clock,
            claim_floor_s=1800.0,
            is_full=lambda queue: False,
        )
        self.retries = Retries(
            records=self.records,
            rows=self.rows,
            schedules=self.schedules,
            reports=around(MemoryReports(world.server)),
            queues=self.queues,
            launcher=self.launcher,
            clock=clock,
            payload_bytes_max=65_536,
            events=events,
        )
        self.promoter = Promoter(self.records, self.schedules, self.launcher, self.telemetry)
        self.slots.promote = self.promoter.promote
        self.canceller = Canceller(
            records=self.records,
            reports=around(MemoryReports(world.server)),
            queues=self.queues,
            cancels=around(MemoryCancels(world.server)),
            launcher=self.launcher,
            folder=self.tracker.folder,
            clock=clock,
            telemetry=self.telemetry,
        )
        self.launcher.ousters = self.canceller
        self.deadlines = Deadlines(
            index=self.index, records=self.records, canceller=self.canceller, clock=clock, telemetry=self.telemetry
        )
        self.keeper = QueueKeeper(
            queues=self.queues, control=around(world.control.replica()), clock=clock, telemetry=self.telemetry,
            defaults=QueueSettings(), max_pending=100_000,
        )  # fmt: skip
        ground = Ground(
            keeper=self.keeper,
            timeline=around(world.timeline),
            schedules=self.schedules,
            records=self.records,
            rows=self.rows,
            queues=self.queues,
            tracker=self.tracker,
            launcher=self.launcher,
            promoter=self.promoter,
            index=self.index,
            rearm=self._rearm,
            ensure=self._ensure,
            chains=self.chains,
            feed=around(MemoryEventFeed(world.server)),
            announcer=Announcer(events),
            events=events,
            control=around(world.control.replica()),
            clock=clock,
        )
        self.reconciler = Reconciler(ground, telemetry=self.telemetry)
        self.restored: list[str] = []

    async def __aenter__(self) -> Self:
        await self.index.start()
        await self.schedules.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.index.stop()
        await self.schedules.stop()

    async def _rearm(self, occurrences: Sequence[Occurrence]) -> None:
        self.rearmed += occurrences

    async def _ensure(self) -> list[str]:
        return self.restored

    # --- doing

    def execution(self, number: int = 0, **changes: Any) -> Execution:
        """A claimed execution of schedule `a`, not stored yet."""
        now = self.world.clock.now()
        schedule = Schedule(id="a", queue=QUEUE, type="t", trigger=DAILY, **changes)
        definition = Definition(schedule=schedule, generation=1, effective_at=now)
        nominal = now + timedelta(seconds=number)
        occurrence = Occurrence("a", nominal, nominal, 1)
        return claim(definition, execution_id("a", nominal), occurrence, epoch=1, now=now)

    async def launch(self, *executions: Execution) -> list[Result]:
        return await self.launcher.launch([self._candidate(each) for each in executions])

    def _candidate(self, execution: Execution) -> Candidate:
        schedule = Schedule(id="a", queue=QUEUE, type="t", trigger=DAILY, overlap=self.overlap)
        return Candidate(execution, schedule, compile_trigger(schedule))

    async def launched(self, number: int = 0, **changes: Any) -> Execution:
        """An execution whose task is in its queue."""
        (result,) = await self.launch(self.execution(number, **changes))
        assert isinstance(result, Execution), result
        return result

    async def track(self) -> None:
        """One turn of each tracker, without waiting for what is not there."""
        if self.world.server.tracker.pending or self.world.server.tracker.ack_pending:
            await self.turn(self.tracker.reports.turn())
        if self.world.server.signals.pending or self.world.server.signals.ack_pending:
            await self.turn(self.tracker.signals.turn())

    async def turn(self, turn: Any) -> None:
        """A turn, with time passing if its pull waits."""
        task = asyncio.ensure_future(turn)
        await self.world.clock.settle()
        if not task.done():
            await self.world.clock.advance(2.1)
        await task

    async def reconcile(self, *, rounds: int = 1, every_s: float = 30.0) -> None:
        """Rounds of the reconciler, each after the time between two."""
        for _ in range(rounds):
            await self.world.clock.advance(every_s)
            task = asyncio.ensure_future(self.reconciler.round(self.tenure()))
            while not task.done():
                await self.world.clock.advance(0.05)
            task.result()

    def tenure(self, lasts_s: float = 1e9, *, applied: int = 10**9) -> Tenure:
        """Every edit is applied, unless told otherwise."""
        clock = self.world.clock
        office = Office(1, 1, Watermark(clock.now(), applied))
        return Tenure(clock, Term(1, clock.boottime_s() + lasts_s), office)


def lose_signals(world: World) -> None:
    """The server's signals are sent at most once: these never arrived."""
    for seq in list(world.server.advisories.messages):
        world.server.advisories.delete(seq)
    world.server.signals.take(100)


async def begun(world: World, replica: Replica, **changes: int) -> Execution:
    """An execution that its SDK worker has in hand: its row lists it, its start is folded."""
    execution = await replica.launched(**changes)
    world.take()
    await world.beat((execution.id, 1))
    world.start(execution.id)
    await replica.track()
    return execution
