"""What becomes of a span of late nominal times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct, structs

from scheduler.core.catch_up.counting import STEPS, Counting, counted, drained
from scheduler.core.catch_up.lateness import out_of_reach
from scheduler.core.firing import fire_time, is_coalesced
from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Schedule
from scheduler.core.model.status import Deciding
from scheduler.core.triggers import CompiledTrigger, Moved
from scheduler.core.triggers.base import MILLISECOND


class Range(Struct, frozen=True, kw_only=True):
    """Nominal times from `first` to `last` (both inclusive), of which `count` share a verdict and its reason."""

    first: datetime
    last: datetime
    count: int
    verdict: str
    reason: str


class Decision(Struct, frozen=True):
    """`fires` ascend; `ranges` tell of all others, in ascending order."""

    fires: tuple[datetime, ...] = ()
    ranges: tuple[Range, ...] = ()


def as_of(schedule: Schedule, span: Deciding, now: datetime) -> Deciding:
    """The span as it is decided: at the instant at which it was fixed, whoever repeats it. Only where it has lain for
    longer than records are certain to live, what somebody fired of it may be forgotten, and nothing of it fires."""
    return structs.replace(span, at=now) if now - span.at > schedule.known_for else span


def catch_up(
    schedule: Schedule, trigger: CompiledTrigger, span: Deciding, recorded: Sequence[datetime] = ()
) -> Decision:
    """As `catching_up`, in one go; for spans of a bounded length."""
    return drained(catching_up(schedule, trigger, span, recorded))


def catching_up(
    schedule: Schedule, trigger: CompiledTrigger, span: Deciding, recorded: Sequence[datetime] = ()
) -> Counting[Decision]:
    """Decide about the late nominal times of a span. `recorded`: those that have a record already, ascending."""
    last = trigger.previous_before(span.last + MILLISECOND)
    if last is None or last < span.first:  # one-shots that an edit took away
        return Decision()
    span = structs.replace(span, last=last)
    rest, policy = _Rest(trigger, span, recorded), schedule.catch_up
    ranges = []
    if is_coalesced(trigger, span.last):
        return Decision((), tuple(filter(None, [(yield from rest.take(None, State.SKIPPED, "coalesced"))])))
    if schedule.paused:
        ranges.append((yield from rest.take(schedule.paused_until, State.PAUSED, "paused")))
    in_window = yield from _first_in_window(schedule, trigger, rest.cursor, span)
    ranges.append((yield from rest.take(in_window, State.MISSED, out_of_reach(schedule))))
    fires: list[datetime] = []
    match policy.mode:
        case "latest" if not _is_followed(schedule, trigger, span):
            ranges.append((yield from rest.take(span.last, State.MISSED, "catch_up")))
            fires = rest.pick(1)
        case "earliest":
            fires = rest.pick(1)
        case "all":
            fires = rest.pick(policy.max)
    reason = "cap" if policy.mode == "all" else "catch_up"
    ranges.append((yield from rest.take(None, State.MISSED, reason)))
    return Decision(tuple(fires), tuple(each for each in ranges if each is not None))


def _first_in_window(
    schedule: Schedule, trigger: CompiledTrigger, cursor: datetime | None, span: Deciding
) -> Counting[datetime]:
    """Where the window begins: no nominal time of the span before it fired within it. Behind the span if none did."""
    oldest = span.at - schedule.reach
    if cursor is not None and not isinstance(trigger, Moved):
        cursor = trigger.next_after(max(cursor, oldest - schedule.start_delay - schedule.jitter) - MILLISECOND)
    steps = 0
    while cursor is not None and cursor <= span.last and fire_time(schedule, trigger, cursor) < oldest:
        cursor, steps = trigger.next_after(cursor), steps + 1
        if steps % STEPS == 0:
            yield
    return cursor if cursor is not None and cursor <= span.last else span.last + MILLISECOND


def _is_followed(schedule: Schedule, trigger: CompiledTrigger, span: Deciding) -> bool:
    """Whether the newest one of the span has a successor that is due: that one runs in its place."""
    following = trigger.next_after(span.last)
    if following is None or schedule.is_paused_at(following):
        return False
    return fire_time(schedule, trigger, following) <= span.at


class _Rest:
    """The nominal times of a span that nothing has been said about yet, oldest first."""

    def __init__(self, trigger: CompiledTrigger, span: Deciding, recorded: Sequence[datetime]) -> None:
        self.cursor = trigger.next_after(span.first - MILLISECOND)
        self._trigger, self._last, self._recorded = trigger, span.last, recorded

    def take(self, before: datetime | None, verdict: State, reason: str) -> Counting[Range | None]:
        """All of them, or those before an instant, as a range; None if there are none."""
        end = self._last + MILLISECOND if before is None else min(before, self._last + MILLISECOND)
        first = self.cursor
        if first is None or first >= end:
            return None
        last = self._trigger.previous_before(end)
        assert last is not None
        count = yield from counted(self._trigger, first, last)
        count -= bisect_right(self._recorded, last) - bisect_left(self._recorded, first)
        self._move_on(last)
        return Range(first=first, last=last, count=count, verdict=verdict.value, reason=reason) if count else None

    def pick(self, limit: int) -> list[datetime]:
        """Up to so many of them that have no record, one by one."""
        picked: list[datetime] = []
        while self.cursor is not None and len(picked) < limit:
            if not self._has_record(self.cursor):
                picked.append(self.cursor)
            self._move_on(self.cursor)
        return picked

    def _has_record(self, nominal: datetime) -> bool:
        index = bisect_left(self._recorded, nominal)
        return index < len(self._recorded) and self._recorded[index] == nominal

    def _move_on(self, behind: datetime) -> None:
        following = self._trigger.next_after(behind)
        self.cursor = following if following is not None and following <= self._last else None
