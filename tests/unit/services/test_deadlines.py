"""Executions past a deadline: not started in time, or not ended; wherever they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from scheduler.core.lifecycle import Queue
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.wire.reports import Outcome
from tests.unit.services.cancelling_stage import sent, state, watching
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, World

S = timedelta(seconds=1)


async def launched(replica: Replica, **fields: Any) -> Execution:
    return await replica.launched(0, **fields)


async def test_not_started_in_time() -> None:
    """start_deadline: nobody started it, so nobody will; its verdict is fired, its end expired."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await launched(replica, start_deadline=5 * S)
        await world.clock.advance(4.9)
        assert (await world.record(run.id)).state is State.QUEUED
        await world.clock.advance(0.2)
        assert await state(world, run) == (State.EXPIRED, "start_deadline")
        assert world.tasks() == []
        assert (await world.row()).active == ()


async def test_started_in_time_runs_on() -> None:
    """start_deadline asks for a start, no more; its deadline comes later."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await launched(replica, start_deadline=5 * S, deadline=60 * S)
        world.start(run.id)
        await world.clock.advance(6)
        assert (await world.record(run.id)).state is State.QUEUED  # not folded yet, and left alone
        await replica.track()
        await world.clock.advance(50)
        assert (await world.record(run.id)).state is State.RUNNING
        assert sent(world) == []
        await world.clock.advance(12)
        assert set(sent(world)) == {(run.id, "terminate")}


async def test_a_first_attempt_that_failed_in_time() -> None:
    """Started in time and to be tried again, though only the reports say so yet: that is no missed start."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await launched(replica, start_deadline=5 * S)
        world.start(run.id)
        world.finish(run.id, Outcome.RETRY)
        await world.clock.advance(8)
        assert (await world.record(run.id)).state is State.QUEUED
        await replica.track()
        assert (await world.record(run.id)).state is State.RETRYING
        await world.clock.advance(30)
        world.start(run.id, 2)
        world.finish(run.id, attempt=2)
        await replica.track()
        assert (await world.record(run.id)).state is State.SUCCEEDED


async def test_queued_behind_its_deadline() -> None:
    """It was claimed long past its start deadline, and found in its queue only then: it ends at once."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        lost = replica.execution(0, start_deadline=5 * S)
        await replica.records.create_many([lost])
        await world.clock.advance(25)
        assert (await world.record(lost.id)).state is State.CLAIMED
        await replica.records.advance(lost.id, Queue(world.clock.now(), None))
        await world.clock.advance(1)
        assert await state(world, lost) == (State.EXPIRED, "start_deadline")


async def test_the_deadline_of_what_runs() -> None:
    """Its worker ends it in time by itself; one that does not is told, a little later."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await launched(replica, deadline=10 * S)
        world.start(run.id)
        await replica.track()
        await world.clock.advance(12)
        assert sent(world) == []
        world.finish(run.id, Outcome.TIMED_OUT)
        await replica.track()
        assert (await world.record(run.id)).state is State.TIMED_OUT
        await world.clock.advance(60)
        assert sent(world) == []


async def test_the_deadline_between_two_attempts() -> None:
    """It would be tried again after its deadline: expired, and no attempt follows."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await launched(replica, deadline=10 * S)
        world.start(run.id)
        world.finish(run.id, Outcome.RETRY)
        await replica.track()
        await world.clock.advance(11)
        assert await state(world, run) == (State.EXPIRED, "deadline")
        assert world.tasks() == []


async def test_a_buffered_one_expires() -> None:
    """Waiting for a slot is no start."""
    world = World()
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica, watching(replica):
        await replica.launched(0)
        (waits,) = await replica.launch(replica.execution(1, start_deadline=5 * S))
        assert isinstance(waits, Execution)
        await world.clock.advance(6.1)
        assert await state(world, waits) == (State.EXPIRED, "start_deadline")
        assert (await world.row()).waiting == ()
        assert (await world.record(waits.id)).verdict == "expired"


async def test_past_at_the_instant() -> None:
    """Dispatched after its start deadline: expired, no slot taken, nothing queued."""
    world = World()
    async with Replica(world) as replica:
        late = replica.execution(-10, start_deadline=5 * S)
        (found,) = await replica.launch(late)
        assert isinstance(found, Execution)
        assert (found.state, found.reason) == (State.EXPIRED, "start_deadline")
        assert (await world.row()).active == ()
        assert world.server.tasks.last_seq == 0
        assert replica.telemetry.count("verdict", verdict="expired", reason="start_deadline") == 1


async def test_past_when_its_turn_comes() -> None:
    """Nobody looked after deadlines meanwhile: it does not run, and the next one has its turn at once."""
    world = World()
    world.schedules.put_raw("a", EVERY_DAY)
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await replica.launched(0)
        late, last = await replica.launch(replica.execution(1, start_deadline=5 * S), replica.execution(2))
        assert isinstance(late, Execution)
        assert isinstance(last, Execution)
        await world.clock.advance(30)
        world.queue.ack(world.take().token)
        await replica.track()
        assert await state(world, late) == (State.EXPIRED, "start_deadline")
        assert (await world.record(last.id)).state is State.QUEUED
        assert (await world.row()).active == (last.id,)


async def test_a_new_leader_knows_the_deadlines() -> None:
    """They are on the records: whoever leads next looks at once at those that have passed."""
    world = World()
    async with Replica(world) as replica:
        run = await launched(replica, start_deadline=5 * S)
    await world.clock.advance(60)
    async with Replica(world) as heir, watching(heir):
        await world.clock.advance(1)
        assert await state(world, run) == (State.EXPIRED, "start_deadline")
