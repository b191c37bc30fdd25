"""Events of the leader: that it leads, what each write it applies did (applied, invalid, deleted, paused, resumed), and
what others died over before they could tell it: the end of an execution.

What a write did is evidence, by which an audit judges long after the definition is gone. It is stored, under an id that
says what it is about, before the watermark says "applied": a successor repeats it rather than forgets one, and readers
tell repeats by their ids. What was replaced before anybody applied it is told with the write that is, by a leader who
saw it come: it says itself that nothing of it was planned. An edit may take occurrences off the timeline whose nominal
time has come already; what becomes of those is told with it, as a range of verdicts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from msgspec import structs

from scheduler.core.arming import next_to_plan
from scheduler.core.auditing import Change, VerdictRange
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument
from scheduler.core.firing import lead_of
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import ScheduleState
from scheduler.core.zones import tzdata_version
from scheduler.ports.queues import Events, Fact
from scheduler.ports.timeline import Watermark
from scheduler.services.calendars import KnownCalendar
from scheduler.services.schedules import Known, Replaced
from scheduler.wire.alerts import FINISHED, finished_data, finished_id
from scheduler.wire.evidence import CHANGES, DELETED, range_data, range_id, read_change
from scheduler.wire.instants import format_instant
from scheduler.wire.schedule_json import without_payload

log = logging.getLogger(__name__)
EVENTS_MAX = 20_000  # of one schedule, that are looked at
CALENDARS_MAX = 524_288  # bytes of all calendars of a schedule in an event; beyond, an audit cannot tell
SHOWN_MAX = 131_072  # bytes of a definition in an event; of a larger one the payload is left out


class Announcer:
    """Tells, on behalf of whoever leads."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def leading(self, *, replica: str, holder: str, epoch: int) -> None:
        """Tell that a term has begun; whatever term came before is over by that."""
        data: dict[str, object] = {"replica": replica, "holder": holder, "epoch": epoch}
        await self._events.publish("leader", None, data, event_id=f"leader-{epoch}")

    async def ended(self, executions: Sequence[Execution]) -> None:
        """Tell these ends, under the ids that whoever wrote them used, too. Raises Unsure, Unavailable."""
        await self.store([ended_fact(each) for each in executions])

    async def before(self, known: Known, applied_until: int | None = None) -> InForce | None:
        """The last valid definition told of before this one and not deleted since. Raises Unsure, Unavailable.

        With `applied_until`: of those that really were on the timeline.
        """
        for change in await self.earlier(known.id, known):
            if applied_until is not None and change.generation > applied_until:
                continue
            if change.in_force is not None or change.reason == DELETED:
                return change.in_force
        return None

    async def earlier(self, schedule_id: str, known: Known | None) -> list[Change]:
        """What was told of before this one, the newest first; None: all there was. Raises Unsure, Unavailable.

        From evidence: nobody keeps a definition that is not in force any more.
        """
        found: dict[tuple[int, int], Change] = {}
        for told in await self._events.recorded(schedule_id, CHANGES, most=EVENTS_MAX):
            with suppress(InvalidArgument):
                change = read_change(schedule_id, told.kind, told.data)
                found[change.generation, change.calendars] = change
        changes = [found[each] for each in sorted(found, reverse=True)]
        if known is None:
            return changes
        return [each for each in changes if (each.generation, each.calendars) < (known.revision, known.calendars)]

    async def passed_over(self, known: Known, after: datetime, until: datetime) -> Sequence[Fact]:
        """The nominal times in (after, until] of the definition before this one, as superseded: of that one alone, for
        this one may yield the same. However many they are: after an outage that may be days."""
        in_force = await self.before(known)
        return () if in_force is None else _never_armed(known, in_force, after, until)

    async def overtaken(self, known: Known, mark: Watermark, newest: int) -> Sequence[Fact]:
        """What a leader told he was about to apply, and died over it; this one took its place before it was applied,
        and its generation, up to `newest`, is about to count as applied: all that it should have armed."""
        in_force = await self.before(known)
        if in_force is None or not mark.applied < in_force.definition.generation <= newest:
            return ()
        return _never_armed(known, in_force, in_force.definition.effective_at, mark.until)

    async def store(self, facts: Sequence[Fact]) -> None:
        """Store all of these at once, and return when they are. Raises Unsure, Unavailable.

        One that cannot be stored, whatever it is, keeps the others from nothing.
        """
        if not facts:
            return
        try:
            await self._events.store(facts)
        except InvalidArgument as problem:
            if len(facts) == 1:
                extra = {"event": "evidence_refused", "fact": facts[0].id, "error": problem.message}
                log.error("an event cannot be stored: the audit will not know of it", extra=extra)
                return
            for fact in facts:
                await self.store([fact])

    async def invalid_key(self, key: str, revision: int) -> None:
        """A key that can be no schedule id: it has no row, only this event, a log line and a count.

        Raises Unsure, Unavailable.
        """
        data: dict[str, object] = {"key": key[:256], "revision": revision}
        await self.store([Fact(f"invalid-_-{revision}", "invalid", None, data)])

    async def calendar(self, known: KnownCalendar) -> None:
        """A calendar was written or deleted, or cannot be read. Its users are told of one by one, beside it.

        Raises Unsure, Unavailable.
        """
        kind = "deleted" if known.deleted else "applied" if known.error is None else "invalid"
        data = {"calendar": known.name[:256], "revision": known.revision, "effective_from": format_instant(known.at)}
        told = data if known.error is None else {**data, "error": known.error}
        await self.store([Fact(f"{kind}-_-calendar-{known.revision}", kind, None, told)])


