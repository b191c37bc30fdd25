"""Tasks that outlived their executions: whoever wrote how it ended died before the removal."""

from __future__ import annotations

from scheduler.core.model.execution import State
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.queues import TaskQueues
from scheduler.services.executions import ExecutionIndex, Seen
from scheduler.services.leader import Tenure

# Ends that the daemon itself may have written. After a success its worker acknowledges, now or with its next delivery.
ENDS = frozenset({State.LOST, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.EXPIRED})


class LeftoversRepair:
    """Looks once at each recent execution that ended so; the walk begins anew with each leader."""

    kind = Repair.LEFTOVERS

    def __init__(self, *, index: ExecutionIndex, queues: TaskQueues, clock: Clock, ages: Ages) -> None:
        self._index, self._queues, self._clock, self._ages = index, queues, clock, ages
        self._walked_to = 0  # revision

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        before = self._clock.now() - self._ages.grace
        new = [each for each in self._index.recent() if each.revision > self._walked_to and each.at <= before]
        ended = [each for each in new if each.state in ENDS and each.summary.task_seq is not None]
        present = await self._queues.present([_seq(each) for each in ended]) if ended else []
        count = 0
        for each, is_there in zip(ended, present, strict=True):
            if is_there:
                tenure.check()
                count += await self._queues.remove(_seq(each))
        self._walked_to = max((each.revision for each in new), default=self._walked_to)
        return count


def _seq(seen: Seen) -> int:
    return seen.summary.task_seq or 0
