"""Small duties of the leader: the copy of the watermark, and delete markers that nobody needs any more."""

from __future__ import annotations

import logging
from datetime import timedelta

import msgspec

from scheduler.core.errors import ScheddError
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket
from scheduler.services.leader import Tenure
from scheduler.services.schedules import Known, ScheduleCache
from scheduler.wire.instants import format_instant
from scheduler.wire.names import WATERMARK_KEY

log = logging.getLogger(__name__)
MARKER_AGE = timedelta(hours=1)
MARKERS_MAX = 500  # removed per round


class Housekeeper:
    """Runs while its replica leads."""

    def __init__(
        self, *, control: Bucket, schedules: ScheduleCache, bucket: Bucket, clock: Clock, every_s: float
    ) -> None:
        self._control, self._schedules, self._bucket = control, schedules, bucket
        self._clock, self._every_s = clock, every_s

    async def run(self, tenure: Tenure) -> None:
        while True:
            tenure.check()
            try:
                await self._copy_watermark(tenure)
                await self._remove_markers(tenure)
            except ScheddError as problem:
                log.warning("housekeeping waits", extra={"event": "housekeeping_waits", "error": problem.message})
            await self._clock.sleep(self._every_s)

    async def _copy_watermark(self, tenure: Tenure) -> None:
        """What a new leader falls back to if the timeline stream is ever lost; the epoch sets its first sequence."""
        mark = tenure.office.watermark
        body = {
            "until": format_instant(mark.until),
            "applied": mark.applied,
            "calendars": mark.calendars,
            "epoch": tenure.office.epoch,
        }
        await self._control.put(WATERMARK_KEY, msgspec.json.encode(body))

    async def _remove_markers(self, tenure: Tenure) -> None:
        """Markers at or below R are on the timeline already; after an hour no reader is that far behind."""
        oldest = self._clock.now() - MARKER_AGE
        applied = tenure.office.watermark.applied
        spent = [each for each in self._schedules if self._is_spent(each, applied) and each.at < oldest]
        for known in spent[:MARKERS_MAX]:
            tenure.check()
            await self._bucket.expire(known.revision)
            self._schedules.forget(known.id, known.revision)

    def _is_spent(self, known: Known, applied: int) -> bool:
        return known.deleted and known.revision <= applied
