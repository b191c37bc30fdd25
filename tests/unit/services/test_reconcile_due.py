"""Due messages that a crash of the server brought back: delivered once more."""

from __future__ import annotations

from tests.unit.services.dispatch_stage import due, due_left
from tests.unit.services.tracking_stage import Replica, World


async def test_due_messages_that_the_server_brought_back_below_its_floor() -> None:
    """Acknowledged, and there again after a crash: delivered once more as soon as two looks agree, and never while the
    consumer has them in hand."""
    world = World()
    async with Replica(world) as replica:
        await world.timeline.deliver_from(1)
        due(world, 1)
        (held,) = await world.timeline.pull_due(10, 1)
        await replica.reconcile(rounds=3)
        assert replica.telemetry.count("repaired") == 0
        await world.timeline.deliver_from(world.server.timeline.last_seq + 1)
        await replica.reconcile(rounds=1)
        assert await world.timeline.pull_due(10, 0) == []
        await replica.reconcile(rounds=2)
        assert replica.telemetry.of("repaired") == [{"kind": "due"}]
        (again,) = await world.timeline.pull_due(10, 1)
        assert again.ack == held.ack
        await world.timeline.ack([again.ack])
        assert due_left(world) == []
