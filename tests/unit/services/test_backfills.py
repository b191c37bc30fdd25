"""Backfills on the twins, in virtual time: each nominal time has one execution, whoever dies at whatever call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.backfilling import Backfill, BackfillState
from scheduler.core.errors import Conflict, NotFound
from scheduler.core.model.execution import Kind, State
from scheduler.core.model.schedule import Overlap
from scheduler.core.model.status import StatusRow
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.checkpoints import NoCheckpoints
from scheduler.services.backfills import KEPT, KEPT_MAX, Backfiller, Backfills
from scheduler.services.leader import Deposed
from scheduler.wire.ids import backfill_execution_id
from tests.unit.services.dispatch_stage import At, Dispatching, nominal, put, states
from tests.unit.services.tracking_stage import Replica, Tripwire
from tests.unit.services.tracking_stage import World as Twins

COUNT = 5
NOMINALS = tuple(nominal(-3600 + number) for number in range(COUNT))
IDS = [backfill_execution_id("a", at, "b1") for at in NOMINALS]


def backfill(world: Twins, count: int = COUNT, **fields: Any) -> Backfill:
    left = tuple(nominal(-3600 + number) for number in range(count))
    plain: dict[str, Any] = {"id": "b1", "schedule": "a", "rate": 10.0, "overlap": None} | fields
    return Backfill(start=left[0], end=nominal(), created_at=world.clock.now(), count=count, left=left, **plain)


class World(Twins):
    """With the bucket that backfills are kept in."""

    def __init__(self) -> None:
        super().__init__()
        self.control = MemoryBucket(self.server, self.names.control)


class Carrying:
    """One replica in office, whose duty is backfills."""

    def __init__(self, world: World, wire: Tripwire | None = None, *, checkpoints: Any = None) -> None:
        self.world = world
        self.stage = Dispatching(world, wire)
        self.telemetry = RecordingTelemetry()
        self.control = world.control.replica()
        self.backfills = Backfills(self.stage.wire.around(self.control), self.telemetry)
        self.duty = Backfiller(
            backfills=self.backfills,
            schedules=self.stage.schedules,
            rows=self.stage.rows,
            launcher=self.stage.launcher,
            clock=world.clock,
            telemetry=self.telemetry,
            checkpoints=checkpoints or NoCheckpoints(),
        )

    async def run(self, seconds: float) -> None:
        """Its term; a kill by the tripwire ends it quietly."""
        tenure = Replica(self.world).tenure()
        async with self.stage:
            task = asyncio.ensure_future(self.duty.run(tenure))
            await self.world.clock.advance(seconds)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def stored(self, backfill_id: str = "b1") -> Backfill:
        return (await Backfills(self.control, self.telemetry).get(backfill_id)).backfill


async def test_each_runs_once_and_is_marked() -> None:
    """Every nominal time has its execution, of kind backfill, fired now, with the backfill's id in its own."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world))
    await carrying.run(5)
    assert sorted(await states(world)) == IDS
    found = await world.record(IDS[2])
    assert (found.kind, found.nominal_at, found.state) == (Kind.BACKFILL, NOMINALS[2], State.QUEUED)
    assert found.lateness_s is not None
    assert found.lateness_s < 1
    stored = await carrying.stored()
    assert (stored.state, stored.started, stored.left) == (BackfillState.DONE, COUNT, ())


