"""Slots whose holder has ended or is gone: released after a grace, and never that of a run."""

from __future__ import annotations

import pytest
from msgspec import structs

from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Overlap
from tests.unit.services.tracking_stage import Replica, World, begun, lose_signals


async def test_slots_of_ended_and_missing_holders() -> None:
    """Released after a grace; a holder that runs keeps its slot."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        running = await replica.launched(0)
        ended = await replica.launched(1)
        world.queue.ack(world.take().token)
        done = structs.replace(await world.record(ended.id), state=State.FAILED)
        await world.store(done)
        await world.hold(running.id, ended.id, "a.20200101T000000000Z")
        lose_signals(world)
        await world.clock.settle()
        await replica.reconciler.round(replica.tenure())
        assert len((await world.row()).active) == 3
        await replica.reconcile()
        assert (await world.row()).active == (running.id,)
        assert replica.telemetry.count("repaired", kind="slots") == 2


async def test_a_successor_starts_from_the_rows() -> None:
    """A new leader knows nothing and frees what its predecessor died over."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.store(structs.replace(await world.record(execution.id), state=State.FAILED))
    async with Replica(world) as heir:
        await heir.reconcile(rounds=2)
        assert (await world.row()).active == ()


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_holder_older_than_the_index_reaches(is_gone: bool) -> None:
    """A run of hours under a leader of minutes: it is looked at all the same, so its slot is not held for ever."""
    world = World()
    async with Replica(world) as replica:
        execution = await begun(world, replica, max_tries=1)
        if is_gone:
            world.server.tasks.delete(world.tasks()[0])
    async with Replica(world) as heir:
        heir.index._open.clear()
        heir.index._recent.clear()
        await heir.reconcile(rounds=6)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "worker_gone")
        assert (await world.row()).active == ()
        assert world.tasks() == []
