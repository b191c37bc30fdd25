"""What an edit does to the timeline: arm what the new definition yields, disarm what it does not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from scheduler.core.dispatching import InForce
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import At, Manual
from scheduler.core.model.status import ScheduleState
from scheduler.core.planning import plan_edit, plan_window
from scheduler.core.triggers import EPOCH


class Arming(Struct, frozen=True):
    """`arms` replace whatever is armed at the same nominal time; `next_nominal` is the first one beyond the reach."""

    arms: tuple[Occurrence, ...] = ()
    disarms: tuple[datetime, ...] = ()
    next_nominal: datetime | None = None


def plan_arming(
    in_force: InForce | None, armed: Sequence[datetime], reach: datetime, *, not_before: datetime = EPOCH
) -> Arming:
    """The edit of one schedule, for a timeline that is planned up to `reach`. None: deleted or invalid.

    What is armed and still matches stays, even at or before the edit: it belongs to the definition that armed it.
    `not_before`: the first start of schedd; what was put earlier owes nothing for the time before (one-shots excepted).
    """
    if in_force is None:
        return Arming(disarms=tuple(sorted(armed)))
    definition, trigger = in_force.definition, in_force.trigger
    plan = plan_edit(definition, trigger, until=reach)
    arms = list(plan.occurrences)
    while plan.truncated:
        plan = plan_window(definition, trigger, after=plan.dealt_until, until=reach)
        arms += plan.occurrences
    schedule = definition.schedule
    if not isinstance(schedule.trigger, At):
        arms = [each for each in arms if each.nominal_at > not_before]
    kept = (at for at in armed if trigger.yields(at) and not schedule.is_paused_at(at))
    disarms = sorted(set(armed).difference(kept))
    return Arming(tuple(arms), tuple(disarms), plan.next_nominal)


def state_of(in_force: InForce | None, now: datetime) -> ScheduleState:
    """The state a schedule shows. None: invalid (a deleted one has no state)."""
    if in_force is None:
        return ScheduleState.INVALID
    schedule = in_force.definition.schedule
    if schedule.is_paused_at(now):
        return ScheduleState.PAUSED
    if not isinstance(schedule.trigger, Manual) and _is_over(in_force, now):
        return ScheduleState.EXHAUSTED
    return ScheduleState.ACTIVE


def _is_over(in_force: InForce, now: datetime) -> bool:
    trigger = in_force.definition.schedule.trigger
    if isinstance(trigger, At):
        return trigger.instants[-1] <= now
    return in_force.trigger.next_after(now) is None
