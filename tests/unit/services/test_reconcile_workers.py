"""Runs whose worker fell silent: lost after the last try, left to the redelivery before."""

from __future__ import annotations

import pytest

from scheduler.core.model.execution import State
from tests.unit.services.tracking_stage import Replica, World, begun


async def test_a_worker_that_dies_with_the_last_try() -> None:
    """Its row expires: after a whole ack wait of silence the run is lost, and then its task is gone."""
    world = World()
    async with Replica(world) as replica:
        execution = await begun(world, replica, max_tries=1)
        await replica.reconcile(every_s=20)
        assert (await world.record(execution.id)).state is State.RUNNING
        await replica.reconcile(rounds=2, every_s=20)  # the row went after 30 s
        assert (await world.record(execution.id)).state is State.RUNNING
        await replica.reconcile(every_s=31)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "worker_gone")
        assert world.tasks() == []
        assert (await world.row()).active == ()
        assert replica.telemetry.of("repaired") == [{"kind": "workers"}]


async def test_a_worker_that_dies_with_tries_left() -> None:
    """The redelivery deals with it: another worker starts the second attempt."""
    world = World()
    async with Replica(world) as replica:
        execution = await begun(world, replica, max_tries=2)
        await replica.reconcile(rounds=5)
        assert (await world.record(execution.id)).state is State.RUNNING
        assert len(world.tasks()) == 1
        world.start(execution.id, 2, worker="w2")
        await replica.track()
        assert (await world.record(execution.id)).attempt == 2


@pytest.mark.parametrize("life", ["row", "report"])
async def test_a_worker_that_lives(life: str) -> None:
    """A row that lists the run, or a final report that nobody has folded yet, keeps it from being lost."""
    world = World()
    async with Replica(world) as replica:
        execution = await begun(world, replica, max_tries=1)
        if life == "report":
            world.finish(execution.id)
        for _ in range(6):
            if life == "row":
                await world.beat((execution.id, 1))
            await replica.reconcile(every_s=20)
        expected = State.RUNNING if life == "row" else State.SUCCEEDED
        assert (await world.record(execution.id)).state is expected


async def test_a_row_that_forgot_the_run() -> None:
    """The worker lives and does not list the run (it lost the end of it): as good as gone."""
    world = World()
    async with Replica(world) as replica:
        execution = await begun(world, replica, max_tries=1)
        for _ in range(5):
            await world.beat()
            await replica.reconcile(every_s=20)
        assert (await world.record(execution.id)).state is State.LOST
