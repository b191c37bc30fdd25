"""iCalendar files (RFC 5545) as calendars: the days that their events cover.

All-day events cover their days (DTEND is not included), timed ones every local day that they touch, on the clocks they
are written in. RRULE, RDATE, EXDATE and changed instances (RECURRENCE-ID) are expanded within a bounded range, since a
calendar holds days and no rules; cancelled events cover nothing. Read by the package `icalendar` (extra `ical`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr
from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.zones import zone_of
from scheduler.wire.calendar import RANGES_MAX

FILE_BYTES_MAX: Final = 4_000_000
EVENTS_MAX: Final = 20_000
INSTANCES_MAX: Final = 100_000  # looked at, of all events together
DAYS_MAX: Final = 366  # of one event
_DAY: Final = timedelta(days=1)
_NEVER: Final = datetime.combine(date.max, time())
_UNTIL: Final = re.compile(r";?UNTIL=[^;]*", re.IGNORECASE)


class Imported(Struct, frozen=True):
    """The calendar JSON of a file, and what of it did not get in: events that cannot be read, each with the reason."""

    document: dict[str, Any]
    events: int
    days: int
    problems: tuple[str, ...]


def read_ical(raw: bytes, *, first: date, last: date, timezone: str | None = None) -> Imported:
    """The days from `first` to `last` that the events of a file cover. `timezone`: read timed events on its clocks.

    Raises InvalidArgument if the file is no iCalendar file, is too large, or covers no day of the range.
    """
    zone = None if timezone is None else zone_of(timezone).tz
    calendars = _parse(raw)
    events = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    if len(events) > EVENTS_MAX:
        raise InvalidArgument(f"the file holds {len(events)} events, more than {EVENTS_MAX}", field="file")
    reader = _Reader(first, last, zone)
    reader.read(events)
    if not reader.days:
        problem = f": {reader.problems[0]}" if reader.problems else ""
        raise InvalidArgument(f"the file covers no day from {first} to {last}{problem}", field="file")
    document: dict[str, Any] = {}
    if name := str(calendars[0].get("X-WR-CALNAME", "")).strip():
        document["description"] = "".join(char for char in name if char.isprintable())[:256]
    document |= _days_as_json(sorted(reader.days))
    if timezone is not None:
        document["timezone"] = timezone
    return Imported(document, len(events), len(reader.days), tuple(reader.problems))


def _parse(raw: bytes) -> list[Any]:
    try:
        from icalendar import Calendar
    except ImportError:
        fix = "install it with: pip install 'schedd[ical]'"
        raise InvalidArgument(f"reading iCalendar files needs the package icalendar; {fix}", field="file") from None
    if len(raw) > FILE_BYTES_MAX:
        raise InvalidArgument(f"the file has more than {FILE_BYTES_MAX} bytes", field="file")
    try:
        found: list[Any] = Calendar.from_ical(raw, multiple=True)
    except Exception as problem:  # whatever the library trips over is the file's fault
        raise InvalidArgument(f"this is no iCalendar file: {str(problem)[:120]}", field="file") from None
    if not found:
        raise InvalidArgument("this is no iCalendar file: it holds no VCALENDAR", field="file")
    return found


class _Reader:
    """Collects the days of events."""

    def __init__(self, first: date, last: date, zone: ZoneInfo | None) -> None:
        self.days: set[date] = set()
        self.problems: list[str] = []
        self._first, self._last, self._zone = first, last, zone
        self._left = INSTANCES_MAX

    def read(self, events: Iterable[Any]) -> None:
        """Changed instances take the place of those that the rule of the same event (UID) yields."""
        changed: dict[str, set[datetime]] = {}
        for event in events:
            if "RECURRENCE-ID" in event:
                changed.setdefault(str(event.get("UID")), set()).add(self._wall(event["RECURRENCE-ID"].dt))
        for event in events:
            try:
                self._add(event, set() if "RECURRENCE-ID" in event else changed.get(str(event.get("UID")), set()))
            except InvalidArgument as problem:
                self.problems.append(problem.message)
            except Exception as problem:  # one event that cannot be read keeps the others from nothing
                self.problems.append(f"{_title(event)}: {str(problem)[:120] or type(problem).__name__}")

    def _add(self, event: Any, changed: set[datetime]) -> None:
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            return
        start, length = self._wall(event["DTSTART"].dt), self._length(event)
        excluded = changed | {self._wall(each) for each in _instants(event, "EXDATE")}
        for begin in (*self._starts(event, start, length), *map(self._wall, _instants(event, "RDATE"))):
            if begin not in excluded:
                self._cover(begin, length, event)

    def _cover(self, begin: datetime, length: timedelta, event: Any) -> None:
        if length > DAYS_MAX * _DAY:
            raise InvalidArgument(f"{_title(event)}: lasts longer than {DAYS_MAX} days", field="file")
        end = begin + length
        last = max(begin.date(), (end - timedelta(microseconds=1)).date())
        day = max(begin.date(), self._first)
        while day <= min(last, self._last):
            self.days.add(day)
            day += _DAY

    def _starts(self, event: Any, start: datetime, length: timedelta) -> Iterator[datetime]:
        """The starts of the instances that may reach into the range."""
        if "RRULE" not in event:
            yield start
            return
        text = event["RRULE"].to_ical().decode()
        until = [self._wall(each) for each in event["RRULE"].get("UNTIL", [])]
        rule = rrulestr(_UNTIL.sub("", text).lstrip(";"), dtstart=start)
        yield from self._bounded(rule, length, min(until, default=_NEVER), event)

    def _bounded(self, rule: Iterable[datetime], length: timedelta, until: datetime, event: Any) -> Iterator[datetime]:
        earliest = datetime.combine(self._first, time()) - length
        for begin in islice(rule, max(self._left, 0)):
            self._left -= 1
            if begin > until or begin.date() > self._last:
                return
            if begin >= earliest:
                yield begin
        if self._left <= 0:
            raise InvalidArgument(f"{_title(event)}: the file has more than {INSTANCES_MAX} instances", field="file")

    def _length(self, event: Any) -> timedelta:
        start = event["DTSTART"].dt
        if "DTEND" in event:
            return max(self._wall(event["DTEND"].dt) - self._wall(start), timedelta(0))
        if "DURATION" in event:
            length: timedelta = event["DURATION"].dt
            return max(timedelta(0), length)
        return timedelta(0) if isinstance(start, datetime) else _DAY

    def _wall(self, at: date | datetime) -> datetime:
        """On the clocks it is written in, or on those of the zone asked for; a day as its midnight."""
        if not isinstance(at, datetime):
            return datetime.combine(at, time())
        if at.tzinfo is not None and self._zone is not None:
            at = at.astimezone(self._zone)
        return at.replace(tzinfo=None)


def _instants(event: Any, name: str) -> Iterator[date | datetime]:
    """The values of EXDATE or RDATE, of which there may be several lines with several values each."""
    lines = event.get(name, [])
    for line in lines if isinstance(lines, list) else [lines]:
        for value in line.dts:
            yield value.dt[0] if isinstance(value.dt, tuple) else value.dt


def _title(event: Any) -> str:
    return f"event {str(event.get('SUMMARY', event.get('UID', '?')))[:60]!r}"


def _days_as_json(days: list[date]) -> dict[str, Any]:
    """Runs of days as ranges, the others one by one."""
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == _DAY:
            runs[-1].append(day)
        else:
            runs.append([day])
    long = [run for run in runs if len(run) > 1][:RANGES_MAX]
    kept = {id(run) for run in long}
    singles = [str(day) for run in runs if id(run) not in kept for day in run]
    ranges = [{"from": str(run[0]), "to": str(run[-1])} for run in long]
    return {name: value for name, value in (("dates", singles), ("ranges", ranges)) if value}
