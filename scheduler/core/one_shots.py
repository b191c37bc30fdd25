"""When a one-shot is over, and its definition may go: nothing can come of it any more, not even if it is put again."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduler.core.dispatching import InForce
from scheduler.core.firing import fire_time
from scheduler.core.triggers.once import Once


def is_over(in_force: InForce, now: datetime, floor: timedelta) -> bool:
    """Whether all its instants have passed for longer than their records are kept.

    Only plain `at` counts. What recurs, moves with a calendar, or waits for somebody to trigger it (no instants at all)
    is somebody's to delete, and so is what is paused.
    Who puts the same definition again (`apply` from a file, a worker's code) fires nothing: catch-up reaches back no
    further than records do (`Schedule.reach`). `floor`: how long a record is kept at least.
    """
    definition, trigger = in_force.definition, in_force.trigger
    schedule = definition.schedule
    if not isinstance(trigger, Once) or not trigger.instants or schedule.paused:
        return False
    last_at = max(definition.effective_at, fire_time(schedule, trigger, trigger.instants[-1]))
    return now - last_at > max(schedule.retention_age, floor)
