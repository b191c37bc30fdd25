"""Purging a queue: every execution whose task waits there ends on the record, and only then is its task removed.

A task waits if no worker runs it: never delivered, between two attempts, or in the hands of a plain worker, of whom
nobody knows that he has begun (he may go on; it is not delivered again). What an SDK worker runs is left to end, and
has no further attempt if it begins while it is being purged. Ends as `cancelled`, reason `purged`, by the steps of
`services.cancelling`, which anybody may repeat: who stops half-way leaves nothing that a second purge does not find.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec import Struct

from scheduler.core.ending import PURGED
from scheduler.core.errors import NotFound
from scheduler.core.lifecycle import is_terminal
from scheduler.core.model.execution import Action, Asked, Execution, State
from scheduler.core.tracking import Report, end_of, newest_start
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueState, Reports, TaskQueues, WaitingTask
from scheduler.services.cancelling import Canceller
from scheduler.services.records import Records
from scheduler.services.tracker.reading import is_execution_id, read_report

log = logging.getLogger(__name__)

MOST = 5_000  # tasks a call
TIME_S = 6.0  # an answer is waited for 12 s
CHUNK = 32
AT_ONCE = 8  # chunks


class Purged(Struct):
    """`count` tasks are gone, `running` were left to their workers; `remaining` are still in the queue."""

    count: int = 0
    running: int = 0
    remaining: int = 0


class Purger:
    """Empties queues."""

    def __init__(
        self, *, queues: TaskQueues, records: Records, reports: Reports, canceller: Canceller, clock: Clock
    ) -> None:
        self._queues, self._records, self._reports = queues, records, reports
        self._canceller, self._clock = canceller, clock

    async def count(self, queue: str) -> Purged:
        """What there is to purge, some thousands looked at one by one. Raises NotFound, Unsure, Unavailable."""
        state = await self._state(queue)
        found = await self._queues.tasks(queue, after=0, most=MOST) if state.ack_pending else []
        delivered = [task for task in found if task.task_seq <= state.delivered_seq]
        running = len(delivered) - len(await self._waiting(queue, delivered))
        return Purged(count=state.holds - running, running=running, remaining=state.holds)

    async def purge(self, queue: str, *, most: int = MOST) -> Purged:
        """Purge what waits now, oldest first, as much as a call may take. Raises NotFound, Unsure, Unavailable."""
        await self._state(queue)
        last, until_s = await self._queues.newest(queue), self._clock.boottime_s() + TIME_S
        result, after, looked_at = Purged(), 0, 0
        while looked_at < most and after < last and self._clock.boottime_s() < until_s:
            found = await self._queues.tasks(queue, after=after, most=min(CHUNK * AT_ONCE, most - looked_at))
            tasks = [task for task in found if task.task_seq <= last]
            if not tasks:
                break
            chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
            for count, running in await asyncio.gather(*(self._purge(queue, chunk) for chunk in chunks)):
                result.count += count
                result.running += running
            after, looked_at = tasks[-1].task_seq, looked_at + len(tasks)
        result.remaining = (await self._state(queue)).holds
        log.warning("a queue was purged", extra={"event": "queue_purged", "queue": queue, "count": result.count})
        return result

    async def _state(self, queue: str) -> QueueState:
        state = await self._queues.queue(queue)
        if state is None:
            raise NotFound(f"there is no queue {queue!r}", field="id")
        return state

    async def _purge(self, queue: str, tasks: Sequence[WaitingTask]) -> tuple[int, int]:
        """How many are gone, how many run."""
        waiting = await self._waiting(queue, tasks)
        known = [task for task in waiting if is_execution_id(task.execution_id)]
        asked = Asked(Action.CANCEL, self._clock.now(), PURGED)
        await self._canceller.ask([task.execution_id for task in known], asked)
        await self._remove_leftovers(waiting)
        present = await self._queues.present([task.task_seq for task in waiting])
        return present.count(False), len(tasks) - len(waiting)

    async def _remove_leftovers(self, tasks: Sequence[WaitingTask]) -> None:
        """Tasks of executions that are over, and of none at all."""
        ids = [task.execution_id if is_execution_id(task.execution_id) else None for task in tasks]
        stored = iter(await self._records.get_many([each for each in ids if each is not None]))
        for task, execution_id in zip(tasks, ids, strict=True):
            record = None if execution_id is None else next(stored)
            if record is None or is_terminal(record.execution):
                await self._queues.remove(task.task_seq)

    async def _waiting(self, queue: str, tasks: Sequence[WaitingTask]) -> list[WaitingTask]:
        """Those that no SDK worker runs, as far as the reports know."""
        starts = await self._reports.last_started([(queue, task.execution_id) for task in tasks])
        started = [task for task, start in zip(tasks, starts, strict=True) if start is not None]
        running = await asyncio.gather(*(self._runs(queue, task.execution_id) for task in started))
        busy = {task.task_seq for task, runs in zip(started, running, strict=True) if runs}
        return [task for task in tasks if task.task_seq not in busy]

    async def _runs(self, queue: str, execution_id: str) -> bool:
        """Whether its newest attempt has begun and not ended, or has ended for good: then it is about to leave."""
        stored = (await self._records.get_many([execution_id]))[0] if is_execution_id(execution_id) else None
        if stored is None or is_terminal(stored.execution):
            return False
        messages = await self._reports.all_of(queue, execution_id)
        reports = [report for each in messages if (report := read_report(each)) is not None]
        return _is_in_hand(stored.execution, reports)


def _is_in_hand(execution: Execution, reports: Sequence[Report]) -> bool:
    start = newest_start(execution, reports)
    if start is None or start.by_daemon:
        return False
    end = end_of(start, reports)
    return end is None or end.state is not State.RETRYING