async def test_the_rate_holds() -> None:
    """Two a second: after three seconds no more than seven, after six all ten."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world, 10, rate=2.0))
    await carrying.run(3)
    assert 5 <= len(await states(world)) <= 7
    await Carrying(world).run(6)
    assert len(await states(world)) == 10


@pytest.mark.parametrize("late", [False, True])
async def test_a_leader_may_die_at_any_call(late: bool) -> None:
    """Killed before or after each call to a store, it leaves everything so that the next leader and the reconciler
    come to one execution per nominal time, and one task each."""
    for number in range(1, 200):
        world = World()
        put(world, overlap="allow")
        wire = Tripwire()
        carrying = Carrying(world, wire)
        await carrying.backfills.create(backfill(world))
        wire.at, wire.late, wire.count = number, late, 0
        with contextlib.suppress(asyncio.CancelledError):
            await carrying.run(3)
        if not wire.tripped:
            assert number > 5
            return
        await Carrying(world).run(8)
        async with Replica(world) as other:
            await other.reconcile(rounds=3)
        assert sorted(await states(world)) == IDS, f"call {number}"
        assert set((await states(world)).values()) == {State.QUEUED}, f"call {number}"
        assert len(world.tasks()) == COUNT, f"call {number}"
        assert (await carrying.stored()).state is BackfillState.DONE
    raise AssertionError("it never ends")


async def test_two_leaders_at_once_start_nothing_twice() -> None:
    """A leader that does not know yet that it is none does no harm."""
    world = World()
    put(world, overlap="allow")
    first, second = Carrying(world), Carrying(world)
    await first.backfills.create(backfill(world, 20, rate=50.0))
    await asyncio.gather(first.run(3), second.run(3))
    await Carrying(world).run(3)
    assert len(world.tasks()) == len(await states(world)) == 20
    assert (await first.stored()).state is BackfillState.DONE


@pytest.mark.parametrize("is_started", [False, True], ids=["before a start", "after it"])
async def test_nothing_is_written_once_the_term_is_over(is_started: bool) -> None:
    """It ends between two steps: neither a run nor what was started is written, and the next leader does the rest."""
    world = World()
    put(world, overlap="allow")
    tenure, written = Replica(world).tenure(), list[list[int]]()

    async def over() -> None:
        tenure.end()
        written.append(writes_of(world))

    carrying = Carrying(world, checkpoints=At("backfill.started", over) if is_started else None)
    if not is_started:
        get = carrying.stage.rows.get

        async def read(schedule_id: str) -> StatusRow:
            await over()
            return await get(schedule_id)

        carrying.stage.rows.get = read  # type: ignore[method-assign]  # the last look before a start
    await carrying.backfills.create(backfill(world))
    async with carrying.stage:
        with pytest.raises(Deposed):
            await carrying.duty.turn(tenure)
    assert written == [writes_of(world)]
    successor = Carrying(world)
    await successor.run(5)
    assert sorted(await states(world)) == IDS
    assert len(world.tasks()) == COUNT


def writes_of(world: World) -> list[int]:
    return [each.last_seq for each in (world.executions.stream, world.control.stream, world.server.tasks)]


async def test_by_default_they_run_one_after_the_other_and_none_is_skipped() -> None:
    """A schedule that skips overlaps: the runs of a backfill wait for each other, and the buffer never fills up."""
    world = World()
    put(world)
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world, 60, rate=1000.0))
    finished = 0
    while finished < 60:
        await carrying.run(1)
        row = await world.row()
        assert len(row.active) == 1
        assert len(row.waiting) <= 20
        async with Replica(world, overlap=Overlap.SKIP) as other:
            world.queue.ack(world.take().token)
            await other.track()
        finished += 1
    assert set((await states(world)).values()) == {State.SUCCEEDED}
    assert len(await states(world)) == 60
    assert (await carrying.stored()).state is BackfillState.DONE


async def test_a_policy_that_was_asked_for_is_followed() -> None:
    """overlap skip on request: the first runs, the others are skipped, on record."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world, overlap=Overlap.SKIP, rate=1.0))
    await carrying.run(8)
    assert await states(world) == {IDS[0]: State.QUEUED} | dict.fromkeys(IDS[1:], State.SKIPPED)


async def test_cancelled_it_starts_nothing_more_and_takes_back_what_waits() -> None:
    """What runs goes on; what waits for a slot is cancelled, on record."""
    world = World()
    put(world)
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world, 30, rate=4.0))
    await carrying.run(1)
    cancelled = await carrying.backfills.cancel("b1", world.clock.now())
    assert cancelled.state is BackfillState.CANCELLED
    await carrying.run(3)
    row, found = await world.row(), await states(world)
    assert row.active == (IDS[0],)
    assert row.waiting == ()
    assert found.pop(IDS[0]) is State.QUEUED
    assert found
    assert set(found.values()) == {State.CANCELLED}
    assert (await world.record(min(found))).reason == "backfill_cancelled"
    assert len(found) + 1 == (await carrying.stored()).started


class _SecondTime:
    """Checkpoints that do something when a leader has started some for the second time."""

    def __init__(self, do: Callable[[], Awaitable[object]]) -> None:
        self._do, self._count = do, 0

    async def reached(self, name: str) -> None:
        assert name == "backfill.started"
        self._count += 1
        if self._count == 2:
            await self._do()


