"""Slots whose holder has ended, or has no record any more: somebody died between the record and the release.

A holder that is open but older than what the index reaches back to (a run of hours, a leader of minutes) is handed to
the other repairs: a slot must not be held for ever by a run that nobody looks at.
"""

from __future__ import annotations

from scheduler.core.lifecycle import TERMINAL, is_terminal
from scheduler.core.model.execution import Execution
from scheduler.core.overlap import Slots
from scheduler.core.reconciling import Ages, Repair, freed_slots
from scheduler.ports.clock import Clock
from scheduler.services.executions import ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows, row_of
from scheduler.services.slots import slots_of
from scheduler.services.tracker import Tracker
from scheduler.services.tracker.inspecting import OPEN_IN_QUEUE


class SlotsRepair:
    """Keeps the holders of all rows, read incrementally; frees those that were suspect for a grace."""

    kind = Repair.SLOTS

    def __init__(
        self,
        *,
        rows: StatusRows,
        records: Records,
        index: ExecutionIndex,
        tracker: Tracker,
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._rows, self._records, self._index = rows, records, index
        self._tracker, self._clock, self._ages = tracker, clock, ages
        self.held: dict[str, Slots] = {}  # by schedule; those in which nobody runs or waits are left out
        self._revision = 0
        self._suspect_since: dict[str, float] = {}
        self.unindexed: list[Execution] = []

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        await self._read_rows()
        now_s, before = self._clock.boottime_s(), self._suspect_since
        self._suspect_since = {each: before.get(each, now_s) for each in self._suspects()}
        grace_s = self._ages.grace.total_seconds()
        ripe = [each for each, since_s in self._suspect_since.items() if now_s - since_s >= grace_s]
        self.unindexed = []
        if not ripe:
            return 0
        stored = await self._records.get_many(ripe)
        known = {each: None if found is None else found.execution for each, found in zip(ripe, stored, strict=True)}
        missing, ended = freed_slots(ripe, known)
        self.unindexed = [each for each in known.values() if each is not None and not is_terminal(each)]
        tenure.check()
        freed = await self._tracker.folder.free(ended)
        await self._tracker.inspector.look_at([each for each in self.unindexed if each.state in OPEN_IN_QUEUE])
        return len(freed) + await self._tracker.inspector.free_missing(missing)

    async def _read_rows(self) -> None:
        newest = await self._rows.bucket.last_revision()
        if newest <= self._revision:
            return
        for entry in await self._rows.bucket.changes_since(self._revision, newest):
            slots = slots_of(row_of(entry))
            if slots.active or slots.waiting:
                self.held[entry.key] = slots
            else:
                self.held.pop(entry.key, None)
        self._revision = newest

    def _suspects(self) -> list[str]:
        """Holders that the index does not know as open; only these cost a read."""
        found: list[str] = []
        for slots in self.held.values():
            for each in (*slots.active, *slots.waiting):
                seen = self._index.get(each)
                if seen is None or seen.state in TERMINAL:
                    found.append(each)
        return found
