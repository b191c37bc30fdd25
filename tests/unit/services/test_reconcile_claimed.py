"""Executions that were claimed and not queued: rolled forward, or lost when that is too long ago."""

from __future__ import annotations

import pytest

from scheduler.core.model.execution import State
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, World


@pytest.mark.parametrize("is_paired", [False, True])
async def test_claimed_is_rolled_forward(is_paired: bool) -> None:
    """Its dispatcher died before or after the pair: after the grace it is queued, once."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        execution = replica.execution()
        if is_paired:
            await replica.launched()
        await world.store(execution)
        await world.clock.settle()
        await replica.reconcile(every_s=29)
        assert (await world.record(execution.id)).state is State.CLAIMED
        await replica.reconcile(every_s=10)
        queued = await world.record(execution.id)
        assert (queued.state, queued.task_seq) == (State.QUEUED, world.tasks()[0])
        assert len(world.tasks()) == 1
        assert replica.telemetry.of("repaired") == [{"kind": "claimed"}]


async def test_claimed_of_a_deleted_schedule_is_rolled_forward() -> None:
    """It was due before the delete: the record alone says what to run."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)
        await replica.reconcile(every_s=40)
        assert (await world.record(execution.id)).state is State.QUEUED
        assert len(world.tasks()) == 1


async def test_claimed_too_long_is_lost() -> None:
    """Older than half the claim floor: lost rather than doubled, on record, and its slot is free."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)
        await world.hold(execution.id)
        await replica.reconcile(every_s=901)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "claimed_too_long")
        assert world.tasks() == []
        assert (await world.row()).active == ()
