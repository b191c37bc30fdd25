"""Status rows of schedules that are gone: kept while runs are active, and removed by nobody when they end."""

from __future__ import annotations

from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Entry
from scheduler.services.burying import bury
from scheduler.services.leader import Tenure
from scheduler.services.rows import StatusRows, is_in_use, row_of
from scheduler.services.schedules import ScheduleCache


class RowsRepair:
    """Looks at rows that were written and at schedules that were deleted since the last round, until their rows go.

    A row is removed by its revision, its delete marker too: one that was written meanwhile (the schedule came back) is
    another revision, and stays.
    """

    kind = Repair.ROWS

    def __init__(self, *, rows: StatusRows, schedules: ScheduleCache, clock: Clock, ages: Ages) -> None:
        self._bucket, self._schedules, self._clock, self._ages = rows.bucket, schedules, clock, ages
        self._doubtful: set[str] = set()
        self._rows_seen = self._schedules_seen = 0

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        await self._look()
        self._doubtful = {each for each in self._doubtful if self._is_gone(each)}
        ids = sorted(self._doubtful)
        removed = 0
        for schedule_id, entry in zip(ids, await self._bucket.get_many(ids) if ids else [], strict=True):
            if entry is None:
                self._doubtful.discard(schedule_id)
            elif self._is_spent(entry):
                tenure.check()
                await bury(self._bucket, entry)
                removed += not entry.deleted
        return removed

    async def _look(self) -> None:
        """The rows first: of a schedule that is deleted after that we hear as a schedule."""
        newest = await self._bucket.last_revision()
        if newest > self._rows_seen:
            self._doubtful.update(entry.key for entry in await self._bucket.changes_since(self._rows_seen, newest))
            self._rows_seen = newest
        applied = await self._schedules.fresh()
        changed = self._schedules.changed_after(self._schedules_seen)
        self._doubtful.update(known.id for known in changed if known.deleted)
        self._schedules_seen = applied

    def _is_gone(self, schedule_id: str) -> bool:
        known = self._schedules.get(schedule_id)
        return known is None or known.deleted

    def _is_spent(self, entry: Entry) -> bool:
        return not is_in_use(row_of(entry)) and self._clock.now() - entry.at > self._ages.grace
