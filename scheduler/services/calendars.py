"""The calendars as they are now, parsed, on every replica; bad values are kept apart, and make their users invalid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime

from msgspec import Struct

from scheduler.core.calendars import Calendar
from scheduler.core.errors import InvalidArgument
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.mirror import Mirror
from scheduler.wire.calendar import parse_calendar

log = logging.getLogger(__name__)
OUT_OF_TOUCH_S = 1800.0  # well below the age at which delete markers are removed from the bucket, an hour by default


class KnownCalendar(Struct, frozen=True):
    """What the bucket holds under one name: a calendar, or an error, or a delete marker."""

    name: str
    revision: int
    at: datetime
    raw: bytes = b""
    calendar: Calendar | None = None
    error: str | None = None
    deleted: bool = False


class CalendarCache:
    """All calendars in memory. `fresh()` proves that nothing older than the call is missing.

    `changed` is told the name of each calendar that was written, deleted, or found to have vanished while this replica
    was cut off for longer than delete markers stay in the bucket.
    """

    def __init__(self, bucket: Bucket, clock: Clock, *, out_of_touch_s: float = OUT_OF_TOUCH_S) -> None:
        self.mirror = Mirror(bucket, clock, self._apply)
        self.changed: Callable[[str], None] = lambda name: None
        self._clock = clock
        self._known: dict[str, KnownCalendar] = {}
        self._proven_s, self._out_of_touch_s = clock.boottime_s(), out_of_touch_s

    async def start(self) -> None:
        await self.mirror.start()
        self._proven_s = self._clock.boottime_s()

    async def stop(self) -> None:
        await self.mirror.stop()

    async def fresh(self) -> int:
        """See `Mirror.fresh`."""
        asked_s = self._clock.boottime_s()
        newest = await self.mirror.fresh()
        if asked_s - self._proven_s > self._out_of_touch_s:
            await self._drop_vanished(newest)
        self._proven_s = max(asked_s, self._proven_s)
        return newest

    async def _drop_vanished(self, newest: int) -> None:
        for name in await self.mirror.vanished([each.name for each in self._known.values() if each.revision <= newest]):
            if name in self._known and self._known[name].revision <= newest:
                del self._known[name]
                log.warning("deleted while cut off", extra={"event": "deletion_missed", "calendar": name})
                self.changed(name)

    def get(self, name: str) -> KnownCalendar | None:
        """What is known under a name, its delete marker included."""
        return self._known.get(name)

    def __iter__(self) -> Iterator[KnownCalendar]:
        return iter(self._known.values())

    def live_names(self) -> list[str]:
        """Names of the calendars that exist, valid or not, sorted."""
        return sorted(known.name for known in self._known.values() if not known.deleted)

    def changed_after(self, revision: int) -> list[KnownCalendar]:
        """Every calendar whose newest write is after `revision`, by ascending revision, markers included."""
        found = [known for known in self._known.values() if known.revision > revision]
        return sorted(found, key=lambda known: known.revision)

    def find(self, name: str) -> Calendar:
        """A `CalendarOf`. Raises InvalidArgument, field `exclude`."""
        known = self._known.get(name)
        if known is None or known.deleted:
            raise InvalidArgument(f"there is no calendar {name!r}", field="exclude")
        if known.calendar is None:
            raise InvalidArgument(f"calendar {name!r} is invalid: {known.error}", field="exclude")
        return known.calendar

    def forget(self, name: str, revision: int) -> None:
        """Drop a delete marker that the daemon removed from the bucket."""
        known = self._known.get(name)
        if known is not None and known.deleted and known.revision == revision:
            del self._known[name]

    def _apply(self, entry: Entry) -> None:
        before = self._known.get(entry.key)
        if entry.deleted and before is not None and before.deleted:
            return  # a marker over a marker is no news: one of the two is about to be buried
        self._known[entry.key] = self._read(entry)
        self.changed(entry.key)

    def _read(self, entry: Entry) -> KnownCalendar:
        if entry.deleted:
            return KnownCalendar(entry.key, entry.revision, entry.at, deleted=True)
        try:
            calendar = parse_calendar(entry.key, entry.value)
            return KnownCalendar(entry.key, entry.revision, entry.at, entry.value, calendar=calendar)
        except InvalidArgument as problem:
            error = problem.sentence
        except Exception as problem:  # a value that breaks the parser must not stop every other calendar
            log.exception("a calendar broke the parser", extra={"event": "parser_broke", "calendar": entry.key})
            error = f"cannot be read: {type(problem).__name__}"
        extra = {"event": "invalid_calendar", "calendar": entry.key, "error": error}
        log.warning("invalid calendar", extra=extra)
        return KnownCalendar(entry.key, entry.revision, entry.at, entry.value, error=error)