def told_of(
    known: Known, before: ScheduleState | None, after: ScheduleState, mark: Watermark, applied_until: int
) -> Iterator[Fact]:
    """What there is to tell of a write to the schedules bucket. `before`: the state in its row, None without one.

    What was in force before it was planned up to `mark`, if its generation is `applied_until` or less; of a later one
    nothing was armed, whoever told that he was about to apply it.
    """
    yield _change(known, mark, applied_until)
    if known.in_force is None:
        return
    if after is ScheduleState.PAUSED and before is not ScheduleState.PAUSED:
        yield _fact("paused", known, {**_base(known), "note": known.in_force.definition.schedule.pause_note})
    elif before is ScheduleState.PAUSED and after is not ScheduleState.PAUSED:
        yield resumed(known)


def told_of_replaced(
    found: Sequence[Replaced], edits: Sequence[Known], mark: Watermark, applied_until: Callable[[Known], int]
) -> list[Fact]:
    """Definitions that nobody applied before these edits took their place, each with the write that came next: what
    they owed is superseded by it, for nothing was armed, and what was in force before them owes nothing after them."""
    writes = {(each.id, each.revision): each for pair in found for each in (pair.known, pair.by)}
    current = {(known.id, known.revision) for known in edits}
    return [_change(known, mark, applied_until(known)) for key, known in writes.items() if key not in current]


def _change(known: Known, mark: Watermark, applied_until: int) -> Fact:
    data = _base(known) | {"planned_until": format_instant(mark.until), "applied_until": applied_until}
    if known.deleted:
        return _fact("deleted", known, data)
    if known.in_force is None:
        return _fact("invalid", known, {**data, "error": known.error, "calendars": known.calendars})
    definition = {"definition": _document(known.raw), "tzdata": tzdata_version()}
    return _fact("applied", known, {**data, **definition, **_calendars(known)})


def told_again(known: Known, hour: int) -> Fact:
    """The definition in force, told again in that hour, before what was told of it is too old to be kept."""
    definition = {"definition": _document(known.raw), "tzdata": tzdata_version()}
    fact = _fact("applied", known, {**_base(known), **definition, **_calendars(known)})
    return Fact(f"{fact.id}-{hour}", fact.kind, fact.schedule_id, fact.data)


def resumed(known: Known) -> Fact:
    """A pause is over, taken back or run out."""
    return _fact("resumed", known, _base(known))


def withdrawn(known: Known, disarms: Sequence[datetime]) -> Iterator[Fact]:
    """What an edit takes off the timeline though its nominal time had come before the edit: nobody else will ever have
    a verdict for it. What lies behind the edit is simply not expected any more.
    """
    paused: list[datetime] = []
    gone: list[datetime] = []
    for nominal in disarms:
        if nominal <= known.effective_at:
            is_paused = known.in_force is not None and known.in_force.definition.schedule.is_paused_at(nominal)
            (paused if is_paused else gone).append(nominal)
    if paused:
        yield verdicts_fact(known.id, _range_of(known, paused, "paused", "paused"))
    if gone:
        yield _superseded(known, gone, known.revision)


def _never_armed(known: Known, before: InForce, after: datetime, until: datetime) -> Sequence[Fact]:
    first, last = next_to_plan(before, after), until + lead_of(before.trigger)
    if first is None or first > last:
        return ()
    return (_superseded(known, [first, last], before.definition.generation),)


def _superseded(known: Known, nominals: Sequence[datetime], generation: int) -> Fact:
    told = _range_of(known, nominals, "superseded", known.absent_reason if known.in_force is None else "edited")
    return verdicts_fact(known.id, structs.replace(told, generation=generation))


def ended_fact(execution: Execution) -> Fact:
    """The end of an execution."""
    event_id = finished_id(execution.id, execution.drive)
    return Fact(event_id, FINISHED, execution.schedule, finished_data(execution))


def verdicts_fact(schedule_id: str, told: VerdictRange) -> Fact:
    """One verdict for a range of nominal times, as evidence."""
    data = range_data(told)
    return Fact(range_id(schedule_id, data), "verdicts", schedule_id, data)


def _range_of(known: Known, nominals: Sequence[datetime], verdict: str, reason: str) -> VerdictRange:
    """All these, which ascend."""
    return VerdictRange(
        first=nominals[0],
        last=nominals[-1],
        count=len(nominals),
        verdict=verdict,
        reason=reason,
        generation=known.revision,
    )


def _fact(kind: str, known: Known, data: dict[str, Any]) -> Fact:
    revisions = f"{known.revision}-{known.calendars}" if known.calendars else f"{known.revision}"
    return Fact(f"{kind}-{known.id}-{revisions}", kind, known.id, data)


def _calendars(known: Known) -> dict[str, Any]:
    """The newest revision of the calendars in use, and what they said: an audit judges by those of the time."""
    values = known.calendar_values
    if not values:
        return {"calendars": known.calendars}
    size = sum(len(value) for value in values.values())
    told = {name: msgspec.Raw(value) for name, value in values.items()} if size <= CALENDARS_MAX else None
    return {"calendars": known.calendars, "calendar_definitions": told}


def _base(known: Known) -> dict[str, Any]:
    return {"generation": known.revision, "effective_from": format_instant(known.effective_at)}


def _document(raw: bytes) -> msgspec.Raw:
    return msgspec.Raw(raw if len(raw) <= SHOWN_MAX else without_payload(raw))
