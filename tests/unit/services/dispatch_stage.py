"""A stage for the dispatch side: dispatchers on the memory twins, which a tripwire kills and whose calls may mingle."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec
from msgspec import structs

from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Execution, State
from scheduler.memory.clock import START
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Write
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.checkpoints import NoCheckpoints
from scheduler.services.calendars import CalendarCache
from scheduler.services.chains import Chains
from scheduler.services.dispatcher import Dispatcher, SortedOut
from scheduler.services.handing_over import LateOnes
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate, Result
from scheduler.services.promotion import Promoter
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.wire.ids import execution_id
from scheduler.wire.instants import format_instant
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.timeline import encode_armed
from tests.unit.services.tracking_stage import QUEUE, Replica, Tripwire, World

FLOOR_S = 1800.0
EVERY = {"every": "1s", "queue": QUEUE, "type": "t"}
Act = Callable[[], Awaitable[None]]
POLICIES: dict[str, dict[str, Any]] = {
    "skip": {},
    "allow": {"overlap": "allow"},
    "max_running": {"overlap": "allow", "max_running": 2},
    "paused": {"paused": True},
    "superseded": {"every": None, "cron": "30 * * * * *"},
}


class Mingling(Tripwire):
    """Kills nobody; lets other tasks go on between calls, as the seed says."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)
        result = await super().call(method, *args, **kwargs)
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)
        return result


class Failing(Tripwire):
    """One call, read or write, gets this answer; `late`: and what it asked for happens all the same."""

    def __init__(self, at: int, problem: ScheddError, *, late: bool) -> None:
        super().__init__(at, late=late)
        self._problem = problem

    async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count != self.at:
            return await method(*args, **kwargs)
        if self.late:
            await method(*args, **kwargs)
        if method.__name__ in ("put_many", "publish"):  # these raise nothing
            return [self._problem] * len(args[0])
        raise self._problem


class Stoppable(Tripwire):
    """Between `stop` and `cont` no call gets through, as in a process that was stopped."""

    def __init__(self) -> None:
        super().__init__()
        self._runs = asyncio.Event()
        self._runs.set()

    def stop(self) -> None:
        self._runs.clear()

    def cont(self) -> None:
        self._runs.set()

    async def awake(self) -> None:
        await self._runs.wait()

    async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        await self.awake()
        return await super().call(method, *args, **kwargs)


class At:
    """Checkpoints that do something at one point, once."""

    def __init__(self, point: str, do: Callable[[], Any]) -> None:
        self._point, self._do = point, do

    async def reached(self, name: str) -> None:
        if name == self._point:
            self._point = ""
            await self._do()


class Points:
    """Checkpoints that do something at several points, once each."""

    def __init__(self, **acts: Act) -> None:
        self._acts = {f"launch.{point}": act for point, act in acts.items()}

    async def reached(self, name: str) -> None:
        act = self._acts.pop(name, None)
        if act is not None:
            await act()


def put(world: World, schedule_id: str = "a", **fields: Any) -> int:
    """What any NATS client may do. A field that is None is left out."""
    document = {name: value for name, value in (EVERY | fields).items() if value is not None}
    return world.schedules.put_raw(schedule_id, msgspec.json.encode(document))


def nominal(seconds: float = 0) -> datetime:
    return START + timedelta(seconds=seconds)


def id_of(seconds: float = 0, schedule_id: str = "a") -> str:
    return execution_id(schedule_id, nominal(seconds))


def due(world: World, seconds: float = 0, schedule_id: str = "a", *, fire_in: float = 0, generation: int = 1) -> str:
    """A message of the timeline that the server has just fired; its execution's id."""
    fire_at = format_instant(nominal(seconds + fire_in))
    body = encode_armed(generation=generation, fire_at=fire_at, epoch=7)
    world.server.timeline.store([Write(world.names.due(schedule_id, nominal(seconds)), body)])
    return id_of(seconds, schedule_id)


def due_left(world: World) -> list[str]:
    """Due messages that nobody has acknowledged."""
    return world.server.timeline.subjects(world.names.all_due)


async def states(world: World) -> dict[str, State]:
    return {key: (await world.record(key)).state for key in await world.executions.keys()}


