"""How subjects are counted a day at a time: by pattern where the day has one, else by walking it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import gcd
from typing import Final, Protocol

from scheduler.core.simulating.counting import DAY_S, Day, zeros
from scheduler.core.simulating.subjects import Subject, ms_of
from scheduler.core.triggers.base import MILLISECOND
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.cron_calendar import DayRule, Times, days_of
from scheduler.core.triggers.interval import Interval
from scheduler.core.zones import Zone

DENSE: Final = 4_000
"""From so many fires a day on a pattern is laid out whole and added at once, instead of one by one."""
_DAY_MS: Final = DAY_S * 1000


class Beats(Protocol):
    """Subjects that are counted together."""

    def add_to(self, day: Day) -> None:
        """Count their fires of this day; called for each day of the window, in order."""

    def close(self) -> None:
        """The window is over: every subject's `total` is told."""


def beats_of(subjects: Iterable[Subject]) -> list[Beats]:
    """Each subject in the one group that counts it."""
    walls: defaultdict[tuple[Zone, DayRule, int], list[Subject]] = defaultdict(list)
    grids: defaultdict[int, list[Subject]] = defaultdict(list)
    walked: list[Beats] = []
    for subject in subjects:
        match subject.trigger:
            case _ if subject.first >= subject.until:
                continue
            case _ if subject.jitter or subject.limit is not None:
                walked.append(Walked(subject))
            case CronTrigger() as cron:
                walls[cron.zone, cron.fields.days.rule, subject.delay // 1000].append(subject)
            case Interval() as interval:
                step = interval.interval // MILLISECOND
                grids[step // gcd(step, 1000)].append(subject)
            case _:
                walked.append(Walked(subject))
    by_wall = [WallBeats(*key, members) for key, members in walls.items()]
    return [*by_wall, *(GridBeats(period, members) for period, members in grids.items()), *walked]


# --- who is in force


class Roster:
    """Which subjects hold for the whole of a day, and which for a part of it only. Days come in order."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self.whole: dict[Subject, None] = {}
        self._joins: defaultdict[int, list[Subject]] = defaultdict(list)
        self._leaves: defaultdict[int, list[Subject]] = defaultdict(list)
        self._parts: defaultdict[int, list[Subject]] = defaultdict(list)
        for subject in subjects:
            self._enter(subject)

    def _enter(self, subject: Subject) -> None:
        first, last = -(-subject.first // _DAY_MS), subject.until // _DAY_MS  # whole days: first <= day < last
        if first < last:
            self._joins[first].append(subject)
            self._leaves[last].append(subject)
        for part in {subject.first // _DAY_MS, (subject.until - 1) // _DAY_MS}:
            if not first <= part < last:
                self._parts[part].append(subject)

    def changes(self, day: Day) -> tuple[list[Subject], list[Subject]]:
        """Who leaves and who joins on this day; they have done so when this returns."""
        number = day.start // DAY_S
        leaves, joins = self._leaves.pop(number, []), self._joins.pop(number, [])
        for subject in leaves:
            del self.whole[subject]
        self.whole.update(dict.fromkeys(joins))
        return leaves, joins

    def parts(self, day: Day) -> list[Subject]:
        """Who holds for a part of this day."""
        return self._parts.pop(day.start // DAY_S, [])


def _walk(subjects: Iterable[Subject], day: Day) -> None:
    low = day.start * 1000
    for subject in subjects:
        weight = len(subject.names)
        for fire in subject.walk(low, low + _DAY_MS):
            day.counts[fire // 1000 - day.start] += weight
            subject.total += 1


# --- cron


class WallBeats:
    """Cron in one zone on the same days, with one delay: on a day without clock change the times of day are a pattern.

    A UTC day is the end of one day on the clocks and the beginning of the next, cut at `split`. With a delay, clocks
    are read as much earlier: that is the same as another offset.
    """

    def __init__(self, zone: Zone, days: DayRule, delay_s: int, subjects: Sequence[Subject]) -> None:
        self._zone, self._days, self._delay_s = zone, days_of(days), delay_s
        self._roster = Roster(subjects)
        self._pattern = Pattern()
        self._split = -1
        self._counted = [0, 0]  # days whose end, days whose beginning counted, with this split and these subjects

    def add_to(self, day: Day) -> None:
        leaves, joins = self._roster.changes(day)
        if leaves or joins:
            self._tell(leaves)
            for subject in leaves:
                self._pattern.add(_times(subject), -len(subject.names))
            for subject in joins:
                self._pattern.add(_times(subject), len(subject.names))
        _walk(self._roster.parts(day), day)
        if not self._roster.whole:
            return
        if (offset := self._offset(day.start)) is None:
            _walk(self._roster.whole, day)
        else:
            self._add_pattern(day, offset)

    def _offset(self, start: int) -> int | None:
        """From UTC to the clocks, less the delay; None where clocks have a say in the day."""
        begin = start - self._delay_s - 1  # a delay's milliseconds reach into the second before
        segment = self._zone.segment_at(begin)
        end = begin + DAY_S + 1
        if segment.start >= begin or segment.end < end:
            return None
        if begin + segment.offset < segment.shown or end + segment.offset > segment.again:
            return None
        return segment.offset - self._delay_s

    def _add_pattern(self, day: Day, offset: int) -> None:
        today, split = divmod(day.start + offset, DAY_S)
        if split != self._split:
            self._tell()
            self._split = split
        ends, begins = self._days.at_or_after(today) == today, self._days.at_or_after(today + 1) == today + 1
        self._counted[0] += ends
        self._counted[1] += begins
        self._pattern.lay(day, split, ends=ends, begins=begins)

    def _tell(self, leaving: Iterable[Subject] = ()) -> None:
        """Tell the subjects their totals so far."""
        ends, begins = self._counted
        if ends or begins:
            for subject in {**self._roster.whole, **dict.fromkeys(leaving)}:
                times = _times(subject)
                early = _count_before(times.hours, times.minutes, times.seconds, self._split)
                late = len(times.hours) * len(times.minutes) * len(times.seconds) - early
                subject.total += ends * late + begins * early
        self._counted = [0, 0]

    def close(self) -> None:
        self._tell()


def _times(subject: Subject) -> Times:
    assert isinstance(subject.trigger, CronTrigger)
    return subject.trigger.fields.times


@lru_cache(maxsize=16_384)
def _count_before(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...], split: int) -> int:
    """How many of the times of day lie before `split`."""
    hour, rest = divmod(split, 3600)
    minute, second = divmod(rest, 60)
    count = bisect_left(hours, hour) * len(minutes) * len(seconds)
    if hour in hours:
        count += bisect_left(minutes, minute) * len(seconds)
        if minute in minutes:
            count += bisect_left(seconds, second)
    return count


class Pattern:
    """Fires by second of the day, as a dictionary, or as counters once there are many."""

    def __init__(self) -> None:
        self._few: dict[int, int] = {}
        self._many: array[int] | None = None
        self._cut: tuple[int, list[tuple[int, int]], list[tuple[int, int]]] | None = None

    def add(self, times: Times, weight: int) -> None:
        self._cut = None
        if self._many is None and len(times.hours) * len(times.minutes) * len(times.seconds) >= DENSE:
            self._grow()
        counts: dict[int, int] | array[int] = self._few if self._many is None else self._many
        if isinstance(counts, dict):
            for second in _seconds(times):
                counts[second] = counts.get(second, 0) + weight
            if len(counts) >= DENSE:
                self._grow()
        else:
            for second in _seconds(times):
                counts[second] += weight

    def _grow(self) -> None:
        self._many = zeros(DAY_S)
        for second, weight in self._few.items():
            self._many[second] = weight
        self._few = {}

    def lay(self, day: Day, split: int, *, ends: bool, begins: bool) -> None:
        """Add the pattern from `split` on at the day's beginning if it `ends`, and what is before it after that."""
        if self._many is not None:
            whole = self._many.tobytes()
            late = whole[4 * split :] if ends else bytes(len(whole) - 4 * split)
            day.lay(late + (whole[: 4 * split] if begins else b""))
            return
        if self._cut is None or self._cut[0] != split:
            late_ones = [(second - split, weight) for second, weight in self._few.items() if second >= split]
            early = [(second - split + DAY_S, weight) for second, weight in self._few.items() if second < split]
            self._cut = split, late_ones, early
        counts = day.counts
        for at, weight in self._cut[1] if ends else ():
            counts[at] += weight
        for at, weight in self._cut[2] if begins else ():
            counts[at] += weight


def _seconds(times: Times) -> Iterator[int]:
    of_day = product(times.hours, times.minutes, times.seconds)
    return (hour * 3600 + minute * 60 + second for hour, minute, second in of_day)


# --- intervals


class GridBeats:
    """Intervals whose fires repeat, second for second, after `period` seconds (an interval of 1.5 s after 3)."""

    def __init__(self, period: int, subjects: Sequence[Subject]) -> None:
        self._period = period
        self._subjects = subjects
        self._roster = Roster(subjects)
        self._phases: dict[int, int] = {}
        self._whole: tuple[int, bytes] | None = None  # the last layer, and where in the period its day begins

    def add_to(self, day: Day) -> None:
        leaves, joins = self._roster.changes(day)
        for subject in leaves:
            self._enter(subject, -len(subject.names))
        for subject in joins:
            self._enter(subject, len(subject.names))
        _walk(self._roster.parts(day), day)
        begin = day.start % self._period
        if self._period <= DAY_S and len(self._phases) * DAY_S >= DENSE * self._period:
            day.lay(self._layer(begin))
            return
        for phase, weight in self._phases.items():
            for at in range((phase - begin) % self._period, DAY_S, self._period):
                day.counts[at] += weight

    def _enter(self, subject: Subject, weight: int) -> None:
        self._whole = None
        for phase in _phases(subject, self._period):
            left = self._phases.get(phase, 0) + weight
            if left:
                self._phases[phase] = left
            else:
                self._phases.pop(phase, None)

    def _layer(self, begin: int) -> bytes:
        if self._whole is None or self._whole[0] != begin:
            once = zeros(self._period)
            for phase, weight in self._phases.items():
                once[phase] = weight
            turned = (once[begin:] + once[:begin]).tobytes()
            self._whole = begin, (turned * (DAY_S // self._period + 1))[: 4 * DAY_S]
        return self._whole[1]

    def close(self) -> None:
        for subject in self._subjects:
            interval, anchor = _grid(subject)
            subject.total = (subject.until - 1 - anchor) // interval - (subject.first - 1 - anchor) // interval


def _grid(subject: Subject) -> tuple[int, int]:
    assert isinstance(subject.trigger, Interval)
    return subject.trigger.interval // MILLISECOND, ms_of(subject.trigger.anchor) + subject.delay


def _phases(subject: Subject, period: int) -> Iterator[int]:
    """The seconds of the period in which it fires; a second comes as often as it has fires."""
    interval, anchor = _grid(subject)
    return ((anchor + step * interval) // 1000 % period for step in range(period * 1000 // interval))


# --- everything else


class Walked:
    """One subject, occurrence by occurrence."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._fires = subject.walk(subject.first, subject.until)
        self._next = self._following()

    def _following(self) -> int | None:
        if self._subject.total == self._subject.limit:
            return None
        return next(self._fires, None)

    def add_to(self, day: Day) -> None:
        end, weight = (day.start + DAY_S) * 1000, len(self._subject.names)
        while self._next is not None and self._next < end:
            day.counts[self._next // 1000 - day.start] += weight
            self._subject.total += 1
            if self._subject.total == self._subject.limit:
                self._subject.until = self._next + 1
            self._next = self._following()

    def close(self) -> None:
        """Nothing is left to tell."""
