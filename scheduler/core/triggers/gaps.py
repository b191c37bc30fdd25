"""How close do two occurrences of a trigger come? Asked when a schedule is saved, to hold it to the minimum interval.

Of cron expressions in one zone the answer is exact, for all of them together and for all years, on a calendar without
clock changes: times of day and days are sets of bits (one per second of the day, one per day of two centuries), and
"is any of these within n seconds of any of those" is a shift and an `and`. Of intervals it is arithmetic. Pairs of
different kinds, or in different zones, are walked for a bounded number of occurrences, on the clocks of their zones.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import combinations, product
from math import gcd
from typing import Final, NamedTuple

from scheduler.core.triggers.base import MILLISECOND, SECOND, CompiledTrigger
from scheduler.core.triggers.chained import Chained
from scheduler.core.triggers.civil import CivilDays
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.cron_calendar import DAY_S
from scheduler.core.triggers.excluded import Excluded, Moved
from scheduler.core.triggers.interval import Interval
from scheduler.core.triggers.rrule import RuleTrigger
from scheduler.core.triggers.union import Union
from scheduler.core.triggers.windowed import Windowed

STEPS_MAX: Final = 10_000
_WALK_FROM: Final = datetime(2027, 1, 1, tzinfo=UTC)
_WALK_UNTIL: Final = datetime(2037, 1, 1, tzinfo=UTC)  # a step of a rare rule may be a search through a century


def shortest_gap(trigger: CompiledTrigger) -> timedelta | None:
    """The shortest time between two occurrences of a rule that repeats; None for one that does not.

    Of cron a day stands for a day and everything above.
    """
    match trigger:
        case CronTrigger():
            return timedelta(seconds=_of_cron(trigger))
        case Interval() | CivilDays():
            return trigger.interval
        case RuleTrigger():
            return trigger.shortest_gap()
        case Chained():
            return trigger.delay
        case Union():
            return _of_union(trigger.parts)
        case Windowed() | Excluded() | Moved():
            return shortest_gap(trigger.inner)
        case _:
            return None


def _of_cron(trigger: CronTrigger) -> int:
    times, days = trigger.fields.times, trigger.fields.days
    on_a_day, over_midnight = times.shortest_gap_s(), DAY_S - (times.last - times.first)
    return over_midnight if over_midnight < on_a_day and days.has_neighbours() else on_a_day


@lru_cache(maxsize=1024)
def _of_union(parts: tuple[CompiledTrigger, ...]) -> timedelta | None:
    gaps = [gap for part in parts if (gap := shortest_gap(part)) is not None]
    if not gaps:
        return None
    shortest = min(gaps)
    crons = [part for part in parts if isinstance(part, CronTrigger)]
    for zone in {part.zone.name for part in crons}:
        shortest = _between_crons([part for part in crons if part.zone.name == zone], shortest)
    pairs = [(one, other) for one, other in combinations(parts, 2) if not _share_a_calendar(one, other)]
    for one, other in pairs:
        steps = max(STEPS_MAX // len(pairs) // 2, 2)
        shortest = min(shortest, _between(one, other, steps), _between(other, one, steps))
    return shortest


def _share_a_calendar(one: CompiledTrigger, other: CompiledTrigger) -> bool:
    return isinstance(one, CronTrigger) and isinstance(other, CronTrigger) and one.zone.name == other.zone.name


# --- pairs that are walked
def _between(one: CompiledTrigger, other: CompiledTrigger, steps: int) -> timedelta:
    """The shortest time from an occurrence of `one` to the next of `other`, at so many of the former."""
    if isinstance(one, Interval) and isinstance(other, Interval):
        return _between_intervals(one, other)
    shortest, at = timedelta.max, one.next_after(_WALK_FROM)
    for _ in range(steps):
        following = None if at is None else other.next_after(at)
        if at is None or following is None or at > _WALK_UNTIL:
            break
        shortest = min(shortest, following - at)
        at = one.next_after(at)
    return shortest


def _between_intervals(one: Interval, other: Interval) -> timedelta:
    """Two grids meet at every multiple of their common measure, shifted by what sets their anchors apart."""
    measure = gcd(one.interval // MILLISECOND, other.interval // MILLISECOND)
    shift = (other.anchor - one.anchor) // MILLISECOND % measure
    return (min(shift, measure - shift) or measure) * MILLISECOND


# --- cron in one zone
class _Set(NamedTuple):
    """Expressions with the same days: those days, and all times of day, as bits."""

    days: int
    times: int


class _Pair(NamedTuple):
    """Two sets of times of day that both occur on one day, or the second on the day after the first."""

    earlier: int
    later: int
    next_day: bool


def _between_crons(parts: Iterable[CronTrigger], shortest: timedelta) -> timedelta:
    """The shortest time between two occurrences of these, if it is less than what is known."""
    pairs = list(_pairs(_sets(parts)))
    low, high = 0, min(-(-shortest // SECOND), DAY_S) - 1
    if high < 1 or not _any_within(pairs, high):
        return shortest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _any_within(pairs, middle) else (middle, high)
    return timedelta(seconds=high)


def _sets(parts: Iterable[CronTrigger]) -> list[_Set]:
    by_days: dict[int, int] = {}
    for part in parts:
        days = part.fields.days.bits()
        by_days[days] = by_days.get(days, 0) | part.fields.times.bits()
    return [_Set(days, times) for days, times in by_days.items()]


def _pairs(sets: list[_Set]) -> Iterable[_Pair]:
    for one, other in product(sets, sets):
        if one.days & other.days:
            yield _Pair(one.times, other.times, next_day=False)
        if (one.days << 1) & other.days:
            yield _Pair(one.times, other.times, next_day=True)


def _any_within(pairs: list[_Pair], seconds: int) -> bool:
    """Whether in any pair a later time follows an earlier one by 1 to so many seconds."""
    smeared = {times: _smeared(times, seconds) for times in {pair.earlier for pair in pairs}}
    return any(
        (smeared[pair.earlier] >> DAY_S if pair.next_day else smeared[pair.earlier]) & pair.later for pair in pairs
    )


def _smeared(bits: int, seconds: int) -> int:
    """Every second that follows one of these by 1 to so many seconds."""
    found, width = bits << 1, 1
    while width < seconds:
        step = min(width, seconds - width)
        found |= found << step
        width += step
    return found
