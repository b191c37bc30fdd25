"""Two launchers with one candidate: who may refuse, who is turned away, and who is too late to send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from scheduler.core.errors import Unsure
from scheduler.core.model.execution import Execution, State
from scheduler.services.launch_steps import FRESH
from scheduler.services.slots import Request
from tests.unit.services.dispatch_stage import (
    Act,
    At,
    Dispatching,
    Points,
    Stoppable,
    candidate,
    die,
    due,
    execution,
    held,
    id_of,
    launch,
    let_go,
    nominal,
    put,
)
from tests.unit.services.tracking_stage import World


def after_take(replica: Dispatching, act: Act) -> None:
    """Do something once, right after this replica was first refused a slot."""
    take = replica.slots.take

    async def taken(requests: Sequence[Request]) -> Any:
        admissions = await take(requests)
        if any(getattr(each, "verdict", "") == "skip" for each in admissions.values()):
            replica.slots.take = take  # type: ignore[method-assign]
            await act()
        return admissions

    replica.slots.take = taken  # type: ignore[method-assign]


async def test_a_skip_turns_the_creator_away() -> None:
    """The creator stood still while a rival found the slot taken; it then gets the slot, but the skip is written."""
    world = World()
    put(world)
    holder, _ = await held(world)
    due(world)
    goes_on, sends, is_slotted = asyncio.Event(), asyncio.Event(), asyncio.Event()
    process = Stoppable()

    async def stand_still() -> None:
        process.stop()
        await goes_on.wait()

    async def before_the_pair() -> None:
        is_slotted.set()
        await sends.wait()

    async def creator_gets_the_slot() -> None:
        await let_go(world, holder)
        process.cont()
        goes_on.set()
        await is_slotted.wait()

    points = Points(claimed=stand_still, slotted=before_the_pair)
    async with Dispatching(world, process, checkpoints=points) as creator, creator.running():
        await world.clock.advance(10.5)  # redelivered at 5 s, too young to be refused until 10 s
        async with Dispatching(world) as rival:
            after_take(rival, creator_gets_the_slot)
            await rival.run(3)
        assert (await execution(world)).state is State.SKIPPED
        assert (await world.row()).active == (id_of(),)
        sends.set()
        await world.clock.advance(1)
    assert world.tasks() == []
    assert (await world.row()).active == ()


async def test_a_rival_turns_the_creators_skip_away() -> None:
    """The creator found the slot taken and is slow to say so; a rival gets the slot, and sends: no skip is written."""
    world = World()
    put(world)
    holder, _ = await held(world)
    due(world)
    process, goes_on = Stoppable(), asyncio.Event()

    async def creator_stands_still() -> None:
        process.stop()

    async def before_queued() -> None:
        process.cont()
        await goes_on.wait()

    async with Dispatching(world, process) as creator, creator.running():
        after_take(creator, creator_stands_still)
        await world.clock.advance(6)
        assert process._runs.is_set() is False
        await let_go(world, holder)
        async with Dispatching(world, checkpoints=Points(paired=before_queued)) as rival, rival.running():
            await world.clock.advance(0.5)
            assert (await execution(world)).state is State.CLAIMED
            assert len(world.tasks()) == 1
            goes_on.set()
            await world.clock.advance(2)
    assert (await execution(world)).state is State.QUEUED
    assert (await world.row()).active == (id_of(),)


async def test_a_rival_refuses_only_what_is_old_enough() -> None:
    """Its creator may be about to launch it: a rival that finds the slot taken asks again until that is over."""
    world = World()
    put(world)
    await held(world)
    async with Dispatching(world) as replica:
        wanted = candidate(replica)
        await replica.records.create_many([wanted.execution])
        for seconds in (1, 2 * FRESH.total_seconds() - 1.1):
            await world.clock.advance(seconds)
            (result,) = await launch(replica, wanted)
            assert isinstance(result, Unsure)
            assert (await execution(world)).state is State.CLAIMED
        await world.clock.advance(0.2)
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.reason) == (State.SKIPPED, "overlap")
        assert replica.verdicts() == [("skipped", "overlap")]


async def test_a_rival_is_too_late_for_a_task() -> None:
    """It stood still while it said that it goes on: half the claim floor later it sends no pair."""
    world = World()
    put(world, overlap="allow")
    process = Stoppable()
    async with Dispatching(world, process) as replica:
        wanted = candidate(replica)
        await replica.records.create_many([wanted.execution])
        move_many = replica.records.move_many

        async def slowly(moves: Any) -> Any:
            await world.clock.sleep(895)
            return await move_many(moves)

        replica.records.move_many = slowly  # type: ignore[method-assign]
        launching = asyncio.ensure_future(launch(replica, wanted))
        await world.clock.advance(900)
        (result,) = await launching
        assert isinstance(result, Unsure)
        replica.records.move_many = move_many  # type: ignore[method-assign]
        await world.clock.advance(10)
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.reason) == (State.LOST, "claimed_too_long")
    assert world.tasks() == []


async def test_what_was_queued_before_keeps_its_time() -> None:
    """Its first launcher died after the pair: queued at the time of the claim, late or not, by whoever noticed."""
    world = World()
    put(world)

    async with Dispatching(world, checkpoints=At("launch.paired", die)) as doomed:
        wanted = candidate(doomed)
        with pytest.raises(asyncio.CancelledError):
            await launch(doomed, wanted)
    await world.clock.advance(100)
    async with Dispatching(world) as heir:
        (result,) = await launch(heir, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.queued_at, result.lateness_s) == (State.QUEUED, nominal(), 0.0)
        assert heir.telemetry.of("lateness") == [{"seconds": 0.0}]


async def test_a_look_says_that_it_went_on() -> None:
    """Who goes on with somebody else's claim leaves a line in the history."""
    world = World()
    put(world)
    async with Dispatching(world) as replica:
        wanted = candidate(replica)
        await replica.records.create_many([wanted.execution])
        await world.clock.advance(20)
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Execution)
        assert [(each.state, each.note) for each in result.history] == [
            (State.CLAIMED, None),
            (State.CLAIMED, "taken up again"),
            (State.QUEUED, None),
        ]
