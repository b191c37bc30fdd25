"""Events as evidence: what they say about a schedule's past, read and written in one place (mechanisms.md, part 8).

applied   {generation, effective_from, planned_until, applied_until, definition, tzdata, calendars, and what those
          said: calendar_definitions}; an edit of a calendar is a change of its users, of the same generation
deleted   {generation, effective_from, planned_until, applied_until}
invalid   the same, and error
verdicts  {from, to, count, verdict, reason, generation}: one verdict for `count` nominal times, the first and the last
          of which are `from` and `to`; what lies between and has a record has the record's verdict

`planned_until` and `applied_until`: how far what was in force before it had been planned when the change was applied,
and up to which generation the schedule may have been on the timeline at all: what lies between was replaced before
anybody applied it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.core.auditing import Change, VerdictRange
from scheduler.core.calendars import Calendar, CalendarOf, no_calendars
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Definition
from scheduler.core.triggers import compile_trigger
from scheduler.wire.calendar import calendar_of_document
from scheduler.wire.instants import format_instant, parse_instant, parse_optional
from scheduler.wire.schedule import ScheduleLimits, parse_schedule

APPLIED, DELETED, INVALID, VERDICTS = "applied", "deleted", "invalid", "verdicts"
CHANGES = (APPLIED, DELETED, INVALID)
_ANY = ScheduleLimits(payload_bytes_max=2**31, minimum_interval=timedelta(0))  # it was within the limits of its time


class _Change(Struct):
    generation: int
    effective_from: str
    planned_until: str | None = None
    applied_until: int | None = None
    definition: Any = None
    calendars: int = 0
    calendar_definitions: dict[str, Any] | None = None


class _Range(Struct):
    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")
    count: int
    verdict: str
    reason: str = ""
    generation: int = 0


def read_change(schedule_id: str, kind: str, data: dict[str, Any]) -> Change:
    """From the data of an event of one of `CHANGES`. Raises InvalidArgument for what cannot be read any more."""
    told = _converted(data, _Change)
    at = parse_instant(told.effective_from, field="effective_from")
    in_force = None
    if kind == APPLIED:
        calendar_of = _calendars(told.calendar_definitions or {})
        schedule = parse_schedule(schedule_id, msgspec.json.encode(told.definition), _ANY, calendar_of)
        definition = Definition(
            schedule=schedule, generation=told.generation, effective_at=at, calendars=told.calendars
        )
        in_force = InForce(definition, compile_trigger(schedule, calendar_of))
    return Change(
        generation=told.generation,
        at=at,
        in_force=in_force,
        calendars=told.calendars,
        reason="edited" if kind == APPLIED else kind,
        planned_until=parse_optional(told.planned_until, field="planned_until"),
        applied_until=told.applied_until,
    )


def _calendars(definitions: dict[str, Any]) -> CalendarOf:
    """The calendars as they were told with the change."""

    def calendar_of(name: str) -> Calendar:
        return calendar_of_document(name, definitions[name]) if name in definitions else no_calendars(name)

    return calendar_of


def read_range(data: dict[str, Any]) -> VerdictRange:
    """From the data of an event `verdicts`. Raises InvalidArgument."""
    told = _converted(data, _Range)
    return VerdictRange(
        first=parse_instant(told.first, field="from"),
        last=parse_instant(told.last, field="to"),
        count=told.count,
        verdict=told.verdict,
        reason=told.reason,
        generation=told.generation,
    )


def range_data(told: VerdictRange) -> dict[str, object]:
    """The data of an event `verdicts`."""
    return {
        "from": format_instant(told.first),
        "to": format_instant(told.last),
        "count": told.count,
        "verdict": told.verdict,
        "reason": told.reason,
        "generation": told.generation,
    }


def range_id(schedule_id: str, data: dict[str, object]) -> str:
    """The id of such an event: the same for the same decision, however often it is repeated."""
    return f"verdicts-{schedule_id}-{data['generation']}-{data['from']}-{data['verdict']}-{data['reason']}"


def _converted(data: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise InvalidArgument(f"evidence: {problem}") from None
