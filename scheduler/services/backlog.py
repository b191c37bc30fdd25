"""Records of what has been queued for longer than the index of executions looks back.

A task lies in its queue until its execution ends, so the oldest tasks lead to the oldest open records, however many
have been written since.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from scheduler.ports.queues import TaskQueues
from scheduler.ports.stores import Bucket, Entry
from scheduler.wire.ids import is_execution_id

PAGE = 256


class Backlog:
    """Reads the tasks of every queue, and the records they belong to."""

    def __init__(self, queues: TaskQueues, executions: Bucket) -> None:
        self._queues, self._executions = queues, executions

    async def records(self, before: datetime) -> AsyncIterator[list[Entry]]:
        """Page by page the records of tasks that were put into a queue before that. Raises Unsure, Unavailable."""
        for state in await self._queues.queues():
            after = 0
            while page := await self._queues.tasks(state.queue, after=after, most=PAGE):
                ids = [task.execution_id for task in page if task.at < before and is_execution_id(task.execution_id)]
                found = await self._executions.get_many(ids)
                yield [entry for entry in found if entry is not None and not entry.deleted]
                if page[-1].at >= before:
                    break
                after = page[-1].task_seq