class Dispatching:
    """One replica's dispatcher and what it stands on."""

    def __init__(
        self,
        world: World,
        wire: Tripwire | None = None,
        *,
        checkpoints: Any = None,
        calendars: CalendarCache | None = None,
    ) -> None:
        self.world, self.wire = world, wire or Tripwire()
        around, clock = self.wire.around, world.clock
        self.telemetry = RecordingTelemetry()
        self.full: set[str] = set()
        self.timeline = around(MemoryTimeline(world.server))
        self.queues = around(MemoryTaskQueues(world.server))
        self.bucket = world.schedules.replica()
        self.schedules = ScheduleCache(around(self.bucket), clock, ScheduleLimits(), calendars)
        self.records = Records(around(world.executions.replica()), self.telemetry, claim_floor_s=FLOOR_S)
        self.rows = StatusRows(around(world.status.replica()))
        self.slots = SlotKeeper(self.rows, self.schedules.terms_of)
        events = MemoryEvents(world.server)
        holds_slot = self.schedules.holds_slot
        self.chains = Chains(self.rows, self.schedules, clock, self.telemetry)
        self.settlement = Settlement(self.slots, events, clock, holds_slot, self.telemetry, chains=self.chains)
        self.launcher = Launcher(
            records=self.records,
            slots=self.slots,
            queues=self.queues,
            settlement=self.settlement,
            clock=clock,
            claim_floor_s=FLOOR_S,
            is_full=self.full.__contains__,
            checkpoints=checkpoints or NoCheckpoints(),
        )
        self.promoter = Promoter(self.records, self.schedules, self.launcher, self.telemetry)
        self.slots.promote = self.promoter.promote
        self.dispatcher = Dispatcher(
            timeline=self.timeline,
            schedules=self.schedules,
            records=self.records,
            launcher=self.launcher,
            late_ones=LateOnes(self.rows),
            settlement=self.settlement,
            clock=clock,
            telemetry=self.telemetry,
            chains=self.chains,
        )

    async def __aenter__(self) -> Self:
        with contextlib.suppress(asyncio.CancelledError):
            await self.schedules.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.schedules.stop()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Its loop runs; a kill by the tripwire ends it quietly."""
        task = asyncio.ensure_future(self.dispatcher.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def run(self, seconds: float = 3) -> None:
        async with self.running():
            await self.world.clock.advance(seconds)

    def verdicts(self) -> list[tuple[object, object]]:
        return [(each["verdict"], each["reason"]) for each in self.telemetry.of("verdict")]


async def finish(world: World) -> None:
    """A plain worker takes every task and acknowledges it, and a replica tracks that."""
    for delivery in world.queue.take(1000):
        world.queue.ack(delivery.token)
    async with Replica(world) as tracker:
        await tracker.track()


async def execution(world: World, seconds: float = 0, schedule_id: str = "a") -> Execution:
    return await world.record(id_of(seconds, schedule_id))


async def held(world: World) -> tuple[Replica, Execution]:
    """A run of schedule `a` that holds its slot."""
    holder = Replica(world)
    return holder, await holder.launched(-100)


async def let_go(world: World, holder: Replica) -> None:
    world.queue.ack(world.take().token)
    await holder.track()


def candidate(replica: Dispatching, seconds: float = 0, schedule_id: str = "a", **changes: Any) -> Candidate:
    """As the dispatcher would make it."""
    known = replica.schedules.get(schedule_id)
    assert known is not None
    assert known.in_force is not None
    found = SortedOut({}, {}, {})
    due(replica.world, seconds, schedule_id)
    (delivery,) = replica.world.server.due.take(1)
    replica.world.server.due.ack(delivery.token)
    read = replica.timeline._port._read(delivery)
    replica.dispatcher._decide(read, replica.world.clock.now(), found)
    (execution,) = [each.execution for each in (*found.fires.values(), *found.late.values())]
    return Candidate(structs.replace(execution, **changes), known.in_force.definition.schedule, known.in_force.trigger)


async def launch(replica: Dispatching, *candidates: Candidate) -> list[Result]:
    return await replica.launcher.launch(candidates)


async def die() -> None:
    raise asyncio.CancelledError


async def check_once(world: World, policy: str) -> None:
    """The occurrence at 0 s came to its one verdict, and nothing of it is left but that."""
    world.server._faults.clear()
    done = await execution(world)
    assert list(await states(world)) == [done.id]
    assert due_left(world) == []
    assert world.server.due.ack_pending == 0
    if policy in ("paused", "superseded"):
        assert (done.state.value, world.tasks(), (await world.row()).active) == (policy, [], ())
        return
    assert (done.state, [done.task_seq]) == (State.QUEUED, world.tasks())
    assert [each.state for each in done.history if each.note is None] == [State.CLAIMED, State.QUEUED]
    assert (await world.row()).active == (() if policy == "allow" else (done.id,))
    await finish(world)
    assert (await execution(world)).state is State.SUCCEEDED
    assert (await world.row()).active == ()
