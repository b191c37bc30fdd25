"""The launcher beside somebody who ended an execution, or still has it in hand: no task for what has a verdict."""

from __future__ import annotations

import pytest
from msgspec import structs

from scheduler.core.errors import Conflict, Unsure
from scheduler.core.model.execution import Execution, State
from scheduler.services.launch_steps import FRESH
from scheduler.wire.record import encode_execution
from tests.unit.services.dispatch_stage import Dispatching, nominal, put
from tests.unit.services.test_launch import candidate, held, launch
from tests.unit.services.tracking_stage import World


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
