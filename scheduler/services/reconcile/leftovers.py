"""Tasks that outlived their executions: whoever wrote how it ended died before the removal, or a server that was killed
has the task again that a worker had acknowledged, and its consumer takes it for done."""

from __future__ import annotations

from datetime import datetime

from scheduler.core.lifecycle import is_terminal
from scheduler.core.model.execution import State
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.queues import StoredTask, TaskQueues
from scheduler.services.executions import ExecutionIndex, Seen
from scheduler.services.leader import Tenure
from scheduler.services.records import Records, Stored

# Ends that the daemon itself may have written. After a success its worker acknowledges, now or with its next delivery.
ENDS = frozenset({State.LOST, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.EXPIRED})
TASKS_AT_ONCE = 50  # per round, each a request


class LeftoversRepair:
    """Looks once at each recent execution that ended so, and walks through the tasks, some each round; both begin anew
    with each leader."""

    kind = Repair.LEFTOVERS

    def __init__(
        self, *, index: ExecutionIndex, records: Records, queues: TaskQueues, clock: Clock, ages: Ages
    ) -> None:
        self._index, self._records, self._queues = index, records, queues
        self._clock, self._ages = clock, ages
        self._walked_to = 0  # revision
        self._task_seq = 0

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        return await self._of_recent_ends(tenure) + await self._among_tasks(tenure)

    async def _of_recent_ends(self, tenure: Tenure) -> int:
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

    async def _among_tasks(self, tenure: Tenure) -> int:
        tasks = [each for each in await self._next_tasks() if each.execution_id]
        records = await self._records.get_many([each.execution_id for each in tasks]) if tasks else []
        now, count = self._clock.now(), 0
        for task, record in zip(tasks, records, strict=True):
            if self._is_left(task, record, now):
                tenure.check()
                count += await self._queues.remove(task.seq)
        return count

    async def _next_tasks(self) -> list[StoredTask]:
        found: list[StoredTask] = []
        while len(found) < TASKS_AT_ONCE:
            task = await self._queues.next_task(self._task_seq)
            self._task_seq = 0 if task is None else task.seq
            if task is None:
                break
            found.append(task)
        return found

    def _is_left(self, task: StoredTask, record: Stored | None, now: datetime) -> bool:
        """What is open has a record for as long as it is, and one that ended has it for F at least."""
        if record is None:
            return now - task.at > self._ages.floor
        finished_at = record.execution.finished_at
        return is_terminal(record.execution) and finished_at is not None and now - finished_at > self._ages.grace


def _seq(seen: Seen) -> int:
    return seen.summary.task_seq or 0
