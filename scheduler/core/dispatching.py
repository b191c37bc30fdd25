"""What happens at the instant: a due message is decided again, against the schedule as it is now.

A generation mismatch alone is no verdict. If the definition in force still yields the nominal time, it fires, whoever
armed it; otherwise the occurrence is superseded. One that is too late, by the definition's own measure, is left to
the leader, who decides about all late ones of a schedule together (`core.catch_up`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct, structs

from scheduler.core.catch_up import is_late, missed_in_chain
from scheduler.core.firing import fire_time, is_coalesced
from scheduler.core.model.execution import Execution, HistoryEntry, Kind, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Definition, Overlap, Schedule
from scheduler.core.triggers import CompiledTrigger

EARLY_MAX = timedelta(seconds=1)  # a due message this much ahead of our clock waits: some server's clock jumped


class InForce(Struct, frozen=True):
    """The definition in force and its trigger, compiled once."""

    definition: Definition
    trigger: CompiledTrigger


class Fire(Struct, frozen=True):
    """Carry it out. The execution is new, `claimed`, and not stored yet."""

    execution: Execution
    schedule: Schedule


class Close(Struct, frozen=True):
    """Nothing runs: store this terminal record as the verdict."""

    execution: Execution


class Late(Struct, frozen=True):
    """Left to catch-up, unless it has a record: then that goes on. The execution is as one of `Fire`."""

    execution: Execution


class TooEarly(Struct, frozen=True):
    """Hand the message back for this long."""

    delay: timedelta


Decision = Fire | Late | Close | TooEarly


def decide_dispatch(
    occurrence: Occurrence,
    in_force: InForce | None,
    *,
    execution_id: str,
    epoch: int,
    now: datetime,
    absent_reason: str = "deleted",
) -> Decision:
    """Decide about one due occurrence. `in_force` None: deleted or invalid now (`absent_reason` says which)."""
    fire_at = _fire_at(occurrence, in_force)
    early = fire_at - now
    if early > (EARLY_MAX if fire_at == occurrence.fire_at else timedelta(0)):
        return TooEarly(early)
    occurrence = structs.replace(occurrence, fire_at=fire_at)
    if in_force is None:
        return Close(_closed(_orphan(occurrence, execution_id, epoch), State.SUPERSEDED, absent_reason, now))
    schedule = in_force.definition.schedule
    execution = claim(in_force.definition, execution_id, occurrence, epoch=epoch, now=now)
    if not in_force.trigger.yields(occurrence.nominal_at):
        return Close(superseded(execution, now))
    if schedule.is_paused_at(min(occurrence.nominal_at, fire_at)):  # what is moved backwards fires before its nominal
        return Close(_closed(execution, State.PAUSED, "paused", now))
    if is_coalesced(in_force.trigger, occurrence.nominal_at):
        return Close(_closed(execution, State.SKIPPED, "coalesced", now))
    if missed := missed_in_chain(schedule, fire_at, now):
        return Close(_closed(execution, State.MISSED, missed, now))
    return Late(execution) if is_late(schedule, fire_at, now) else Fire(execution, schedule)


def _fire_at(occurrence: Occurrence, in_force: InForce | None) -> datetime:
    """As it was armed, or later, if an edit before its nominal time says so: its arm was not replaced in time then."""
    if in_force is None or occurrence.nominal_at <= in_force.definition.effective_at:
        return occurrence.fire_at
    return max(occurrence.fire_at, fire_time(in_force.definition.schedule, in_force.trigger, occurrence.nominal_at))


def claim(
    definition: Definition,
    execution_id: str,
    occurrence: Occurrence,
    *,
    epoch: int,
    now: datetime,
    kind: Kind = Kind.AUTO,
    overlap: Overlap | None = None,
    note: str | None = None,
) -> Execution:
    """A new execution of a definition, in state `claimed`: everything a repeat needs to come to the same task.

    `overlap`: the policy for this run alone, where it is not to be the schedule's. `note`: how it came to be, if not at
    its instant.
    """
    schedule = definition.schedule
    return Execution(
        id=execution_id,
        schedule=schedule.id,
        generation=definition.generation,
        epoch=epoch,
        kind=kind,
        nominal_at=occurrence.nominal_at,
        fire_at=occurrence.fire_at,
        queue=schedule.queue,
        type=schedule.type,
        payload=schedule.payload,
        payload_is_json=schedule.payload_is_json,
        headers=schedule.headers,
        max_tries=schedule.max_tries,
        timeout_s=None if schedule.timeout is None else schedule.timeout.total_seconds(),
        retention_s=max(schedule.retention_age, occurrence.nominal_at - occurrence.fire_at).total_seconds(),
        overlap=overlap,
        start_by=_later(occurrence.fire_at, schedule.start_deadline),
        end_by=_later(occurrence.fire_at, schedule.deadline),
        claimed_at=now,
        history=(HistoryEntry(now, State.CLAIMED, note),),
    )


def superseded(execution: Execution, now: datetime) -> Execution:
    """An execution that was claimed by us and not stored yet, as the verdict of what its schedule has no more."""
    return _closed(execution, State.SUPERSEDED, "edited", now)


def _later(at: datetime, span: timedelta | None) -> datetime | None:
    return None if span is None else at + span


def _orphan(occurrence: Occurrence, execution_id: str, epoch: int) -> Execution:
    """The record of an occurrence whose schedule is gone: it names no queue, for it never gets one."""
    return Execution(
        id=execution_id,
        schedule=occurrence.schedule_id,
        generation=occurrence.generation,
        epoch=epoch,
        kind=Kind.AUTO,
        nominal_at=occurrence.nominal_at,
        fire_at=occurrence.fire_at,
        queue="",
        type="",
    )


def _closed(execution: Execution, state: State, reason: str, now: datetime) -> Execution:
    history = (HistoryEntry(now, state, reason),)
    return structs.replace(execution, state=state, reason=reason, finished_at=now, history=history)
