"""Records that a server brought back as they were before their end: they go again, and nothing that is open goes."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Overlap
from scheduler.memory.messages import Write
from scheduler.services.reconcile.ghosts import GhostsRepair
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, World

RETENTION_S = 7 * 86400


def repair_of(replica: Replica) -> GhostsRepair:
    (found,) = [each for each in replica.reconciler.repairs if isinstance(each, GhostsRepair)]
    return found


async def ended_and_forgotten(world: World, replica: Replica) -> str:
    """An execution that succeeded, and whose record has expired; its id."""
    execution = await replica.launched()
    world.queue.ack(world.take().token)
    await replica.track()
    assert (await world.record(execution.id)).state is State.SUCCEEDED
    await world.clock.advance(RETENTION_S + 60)
    assert await world.executions.get(execution.id) is None
    return execution.id


@pytest.mark.parametrize("fresh", [False, True], ids=["lived on", "started after it"])
async def test_a_ghost_is_removed(fresh: bool) -> None:
    """It ran once, has one end and one verdict, whether the leader knew it or first sees it open; what a second crash
    brings back goes too."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        ghost = await ended_and_forgotten(world, replica)
        told = len(world.finished_events())
        for _ in range(2):
            assert world.executions.stream.bring_back() == 1
            assert await world.executions.get(ghost) is not None
            other = Replica(world) if fresh else replica
            if fresh:
                await other.__aenter__()
            await other.reconcile(rounds=2, every_s=31)
            assert await world.executions.keys() == []
            assert other.index.open_count == 0
            assert other.telemetry.count("repaired", kind="ghosts") >= 1
            assert len(world.finished_events()) == told
            assert world.tasks() == []
            if fresh:
                await other.__aexit__()
            await world.clock.advance(1800 + 60)


def forget_events(world: World) -> None:
    """They are kept for a while only: from now on nobody can tell what ended before."""
    stream = world.server.events
    stream.store([Write("schedd.event.admin._", b"{}")])
    for seq in list(stream.messages):
        stream.delete(seq)


async def test_what_waits_in_its_queue_is_no_ghost() -> None:
    """For longer than its record and even the events are kept: its task is there."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        await world.schedules.put("a", EVERY_DAY)
        execution = await replica.launched()
        await world.clock.advance(2 * RETENTION_S)
        forget_events(world)
        assert (await world.row()).active == ()
        assert await repair_of(replica).repair(replica.tenure()) == 0
        assert (await world.record(execution.id)).state is State.QUEUED


async def test_what_holds_a_slot_is_no_ghost() -> None:
    """For longer than its record and even the events are kept, though its task and its claim are gone: it runs."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        execution = await replica.launched()
        world.queue.ack(world.take().token)
        await world.clock.advance(2 * RETENTION_S)
        forget_events(world)
        assert (await world.row()).active == (execution.id,)
        assert await repair_of(replica).repair(replica.tenure()) == 0
        assert (await world.record(execution.id)).state is State.QUEUED


async def test_what_nobody_ended_is_no_ghost() -> None:
    """Its task went while no replica was there, for longer than it is kept, and it holds no slot: no event tells of an
    end, so it is still to be ended."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        await world.schedules.put("a", EVERY_DAY)
        execution = await replica.launched()
        world.queue.ack(world.take().token)
        await world.clock.advance(2 * RETENTION_S)
        assert (await world.row()).active == ()
        assert await repair_of(replica).repair(replica.tenure()) == 0
        assert (await world.record(execution.id)).state is State.QUEUED


async def test_a_young_record_is_left_alone() -> None:
    """Whatever it looks like."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)
        await world.clock.advance(1900)
        assert await repair_of(replica).repair(replica.tenure()) == 0
        assert (await world.record(execution.id)).state is State.CLAIMED
        assert asyncio.get_running_loop().is_running()
