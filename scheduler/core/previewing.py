"""What a schedule will do, told before it does it: the same triggers as the planner, so the two cannot disagree."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.durations import format_duration
from scheduler.core.firing import fire_time, jitter_at
from scheduler.core.model.schedule import Definition, Schedule
from scheduler.core.triggers import CompiledTrigger, Moved, clock_changes, zone_at
from scheduler.core.zones import zone_of

COUNT_MAX = 1000
WARNINGS_MAX = 20
MOVES_LOOKED_AT = 400
SATURDAY = 5
_YEAR = timedelta(days=366)


class PreviewedFire(Struct, frozen=True):
    """One future (or past) occurrence.

    `local` is the nominal time, ISO 8601, on the clocks of the schedule's zone, or of the zone its expression names.
    """

    nominal_at: datetime
    fire_at: datetime
    local: str
    notes: tuple[str, ...]


def preview(
    schedule: Schedule | Definition, trigger: CompiledTrigger, *, after: datetime, count: int = 10
) -> list[PreviewedFire]:
    """The first `count` (at most 1000) occurrences strictly after `after`, which may lie in the past.

    It tells what the trigger yields: occurrences in a pause are listed with a note, and when a definition took
    effect plays no part. Fewer come out when the trigger is exhausted.
    """
    subject = schedule.schedule if isinstance(schedule, Definition) else schedule
    fires: list[PreviewedFire] = []
    nominal = trigger.next_after(after)
    while nominal is not None and len(fires) < min(count, COUNT_MAX):
        fires.append(fire_of(subject, trigger, nominal))
        nominal = trigger.next_after(nominal)
    return fires


def clock_warnings(trigger: CompiledTrigger, *, after: datetime) -> list[str]:
    """What clocks do to the trigger within a year: the wall times they skip or show twice; the first few of many."""
    notes = [note for _, note in clock_changes(trigger, after, after + _YEAR)]
    if len(notes) <= WARNINGS_MAX:
        return notes
    return [*notes[:WARNINGS_MAX], f"and {len(notes) - WARNINGS_MAX} more such wall times within a year"]


def weekend_warnings(schedule: Schedule, trigger: CompiledTrigger, *, after: datetime) -> list[str]:
    """The first occurrence within a year that `on_excluded` moves to a Saturday or Sunday: whoever says business day
    may not mean one, and a business day is any that `exclude` leaves."""
    if not isinstance(trigger, Moved):
        return []
    local = zone_of(schedule.timezone).local
    nominal = trigger.next_after(after)
    for _ in range(MOVES_LOOKED_AT):
        if nominal is None or nominal > after + _YEAR:
            break
        target = trigger.target(nominal)
        if target not in (None, nominal) and local(target).weekday() >= SATURDAY and not trigger.is_coalesced(nominal):
            moves = f"the occurrence of {local(nominal):%a %Y-%m-%d} moves to {local(target):%a %Y-%m-%d}"
            return [f"{moves}: a business day is any that exclude leaves, so exclude the weekend if it is none"]
        nominal = trigger.next_after(nominal)
    return []


def fire_of(schedule: Schedule, trigger: CompiledTrigger, nominal: datetime) -> PreviewedFire:
    """How the occurrence of this nominal time is shown."""
    zone = zone_at(trigger, nominal) or zone_of(schedule.timezone)
    precision = "milliseconds" if nominal.microsecond else "seconds"
    return PreviewedFire(
        nominal_at=nominal,
        fire_at=fire_time(schedule, trigger, nominal),
        local=zone.local(nominal).isoformat(timespec=precision),
        notes=(*trigger.notes_at(nominal), *_notes(schedule, trigger, nominal)),
    )


def _notes(schedule: Schedule, trigger: CompiledTrigger, nominal: datetime) -> list[str]:
    notes = []
    if schedule.start_delay:
        notes.append(f"start_delay {format_duration(schedule.start_delay)}")
    if schedule.jitter:
        notes.append(f"jitter {format_duration(jitter_at(schedule, trigger, nominal))}")
    if schedule.is_paused_at(nominal):
        notes.append("paused")
    return notes
