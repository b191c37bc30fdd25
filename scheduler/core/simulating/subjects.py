"""Who fires: schedules that beat alike are one subject with several names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from datetime import datetime, timedelta

from scheduler.core.jitter import jitter_of
from scheduler.core.model.schedule import Schedule
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, shortest_gap
from scheduler.core.triggers.base import EPOCH, MILLISECOND
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.interval import Interval
from scheduler.core.triggers.once import Once
from scheduler.core.triggers.windowed import Windowed, windowed

EXACT_MAX = 500_000
"""Jittered fires that are drawn one by one, rarest schedules first; the others have one draw for all of theirs."""
_NONE = timedelta(0)


class Subject:
    """Schedules with one beat. All times in milliseconds since 1970: a nominal time n fires at n + `delay` (+ jitter),
    if that lies in [`first`, `until`) and is among the first `limit` that do."""

    __slots__ = ("delay", "first", "is_spread", "jitter", "limit", "names", "total", "trigger", "until")

    def __init__(
        self, trigger: CompiledTrigger, delay: int, first: int, until: int, limit: int | None, jitter: timedelta = _NONE
    ) -> None:
        self.trigger = trigger
        self.delay, self.first, self.until, self.limit = delay, first, until, limit
        self.jitter = jitter
        self.names: list[str] = []
        self.total = 0
        self.is_spread = False

    def walk(self, low: int, high: int) -> Iterator[int]:
        """Its fire times in [low, high), by the trigger itself."""
        low, high = max(low, self.first), min(high, self.until)
        nominal = self.trigger.next_after(at_ms(low - self.delay - self.jitter // MILLISECOND - 1))
        while nominal is not None and ms_of(nominal) + self.delay < high:
            following = self.trigger.next_after(nominal)
            fire = ms_of(nominal) + self.delay + self._jitter_at(nominal, following)
            if low <= fire < high:
                yield fire
            nominal = following

    def _jitter_at(self, nominal: datetime, following: datetime | None) -> int:
        if not self.jitter:
            return 0
        return jitter_of(self.names[0], nominal, self.jitter, following) // MILLISECOND

    def nominals(self) -> tuple[datetime, datetime]:
        """Those of its nominal times that matter lie after the first and not after the second of these."""
        return at_ms(self.first - self.delay - self.jitter // MILLISECOND - 1), at_ms(self.until - self.delay - 1)


def ms_of(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


def at_ms(count: int) -> datetime:
    return EPOCH + timedelta(milliseconds=count)


_FIRST_MS, _LAST_MS = ms_of(FIRST), ms_of(LAST)


def subjects_of(schedules: Iterable[tuple[Schedule, CompiledTrigger]], start: int, end: int) -> list[Subject]:
    """The subjects of these schedules for the fire times [start, end), those that never fire then included."""
    found: dict[Hashable, Subject] = {}
    jittered: list[tuple[float, Schedule, CompiledTrigger]] = []
    for schedule, trigger in schedules:
        if schedule.jitter:
            jittered.append((_expected(trigger, end - start), schedule, trigger))
        else:
            _enter(found, schedule.id, _plain(schedule, trigger, start, end, _NONE))
    left = float(EXACT_MAX)
    for expected, schedule, trigger in sorted(jittered, key=lambda each: (each[0], each[1].id)):
        left -= expected
        if left >= 0:
            subject = _subject(schedule, trigger, start, end, _NONE, jitter=schedule.jitter)
        else:
            subject = _plain(schedule, trigger, start, end, _one_draw(schedule, trigger))
            subject.is_spread = True
        _enter(found, schedule.id, subject)
    return list(found.values())


def _expected(trigger: CompiledTrigger, window_ms: int) -> float:
    """How many fires at most, roughly."""
    gap = shortest_gap(trigger)
    return 1.0 if gap is None else window_ms / (gap / MILLISECOND)


def _one_draw(schedule: Schedule, trigger: CompiledTrigger) -> timedelta:
    gap = shortest_gap(trigger)
    return jitter_of(schedule.id, EPOCH, schedule.jitter, None if gap is None else EPOCH + gap)


def _enter(found: dict[Hashable, Subject], name: str, subject: Subject) -> None:
    own = name if subject.jitter else None
    key = (_sameness(subject.trigger), subject.delay, subject.first, subject.until, subject.limit, subject.is_spread)
    found.setdefault((key, own), subject).names.append(name)


def _plain(schedule: Schedule, trigger: CompiledTrigger, start: int, end: int, more: timedelta) -> Subject:
    """Without jitter, a window of nominal times is a window of fire times, and the trigger is what is within."""
    subject = _subject(schedule, trigger, start, end, more)
    while isinstance(subject.trigger, Windowed):
        after, until = subject.trigger.within(*subject.nominals())
        subject.first, subject.until = ms_of(after) + 1 + subject.delay, ms_of(until) + 1 + subject.delay
        subject.trigger = subject.trigger.inner
    subject.until = max(subject.first, subject.until)
    return subject


def _subject(
    schedule: Schedule, trigger: CompiledTrigger, start: int, end: int, more: timedelta, jitter: timedelta = _NONE
) -> Subject:
    delay = (schedule.start_delay + more) // MILLISECOND
    first, until = max(start, _FIRST_MS + delay), min(end, _LAST_MS + delay + jitter // MILLISECOND + 1)
    if schedule.paused:
        trigger = windowed(trigger, schedule.paused_until or LAST, None)
    return Subject(trigger, delay, first, max(first, until), schedule.max_fires, jitter)


def _sameness(trigger: CompiledTrigger) -> Hashable:
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
