"""Consumers that are missing: made again for each queue of a schedule that is applied."""

from __future__ import annotations

from tests.unit.services.tracking_stage import EVERY_DAY, QUEUE, Replica, World


async def test_missing_consumers() -> None:
    """A schedule's queue gets its deleted consumer back; what the daemon's own assets needed is counted, too."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        await world.clock.settle()
        del world.server.tasks.consumers[QUEUE]
        replica.restored = ["consumer dispatcher"]
        await replica.reconcile()
        assert QUEUE in world.server.tasks.consumers
        assert replica.telemetry.count("repaired", kind="consumers") == 2


async def test_a_queue_whose_schedule_is_not_applied_yet_is_the_planners() -> None:
    """What was put a moment ago has no consumer yet: nothing to repair, nothing to warn of."""
    world = World()
    async with Replica(world) as replica:
        first = await world.schedules.put("a", EVERY_DAY)
        await world.schedules.put("b", EVERY_DAY.replace(QUEUE.encode(), b"later"))
        await world.clock.settle()
        await replica.reconciler.round(replica.tenure(applied=first))
        assert replica.telemetry.count("repaired", kind="consumers") == 0
        assert "later" not in world.server.tasks.consumers
