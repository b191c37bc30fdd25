"""What becomes of occurrences that were not dispatched in time: one decision for every kind of outage. Pure.

An occurrence is late once its *fire time* (nominal + start_delay + jitter, or where it was moved to) has passed by more
than `catch_up.after`. The late nominal times of one schedule form a span, and are decided in one go, oldest first:

    in a pause             verdict paused: nobody wanted it, so it is not missed
    before the window      missed, `window`: fired longer ago than `catch_up.window`
    mode latest            the newest one fires, if its successor is not due yet (else that one is the make-up);
                           the others are missed, `catch_up`
    mode earliest          the oldest one in the window fires, the others are missed, `catch_up`
    mode all               each fires, from the oldest in the window on, up to `max`; the others are missed, `cap`
    mode none              all are missed, `catch_up`

What already has a record is left out. The decision follows from the span and the instant at which it was fixed alone,
so that a successor who repeats it comes to the same.

A span can hold millions of nominal times: those that do not fire are only counted, and the functions that count are
generators that pause every `STEPS` nominal times (for the event loop's sake) and return their result.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec import Struct, structs

from scheduler.core.firing import fire_time, is_coalesced
from scheduler.core.model.execution import State
from scheduler.core.model.schedule import After, At, Definition, Schedule
from scheduler.core.model.status import Deciding, StatusRow
from scheduler.core.triggers import CompiledTrigger, Moved
from scheduler.core.triggers.base import MILLISECOND
from scheduler.core.triggers.interval import Interval

T = TypeVar("T")
Counting = Generator[None, None, T]
"""Pauses now and then, and returns a T."""

STEPS = 2000  # nominal times between two pauses
AFTER_MIN = timedelta(seconds=1)  # the broker and we ourselves may need that long: on time, whatever `after` says
LISTED_MAX = 10_000  # nominal times that an edit supersedes one by one
BACK_MAX = 1000  # nominal times that lie between the cut and the newest late one: jitter, moved ones


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


# --- whose it is


def is_owed(definition: Definition, nominal: datetime) -> bool:
    """Whether the definition in force answers for a late nominal time: for what comes after it took effect, and for
    one-shots, which are late rather than retroactive. What an edit finds late and undecided is superseded."""
    rule = definition.schedule.trigger
    return nominal > definition.effective_at or (isinstance(rule, At) and nominal in rule.instants)


# --- the row


def is_dealt_with(row: StatusRow, nominal: datetime) -> bool:
    """Whether a late nominal time lies in a catch-up that is fixed or carried out: whoever comes with it is done."""
    span = row.deciding
    if span is not None and span.first <= nominal <= span.last:
        return True
    first = row.decided_from or row.decided
    return first is not None and row.decided is not None and first <= nominal <= row.decided


def with_late(row: StatusRow, nominals: Iterable[datetime]) -> StatusRow:
    """The row when these were found late: the oldest that is not dealt with yet is kept, once for all of them."""
    fresh = [each for each in nominals if not is_dealt_with(row, each)]
    return _with_note(row, min(fresh)) if fresh else row


def with_late_span(row: StatusRow, trigger: CompiledTrigger, span: Span) -> StatusRow:
    """The row when all of a span is late and was never armed: noted from the first that is not dealt with yet."""
    first: datetime | None = span.first
    ends = [row.decided, None if row.deciding is None else row.deciding.last]
    for end in sorted(each for each in ends if each is not None):
        if first is not None and is_dealt_with(row, first):
            first = trigger.next_after(end)
    return row if first is None or first > span.last else _with_note(row, first)


def _with_note(row: StatusRow, first: datetime) -> StatusRow:
    return structs.replace(row, late_from=first if row.late_from is None else min(row.late_from, first))


def with_decided(row: StatusRow, span: Deciding, schedule: Schedule, trigger: CompiledTrigger) -> StatusRow:
    """The row once a catch-up is carried out: joined to the last one, if nothing lies between them, or in its place.

    One-shots, which are few and may be put again at any time, are always joined.
    """
    if row.deciding != span:
        return row
    first, last = span.first, span.last
    decided_from = row.decided_from or row.decided
    if row.decided is not None and decided_from is not None:
        following = trigger.next_after(row.decided)
        if isinstance(schedule.trigger, At) or following is None or first <= following:
            first, last = min(first, decided_from), max(last, row.decided)
    return structs.replace(row, deciding=None, decided_from=first, decided=last)


def with_span(row: StatusRow, definition: Definition, trigger: CompiledTrigger, now: datetime) -> StatusRow:
    """The row with the next catch-up fixed, from the oldest late one to the newest; its consequences follow from now
    on, whoever leads. Unchanged where one is under way or nothing is late yet; a note of what is no more goes."""
    if row.deciding is not None or row.late_from is None:
        return row
    first = trigger.next_after(row.late_from - MILLISECOND)
    if first is None:
        return structs.replace(row, late_from=None)
    schedule = definition.schedule
    last = newest_late(schedule, trigger, first, now) if is_owed(definition, first) else None
    if last is None:
        return row
    rest, decided_from = _rest_behind(last, schedule, trigger, now), row.decided_from or row.decided
    if decided_from is not None and row.decided is not None and first < decided_from <= last:
        rest = trigger.next_after(row.decided) if row.decided < last else None
        last = trigger.previous_before(decided_from) or first
    return structs.replace(row, deciding=Deciding(first, last, now, definition.generation), late_from=rest)


def _rest_behind(last: datetime, schedule: Schedule, trigger: CompiledTrigger, now: datetime) -> datetime | None:
    """Where late ones go on behind a span that ends early: moved ones are decided in several."""
    following = trigger.next_after(last) if isinstance(trigger, Moved) else None
    if following is None or not is_late(schedule, fire_time(schedule, trigger, following), now):
        return None
    return following


def disowned(row: StatusRow, definition: Definition | None, now: datetime) -> tuple[Span, ...]:
    """What of the late ones nobody answers for any more, after an edit. `definition` None: deleted or invalid."""
    found = []
    if (fixed := row.deciding) is not None and not _answers_for(definition, fixed):
        found.append(Span(fixed.first, fixed.last))
    if (late := row.late_from) is not None and (definition is None or not is_owed(definition, late)):
        found.append(Span(late, max(late, now if definition is None else definition.effective_at)))
    return tuple(found)


def owed_in(definition: Definition, trigger: CompiledTrigger, span: Span) -> Counting[tuple[datetime, ...]]:
    """The nominal times of a span that a definition owed, pauses left out, as far as they can be listed.

    At most `LISTED_MAX` of them, oldest first.
    """
    schedule, first = definition.schedule, max(span.first - MILLISECOND, _answers_from(definition))
    if schedule.paused:
        if schedule.paused_until is None:
            return ()
        first = max(first, schedule.paused_until - MILLISECOND)
    found: list[datetime] = []
    nominal = trigger.next_after(first)
    while nominal is not None and nominal <= span.last and len(found) < LISTED_MAX:
        found.append(nominal)
        nominal = trigger.next_after(nominal)
        if len(found) % STEPS == 0:
            yield
    return tuple(found)


def without_disowned(
    row: StatusRow, definition: Definition | None, trigger: CompiledTrigger | None, now: datetime
) -> StatusRow:
    """The row once `disowned` is told. What the definition itself owes, and is late, stays noted."""
    if row.deciding is not None and not _answers_for(definition, row.deciding):
        row = structs.replace(row, deciding=None)
    if row.late_from is not None and (definition is None or not is_owed(definition, row.late_from)):
        rest = None if definition is None or trigger is None else _first_late(definition, trigger, now)
        row = structs.replace(row, late_from=rest)
    return row


def _first_late(definition: Definition, trigger: CompiledTrigger, now: datetime) -> datetime | None:
    first = trigger.next_after(_answers_from(definition))
    if first is None or newest_late(definition.schedule, trigger, first, now) is None:
        return None
    return first


def _answers_from(definition: Definition) -> datetime:
    """Nominal times after this are its own; one-shots are its own for as long as they may be late."""
    if not isinstance(definition.schedule.trigger, At):
        return definition.effective_at
    return definition.effective_at - definition.schedule.catch_up.window - MILLISECOND


def _answers_for(definition: Definition | None, span: Deciding) -> bool:
    if definition is None:
        return False
    return span.generation == definition.generation or is_owed(definition, span.first)


# --- what is late


class Span(Struct, frozen=True):
    """Late nominal times from `first` to `last`, both inclusive."""

    first: datetime
    last: datetime


def late_after(schedule: Schedule, trigger: CompiledTrigger, first: datetime, now: datetime) -> Span | None:
    """What is late from a nominal time on, where that is the next to be armed. None: it is not late, or is armed for
    all that: one-shots and moved ones are few, and are noted one by one when they come out."""
    if isinstance(schedule.trigger, At) or isinstance(trigger, Moved):
        return None
    last = newest_late(schedule, trigger, first, now)
    return None if last is None else Span(first, last)


def is_late(schedule: Schedule, fire_at: datetime, now: datetime) -> bool:
    """Whether an occurrence that should have fired at `fire_at` is a matter of catch-up.

    The one of a chain (`after`) never is: there is only one, and whoever dispatches it decides (`missed_in_chain`).
    """
    return not isinstance(schedule.trigger, After) and _is_over_time(schedule, fire_at, now)


def missed_in_chain(schedule: Schedule, fire_at: datetime, now: datetime) -> str | None:
    """Why the occurrence of a chain is missed, if it is; the chain goes on its delay after that.

    Late it fires in every mode but `none`: it is the oldest and the newest at once.
    """
    if not isinstance(schedule.trigger, After) or not _is_over_time(schedule, fire_at, now):
        return None
    if now - fire_at > schedule.catch_up.window:
        return "window"
    return "catch_up" if schedule.catch_up.mode == "none" else None


def _is_over_time(schedule: Schedule, fire_at: datetime, now: datetime) -> bool:
    return now - fire_at > max(schedule.catch_up.after, AFTER_MIN)


def newest_late(schedule: Schedule, trigger: CompiledTrigger, first: datetime, now: datetime) -> datetime | None:
    """The last nominal time, from `first` on, up to which everything is late; None if `first` is not."""
    if not is_late(schedule, fire_time(schedule, trigger, first), now):
        return None
    if isinstance(trigger, Moved):
        return _last_before_a_moved_one(schedule, trigger, first, now)
    cut = now - max(schedule.catch_up.after, AFTER_MIN) - schedule.start_delay
    last = trigger.previous_before(cut + MILLISECOND)
    for _ in range(BACK_MAX):
        if last is None or last <= first:
            break
        if is_late(schedule, fire_time(schedule, trigger, last), now):
            return last
        last = trigger.previous_before(last)
    return first


def _last_before_a_moved_one(schedule: Schedule, trigger: CompiledTrigger, first: datetime, now: datetime) -> datetime:
    """Fire times do not ascend with nominal ones here: one that is yet to come ends the span, and waits. So does one
    that is moved to a day which already has one, or that is not, if the first is: these are skipped, not missed."""
    last, coalesced = first, is_coalesced(trigger, first)
    for _ in range(STEPS):
        following = trigger.next_after(last)
        if following is None or not is_late(schedule, fire_time(schedule, trigger, following), now):
            break
        if is_coalesced(trigger, following) is not coalesced:
            break
        last = following
    return last


# --- what becomes of it


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
    ranges.append((yield from rest.take(in_window, State.MISSED, "window")))
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
    oldest = span.at - schedule.catch_up.window
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


# --- counting


def counted(trigger: CompiledTrigger, first: datetime, last: datetime) -> Counting[int]:
    """How many nominal times there are from `first` to `last`, two of them. A plain interval costs nothing."""
    if isinstance(trigger, Interval):
        return (last - first) // trigger.interval + 1
    count, nominal = 1, trigger.next_after(first)
    while nominal is not None and nominal <= last:
        count, nominal = count + 1, trigger.next_after(nominal)
        if count % STEPS == 0:
            yield
    return count


def drained(counting: Counting[T]) -> T:
    """What a counting generator returns, without any pause."""
    while True:
        try:
            next(counting)
        except StopIteration as end:
            result: T = end.value
            return result
