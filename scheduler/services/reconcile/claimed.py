"""Records that stayed `claimed`: whoever made them died before the task was queued. Rolled forward, never back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Execution, State
from scheduler.core.reconciling import Ages, Launch, Record, Repair, is_past_launching, repair_claimed
from scheduler.ports.clock import Clock
from scheduler.ports.queues import TaskQueues
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.leader import Tenure
from scheduler.services.promotion import candidate_of
from scheduler.services.records import Change, Changed, Records
from scheduler.services.schedules import ScheduleCache
from scheduler.services.tracker.folding import Folder

BATCH = 256
PER_ROUND_MAX = 10_000


class ClaimedRepair:
    """Goes on from the stored record by the launcher's own steps; ends what is too old for that as lost."""

    kind = Repair.CLAIMED

    def __init__(
        self,
        *,
        index: ExecutionIndex,
        records: Records,
        queues: TaskQueues,
        schedules: ScheduleCache,
        launcher: Launcher,
        folder: Folder,
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._index, self._records, self._queues = index, records, queues
        self._schedules, self._launcher, self._folder = schedules, launcher, folder
        self._clock, self._ages = clock, ages

    async def repair(self, tenure: Tenure) -> int:
        """Oldest first, in batches. Raises Deposed, Unsure, Unavailable."""
        untouched = self._index.open_before(self._clock.now() - self._ages.grace)
        ids = [seen.id for seen in untouched if seen.state is State.CLAIMED][:PER_ROUND_MAX]
        if not ids:
            return 0
        await self._schedules.fresh()
        count = 0
        for start in range(0, len(ids), BATCH):
            tenure.check()
            count += await self._repair(ids[start : start + BATCH])
        return count

    async def _claim_of(self, execution: Execution) -> int | None:
        """Where it stands. That of a record which ends without one is withheld: its launcher may still be about to send
        the pair (`services.launch`)."""
        if is_past_launching(execution, self._clock.now(), self._ages):
            ttl_s = int(self._ages.floor.total_seconds())
            return await self._queues.withhold(execution.id, execution.drive, ttl_s)
        return await self._queues.claimed_seq(execution.id, execution.drive)

    async def _repair(self, ids: Sequence[str]) -> int:
        stored = await self._records.get_many(ids)
        executions = [each.execution for each in stored if each is not None]
        seqs = await asyncio.gather(*(self._claim_of(each) for each in executions))
        launches: list[Execution] = []
        changes: list[Change] = []
        for execution, claim_seq in zip(executions, seqs, strict=True):
            match repair_claimed(execution, claim_seq, self._clock.now(), self._ages):
                case Launch():
                    launches.append(execution)
                case Record(events):
                    changes.append(Change(execution.id, events, execution.drive))
                case None:
                    continue
        folded = await self._folder.fold(changes)
        launched = (
            await self._launcher.launch([candidate_of(self._schedules, each) for each in launches]) if launches else []
        )
        moved = [each for each in folded if isinstance(each, Changed) and each.moved]
        return len(moved) + sum(not isinstance(each, ScheddError) for each in launched)
