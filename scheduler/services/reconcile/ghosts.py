"""Records of executions that ended long ago, brought back open by a server that crashed.

A terminal record expires, and a server that is killed afterwards has the one again that it had replaced
(`services.burying`): an execution that looks as if it ran still. To repair it would give it a second verdict, or run it
again. It is told from one that is really open by what is left of its end: it has no task, no claim and no slot, was not
written for longer than its record is kept, and its end is among the events, or was before the oldest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from scheduler.core.model.execution import Execution
from scheduler.core.reconciling import Ages, Repair, may_be_a_ghost
from scheduler.ports.clock import Clock
from scheduler.ports.feeds import EventFeed
from scheduler.ports.queues import Events, TaskQueues
from scheduler.ports.stores import Entry
from scheduler.services.burying import bury
from scheduler.services.executions import ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.reconcile.events import key_of
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows, row_of
from scheduler.wire.alerts import FINISHED
from scheduler.wire.ids import is_execution_id

LEAF = 250  # sequences
LEAVES_MAX = 10  # per round, as long as each has something to look at
OPEN_MAX = 500  # of the index, looked at per round
PAGE = 500
PAGES_MAX = 20  # of the events of one schedule
WAIT_S = 0.05
MARGIN = timedelta(minutes=2)  # each stream has a clock of its own


class GhostsRepair:
    """Comes first, before the others take them for open. Looks at what the index holds open, and walks through the
    bucket, a leaf each round, since an index that was there before the crash does not see what comes back."""

    kind = Repair.GHOSTS

    def __init__(
        self,
        *,
        index: ExecutionIndex,
        records: Records,
        rows: StatusRows,
        queues: TaskQueues,
        feed: EventFeed,
        events: Events,
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._index, self._records, self._rows, self._queues = index, records, rows, queues
        self._feed, self._events, self._clock, self._ages = feed, events, clock, ages
        self._walked_to = 0

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        held = self._index.open_before(self._clock.now() - self._ages.floor)[:OPEN_MAX]
        found = await self._records.bucket.get_many([each.id for each in held]) if held else []
        count = await self._remove([each for each in found if each is not None], tenure)
        for _ in range(LEAVES_MAX):
            leaf = await self._records.bucket.leaf(self._walked_to, LEAF)
            removed = await self._remove(leaf.entries, tenure)
            self._walked_to = leaf.until or 0
            count += removed
            if not removed:
                break
        return count

    async def _remove(self, entries: Sequence[Entry], tenure: Tenure) -> int:
        count = 0
        for entry, execution in self._suspects(entries):
            if await self._is_held(execution) or not await self._has_ended(execution, entry):
                continue
            tenure.check()
            await bury(self._records.bucket, entry)
            self._index.forget(entry.key, entry.revision)
            count += 1
        return count + await self._remove_markers(entries, tenure)

    def _suspects(self, entries: Sequence[Entry]) -> list[tuple[Entry, Execution]]:
        now = self._clock.now()
        old = [each for each in entries if not each.deleted and now - each.at > self._ages.floor]
        read = ((entry, self._records.read(entry)) for entry in old if is_execution_id(entry.key))
        return [
            (entry, it.execution)
            for entry, it in read
            if it and may_be_a_ghost(it.execution, entry.at, now, self._ages)
        ]

    async def _remove_markers(self, entries: Sequence[Entry], tenure: Tenure) -> int:
        """What a burial left, if it is there again."""
        old = [each for each in entries if each.deleted and self._clock.now() - each.at > self._ages.floor]
        for entry in old:
            tenure.check()
            await bury(self._records.bucket, entry)
        return len(old)

    async def _is_held(self, execution: Execution) -> bool:
        """By a task, a claim or a slot: then it is open."""
        if execution.task_seq is not None and (await self._queues.present([execution.task_seq]))[0]:
            return True
        if await self._queues.claimed_seq(execution.id, execution.drive) is not None:
            return True
        row = row_of(await self._rows.bucket.get(execution.schedule))
        return execution.id in (*row.active, *row.waiting)

    async def _has_ended(self, execution: Execution, entry: Entry) -> bool:
        if entry.at < await self._events.complete_since():
            return True
        key, schedule = (execution.id, execution.drive), execution.schedule
        place, last = await self._feed.before(entry.at - MARGIN), await self._feed.last((FINISHED,), schedule)
        for _ in range(PAGES_MAX):
            if place >= last:
                break
            page = await self._feed.read(place, (FINISHED,), schedule, most=PAGE, wait_s=WAIT_S)
            if any(key_of(each.event) == key for each in page.items):
                return True
            place = page.items[-1].seq if page.items else last
        return False