async def test_cancelled_while_the_leader_starts_some() -> None:
    """The cancellation wins over the leader's write; nothing comes after it, and what came to wait is taken back."""
    world = World()
    put(world)
    other = Backfills(world.control.replica(), RecordingTelemetry())
    carrying = Carrying(world, checkpoints=_SecondTime(lambda: other.cancel("b1", world.clock.now())))
    await carrying.backfills.create(backfill(world, 60, rate=20.0))
    await carrying.run(4)
    assert (await carrying.stored()).state is BackfillState.CANCELLED
    found = await states(world)
    assert list(found.values()).count(State.QUEUED) == 1
    assert set(found.values()) == {State.QUEUED, State.CANCELLED}
    assert len(found) <= 7


async def test_a_deleted_schedule_ends_it_and_an_invalid_one_holds_it() -> None:
    """Nothing runs for a schedule that is gone; one that is broken may be repaired, and then it goes on."""
    world = World()
    put(world, "gone")
    await world.schedules.delete("gone")
    world.schedules.put_raw("a", b"{}")
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world, id="g", schedule="gone"))
    await carrying.backfills.create(backfill(world))
    await carrying.run(3)
    gone = await carrying.stored("g")
    assert (gone.state, gone.reason) == (BackfillState.CANCELLED, "deleted")
    assert (await carrying.stored()).started == 0
    put(world, overlap="allow")
    await carrying.run(3)
    assert (await carrying.stored()).state is BackfillState.DONE
    assert sorted(await states(world)) == IDS


async def test_a_pause_does_not_hold_it_and_the_row_does_not_follow_it() -> None:
    """Backfilled runs move neither the count of fires nor the last nominal time of the schedule."""
    world = World()
    put(world, overlap="allow", paused=True)
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world))
    await carrying.run(3)
    await carrying.stage.settlement.flush()
    assert len(world.tasks()) == COUNT
    row = await world.row()
    assert (row.fires, row.previous_at) == (0, None)


async def test_the_same_id_is_the_same_backfill() -> None:
    """Created twice it is there once, started or not; another range under its id is refused."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    wanted = backfill(world)
    assert await carrying.backfills.create(wanted) == wanted
    await carrying.run(3)
    assert (await carrying.backfills.create(wanted)).state is BackfillState.DONE
    with pytest.raises(Conflict, match="b1"):
        await carrying.backfills.create(backfill(world, schedule="other"))
    with pytest.raises(NotFound):
        await carrying.backfills.cancel("nope", world.clock.now())
    assert (await carrying.backfills.cancel("b1", world.clock.now())).state is BackfillState.DONE


async def test_old_ones_are_forgotten() -> None:
    """What is over goes after a week, and the oldest of too many before that; no marker stays behind."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    now = world.clock.now()
    for number in range(KEPT_MAX + 3):
        over = backfill(world, id=f"b{number}").over(BackfillState.DONE, None, now + timedelta(seconds=number))
        await carrying.backfills.create(over)
    await carrying.run(3)
    assert sorted(await carrying.backfills.ids()) == sorted(f"b{number}" for number in range(3, KEPT_MAX + 3))
    await world.clock.advance(KEPT.total_seconds() + KEPT_MAX + 10)
    await Carrying(world).run(3)
    assert await carrying.backfills.ids() == []


async def test_a_foreign_value_under_its_key_harms_nobody() -> None:
    """It is counted and left alone; the others go on."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    carrying.control.put_raw("backfill.x", b"\xff")
    await carrying.backfills.create(backfill(world))
    await carrying.run(3)
    assert sorted(await states(world)) == IDS
    assert {"what": "backfill", "reason": "unreadable"} in carrying.telemetry.of("dropped")


async def test_nats_may_be_away() -> None:
    """While nothing answers nothing starts; afterwards it goes on where it was."""
    world = World()
    put(world, overlap="allow")
    carrying = Carrying(world)
    await carrying.backfills.create(backfill(world, 20, rate=5.0))
    now = world.clock.now()
    world.clock.call_at(now + timedelta(seconds=1), lambda: setattr(world.server, "down", True))
    world.clock.call_at(now + timedelta(seconds=4), lambda: setattr(world.server, "down", False))
    await carrying.run(12)
    assert len(await states(world)) == len(world.tasks()) == 20
