"""Runs whose worker is gone. What makes one so is `services.tracker.liveness`."""

from __future__ import annotations

from datetime import timedelta

from scheduler.core.model.execution import State
from scheduler.core.reconciling import Repair
from scheduler.ports.clock import Clock
from scheduler.services.executions import ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.tracker.liveness import Liveness

LATER = timedelta(days=1)


class WorkersRepair:
    """Shows every running execution to the liveness check."""

    kind = Repair.WORKERS

    def __init__(self, *, index: ExecutionIndex, liveness: Liveness, clock: Clock) -> None:
        self._index, self._liveness, self._clock = index, liveness, clock

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        seen = self._index.open_before(self._clock.now() + LATER)
        running = [each for each in seen if each.state is State.RUNNING]
        return await self._liveness.check(running, before_write=tenure.check)
