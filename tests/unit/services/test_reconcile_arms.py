"""Arms that are stuck in the server: handed to the planner, once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.model.occurrence import Occurrence
from scheduler.ports.timeline import Watermark
from scheduler.services.reconcile.arms import ArmsRepair
from tests.unit.services.tracking_stage import Replica, World


async def test_arms_that_are_stuck() -> None:
    """Overdue by more than the grace and still yielded by its schedule: handed to the planner; nothing else is."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", b'{"every": "10s", "queue": "Q", "type": "t"}')
        await world.clock.settle()
        now = world.clock.now()
        mark = Watermark(now)
        office = await world.timeline.take_office(
            holder="h", lease_rev=1, at=now, expect_epoch=0, watermark=mark, expect_watermark=0
        )
        arms = [
            Occurrence("a", now + timedelta(seconds=each), now + timedelta(hours=1), 1) for each in (10, 13, 20, 60)
        ]
        gone = Occurrence("b", now + timedelta(seconds=10), now + timedelta(hours=1), 1)
        await world.timeline.commit(office, arms=[*arms, gone], disarms=[], watermark=mark)
        await replica.reconcile(every_s=45)
        assert [each.nominal_at for each in replica.rearmed] == [now + timedelta(seconds=10)]
        assert replica.rearmed[0].fire_at == replica.rearmed[0].nominal_at
        assert replica.telemetry.of("repaired") == [{"kind": "arms"}]


async def test_a_planner_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the planner ends: the arms are left to the next round."""
    monkeypatch.setattr("scheduler.services.reconcile.arms.REARM_TIMEOUT_S", 0.01)
    world = World()
    async with Replica(world) as replica:
        repair = next(each for each in replica.reconciler.repairs if isinstance(each, ArmsRepair))
        monkeypatch.setattr(repair, "_rearm", lambda occurrences: asyncio.Event().wait())
        late = Occurrence("a", world.clock.now() - timedelta(minutes=2), world.clock.now() - timedelta(minutes=2), 1)
        monkeypatch.setattr(repair, "_occurrences", lambda armed: iter([late]))
        with pytest.raises(Unavailable):
            await repair.repair(replica.tenure())
