"""Whoever ends the record of another withholds its claim first: the other may stand still right before its pair, for as
long as you like, after its last look. What it sends when it wakes is refused, so no task follows a verdict."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import Execution, State
from scheduler.services.launch_steps import Candidate, Result
from scheduler.wire.record import encode_execution
from tests.unit.services.dispatch_stage import Dispatching, candidate, execution, held, id_of, launch, nominal, put
from tests.unit.services.tracking_stage import Replica, World

Ender = Callable[[World, Candidate], Awaitable[None]]


@contextlib.asynccontextmanager
async def stopped_before_its_pair(world: World, **changes: Any) -> AsyncIterator[tuple[Candidate, Any]]:
    """A creator that stands still between its last look and its pair, and how to let it go on."""
    async with Dispatching(world) as creator:
        goes_on, arrived, publish = asyncio.Event(), asyncio.Event(), creator.queues.publish

        async def stand_still(pairs: Any) -> Any:
            arrived.set()
            await goes_on.wait()
            return await publish(pairs)

        creator.queues.publish = stand_still
        wanted = candidate(creator, **changes)
        launching = asyncio.ensure_future(launch(creator, wanted))
        await world.clock.settle()
        assert arrived.is_set()
        assert world.tasks() == []

        async def go_on() -> Result:
            goes_on.set()
            (result,) = await launching
            return result

        yield wanted, go_on


async def _expired_by_a_rival(world: World, wanted: Candidate) -> None:
    await world.clock.advance(60)
    async with Dispatching(world) as rival:
        await launch(rival, wanted)


async def _lost_by_a_rival(world: World, wanted: Candidate) -> None:
    await world.clock.advance(901)
    async with Dispatching(world) as rival:
        await launch(rival, wanted)


async def _lost_by_the_reconciler(world: World, wanted: Candidate) -> None:
    async with Replica(world) as leader:
        await leader.reconcile(every_s=901)


async def _skipped_by_a_rival(world: World, wanted: Candidate) -> None:
    """No slot was needed, and now one is, which another run holds."""
    put(world, overlap="skip")
    holder, _ = await held(world)
    await world.clock.advance(60)
    async with holder, Dispatching(world) as rival:
        await launch(rival, candidate(rival))


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        (_expired_by_a_rival, State.EXPIRED, "start_deadline"),
        (_skipped_by_a_rival, State.SKIPPED, "overlap"),
        (_lost_by_a_rival, State.LOST, "claimed_too_long"),
        (_lost_by_the_reconciler, State.LOST, "claimed_too_long"),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)).strip("_"),
)
async def test_no_task_follows_a_verdict(end: Ender, state: State, reason: str) -> None:
    """Expired, skipped or lost by somebody else, and only then the pair is sent: refused, and the verdict stays."""
    world = World()
    put(world, overlap="allow")
    changes = {"start_by": nominal(5)} if state is State.EXPIRED else {}
    async with stopped_before_its_pair(world, **changes) as (wanted, go_on):
        tasks = len(world.tasks())
        await end(world, wanted)
        done = await execution(world)
        assert (done.state, done.reason) == (state, reason)
        before = set(world.tasks())
        result = await go_on()
    assert isinstance(result, Unavailable)
    assert set(world.tasks()) == before
    assert tasks == 0
    assert (await execution(world)).state is state
    assert id_of() not in (await world.row()).active


@pytest.mark.parametrize("end", [_lost_by_a_rival, _lost_by_the_reconciler, _expired_by_a_rival])
async def test_the_pair_wins_if_it_was_first(end: Ender) -> None:
    """It goes on before the other gets to its claim: the claim proves the task, so the record says queued."""
    world = World()
    put(world, overlap="allow")
    async with stopped_before_its_pair(world, start_by=nominal(5)) as (wanted, go_on):
        await world.clock.advance(4)
        landed = await go_on()
    assert isinstance(landed, Execution)
    await world.executions.put(landed.id, encode_execution(wanted.execution))  # its last write is lost with it
    await end(world, wanted)
    done = await execution(world)
    assert (done.state, [done.task_seq]) == (State.QUEUED, world.tasks())
