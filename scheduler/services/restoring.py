"""Streams and buckets that somebody deleted under running replicas: made anew, and filled from memory where we can.

Every replica looks, for without the control bucket nobody leads. Definitions are what people put in and nobody else
has: every replica knows them all, so whoever notices that their bucket is gone puts them back, each only if nothing is
there. To remove everything, delete the schedules, or stop schedd first: a bucket that vanishes is taken for an
accident. The rest is derived, or history: what each loss costs is told in README, "If you lose something".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from scheduler.core.errors import Conflict, ScheddError
from scheduler.core.reconciling import Repair
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Write
from scheduler.ports.telemetry import Telemetry
from scheduler.services.calendars import CalendarCache
from scheduler.services.schedules import ScheduleCache

log = logging.getLogger(__name__)
EVERY_S = 5.0
BATCH = 500
_SCHEDULES, _CALENDARS = "-schedules", "-calendars"  # how the names of their streams end


class Restoring:
    """`births` tells when each stream was made (None: it is not there), `ensure` makes what is missing."""

    def __init__(
        self,
        *,
        births: Callable[[], Awaitable[Mapping[str, str | None]]],
        ensure: Callable[[], Awaitable[Sequence[str]]],
        schedules: ScheduleCache,
        calendars: CalendarCache,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._births, self._ensure = births, ensure
        self._schedules, self._calendars = schedules, calendars
        self._clock, self._telemetry = clock, telemetry
        self._born: dict[str, str] = {}
        self._owed: dict[str, dict[str, bytes]] = {}  # definitions to put back, by stream and key

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except ScheddError as problem:
                log.warning("streams unknown", extra={"event": "restore_waits", "error": problem.message})
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        """Raises Unsure, Unavailable; then the next look goes on."""
        births = await self._births()
        gone = [name for name, born in births.items() if born is None]
        for name, born in births.items():
            if born is None or self._born.get(name, born) != born:
                log.error("a stream was lost with what was in it", extra={"event": "stream_lost", "stream": name})
                self._telemetry.repaired(kind=Repair.CONSUMERS.value)
                self._remember(name)
        if gone:
            await self._ensure()
            births = await self._births()
        self._born |= {name: born for name, born in births.items() if born is not None}
        for name in list(self._owed):
            await self._put_back(name)

    async def restored(self) -> Sequence[str]:
        """As `ensure`; what is lost by now is noticed first, and what can be is put back."""
        await self.look()
        return await self._ensure()

    def _remember(self, stream: str) -> None:
        """What is known now: soon the caches follow the empty bucket."""
        if stream.endswith(_SCHEDULES):
            self._owed[stream] = {known.id: known.raw for known in self._schedules if not known.deleted}
        elif stream.endswith(_CALENDARS):
            self._owed[stream] = {known.name: known.raw for known in self._calendars if not known.deleted}

    async def _put_back(self, stream: str) -> None:
        """Each definition that nobody has put meanwhile."""
        owed = self._owed[stream]
        bucket = self._bucket_of(stream)
        count = len(owed)
        for keys in _batches(list(owed)):
            results = await bucket.put_many([Write(key, owed[key], expect=0) for key in keys])
            for key, result in zip(keys, results, strict=True):
                if isinstance(result, ScheddError) and not isinstance(result, Conflict):
                    raise result
                del owed[key]
        del self._owed[stream]
        if count:
            extra = {"event": "definitions_put_back", "stream": stream, "count": count}
            log.warning("definitions were put back from memory", extra=extra)

    def _bucket_of(self, stream: str) -> Bucket:
        return self._schedules.mirror.bucket if stream.endswith(_SCHEDULES) else self._calendars.mirror.bucket


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
