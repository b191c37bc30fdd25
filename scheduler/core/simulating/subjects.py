"""Who fires: schedules that beat alike are one subject with several names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from datetime import datetime, timedelta

from scheduler.core.model.schedule import Schedule
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger
from scheduler.core.triggers.base import EPOCH, MILLISECOND
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.interval import Interval
from scheduler.core.triggers.once import Once


class Subject:
    """Schedules with one beat. All times in milliseconds since 1970: a nominal time n fires at n + `delay`, if that
    lies in [`first`, `until`) and is among the first `limit` that do."""

    __slots__ = ("delay", "first", "is_spread", "limit", "names", "total", "trigger", "until")

    def __init__(self, trigger: CompiledTrigger, delay: int, first: int, until: int, limit: int | None) -> None:
        self.trigger = trigger
        self.delay, self.first, self.until, self.limit = delay, first, until, limit
        self.names: list[str] = []
        self.total = 0
        self.is_spread = False

    def walk(self, low: int, high: int) -> Iterator[int]:
        """Its fire times in [low, high), by the trigger itself."""
        low, high = max(low, self.first), min(high, self.until)
        nominal = self.trigger.next_after(at_ms(low - self.delay - 1))
        while nominal is not None and (fire := ms_of(nominal) + self.delay) < high:
            yield fire
            nominal = self.trigger.next_after(nominal)


def ms_of(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


def at_ms(count: int) -> datetime:
    return EPOCH + timedelta(milliseconds=count)


_FIRST_MS, _LAST_MS = ms_of(FIRST), ms_of(LAST)


def subjects_of(schedules: Iterable[tuple[Schedule, CompiledTrigger]], start: int, end: int) -> list[Subject]:
    """The subjects of these schedules for the fire times [start, end), those that never fire then included."""
    found: dict[Hashable, Subject] = {}
    for schedule, trigger in schedules:
        subject = _subject(schedule, trigger, start, end)
        key = (_sameness(trigger, schedule), subject.delay, subject.first, subject.until, subject.limit)
        found.setdefault(key, subject).names.append(schedule.id)
    return list(found.values())


def _subject(schedule: Schedule, trigger: CompiledTrigger, start: int, end: int) -> Subject:
    delay = schedule.start_delay // MILLISECOND
    first, until = max(start, _FIRST_MS + delay), min(end, _LAST_MS + delay + 1)
    if schedule.paused:
        first = until if schedule.paused_until is None else max(first, ms_of(schedule.paused_until) + delay)
    return Subject(trigger, delay, first, max(first, until), schedule.max_fires)


def _sameness(trigger: CompiledTrigger, schedule: Schedule) -> Hashable:
    """Equal for triggers that yield the same instants; written differently, they may be unequal all the same."""
    match trigger:
        case CronTrigger():
            times = trigger.fields.times
            return trigger.zone.name, trigger.dst, trigger.fields.days.rule, times.hours, times.minutes, times.seconds
        case Interval():
            return trigger.interval, (trigger.anchor - EPOCH) % trigger.interval
        case Once():
            return trigger.instants
        case _:
            return id(trigger)
