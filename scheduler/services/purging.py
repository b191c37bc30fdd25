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
from scheduler.core.model.execution import Action, Asked, State
from scheduler.core.tracking import Report, end_of, newest_start
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueState, Reports, TaskQueues, WaitingTask
from scheduler.services.cancelling import Canceller
from scheduler.services.records import Records, Stored
from scheduler.services.tracker.reading import read_report
from scheduler.wire.ids import is_execution_id

log = logging.getLogger(__name__)

MOST = 5_000  # tasks a call
TIME_S = 5.0  # begun within; an answer is waited for 12 s
CHUNK = 128  # at once


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
        running = sum(each.is_in_hand for each in await self._look(queue, delivered))
        return Purged(count=state.holds - running, running=running, remaining=state.holds)

    async def purge(self, queue: str, *, most: int = MOST) -> Purged:
        """Purge what waits now, oldest first, as much as a call may take. Raises NotFound, Unsure, Unavailable."""
        await self._state(queue)
        last, until_s = await self._queues.newest(queue), self._clock.boottime_s() + TIME_S
        result, after, looked_at = Purged(), 0, 0
        while looked_at < most and after < last and self._clock.boottime_s() < until_s:
            found = await self._queues.tasks(queue, after=after, most=min(CHUNK, most - looked_at))
            tasks = [task for task in found if task.task_seq <= last]
            if not tasks:
                break
            known = await self._look(queue, tasks)
            result.running += sum(each.is_in_hand for each in known)
            result.count += await self._end([each for each in known if not each.is_in_hand])
            after, looked_at = tasks[-1].task_seq, looked_at + len(tasks)
        result.remaining = (await self._state(queue)).holds
        log.warning("a queue was purged", extra={"event": "queue_purged", "queue": queue, "count": result.count})
        return result

    async def _state(self, queue: str) -> QueueState:
        state = await self._queues.queue(queue)
        if state is None:
            raise NotFound(f"there is no queue {queue!r}", field="id")
        return state

    async def _look(self, queue: str, tasks: Sequence[WaitingTask]) -> list[_Known]:
        """The tasks with their records and with what their workers told."""
        known = [_Known(task) for task in tasks]
        ours = [each for each in known if is_execution_id(each.task.execution_id)]
        ids = [each.task.execution_id for each in ours]
        stored = await self._records.get_many(ids)
        starts = await self._reports.last_started([(queue, execution_id) for execution_id in ids])
        for each, record, start in zip(ours, stored, starts, strict=True):
            each.stored, each.has_begun = record, start is not None
        begun = [each for each in ours if each.has_begun]
        messages = await asyncio.gather(*(self._reports.all_of(queue, each.task.execution_id) for each in begun))
        for each, found in zip(begun, messages, strict=True):
            each.reports = [report for message in found if (report := read_report(message)) is not None]
        return known

    async def _end(self, waiting: Sequence[_Known]) -> int:
        """End what is open, remove what is nobody's; how many tasks have left the queue."""
        open_ = [(each.stored, each.reports) for each in waiting if each.stored is not None and each.is_open]
        asked = Asked(Action.CANCEL, self._clock.now(), PURGED)
        count = await self._canceller.end_waiting(open_, asked)
        nobodys = [each.task.task_seq for each in waiting if not each.is_open]
        return count + sum(await asyncio.gather(*(self._queues.remove(seq) for seq in nobodys)))


class _Known(Struct):
    """What is known of a task's execution. Of none at all if it is not ours, or has lost its record."""

    task: WaitingTask
    stored: Stored | None = None
    has_begun: bool = False
    reports: Sequence[Report] = ()

    @property
    def is_open(self) -> bool:
        return self.stored is not None and not is_terminal(self.stored.execution)

    @property
    def is_in_hand(self) -> bool:
        """Whether an SDK worker runs it: its newest attempt has begun and not ended, or its end is not folded yet."""
        if self.stored is None or not self.is_open:
            return False
        start = newest_start(self.stored.execution, self.reports)
        if start is None or start.by_daemon:
            return False
        end = end_of(start, self.reports)
        return end is None or end.state is not State.RETRYING
