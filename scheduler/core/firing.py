"""When an occurrence fires: its nominal time, shifted by what the schedule says. Pure.

Everything that sets a fire time apart from its nominal time is added up here, and nowhere else: planner, dispatcher,
preview and audit all ask here, so they cannot disagree.
"""

from __future__ import annotations

from datetime import datetime

from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Definition, Schedule
from scheduler.core.triggers import CompiledTrigger


def fire_time(schedule: Schedule, trigger: CompiledTrigger, nominal: datetime) -> datetime:
    """The instant at which the occurrence of this nominal time fires."""
    return nominal + schedule.start_delay


def occurrence_of(definition: Definition, trigger: CompiledTrigger, nominal: datetime) -> Occurrence:
    """The occurrence of a nominal time."""
    return Occurrence(
        schedule_id=definition.id,
        nominal_at=nominal,
        fire_at=fire_time(definition.schedule, trigger, nominal),
        generation=definition.generation,
    )
