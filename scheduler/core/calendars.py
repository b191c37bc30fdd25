"""Calendars: days and minutes on which not to fire, shared between schedules by name. Pure.

A calendar names whole days (dates, ranges of dates, dates of every year, days of the week) and cron expressions, which
name minutes. Schedules use calendars by name, and cron expressions directly; all of them together are the schedule's
`Exclusions` (core/triggers/exclusions.py). A calendar is read on the clocks of the schedule's zone, unless it names a
zone of its own.

What excludes counts in *walls* and *days*: seconds and days since 1970 on a local clock. To pass over a holiday, or a
year of them, each part tells how long the run of excluded walls around a wall is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import date
from typing import Final, Protocol

from msgspec import Struct

from scheduler.core.errors import InvalidArgument

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S: Final = 86_400
_ORDINAL_1970: Final = date(1970, 1, 1).toordinal()
_THURSDAY: Final = 3  # 1970-01-01
_RUN_DAYS: Final = 400  # a run is followed so far at once; whoever wants more asks again behind it


class Calendar(Struct, frozen=True, kw_only=True, cache_hash=True):
    """A named calendar, as values. `weekdays` count from Monday 0, `yearly` are (month, day), ranges are inclusive."""

    name: str
    description: str | None = None
    dates: tuple[date, ...] = ()
    ranges: tuple[tuple[date, date], ...] = ()
    yearly: tuple[tuple[int, int], ...] = ()
    weekdays: tuple[int, ...] = ()
    cron: tuple[str, ...] = ()
    timezone: str | None = None


CalendarOf = Callable[[str], Calendar]
"""The calendar of a name; raises InvalidArgument, field `exclude`, if there is none or it cannot be used."""


def no_calendars(name: str) -> Calendar:
    """A `CalendarOf` where there are none."""
    raise InvalidArgument(f"there is no calendar {name!r}", field="exclude")


def is_cron(entry: str) -> bool:
    """Whether an entry of `exclude` is a cron expression; otherwise it is the name of a calendar."""
    return " " in entry or "\t" in entry or entry.startswith("@")


class Part(Protocol):
    """Something that excludes walls."""

    def holds(self, wall: int) -> bool:
        """Whether the wall is excluded."""

    def end(self, wall: int) -> int:
        """Every wall from this one (it is excluded) up to before the end is excluded, too."""

    def start(self, wall: int) -> int:
        """Every wall from the start up to this one is excluded."""


class DayPart:
    """Whole days."""

    __slots__ = ("_firsts", "_lasts", "_weekdays", "_yearly")

    def __init__(
        self, spans: Iterable[tuple[int, int]], yearly: Iterable[tuple[int, int]], weekdays: Iterable[int]
    ) -> None:
        merged = _merged(sorted(spans))
        self._firsts, self._lasts = [first for first, _ in merged], [last for _, last in merged]
        self._yearly, self._weekdays = frozenset(yearly), frozenset(weekdays)

    def has(self, day: int) -> bool:
        """Whether the day, counted from 1970-01-01, is excluded."""
        if (day + _THURSDAY) % 7 in self._weekdays:
            return True
        place = bisect_right(self._firsts, day) - 1
        if place >= 0 and day <= self._lasts[place]:
            return True
        if not self._yearly:
            return False
        at = date.fromordinal(day + _ORDINAL_1970)
        return (at.month, at.day) in self._yearly

    def holds(self, wall: int) -> bool:
        return self.has(wall // DAY_S)

    def end(self, wall: int) -> int:
        return run_of(self.has, wall // DAY_S, 1) * DAY_S

    def start(self, wall: int) -> int:
        return (run_of(self.has, wall // DAY_S, -1) + 1) * DAY_S


def day_number(at: date) -> int:
    """Days since 1970-01-01."""
    return at.toordinal() - _ORDINAL_1970


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending spans, those that touch joined."""
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def run_of(has: Callable[[int], bool], day: int, step: int) -> int:
    """The first day in this direction that is free, or so far that it is enough for once."""
    for _ in range(_RUN_DAYS):
        day += step
        if not has(day):
            break
    return day
