"""Executions whose task has left the stream, without a final report and without a signal."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.lifecycle import is_terminal
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.queues import TaskQueues
from scheduler.services.executions import ExecutionIndex, Seen
from scheduler.services.leader import Tenure
from scheduler.services.records import Records
from scheduler.services.tracker.inspecting import OPEN_IN_QUEUE, Inspector

PER_ROUND_MAX = 5_000
BATCH = 256


class GoneRepair:
    """Walks through the open executions, longest untouched first, so many each round; suspects are seen every round."""

    kind = Repair.GONE

    def __init__(
        self,
        *,
        index: ExecutionIndex,
        records: Records,
        queues: TaskQueues,
        inspector: Inspector,
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._index, self._records, self._queues, self._inspector = index, records, queues, inspector
        self._clock, self._ages = clock, ages
        self._walked_to = 0  # revision

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        seen = self._next()
        present = await self._queues.present([each.summary.task_seq or 0 for each in seen]) if seen else []
        ids = [each.id for each, is_there in zip(seen, present, strict=True) if not is_there]
        count = 0
        for start in range(0, len(ids), BATCH):
            stored = await self._records.get_many(ids[start : start + BATCH])
            tenure.check()
            executions = [each.execution for each in stored if each is not None and not is_terminal(each.execution)]
            count += await self._inspector.look_at([each for each in executions if each.state in OPEN_IN_QUEUE])
        return count

    def _next(self) -> Sequence[Seen]:
        untouched = self._index.open_before(self._clock.now() - self._ages.grace)
        queued = [each for each in untouched if each.state in OPEN_IN_QUEUE and each.summary.task_seq is not None]
        ahead = [each for each in queued if each.revision > self._walked_to][:PER_ROUND_MAX]
        self._walked_to = ahead[-1].revision if len(ahead) == PER_ROUND_MAX else 0
        walked = {each.id for each in ahead}
        suspects = [each for each in queued if self._inspector.vanished.is_witnessed(each.summary.task_seq)]
        return [*ahead, *(each for each in suspects if each.id not in walked)]
