"""The days and times that a recurrence rule names: plain calendar, no zone, whole numbers (RFC 5545, 3.3.10).

As in cron_calendar.py a *day* is days since 1970-01-01, a *wall* seconds since then on a clock that never changes.
Every search ends at the year 2200 at the latest. It starts where it is asked, never at DTSTART: the interval is a
matter of arithmetic (day 20,000 is in phase or is not), so a rule from 1970 costs no more than one of today. That, and
the bound, is what dateutil's generator cannot give (its UNTIL is looked at only when something comes out); the tests
hold this one to dateutil's results.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import isleap, monthrange
from collections.abc import Sequence
from datetime import date
from math import gcd
from typing import Final, NamedTuple, Protocol

from scheduler.core.triggers.cron_calendar import DAY_S, Times
from scheduler.core.triggers.rrule_text import Freq, Rule

_ORDINAL_1970: Final = date(1970, 1, 1).toordinal()
_FIRST_MONTH: Final = 1969 * 12  # one year of slack on both sides: a wall may be a day away from its instant
_LAST_MONTH: Final = 2200 * 12 + 11
_FIRST_DAY: Final = date(1969, 1, 1).toordinal() - _ORDINAL_1970
_LAST_DAY: Final = date(2200, 12, 31).toordinal() - _ORDINAL_1970
_MONTHS_KEPT: Final = 12
UNIT_S: Final = {Freq.SECONDLY: 1, Freq.MINUTELY: 60, Freq.HOURLY: 3600}


class Anchor(NamedTuple):
    """DTSTART on the clocks of the zone: the phase of intervals."""

    wall: int

    @property
    def day(self) -> int:
        return self.wall // DAY_S

    @property
    def date(self) -> date:
        return date.fromordinal(self.day + _ORDINAL_1970)


class Units(Protocol):
    """Whole numbers that ascend: days, or hours, minutes, seconds since 1970."""

    def at_or_after(self, number: int) -> int | None: ...

    def at_or_before(self, number: int) -> int | None: ...


class Offsets(Protocol):
    """Seconds within a unit that ascend, `first` to `last`; None: not within this unit any more."""

    first: int
    last: int

    def at_or_after(self, time: int) -> int | None: ...

    def at_or_before(self, time: int) -> int | None: ...


class Steps:
    """Units, and the same offsets within each of them: the walls of most rules."""

    __slots__ = ("_offsets", "_unit_s", "_units")

    def __init__(self, units: Units, offsets: Offsets, unit_s: int) -> None:
        self._units, self._offsets, self._unit_s = units, offsets, unit_s

    def at_or_after(self, wall: int) -> int | None:
        number, rest = divmod(wall, self._unit_s)
        unit = self._units.at_or_after(number)
        if unit == number:
            found = self._offsets.at_or_after(rest)
            if found is not None:
                return unit * self._unit_s + found
            unit = self._units.at_or_after(number + 1)
        return None if unit is None else unit * self._unit_s + self._offsets.first

    def at_or_before(self, wall: int) -> int | None:
        number, rest = divmod(wall, self._unit_s)
        unit = self._units.at_or_before(number)
        if unit == number:
            found = self._offsets.at_or_before(rest)
            if found is not None:
                return unit * self._unit_s + found
            unit = self._units.at_or_before(number - 1)
        return None if unit is None else unit * self._unit_s + self._offsets.last


class Chosen:
    """A few offsets, or walls, in order; not empty."""

    __slots__ = ("_values", "first", "last")

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        self.first, self.last = values[0], values[-1]

    def at_or_after(self, time: int) -> int | None:
        index = bisect_left(self._values, time)
        return self._values[index] if index < len(self._values) else None

    def at_or_before(self, time: int) -> int | None:
        index = bisect_right(self._values, time)
        return self._values[index - 1] if index else None


# --- days
class RuleDays:
    """The days that pass every BY part of a rule, and whose day, week, month or year is in phase."""

    __slots__ = ("_anchor", "_months", "_numbered", "_plain", "_rule", "_start")

    def __init__(self, rule: Rule, anchor: Anchor) -> None:
        self._rule = rule
        self._anchor = anchor
        self._start = anchor.date
        weekdays = rule.weekdays or frozenset()
        self._plain = frozenset(weekday for number, weekday in weekdays if not number)
        self._numbered = frozenset(each for each in weekdays if each[0])
        self._months: dict[int, tuple[int, ...]] = {}

    def at_or_after(self, number: int) -> int | None:
        day = max(number, _FIRST_DAY)
        if day > _LAST_DAY:
            return None
        for month in range(_month_of(day), _LAST_MONTH + 1):
            days = self._of_month(month)
            if days and days[-1] >= day:
                return days[bisect_left(days, day)]
        return None

    def at_or_before(self, number: int) -> int | None:
        day = min(number, _LAST_DAY)
        if day < _FIRST_DAY:
            return None
        for month in range(_month_of(day), _FIRST_MONTH - 1, -1):
            days = self._of_month(month)
            if days and days[0] <= day:
                return days[bisect_right(days, day) - 1]
        return None

    def between(self, first: int, last: int) -> list[int]:
        """Those with first <= day <= last; at most a year apart."""
        months = range(_month_of(first), _month_of(last) + 1)
        return [day for month in months for day in self._of_month(month) if first <= day <= last]

    def _of_month(self, month: int) -> tuple[int, ...]:
        year, before = divmod(month, 12)
        if not self._may_hold(year, before + 1):
            return ()
        found = self._months.get(month)
        if found is None:
            if len(self._months) >= _MONTHS_KEPT:
                self._months.clear()
            found = self._months[month] = tuple(self._matching(year, before + 1))
        return found

    def _may_hold(self, year: int, month: int) -> bool:
        """What can be said of a month as a whole, which makes long searches short."""
        rule, start = self._rule, self._start
        if rule.months is not None and month not in rule.months:
            return False
        if rule.freq is Freq.YEARLY:
            return (year - start.year) % rule.interval == 0
        if rule.freq is Freq.MONTHLY:
            return ((year - start.year) * 12 + month - start.month) % rule.interval == 0
        return True

    def _matching(self, year: int, month: int) -> Sequence[int]:
        """The cheapest test first, each on what is left by the one before: a search may see thousands of months."""
        rule, length = self._rule, monthrange(year, month)[1]
        first = date(year, month, 1).toordinal() - _ORDINAL_1970
        whole_year = days_before(year), 365 + isleap(year)
        days: Sequence[int] = range(first, first + length)
        if rule.monthdays is not None:
            days = [day for day in days if _is_among(rule.monthdays, day - first + 1, length)]
        if rule.weekdays is not None:
            span = whole_year if rule.freq is Freq.YEARLY and rule.months is None else (first, length)
            days = [day for day in days if self._is_weekday(day, *span)]
        if rule.yeardays is not None:
            days = [day for day in days if _is_among(rule.yeardays, day - whole_year[0] + 1, whole_year[1])]
        if rule.weeks is not None:
            days = [day for day in days if _is_in_week(rule.weeks, day, rule.wkst)]
        return self._in_phase(days)

    def _is_weekday(self, day: int, first: int, length: int) -> bool:
        """Numbered ones count within the month, or within the year where a yearly rule names no month."""
        weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
        if weekday in self._plain:
            return True
        if not self._numbered:
            return False
        number = day - first
        return (number // 7 + 1, weekday) in self._numbered or (
            -((length - number - 1) // 7 + 1),
            weekday,
        ) in self._numbered

    def _in_phase(self, days: Sequence[int]) -> Sequence[int]:
        rule = self._rule
        if rule.interval == 1 or rule.freq not in (Freq.DAILY, Freq.WEEKLY):
            return days
        start, length = self._anchor.day, 1
        if rule.freq is Freq.WEEKLY:
            start, length = week_start(start, rule.wkst), 7
        return [day for day in days if (day - start) // length % rule.interval == 0]


def _is_among(wanted: frozenset[int], number: int, length: int) -> bool:
    return number in wanted or number - length - 1 in wanted


def _month_of(day: int) -> int:
    """Months since the year 0, as divmod(month, 12) takes them apart."""
    at = date.fromordinal(day + _ORDINAL_1970)
    return at.year * 12 + at.month - 1


def days_before(year: int) -> int:
    """The first day of a year."""
    return date(year, 1, 1).toordinal() - _ORDINAL_1970


def week_start(day: int, wkst: int) -> int:
    """The first day of the week that holds `day`; 1970-01-01 was a Thursday."""
    return day - (day + 3 - wkst) % 7


def _is_in_week(wanted: frozenset[int], day: int, wkst: int) -> bool:
    """Weeks belong to the year that has most of their days; week 1 is the first of those."""
    start = week_start(day, wkst)
    year = date.fromordinal(start + 3 + _ORDINAL_1970).year
    first, following = _week_one(year, wkst), _week_one(year + 1, wkst)
    return _is_among(wanted, (start - first) // 7 + 1, (following - first) // 7)


def _week_one(year: int, wkst: int) -> int:
    return week_start(days_before(year) + 3, wkst)


# --- hours, minutes, seconds
class Ticks:
    """Every interval-th hour, minute or second from the anchor on, of those that lie in the days and times."""

    __slots__ = ("_days", "_interval", "_per_day", "_phase", "_times", "_unit_s")

    def __init__(self, rule: Rule, anchor: Anchor, times: Times) -> None:
        self._unit_s = UNIT_S[rule.freq]
        self._per_day = DAY_S // self._unit_s
        self._interval, self._phase = rule.interval, anchor.wall // self._unit_s
        self._days, self._times = RuleDays(rule, anchor), times

    def are_reachable(self) -> bool:
        """Whether the interval ever lands on one of the times: minutes 1, 3, 5… never come by twos from 0."""
        common = gcd(self._interval, self._per_day)
        times = (_time_at(self._times, index) for index in range(_count(self._times)))
        return any((time // self._unit_s - self._phase) % common == 0 for time in times)

    def at_or_after(self, number: int) -> int | None:
        """Jumps over days and times that do not pass: at most some ten thousand steps, however the rule is made."""
        while True:
            number += (self._phase - number) % self._interval
            today, tick = divmod(number, self._per_day)
            day = self._days.at_or_after(today)
            if day is None:
                return None
            time = self._times.at_or_after(tick * self._unit_s) if day == today else self._times.first
            if day == today and time == tick * self._unit_s:
                return number
            number = (today + 1) * self._per_day if time is None else day * self._per_day + time // self._unit_s

    def at_or_before(self, number: int) -> int | None:
        while True:
            number -= (number - self._phase) % self._interval
            today, tick = divmod(number, self._per_day)
            day = self._days.at_or_before(today)
            if day is None:
                return None
            time = self._times.at_or_before(tick * self._unit_s) if day == today else self._times.last
            if day == today and time == tick * self._unit_s:
                return number
            number = today * self._per_day - 1 if time is None else day * self._per_day + time // self._unit_s


# --- BYSETPOS
def chosen_of(times: Times, positions: Sequence[int]) -> Chosen | None:
    """These positions of the times of a unit; None if it has none of them."""
    found = [_time_at(times, index) for index in _indexes(positions, _count(times))]
    return Chosen(found) if found else None


class ChosenWalls:
    """Positions among the walls of each week, month or year: days x times, of which only the chosen are made."""

    __slots__ = ("_days", "_kept", "_rule", "_times")

    def __init__(self, rule: Rule, days: RuleDays, times: Times) -> None:
        assert rule.positions is not None
        self._rule, self._days, self._times = rule, days, times
        self._kept: dict[int, list[int]] = {}

    def at_or_after(self, wall: int) -> int | None:
        day = self._days.at_or_after(self._period(wall // DAY_S)[0])
        while day is not None:
            first, last = self._period(day)
            walls = self._walls(first, last)
            index = bisect_left(walls, wall)
            if index < len(walls):
                return walls[index]
            day = self._days.at_or_after(last + 1)
        return None

    def at_or_before(self, wall: int) -> int | None:
        day = self._days.at_or_before(self._period(wall // DAY_S)[1])
        while day is not None:
            first, last = self._period(day)
            walls = self._walls(first, last)
            index = bisect_right(walls, wall)
            if index:
                return walls[index - 1]
            day = self._days.at_or_before(first - 1)
        return None

    def _walls(self, first: int, last: int) -> list[int]:
        found = self._kept.get(first)
        if found is None:
            if len(self._kept) >= _MONTHS_KEPT:
                self._kept.clear()
            found = self._kept[first] = self._choose(self._days.between(first, last))
        return found

    def _choose(self, days: Sequence[int]) -> list[int]:
        each = _count(self._times)
        places = (divmod(index, each) for index in _indexes(self._rule.positions or (), each * len(days)))
        return [days[day] * DAY_S + _time_at(self._times, time) for day, time in places]

    def _period(self, day: int) -> tuple[int, int]:
        """First and last day of the week, month or year that holds the day, or the day nearest to it that counts."""
        day = min(max(day, _FIRST_DAY), _LAST_DAY)
        if self._rule.freq is Freq.WEEKLY:
            start = week_start(day, self._rule.wkst)
            return start, start + 6
        at = date.fromordinal(day + _ORDINAL_1970)
        if self._rule.freq is Freq.MONTHLY:
            first = day - at.day + 1
            return first, first + monthrange(at.year, at.month)[1] - 1
        return days_before(at.year), days_before(at.year + 1) - 1


def _indexes(positions: Sequence[int], length: int) -> list[int]:
    """Positions, from 1 or from the end, as indexes in order; those that the set does not have are left out."""
    indexes = {position - 1 if position > 0 else length + position for position in positions}
    return sorted(index for index in indexes if 0 <= index < length)


def _count(times: Times) -> int:
    return len(times.hours) * len(times.minutes) * len(times.seconds)


def _time_at(times: Times, index: int) -> int:
    rest, second = divmod(index, len(times.seconds))
    hour, minute = divmod(rest, len(times.minutes))
    return times.hours[hour] * 3600 + times.minutes[minute] * 60 + times.seconds[second]
