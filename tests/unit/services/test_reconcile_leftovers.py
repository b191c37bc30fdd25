"""Tasks that are left though their execution is over: removed after a grace, and never one that somebody needs."""

from __future__ import annotations

import pytest
from msgspec import structs

from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Overlap
from tests.unit.services.tracking_stage import Replica, World


@pytest.mark.parametrize(
    ("state", "goes"), [(State.LOST, True), (State.FAILED, True), (State.SUCCEEDED, False), (State.QUEUED, False)]
)
async def test_a_task_that_outlived_its_execution(state: State, goes: bool) -> None:
    """The record was written and the task not removed: it goes after the grace. After a success its worker
    acknowledges it, and the task of an open execution is nobody's to remove."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.store(structs.replace(await world.record(execution.id), state=state))
        await replica.reconcile(every_s=29)
        assert len(world.tasks()) == 1
        await replica.reconcile(rounds=2)
        assert len(world.tasks()) == (0 if goes else 1)
        assert replica.telemetry.count("repaired", kind="leftovers") == (1 if goes else 0)


async def test_a_task_that_a_crash_brought_back() -> None:
    """Its worker acknowledged it and it ended; the server has it again, and takes it for done: it goes by its record,
    and when that has expired, by its age. What waits for a worker stays."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        waiting = await replica.launched(1)
        ended = await replica.launched(2)
        await world.store(structs.replace(ended, state=State.SUCCEEDED, finished_at=world.clock.now()))
        forgotten = await replica.launched(3)
        await world.executions.expire((await world.executions.get(forgotten.id)).revision)  # type: ignore[union-attr]
        await replica.reconcile(every_s=29)
        assert len(world.tasks()) == 3
        await replica.reconcile(rounds=2)
        assert len(world.tasks()) == 2
        await replica.reconcile(every_s=1801)
    assert world.tasks() == [waiting.task_seq]
