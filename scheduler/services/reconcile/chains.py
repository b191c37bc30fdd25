"""Chains that stand still: somebody died between the end of a run and its row, or between the row and the timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from scheduler.core.chain import Stall, is_chained, repair_chain, seems_stalled
from scheduler.core.errors import Unavailable
from scheduler.core.firing import occurrence_of
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.status import Chain
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.services.chains import Chains
from scheduler.services.leader import Tenure
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import Known, ScheduleCache
from scheduler.wire.ids import execution_id

BATCH = 256
REARM_TIMEOUT_S = 30.0


class ChainsRepair:
    """Reads the rows of all chained schedules, and the records of those that seem to stand still.

    A row that has lost its chain is the planner's to begin anew: it hears of it by the watch, or when it takes over.
    """

    kind = Repair.CHAINS

    def __init__(
        self,
        *,
        chains: Chains,
        rows: StatusRows,
        records: Records,
        schedules: ScheduleCache,
        rearm: Callable[[Sequence[Occurrence]], Awaitable[None]],
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._chains, self._rows, self._records, self._schedules = chains, rows, records, schedules
        self._rearm, self._clock, self._ages = rearm, clock, ages

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        applied = tenure.office.watermark.applied
        chained = [each for each in self._schedules if is_chained(each.in_force) and each.revision <= applied]
        count = 0
        for start in range(0, len(chained), BATCH):
            tenure.check()
            count += await self._repair(chained[start : start + BATCH])
        return count

    async def _repair(self, chained: Sequence[Known]) -> int:
        rows = await self._rows.get_many([known.id for known in chained])
        now, grace = self._clock.now(), self._ages.grace
        stalled: list[tuple[Known, Chain]] = []
        for known, row in zip(chained, rows, strict=True):
            if row.chain is not None and known.in_force and seems_stalled(row.chain, known.in_force, now, grace):
                stalled.append((known, row.chain))
        return await self._close(stalled) if stalled else 0

    async def _close(self, stalled: Sequence[tuple[Known, Chain]]) -> int:
        ids = [execution_id(known.id, chain.nominal) for known, chain in stalled if chain.nominal is not None]
        records = await self._records.get_many(ids)
        arms: list[Occurrence] = []
        count = 0
        for (known, chain), stored in zip(stalled, records, strict=True):
            assert known.in_force is not None
            assert chain.nominal is not None
            record = None if stored is None else stored.execution
            step = repair_chain(chain, record, self._clock.now(), self._ages)
            if step is Stall.FOLLOW and record is not None:
                await self._chains.follow([record])
            elif step is Stall.GIVE_UP:
                await self._chains.give_up(known.id, chain.nominal)
            elif step is Stall.ARM:
                arms.append(occurrence_of(known.in_force.definition, known.in_force.trigger, chain.nominal))
            count += step is not None
        await self._arm(arms)
        return count

    async def _arm(self, arms: Sequence[Occurrence]) -> None:
        if not arms:
            return
        try:
            async with asyncio.timeout(REARM_TIMEOUT_S):
                await self._rearm(arms)
        except TimeoutError:
            raise Unavailable("the planner did not arm the stalled chains in time") from None
