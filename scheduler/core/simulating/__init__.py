"""What many schedules do together over months or years: how dense, when it is worst, and who takes part. Pure.

Exact, and still quick: nothing walks from fire to fire where it need not. Schedules that beat alike are computed once
and multiplied (`subjects`); cron repeats the same times on every day between two clock changes and intervals are
arithmetic (`beats`); one day at a time is laid out in 86,400 counters (`counting`), reduced to hours and peaks, and
forgotten. What fits no such pattern (days of clock changes, unions, rules of other kinds, `max_fires`, jitter) is
walked with the trigger itself, occurrence by occurrence. Only jitter has a limit to that (`subjects.EXACT_MAX`): the
busiest of very many jittered schedules get one draw for all their fires instead of one for each.

Memory: the counters of one day, one pattern for each (zone, days, delay) and each interval, and a few words for every
distinct schedule; it does not grow with the length of the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from scheduler.core.model.schedule import Schedule
from scheduler.core.simulating.beats import beats_of
from scheduler.core.simulating.counting import DAY_S, Days
from scheduler.core.simulating.subjects import Subject, subjects_of
from scheduler.core.triggers import CompiledTrigger, clock_changes
from scheduler.core.triggers.base import EPOCH, MILLISECOND, from_second

__all__ = ["NAMED_MAX", "Peak", "Simulation", "simulate"]

NAMED_MAX = 5
"""How many of the schedules in a peak are named."""
_MS_PER_DAY = DAY_S * 1000


class Peak(Struct, frozen=True):
    """The busiest second or minute: when it begins, its fires, how many schedules share in them, and the busiest."""

    at: datetime
    fires: int
    schedules: int
    named: tuple[tuple[str, int], ...]


class Simulation(Struct, frozen=True, kw_only=True):
    """Fires whose fire time lies in [start, end).

    `hours`: fires per hour, from the (UTC) hour of `start` on. `totals`: each schedule's fires, most first.
    `clock_changes`: what clocks do to wall times, and to how many schedules. `spread`: schedules whose jitter was
    drawn once and not for every occurrence, because they fire too often (see `subjects`).
    """

    start: datetime
    end: datetime
    fires: int
    hours: tuple[int, ...]
    busiest_second: Peak | None
    busiest_minute: Peak | None
    totals: tuple[tuple[str, int], ...]
    clock_changes: tuple[tuple[str, int], ...]
    spread: int = 0


def simulate(schedules: Iterable[tuple[Schedule, CompiledTrigger]], *, start: datetime, end: datetime) -> Simulation:
    """Count every fire in [start, end). Paused schedules do not fire while they are; `max_fires` counts from start."""
    subjects = subjects_of(schedules, _milliseconds(start), _milliseconds(end))
    days = Days(_milliseconds(start) // _MS_PER_DAY, -(-_milliseconds(end) // _MS_PER_DAY))
    beats = beats_of(subjects)
    for day in days:
        for each in beats:
            each.add_to(day)
    for each in beats:
        each.close()
    totals = Counter({name: subject.total for subject in subjects for name in subject.names})
    return Simulation(
        start=start,
        end=end,
        fires=sum(totals.values()),
        hours=days.hours_between(_milliseconds(start), _milliseconds(end)),
        busiest_second=_peak(subjects, days.busiest_second, 1),
        busiest_minute=_peak(subjects, days.busiest_minute, 60),
        totals=tuple(sorted(totals.items(), key=_most_first)),
        clock_changes=tuple(_changes(subjects)),
        spread=sum(len(subject.names) for subject in subjects if subject.is_spread),
    )


def _peak(subjects: Sequence[Subject], busiest: tuple[int, int], seconds: int) -> Peak | None:
    """Who fires in the busiest stretch: asked of every trigger once more, now that it is known when that is."""
    fires, second = busiest
    if not fires:
        return None
    low, high = second * 1000, (second + seconds) * 1000
    taking = [(subject, count) for subject in subjects if (count := sum(1 for _ in subject.walk(low, high)))]
    named = sorted(((name, count) for subject, count in taking for name in subject.names), key=_most_first)
    return Peak(from_second(second), fires, len(named), tuple(named[:NAMED_MAX]))


def _changes(subjects: Sequence[Subject]) -> Iterator[tuple[str, int]]:
    affected: Counter[tuple[datetime, str]] = Counter()
    for subject in subjects:
        for change in clock_changes(subject.trigger, *subject.nominals()):
            affected[change] += len(subject.names)
    return ((note, count) for (_, note), count in sorted(affected.items()))


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND
