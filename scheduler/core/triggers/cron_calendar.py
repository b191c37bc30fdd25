"""Which days and which times of day a cron expression names: pure calendar, no zone, whole numbers only.

A *day* is days since 1970-01-01, a *time of day* seconds since midnight, a *wall* both: day * 86400 + time. Every
search is bounded by construction: within a day by bisection, over days month by month up to the year 2199, so that no
expression however evil takes more than some thousand steps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import monthrange
from datetime import date
from functools import lru_cache
from itertools import pairwise, product
from typing import Final, NamedTuple

DAY_S: Final = 86_400
_ORDINAL_1970: Final = date(1970, 1, 1).toordinal()
_FIRST_YEAR: Final = 1969  # one year of slack on both sides: a wall time may be a day away from its instant
_LAST_YEAR: Final = 2200
_FIRST_DAY: Final = date(_FIRST_YEAR, 1, 1).toordinal() - _ORDINAL_1970
_LAST_DAY: Final = date(_LAST_YEAR, 12, 31).toordinal() - _ORDINAL_1970
_MONTHS_KEPT: Final = 48
LAST_NTH: Final = -1


class Times:
    """The times of day hours x minutes x seconds; each a sorted tuple that is not empty."""

    __slots__ = ("first", "hours", "last", "minutes", "seconds")

    def __init__(self, hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> None:
        self.hours, self.minutes, self.seconds = hours, minutes, seconds
        self.first = hours[0] * 3600 + minutes[0] * 60 + seconds[0]
        self.last = hours[-1] * 3600 + minutes[-1] * 60 + seconds[-1]

    def at_or_after(self, time: int) -> int | None:
        """The first of the times that is not before `time`; None when the day is over."""
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        h = bisect_left(self.hours, hour)
        if h < len(self.hours) and self.hours[h] == hour:
            if (within := self._in_hour_after(minute, second)) is not None:
                return hour * 3600 + within
            h += 1
        if h == len(self.hours):
            return None
        return self.hours[h] * 3600 + self.minutes[0] * 60 + self.seconds[0]

    def _in_hour_after(self, minute: int, second: int) -> int | None:
        m = bisect_left(self.minutes, minute)
        if m < len(self.minutes) and self.minutes[m] == minute:
            s = bisect_left(self.seconds, second)
            if s < len(self.seconds):
                return minute * 60 + self.seconds[s]
            m += 1
        return None if m == len(self.minutes) else self.minutes[m] * 60 + self.seconds[0]

    def at_or_before(self, time: int) -> int | None:
        """The last of the times that is not after `time`; None when the day begins later."""
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        h = bisect_right(self.hours, hour) - 1
        if h >= 0 and self.hours[h] == hour:
            if (within := self._in_hour_before(minute, second)) is not None:
                return hour * 3600 + within
            h -= 1
        if h < 0:
            return None
        return self.hours[h] * 3600 + self.minutes[-1] * 60 + self.seconds[-1]

    def _in_hour_before(self, minute: int, second: int) -> int | None:
        m = bisect_right(self.minutes, minute) - 1
        if m >= 0 and self.minutes[m] == minute:
            s = bisect_right(self.seconds, second) - 1
            if s >= 0:
                return minute * 60 + self.seconds[s]
            m -= 1
        return None if m < 0 else self.minutes[m] * 60 + self.seconds[-1]

    def shortest_gap_s(self) -> int:
        """The shortest distance between two of the times on one day; a whole day if there is only one."""
        in_minute = self.seconds[-1] - self.seconds[0]
        in_hour = (self.minutes[-1] - self.minutes[0]) * 60 + in_minute
        gaps = [
            *(later - earlier for earlier, later in pairwise(self.seconds)),
            *((later - earlier) * 60 - in_minute for earlier, later in pairwise(self.minutes)),
            *((later - earlier) * 3600 - in_hour for earlier, later in pairwise(self.hours)),
        ]
        return min(gaps, default=DAY_S)

    def bits(self) -> int:
        """The times as a set of bits: bit n is second n of the day."""
        in_minute = sum(1 << second for second in self.seconds)
        in_hour = _placed(in_minute, self.minutes, 60)
        return _placed(in_hour, self.hours, 3600)


def _placed(bits: int, places: tuple[int, ...], size: int) -> int:
    found = 0
    for place in places:
        found |= bits << place * size
    return found


class DayRule(NamedTuple):
    """The day fields of an expression. None means any.

    `last`: that many days before the last of the month (L is 0, L-3 is 3); `last_working`: the working day nearest to
    such a day (LW is 0). `nearest`: the working day nearest to a day of the month (15W), or to the last in a month that
    is too short. `nth`: pairs (weekday, n), the n-th such weekday of the month, LAST_NTH for its last. Weekdays count
    from Sunday 0.
    `both`: a day must satisfy the day-of-month and the weekday field; otherwise one of them is enough.
    """

    days: frozenset[int] | None
    last: frozenset[int]
    nearest: frozenset[int]
    last_working: frozenset[int]
    weekdays: frozenset[int] | None
    nth: frozenset[tuple[int, int]]
    both: bool
    months: frozenset[int]
    years: frozenset[int] | None


class Days:
    """The days that a rule names. Make it with `days_of`: equal rules share one, and its months are kept."""

    __slots__ = ("_bits", "_every_day", "_months", "_shapes", "rule")

    def __init__(self, rule: DayRule) -> None:
        self.rule = rule
        self._every_day = rule.days is None and rule.weekdays is None and rule.years is None and len(rule.months) == 12
        self._months: dict[tuple[int, int], tuple[int, ...]] = {}
        self._shapes: dict[tuple[int, int], tuple[int, ...]] = {}
        self._bits: int | None = None

    def at_or_after(self, day: int) -> int | None:
        """The first matching day that is not before `day`; None if there is none up to 2199."""
        if self._every_day:
            return day if _FIRST_DAY <= day <= _LAST_DAY else None
        day = max(day, _FIRST_DAY)
        if day > _LAST_DAY:
            return None
        start = date.fromordinal(day + _ORDINAL_1970)
        year, month = start.year, start.month
        while year <= _LAST_YEAR:
            days = self._month(year, month)
            if days and days[-1] >= day:
                return days[bisect_left(days, day)]
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return None

    def at_or_before(self, day: int) -> int | None:
        """The last matching day that is not after `day`; None if there is none since 1970."""
        if self._every_day:
            return day if _FIRST_DAY <= day <= _LAST_DAY else None
        day = min(day, _LAST_DAY)
        if day < _FIRST_DAY:
            return None
        start = date.fromordinal(day + _ORDINAL_1970)
        year, month = start.year, start.month
        while year >= _FIRST_YEAR:
            days = self._month(year, month)
            if days and days[0] <= day:
                return days[bisect_right(days, day) - 1]
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        return None

    def bits(self) -> int:
        """The days as a set of bits, from the first to the last day there is."""
        if self._bits is None:
            marks = bytearray((_LAST_DAY - _FIRST_DAY) // 8 + 1)
            for year, month in product(range(_FIRST_YEAR, _LAST_YEAR + 1), self.rule.months):
                for day in self._month(year, month):
                    marks[(day - _FIRST_DAY) // 8] |= 1 << (day - _FIRST_DAY) % 8
            self._bits = int.from_bytes(marks, "little")
        return self._bits

    def has_neighbours(self) -> bool:
        """Whether two of the days follow each other."""
        return self._every_day or self.bits() & (self.bits() << 1) != 0

    def _month(self, year: int, month: int) -> tuple[int, ...]:
        if month not in self.rule.months or (self.rule.years is not None and year not in self.rule.years):
            return ()
        found = self._months.get((year, month))
        if found is None:
            if len(self._months) >= _MONTHS_KEPT:
                self._months.clear()
            base = date(year, month, 1).toordinal() - _ORDINAL_1970 - 1
            found = self._months[year, month] = tuple(base + number for number in self._shape(*monthrange(year, month)))
        return found

    def _shape(self, first_weekday: int, length: int) -> tuple[int, ...]:
        """The days of a month that begins with this weekday (Monday 0): there are only 28 kinds of months."""
        found = self._shapes.get((first_weekday, length))
        if found is None:
            found = self._shapes[first_weekday, length] = _matching_days(self.rule, first_weekday, length)
        return found


@lru_cache(maxsize=4096)
def days_of(rule: DayRule) -> Days:
    """The days of a rule, shared between all expressions that have it."""
    return Days(rule)


def _matching_days(rule: DayRule, first_weekday: int, length: int) -> tuple[int, ...]:
    everything = range(1, length + 1)
    sunday_based = [(first_weekday + number) % 7 for number in everything]  # of the day `number`: Sunday 0
    by_day = _by_day(rule, sunday_based)
    by_weekday = {number for number in everything if _weekday_fits(rule, sunday_based[number - 1], number, length)}
    chosen = by_day & by_weekday if rule.both else by_day | by_weekday
    return tuple(sorted(chosen))


def _by_day(rule: DayRule, weekdays: list[int]) -> set[int]:
    length = len(weekdays)
    if rule.days is None:
        return set(range(1, length + 1))
    found = {number for number in rule.days if number <= length}
    found |= {length - before for before in rule.last if before < length}
    found |= {_nearest_working_day(min(number, length), weekdays) for number in rule.nearest}
    return found | {_nearest_working_day(length - before, weekdays) for before in rule.last_working if before < length}


def _nearest_working_day(number: int, weekdays: list[int]) -> int:
    """Saturday goes back to Friday, Sunday on to Monday, but never out of the month."""
    if weekdays[number - 1] == 6:
        return number - 1 if number > 1 else number + 2
    if weekdays[number - 1] == 0:
        return number + 1 if number < len(weekdays) else number - 2
    return number


def _weekday_fits(rule: DayRule, weekday: int, number: int, length: int) -> bool:
    if rule.weekdays is None or weekday in rule.weekdays:
        return True
    if (weekday, (number + 6) // 7) in rule.nth:
        return True
    return number + 7 > length and (weekday, LAST_NTH) in rule.nth


class Walls:
    """All wall times of an expression, ascending."""

    __slots__ = ("days", "times")

    def __init__(self, days: Days, times: Times) -> None:
        self.days = days
        self.times = times

    def at_or_after(self, wall: int) -> int | None:
        today, time = divmod(wall, DAY_S)
        day = self.days.at_or_after(today)
        if day == today:
            found = self.times.at_or_after(time)
            if found is not None:
                return today * DAY_S + found
            day = self.days.at_or_after(today + 1)
        return None if day is None else day * DAY_S + self.times.first

    def at_or_before(self, wall: int) -> int | None:
        today, time = divmod(wall, DAY_S)
        day = self.days.at_or_before(today)
        if day == today:
            found = self.times.at_or_before(time)
            if found is not None:
                return today * DAY_S + found
            day = self.days.at_or_before(today - 1)
        return None if day is None else day * DAY_S + self.times.last
