"""When an occurrence fires: its nominal time, shifted by what the schedule says. Pure.

Everything that sets a fire time apart from its nominal time is added up here, and nowhere else: planner, dispatcher,
preview and audit all ask here, so they cannot disagree.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from scheduler.core.jitter import jitter_of
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Definition, Schedule
from scheduler.core.triggers import CompiledTrigger, Moved

_NONE: Final = timedelta(0)


def fire_time(schedule: Schedule, trigger: CompiledTrigger, nominal: datetime) -> datetime:
    """The instant at which the occurrence of this nominal time fires: in the order of nominals, moved ones apart."""
    return moved_time(trigger, nominal) + schedule.start_delay + jitter_at(schedule, trigger, nominal)


def jitter_at(schedule: Schedule, trigger: CompiledTrigger, nominal: datetime) -> timedelta:
    """How much of that is jitter."""
    if not schedule.jitter:
        return _NONE
    return jitter_of(schedule.id, nominal, schedule.jitter, trigger.next_after(nominal))


def occurrence_of(definition: Definition, trigger: CompiledTrigger, nominal: datetime) -> Occurrence:
    """The occurrence of a nominal time."""
    return Occurrence(
        schedule_id=definition.id,
        nominal_at=nominal,
        fire_at=fire_time(definition.schedule, trigger, nominal),
        generation=definition.generation,
    )


def moved_time(trigger: CompiledTrigger, nominal: datetime) -> datetime:
    """The nominal time, or where `on_excluded` moves it to."""
    return trigger.target(nominal) or nominal if isinstance(trigger, Moved) else nominal


def is_coalesced(trigger: CompiledTrigger, nominal: datetime) -> bool:
    """Whether it was moved to a day that already has an occurrence: then it is skipped, reason `coalesced`."""
    return isinstance(trigger, Moved) and trigger.is_coalesced(nominal)


def lead_of(trigger: CompiledTrigger) -> timedelta:
    """How long before its nominal time an occurrence may fire: windows of nominal time are planned ahead by that."""
    return trigger.lead if isinstance(trigger, Moved) else _NONE
