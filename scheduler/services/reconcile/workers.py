"""Runs whose worker is gone. What makes one so is `services.tracker.liveness`."""

from __future__ import annotations

from datetime import timedelta

from scheduler.core.model.execution import Execution
from scheduler.core.reconciling import Repair
from scheduler.ports.clock import Clock
from scheduler.services.executions import ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.reconcile.slots import SlotsRepair
from scheduler.services.tracker.liveness import Liveness, run_of
from scheduler.wire.record import Summary

LATER = timedelta(days=1)


class WorkersRepair:
    """Shows every running execution to the liveness check: those of the index, and whatever else holds a slot."""

    kind = Repair.WORKERS

    def __init__(self, *, index: ExecutionIndex, slots: SlotsRepair, liveness: Liveness, clock: Clock) -> None:
        self._index, self._slots, self._liveness, self._clock = index, slots, liveness, clock

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        seen = self._index.open_before(self._clock.now() + LATER)
        executions: list[Execution | Summary] = [*(each.summary for each in seen), *self._slots.unindexed]
        running = [run for each in executions if (run := run_of(each)) is not None]
        return await self._liveness.check(running, before_write=tenure.check)
