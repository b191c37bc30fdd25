"""The catch-up in a status row: noted, fixed, carried out, or taken away by an edit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import structs

from scheduler.core.catch_up.counting import STEPS, Counting
from scheduler.core.catch_up.lateness import Span, is_late, newest_late
from scheduler.core.firing import fire_time
from scheduler.core.model.schedule import At, Definition, Schedule
from scheduler.core.model.status import Deciding, StatusRow
from scheduler.core.triggers import CompiledTrigger, Moved
from scheduler.core.triggers.base import MILLISECOND

LISTED_MAX = 10_000  # nominal times that an edit supersedes one by one


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
    """The row when these were found late: the oldest and the newest that are not dealt with yet are kept."""
    fresh = [each for each in nominals if not is_dealt_with(row, each)]
    return _with_note(row, min(fresh), max(fresh)) if fresh else row


def with_late_span(row: StatusRow, trigger: CompiledTrigger, span: Span) -> StatusRow:
    """The row when all of a span is late and was never armed: noted from the first that is not dealt with yet."""
    first: datetime | None = span.first
    ends = [row.decided, None if row.deciding is None else row.deciding.last]
    for end in sorted(each for each in ends if each is not None):
        if first is not None and is_dealt_with(row, first):
            first = trigger.next_after(end)
    return row if first is None or first > span.last else _with_note(row, first, span.last)


def _with_note(row: StatusRow, first: datetime, last: datetime) -> StatusRow:
    """The newest is kept, too: who fixes the catch-up may have looked at the clock before it was late, and must not
    take the note for dealt with (and a row that changes is not fixed by who read it before)."""
    late_from = first if row.late_from is None else min(row.late_from, first)
    return structs.replace(row, late_from=late_from, late_until=_latest(row.late_until, last))


def _noted(row: StatusRow, late_from: datetime | None) -> StatusRow:
    return structs.replace(row, late_from=late_from, late_until=None if late_from is None else row.late_until)


def _latest(first: datetime | None, second: datetime) -> datetime:
    return second if first is None else max(first, second)


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
    if not is_owed(definition, row.late_from):  # an edit came in between: told first, and then forgotten (`disowned`)
        return row
    first = trigger.next_after(row.late_from - MILLISECOND)
    if first is None:
        return _noted(row, None)
    schedule = definition.schedule
    last = newest_late(schedule, trigger, first, now)
    if last is None:
        return row
    rest, decided_from = _rest_behind(row, last, schedule, trigger, now), row.decided_from or row.decided
    if decided_from is not None and row.decided is not None and first < decided_from <= last:
        if row.decided < last:
            rest = trigger.next_after(row.decided)
        else:
            rest = _rest_behind(row, row.decided, schedule, trigger, now)
        last = trigger.previous_before(decided_from) or first
    return _noted(structs.replace(row, deciding=Deciding(first, last, now, definition.generation)), rest)


def _rest_behind(
    row: StatusRow, last: datetime, schedule: Schedule, trigger: CompiledTrigger, now: datetime
) -> datetime | None:
    """Where late ones go on behind a span that ends early: moved ones are decided in several, and somebody may have
    noted what was not late yet when the span was fixed."""
    following = trigger.next_after(last)
    if following is None or (row.late_until is not None and following <= row.late_until):
        return following
    is_next = isinstance(trigger, Moved) and is_late(schedule, fire_time(schedule, trigger, following), now)
    return following if is_next else None


def disowned(row: StatusRow, definition: Definition | None, now: datetime) -> tuple[Span, ...]:
    """What of the late ones nobody answers for any more, after an edit. `definition` None: deleted or invalid."""
    found = []
    if (fixed := row.deciding) is not None and not answers_for(definition, fixed):
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
    if row.deciding is not None and not answers_for(definition, row.deciding):
        row = structs.replace(row, deciding=None)
    if row.late_from is not None and (definition is None or not is_owed(definition, row.late_from)):
        rest = None if definition is None or trigger is None else _first_late(row, definition, trigger, now)
        row = _noted(row, rest)
    return row


def _first_late(row: StatusRow, definition: Definition, trigger: CompiledTrigger, now: datetime) -> datetime | None:
    first = trigger.next_after(_answers_from(definition))
    if first is None or (row.late_until is not None and first <= row.late_until):
        return first
    return None if newest_late(definition.schedule, trigger, first, now) is None else first


def _answers_from(definition: Definition) -> datetime:
    """Nominal times after this are its own; one-shots are its own for as long as they may be late."""
    if not isinstance(definition.schedule.trigger, At):
        return definition.effective_at
    return definition.effective_at - definition.schedule.catch_up.window - MILLISECOND


def answers_for(definition: Definition | None, span: Deciding) -> bool:
    """Whether a catch-up that was fixed is still to be decided by the definition in force. See `disowned`."""
    if definition is None:
        return False
    return span.generation == definition.generation or is_owed(definition, span.first)
