"""Evidence is kept for 30 days, definitions stand for years: the leader tells again what is in force.

Each schedule has its hour within ten days, by its id, so that the writes are spread and nobody has to remember what
was done: a leader that misses the hour leaves it to the next one ten days later, still in time. What was written
within these ten days has been told anyway. Without this an edit would leave an audit with no definition before it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from zlib import crc32

from scheduler.core.errors import ScheddError
from scheduler.core.triggers import EPOCH
from scheduler.ports.clock import Clock
from scheduler.services.announcing import Announcer, told_again
from scheduler.services.leader import Tenure
from scheduler.services.schedules import Known, ScheduleCache

log = logging.getLogger(__name__)
HOUR = timedelta(hours=1)
CYCLE = 240  # hours
BATCH = 100
EVERY_S = 300.0
YIELD_EVERY = 1000


class Remembering:
    """`run` while its replica leads."""

    def __init__(self, announcer: Announcer, schedules: ScheduleCache, clock: Clock) -> None:
        self._announcer, self._schedules, self._clock = announcer, schedules, clock

    async def run(self, tenure: Tenure) -> None:
        """Raises Deposed when the term is over."""
        done = -1
        while True:
            hour = (self._clock.now() - EPOCH) // HOUR
            if hour != done:
                try:
                    await self._tell(hour, tenure)
                    done = hour
                except ScheddError as problem:
                    log.warning("evidence waits", extra={"event": "evidence_waits", "error": problem.message})
            tenure.check()
            await self._clock.sleep(EVERY_S)

    async def _tell(self, hour: int, tenure: Tenure) -> None:
        due: list[Known] = []
        old = EPOCH + (hour - CYCLE) * HOUR
        for number, known in enumerate(list(self._schedules), start=1):
            if self._is_due(known, hour, old, tenure):
                due.append(known)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        for start in range(0, len(due), BATCH):
            tenure.check()
            await self._announcer.store([told_again(known, hour) for known in due[start : start + BATCH]])

    def _is_due(self, known: Known, hour: int, old: datetime, tenure: Tenure) -> bool:
        is_applied = known.revision <= tenure.office.watermark.applied
        is_old = known.in_force is not None and known.effective_at < old
        return is_applied and is_old and crc32(known.id.encode()) % CYCLE == hour % CYCLE
