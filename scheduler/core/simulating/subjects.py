"""Who fires: schedules that beat alike are one subject with several names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from datetime import datetime, timedelta
from heapq import heappop, heappush

from scheduler.core.firing import is_coalesced, lead_of, moved_time
from scheduler.core.jitter import jitter_of
from scheduler.core.model.schedule import Cron, Schedule
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, shortest_gap
from scheduler.core.triggers.base import EPOCH, MILLISECOND
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.cron_text import uses_hash
from scheduler.core.triggers.excluded import LEAD, Moved
from scheduler.core.triggers.interval import Interval
from scheduler.core.triggers.once import Once
from scheduler.core.triggers.windowed import Windowed

EXACT_MAX = 500_000
"""Jittered fires that are drawn one by one, rarest schedules first; the others have one draw for all of theirs."""
_NONE = timedelta(0)


class Subject:
    """Schedules with one beat. All times in milliseconds since 1970: a nominal time n, not before `since`, fires at
    n + `delay` (+ jitter, or on the day it is moved to), if that lies in [`first`, `until`) and is among the first
    `limit` that do."""

    __slots__ = ("delay", "first", "is_spread", "jitter", "limit", "names", "since", "total", "trigger", "until")

    def __init__(
        self, trigger: CompiledTrigger, *, delay: int, since: int, first: int, until: int, limit: int | None,
        jitter: timedelta = _NONE,
    ) -> None:  # fmt: skip
        self.trigger = trigger
        self.delay, self.since, self.first, self.until, self.limit = delay, since, first, max(first, until), limit
        self.jitter = jitter
        self.names: list[str] = []
        self.total = 0
        self.is_spread = False

    def walk(self, low: int, high: int) -> Iterator[int]:
        """Its fire times in [low, high), ascending, by the trigger itself."""
        low, high = max(low, self.first), min(high, self.until)
        fires = self._moved(low, high) if isinstance(self.trigger, Moved) else self._straight(low, high)
        return (fire for fire in fires if low <= fire < high)

    def _straight(self, low: int, high: int) -> Iterator[int]:
        """Fire times in the order of their nominal times, of which none is moved."""
        nominal = self.trigger.next_after(at_ms(max(low - self.delay - self.jitter // MILLISECOND, self.since) - 1))
        while nominal is not None and ms_of(nominal) + self.delay < high:
            following = self.trigger.next_after(nominal)
            yield ms_of(nominal) + self.delay + self._jitter_at(nominal, following)
            nominal = following

    def _moved(self, low: int, high: int) -> Iterator[int]:
        """Moved ones fire weeks from their nominal times: they are held back until no earlier one can come."""
        lead, slack = lead_of(self.trigger) // MILLISECOND, (LEAD + self.jitter) // MILLISECOND
        held: list[int] = []
        nominal = self.trigger.next_after(at_ms(max(low - self.delay - slack, self.since) - 1))
        while nominal is not None and ms_of(nominal) + self.delay - lead < high:
            following = self.trigger.next_after(nominal)
            if not is_coalesced(self.trigger, nominal):
                moved = moved_time(self.trigger, nominal)
                heappush(held, ms_of(moved) + self.delay + self._jitter_at(nominal, following))
            nominal = following
            while held and nominal is not None and held[0] <= ms_of(nominal) + self.delay - lead:
                yield heappop(held)
        while held:
            yield heappop(held)

    def _jitter_at(self, nominal: datetime, following: datetime | None) -> int:
        if not self.jitter:
            return 0
        return jitter_of(self.names[0], nominal, self.jitter, following) // MILLISECOND

    def nominals(self) -> tuple[datetime, datetime]:
        """Its nominal times that matter lie after the first and not after the second of these."""
        slack = (lead_of(self.trigger) + self.jitter) // MILLISECOND
        return at_ms(max(self.first - self.delay - slack, self.since) - 1), at_ms(self.until - self.delay + slack - 1)


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
            _enter(found, schedule, _plain(schedule, trigger, start, end, _NONE))
    left = float(EXACT_MAX)
    for expected, schedule, trigger in sorted(jittered, key=lambda each: (each[0], each[1].id)):
        left -= expected
        if left >= 0:
            subject = _subject(schedule, trigger, start, end, _NONE, jitter=schedule.jitter)
        else:
            subject = _plain(schedule, trigger, start, end, _one_draw(schedule, trigger))
            subject.is_spread = True
        _enter(found, schedule, subject)
    return list(found.values())


def _expected(trigger: CompiledTrigger, window_ms: int) -> float:
    """How many fires at most, roughly."""
    gap = shortest_gap(trigger)
    return 1.0 if gap is None else window_ms / (gap / MILLISECOND)


def _one_draw(schedule: Schedule, trigger: CompiledTrigger) -> timedelta:
    gap = shortest_gap(trigger)
    return jitter_of(schedule.id, EPOCH, schedule.jitter, None if gap is None else EPOCH + gap)


def _enter(found: dict[Hashable, Subject], schedule: Schedule, subject: Subject) -> None:
    own = schedule.id if subject.jitter else None
    window = subject.since, subject.first, subject.until, subject.limit
    key = _sameness(schedule, subject.trigger), subject.delay, window, subject.is_spread, own
    found.setdefault(key, subject).names.append(schedule.id)


def _plain(schedule: Schedule, trigger: CompiledTrigger, start: int, end: int, more: timedelta) -> Subject:
    """Without jitter, a window of nominal times is a window of fire times, and the trigger is what is within."""
    subject = _subject(schedule, trigger, start, end, more)
    if isinstance(trigger, Moved):
        return subject
    while isinstance(subject.trigger, Windowed):
        after, until = subject.trigger.within(*subject.nominals())
        subject.first, subject.until = ms_of(after) + 1 + subject.delay, ms_of(until) + 1 + subject.delay
        subject.trigger = subject.trigger.inner
    subject.first = max(subject.first, subject.since + subject.delay)
    subject.until = max(subject.first, subject.until)
    return subject


def _subject(
    schedule: Schedule, trigger: CompiledTrigger, start: int, end: int, more: timedelta, jitter: timedelta = _NONE
) -> Subject:
    delay = (schedule.start_delay + more) // MILLISECOND
    since = _FIRST_MS
    if schedule.paused:
        since = _LAST_MS if schedule.paused_until is None else ms_of(schedule.paused_until)
    return Subject(trigger, delay=delay, since=since, first=start, until=end, limit=schedule.max_fires, jitter=jitter)


def _sameness(schedule: Schedule, trigger: CompiledTrigger) -> Hashable:
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
            return _as_written(schedule)


def _as_written(schedule: Schedule) -> Hashable:
    rule = schedule.trigger
    texts = (*(rule.expressions if isinstance(rule, Cron) else ()), *schedule.exclude)
    hashed_by = schedule.id if any(uses_hash(text) for text in texts) else None
    bounds = schedule.starts_at, schedule.ends_at
    return rule, schedule.timezone, schedule.dst, bounds, schedule.exclude, schedule.on_excluded, hashed_by
