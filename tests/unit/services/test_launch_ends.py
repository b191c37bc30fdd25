"""The launcher beside somebody who ended an execution, or still has it in hand: no task for what has a verdict."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.errors import Conflict, Unavailable, Unsure
from scheduler.core.lifecycle import Resume, advance
from scheduler.core.model.execution import Execution, State
from scheduler.services.launch_steps import FRESH, Candidate
from scheduler.wire.record import encode_execution
from tests.unit.services.dispatch_stage import (
    At,
    Dispatching,
    Points,
    candidate,
    die,
    execution,
    held,
    id_of,
    launch,
    nominal,
    put,
)
from tests.unit.services.tracking_stage import Replica, World


@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_ended_before_its_turn_came_gets_no_task(is_stored: bool) -> None:
    """Read as expired by whoever promotes it: it stays so, and is not created anew where its record is gone (seed 5389
    of the simulation: the create had no answer, and what was read back was just the record that was to be created)."""
    world = World()
    put(world)
    async with Dispatching(world) as replica:
        ended = candidate(replica, state=State.EXPIRED, reason="start_deadline", finished_at=nominal(1))
        if is_stored:
            world.executions.put_raw(ended.execution.id, encode_execution(ended.execution))
        (result,) = await launch(replica, ended)
        assert isinstance(result, Execution if is_stored else Conflict)
        assert world.tasks() == []
        assert await world.executions.keys() == ([ended.execution.id] if is_stored else [])


async def test_only_its_creator_says_that_it_waits() -> None:
    """While its creator may be about to send it, it is not put down as waiting, which would let anybody end it."""
    world = World()
    put(world, overlap="buffer_all")
    holder, _ = await held(world)
    async with holder, Dispatching(world) as replica:
        one = candidate(replica)
        claimed = structs.replace(one.execution, claimed_at=world.clock.now())
        world.executions.put_raw(claimed.id, encode_execution(claimed))
        (early,) = await launch(replica, one)
        assert isinstance(early, Unsure)
        assert (await world.record(claimed.id)).state is State.CLAIMED
        await world.clock.advance(2 * FRESH.total_seconds())
        (result,) = await launch(replica, one)
        assert isinstance(result, Execution)
        assert result.state is State.WAITING


@pytest.mark.parametrize("is_promoted", [False, True])
async def test_whose_turn_has_come_is_not_withdrawn(is_promoted: bool) -> None:
    """Whoever launches it has said so on record, and may be about to send its task: who cancels or drops it then leaves
    it to him. Until then it ends at once."""
    world = World()
    put(world, overlap="buffer_all")
    async with Dispatching(world) as replica:
        waiting = structs.replace(candidate(replica).execution, state=State.WAITING)
        stored = advance(waiting, Resume(world.clock.now())) if is_promoted else waiting
        assert stored is not None
        await world.store(stored)
        ended = await replica.launcher.withdraw([stored.id], State.CANCELLED, "requested")
    state = State.WAITING if is_promoted else State.CANCELLED
    assert (await world.record(stored.id)).state is state
    assert [each.state for each in ended] == ([] if is_promoted else [state])


async def claimed_by_the_dead(world: World, point: str) -> Candidate:
    """Its creator died at this point of the launch; it had to start within five seconds."""
    async with Dispatching(world, checkpoints=At(point, die)) as doomed:
        wanted = candidate(doomed, start_by=nominal(5))
        with pytest.raises(asyncio.CancelledError):
            await launch(doomed, wanted)
    return wanted


async def test_a_task_that_is_there_is_no_expired_one() -> None:
    """Its creator died after the pair: whoever finds it past its deadline says queued first."""
    world = World()
    put(world)
    wanted = await claimed_by_the_dead(world, "launch.paired")
    await world.clock.advance(6)
    async with Dispatching(world) as heir:
        (result,) = await launch(heir, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.task_seq) == (State.QUEUED, world.tasks()[0])
    assert len(world.tasks()) == 1
    assert (await world.row()).active == (id_of(),)


async def test_without_a_task_it_expires() -> None:
    """Its creator died before the pair: ended at once, since whoever sends one from now on is refused."""
    world = World()
    put(world)
    wanted = await claimed_by_the_dead(world, "launch.slotted")
    async with Dispatching(world) as heir:
        await world.clock.advance(6)
        (result,) = await launch(heir, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.reason) == (State.EXPIRED, "start_deadline")
    assert world.tasks() == []
    async with Replica(world) as replica:
        await replica.reconcile(rounds=2)
    assert (await world.row()).active == ()


async def test_the_end_turns_a_slow_creator_away() -> None:
    """It stood still before the pair until a rival had ended the record: it sends nothing."""
    world = World()
    put(world)
    goes_on = asyncio.Event()

    async def stand_still() -> None:
        await goes_on.wait()

    async with Dispatching(world, checkpoints=Points(slotted=stand_still)) as creator, Dispatching(world) as rival:
        wanted = candidate(creator, start_by=nominal(5))
        launching = asyncio.ensure_future(launch(creator, wanted))
        await world.clock.advance(11)
        (result,) = await launch(rival, wanted)
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
        goes_on.set()
        (result,) = await launching
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
    assert world.tasks() == []
    assert (await world.row()).active == ()


async def test_a_creator_stopped_right_before_its_pair_sends_nothing() -> None:
    """It stood still after its last look, for as long as you like: a rival has ended the record, and the pair that
    comes after all is refused (seeds 4848 and 5823 of the simulation)."""
    world = World()
    put(world)
    async with Dispatching(world) as creator, Dispatching(world) as rival:
        goes_on, publish = asyncio.Event(), creator.queues.publish

        async def stand_still(pairs: Any) -> Any:
            await goes_on.wait()
            return await publish(pairs)

        creator.queues.publish = stand_still
        wanted = candidate(creator, start_by=nominal(5))
        launching = asyncio.ensure_future(launch(creator, wanted))
        await world.clock.advance(60)
        (result,) = await launch(rival, wanted)
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
        goes_on.set()
        (result,) = await launching
        assert isinstance(result, Unavailable)
    assert world.tasks() == []


async def test_who_takes_it_up_turns_the_end_away() -> None:
    """A third one goes on between the withheld claim and the end: no end yet, and no task; the next look ends it."""
    world = World()
    put(world)
    wanted = await claimed_by_the_dead(world, "launch.claimed")
    await world.clock.advance(11)
    async with Dispatching(world) as replica, Dispatching(world) as third:
        withhold = replica.queues.withhold

        async def overtaken(execution_id: str, drive: int, ttl_s: int) -> int | None:
            seq: int | None = await withhold(execution_id, drive, ttl_s)
            await third.records.advance(execution_id, Resume(world.clock.now()))
            return seq

        replica.queues.withhold = overtaken
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Unsure)
        assert (await execution(world)).state is State.CLAIMED
        (result,) = await launch(third, wanted)
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
    assert world.tasks() == []
