"""Small duties: the copy of the watermark, one-shots that are over, and what is left of deleted schedules.

Of a deleted schedule remain the marker in the schedules bucket, by which every replica hears of it, and its status row,
as long as runs hold slots in it. The leader removes them in that order, backwards: the row once it is free, the row's
own marker an hour later (`marker_age_s`), and the schedule's marker after that, if it is as old and the deletion is
applied. The other replicas drop what they remember of it after twice that age. Markers of calendars go once C has
passed them. Each is buried (`services.burying`): a server that crashes afterwards may have the marker again, never a
value; such a marker is known to whoever starts after that, and goes as any other.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from scheduler.core.errors import ScheddError
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.burying import bury
from scheduler.services.leader import Tenure
from scheduler.services.one_shots import OneShots
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import Known, ScheduleCache
from scheduler.services.watermarks import WatermarkCopy
from scheduler.wire.ids import is_schedule_id

log = logging.getLogger(__name__)
MARKER_AGE_S = 3600.0
MARKERS_MAX = 500  # looked at per round
FOLLOW_EVERY_S = 300.0


class Housekeeper:
    """`run` while its replica leads, `follow` always."""

    def __init__(
        self,
        *,
        copy: WatermarkCopy,
        schedules: ScheduleCache,
        bucket: Bucket,
        rows: StatusRows,
        one_shots: OneShots,
        clock: Clock,
        every_s: float,
        marker_age_s: float = MARKER_AGE_S,
    ) -> None:
        self._copy, self._schedules, self._bucket, self._rows = copy, schedules, bucket, rows
        self._one_shots = one_shots
        self._clock, self._every_s, self._age = clock, every_s, timedelta(seconds=marker_age_s)
        self._looked_at = 0  # markers up to this revision, in this walk through all of them

    async def run(self, tenure: Tenure) -> None:
        """Raises Deposed when the term is over."""
        while True:
            tenure.check()
            try:
                await self._copy.keep(tenure)
                await self._one_shots.sweep(tenure)
                await self._remove_markers(tenure)
                await self._remove_calendar_markers(tenure)
            except ScheddError as problem:
                log.warning("housekeeping waits", extra={"event": "housekeeping_waits", "error": problem.message})
            await self._clock.sleep(self._every_s)

    async def follow(self) -> None:
        """Forget what a leader has applied and had twice the time to remove, whoever that was."""
        while True:
            with contextlib.suppress(ScheddError):
                await self._forget_spent(await self._copy.applied())
            await self._clock.sleep(FOLLOW_EVERY_S)

    async def _forget_spent(self, applied: int) -> None:
        """Only what is gone from the bucket: where no leader stayed long enough to remove it, whoever leads next has to
        know of it still."""
        oldest = self._clock.now() - 2 * self._age
        spent = [each for each in self._schedules.markers() if each.revision <= applied and each.at < oldest]
        spent = spent[:MARKERS_MAX]
        stored = await self._bucket.get_many([each.id for each in spent]) if spent else []
        for known, entry in zip(spent, stored, strict=True):
            if entry is None:
                self._schedules.forget(known.id, known.revision)

    async def _remove_markers(self, tenure: Tenure) -> None:
        """Markers at or below R are on the timeline already; after an hour no reader relies on them."""
        oldest, applied = self._clock.now() - self._age, tenure.office.watermark.applied
        spent = [each for each in self._next_markers() if each.revision <= applied and each.at < oldest]
        if not spent:
            return
        ids = [each.id for each in spent if is_schedule_id(each.id)]
        rows = dict(zip(ids, await self._rows.bucket.get_many(ids), strict=True))
        stored = await self._bucket.get_many([each.id for each in spent])
        await self._schedules.fresh()
        for known, entry in zip(spent, stored, strict=True):
            tenure.check()
            row = rows.get(known.id)
            if row is None or await self._is_row_gone(known, row, oldest, tenure):
                tenure.check()
                if not await _bury_now(self._bucket, entry):
                    self._schedules.forget(known.id, known.revision)

    async def _remove_calendar_markers(self, tenure: Tenure) -> None:
        calendars = self._schedules.calendars
        if calendars is None:
            return
        oldest, applied = self._clock.now() - self._age, tenure.office.watermark.calendars
        spent = [each for each in calendars if each.deleted and each.revision <= applied and each.at < oldest]
        spent, bucket = spent[:MARKERS_MAX], calendars.mirror.bucket
        if not spent:
            return
        stored = await bucket.get_many([each.name for each in spent])
        await calendars.mirror.fresh()
        for known, entry in zip(spent, stored, strict=True):
            tenure.check()
            if not await _bury_now(bucket, entry):
                calendars.forget(known.name, known.revision)

    def _next_markers(self) -> Sequence[Known]:
        """The next so many; those whose rows are in use keep nobody behind them waiting."""
        markers = sorted(self._schedules.markers(), key=lambda each: each.revision)
        found = [each for each in markers if each.revision > self._looked_at][:MARKERS_MAX]
        self._looked_at = found[-1].revision if len(found) == MARKERS_MAX else 0
        return found

    async def _is_row_gone(self, known: Known, row: Entry, oldest: datetime, tenure: Tenure) -> bool:
        if not row.deleted:
            await self._rows.forget(known.id, tenure.check)
            return False
        if row.at >= oldest:
            return False
        await bury(self._rows.bucket, row)
        return True


async def _bury_now(bucket: Bucket, entry: Entry | None) -> bool:
    """Whether there was something to bury; it is forgotten in a later round only, when the caches have seen the marker
    that stood there last: else that would be a deletion of its own to them."""
    if entry is None or not entry.deleted:
        return False
    await bury(bucket, entry)
    return True
