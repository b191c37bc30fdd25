"""One-shots that are over are deleted by the leader: people put them by the thousand and never come back for them.

Over is `core.one_shots.is_over`, and that nothing of them is left: no record in the bucket, and nobody who holds a slot
or waits for a verdict in the row. The deletion is like that of a user: compare-and-set, an edit that is applied, an
event; an audit explains the past of it as long as it explains any.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from scheduler.core.errors import Conflict
from scheduler.core.one_shots import is_over
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket
from scheduler.ports.telemetry import Telemetry
from scheduler.services.leader import Tenure
from scheduler.services.rows import StatusRows, is_in_use, row_of
from scheduler.services.schedules import Known, ScheduleCache

log = logging.getLogger(__name__)
LOOKED_AT = 100  # per round; each costs a request


class OneShots:
    """`sweep` is a duty of the leader."""

    def __init__(
        self,
        *,
        schedules: ScheduleCache,
        bucket: Bucket,
        executions: Bucket,
        rows: StatusRows,
        clock: Clock,
        telemetry: Telemetry,
        claim_floor_s: float,
    ) -> None:
        self._schedules, self._bucket, self._executions, self._rows = schedules, bucket, executions, rows
        self._clock, self._telemetry, self._floor = clock, telemetry, timedelta(seconds=claim_floor_s)
        self._looked_at = 0  # generations up to this one, in this walk through all of them

    async def sweep(self, tenure: Tenure) -> None:
        """Delete the next of those that are over. Raises Deposed, Unsure, Unavailable."""
        over = self._next(tenure)
        rows = await self._rows.bucket.get_many([each.id for each in over]) if over else []
        for known, row in zip(over, rows, strict=True):
            if is_in_use(row_of(row)) or await self._executions.keys(f"{known.id}.*"):
                continue
            tenure.check()
            await self._delete(known)

    def _next(self, tenure: Tenure) -> list[Known]:
        """Those that are kept for their records' sake keep nobody behind them waiting."""
        now, applied = self._clock.now(), tenure.office.watermark.applied
        over = [
            each
            for each in self._schedules
            if self._looked_at < each.revision <= applied
            and each.in_force is not None
            and is_over(each.in_force, now, self._floor)
        ]
        found = sorted(over, key=lambda each: each.revision)[:LOOKED_AT]
        self._looked_at = found[-1].revision if len(found) == LOOKED_AT else 0
        return found

    async def _delete(self, known: Known) -> None:
        try:
            await self._bucket.delete(known.id, expect=known.revision)
        except Conflict:
            return  # somebody has put it again
        self._telemetry.dropped(what="schedule", reason="over")
        log.info("a one-shot is over and deleted", extra={"event": "one_shot_over", "schedule": known.id})
