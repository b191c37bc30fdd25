"""What tests of ends from outside share: a leader that looks after deadlines, how a record stands, what was sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from scheduler.core.model.execution import Execution, State
from tests.unit.services.tracking_stage import Replica, World


@contextlib.asynccontextmanager
async def watching(replica: Replica) -> AsyncIterator[None]:
    """The replica leads, and looks after deadlines."""
    task = asyncio.ensure_future(replica.deadlines.run(replica.tenure()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def state(world: World, execution: Execution) -> tuple[State, str | None]:
    found = await world.record(execution.id)
    return found.state, found.reason


def sent(world: World) -> list[tuple[str, str]]:
    return [(execution_id, cancel.action.value) for execution_id, cancel in world.server.cancelled]
