"""Buffers: records that wait beside a row that says something else, and rows that have room for those who wait.

Somebody died between the row and the record, or between the row and the pair; or an edit made room. A record that
waits in no row at all asks for a slot anew, and then waits, runs or is skipped as any other.
"""

from __future__ import annotations

from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import State
from scheduler.core.overlap import Slots
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.services.executions import ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.promotion import Promoter
from scheduler.services.reconcile.slots import SlotsRepair
from scheduler.services.slots import SlotKeeper

BATCH = 256
PER_ROUND_MAX = 10_000


class WaitingRepair:
    """Works on the rows as `slots`, which goes before it in each round, has read them."""

    kind = Repair.WAITING

    def __init__(
        self,
        *,
        index: ExecutionIndex,
        slots: SlotsRepair,
        keeper: SlotKeeper,
        promoter: Promoter,
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._index, self._slots, self._keeper, self._promoter = index, slots, keeper, promoter
        self._clock, self._ages = clock, ages

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        tenure.check()
        return await self._move_up() + await self._launch(tenure)

    async def _move_up(self) -> int:
        """Rows with room and somebody who waits."""
        roomy = [schedule for schedule, slots in self._slots.held.items() if self._has_room(schedule, slots)]
        if not roomy:
            return 0
        for result in (await self._keeper.free({schedule: {} for schedule in roomy}, create=False)).values():
            if isinstance(result, ScheddError):
                raise result
        return len(roomy)

    def _has_room(self, schedule_id: str, slots: Slots) -> bool:
        limit = self._keeper.terms_of(schedule_id).limit
        return bool(slots.waiting) and (limit is None or len(slots.active) < limit)

    async def _launch(self, tenure: Tenure) -> int:
        """Records that wait, untouched for a grace, and are not among those that wait in their row."""
        untouched = self._index.open_before(self._clock.now() - self._ages.grace)
        waiting = [seen for seen in untouched if seen.state is State.WAITING]
        ids = [seen.id for seen in waiting if not self._waits(seen.summary.schedule, seen.id)][:PER_ROUND_MAX]
        count = 0
        for start in range(0, len(ids), BATCH):
            tenure.check()
            batch = ids[start : start + BATCH]
            count += len(batch) - len(await self._promoter.launch(batch))
        return count

    def _waits(self, schedule_id: str, execution_id: str) -> bool:
        slots = self._slots.held.get(schedule_id)
        return slots is not None and execution_id in slots.waiting
