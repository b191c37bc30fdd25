"""What an edit does to the timeline, and what a schedule shows of itself. Pure.

An edit arms what the new definition yields and disarms what it does not. Beside it: the state that a schedule shows,
the instant at which that changes by itself, and the next nominal time that planning has to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.catch_up import Span, late_after
from scheduler.core.dispatching import InForce
from scheduler.core.firing import lead_of, occurrence_of
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import After, Definition, Manual
from scheduler.core.model.status import ScheduleState
from scheduler.core.planning import Plan, next_nominal, plan_edit, plan_window
from scheduler.core.triggers import EPOCH, LAST, Moved

_MILLISECOND = timedelta(milliseconds=1)


class Arming(Struct, frozen=True):
    """`arms` replace whatever is armed at the same nominal time; `next_nominal` is the first one beyond the reach."""

    arms: tuple[Occurrence, ...] = ()
    disarms: tuple[datetime, ...] = ()
    next_nominal: datetime | None = None
    late: Span | None = None
    """What is late already, after an outage: not armed, but left to catch-up."""


def plan_arming(
    in_force: InForce | None,
    armed: Sequence[datetime],
    reach: datetime,
    *,
    not_before: datetime = EPOCH,
    previous: Definition | None = None,
    now: datetime = EPOCH,
) -> Arming:
    """The edit of one schedule, for a timeline that is planned up to `reach`. None: deleted or invalid.

    What is armed and still matches stays, even at or before the edit: it belongs to the definition that armed it. One
    that the edit moves to another day is armed again, as long as neither fire time has come; so is what is armed beyond
    the reach, where another definition may have armed it further ahead (`lead_of`) for another fire time.
    `not_before`: the first start of schedd; what was put earlier owes nothing for the time before it, except one-shots
    within their window. `previous`, where it is known: the last valid definition that was applied; its one-shots were
    dealt with.
    """
    if in_force is None:
        return Arming(disarms=tuple(sorted(armed)))
    definition, trigger = in_force.definition, in_force.trigger
    until = reach + lead_of(trigger)
    first = next_wanted(in_force, not_before)
    late = None if first is None else late_from(in_force, first, now)
    after = not_before if late is None else max(not_before, late.last)
    plan = plan_edit(definition, trigger, until=until, previous=previous, not_before=after)
    arms, following = _all_of(plan, in_force, until)
    kept = [at for at in armed if trigger.yields(at) and not definition.schedule.is_paused_at(at)]
    arms = sorted((*arms, *_armed_anew(in_force, kept, until)), key=lambda each: each.nominal_at)
    return Arming(tuple(arms), tuple(sorted(set(armed).difference(kept))), following, late)


def late_from(in_force: InForce, first: datetime, now: datetime) -> Span | None:
    """What is late from `first` on, the next nominal time to be armed. See `core.catch_up.late_after`."""
    return late_after(in_force.definition.schedule, in_force.trigger, first, now)


def _armed_anew(in_force: InForce, kept: Sequence[datetime], until: datetime) -> list[Occurrence]:
    """Those that stay, but whose fire time may be another one now."""
    definition, trigger = in_force.definition, in_force.trigger
    found = []
    for nominal in kept:
        if nominal > until or (isinstance(trigger, Moved) and nominal <= definition.effective_at):
            occurrence = occurrence_of(definition, trigger, nominal)
            if occurrence.fire_at > definition.effective_at:
                found.append(occurrence)
    return found


def plan_all(in_force: InForce, after: datetime, until: datetime) -> tuple[list[Occurrence], datetime | None]:
    """All occurrences of a slice, however many, and the first nominal time behind them to arm.

    The slice is after < nominal <= until, or lies that much further ahead as occurrences may fire before their nominal
    times (`lead_of`).
    """
    lead = lead_of(in_force.trigger)
    plan = plan_window(in_force.definition, in_force.trigger, after=after + lead, until=until + lead)
    return _all_of(plan, in_force, until + lead)


def next_to_plan(in_force: InForce, reach: datetime) -> datetime | None:
    """The first nominal time to be armed that a timeline planned up to `reach` does not hold."""
    return next_wanted(in_force, reach + lead_of(in_force.trigger))


def due_for_planning(in_force: InForce, following: datetime | None) -> datetime | None:
    """How far the timeline must be planned when this nominal time is to be armed."""
    return None if following is None else following - lead_of(in_force.trigger)


def _all_of(plan: Plan, in_force: InForce, until: datetime) -> tuple[list[Occurrence], datetime | None]:
    found = list(plan.occurrences)
    while plan.truncated:
        plan = plan_window(in_force.definition, in_force.trigger, after=plan.dealt_until, until=until)
        found += plan.occurrences
    following = plan.next_nominal
    if following is not None and in_force.definition.schedule.is_paused_at(following):
        following = next_wanted(in_force, until)
    return found, following


def next_wanted(in_force: InForce, after: datetime) -> datetime | None:
    """The first nominal time after `after` that is to fire: in force, and in no pause."""
    schedule = in_force.definition.schedule
    if schedule.paused and schedule.paused_until is None:
        return None
    if schedule.paused and schedule.paused_until is not None:
        after = max(after, schedule.paused_until - _MILLISECOND)
    return next_nominal(in_force.definition, in_force.trigger, after)


# --- what it shows


def state_of(in_force: InForce | None, now: datetime, fires: int = 0) -> ScheduleState:
    """The state a schedule shows. None: invalid (a deleted one has no state). `fires`: as its row counts them."""
    if in_force is None:
        return ScheduleState.INVALID
    schedule = in_force.definition.schedule
    if schedule.is_paused_at(now):
        return ScheduleState.PAUSED
    if is_spent(in_force, fires) or (not isinstance(schedule.trigger, Manual) and _is_over(in_force, now)):
        return ScheduleState.EXHAUSTED
    return ScheduleState.ACTIVE


def is_spent(in_force: InForce | None, fires: int) -> bool:
    """Whether it has fired as often as its `max_fires` allows: nothing fires by itself any more, until an edit raises
    it. Nominal times behind the one that reached the limit are expected by nobody, unless they have a record."""
    return in_force is not None and fires_left(in_force, fires) == 0


def fires_left(in_force: InForce, fires: int) -> int | None:
    """How often it may still fire by itself; None without a `max_fires`."""
    most = in_force.definition.schedule.max_fires
    return None if most is None else max(most - fires, 0)


def turns_at(in_force: InForce, after: datetime, following: datetime | None) -> datetime | None:
    """The first instant after `after` at which its state changes by itself: a pause ends, its last occurrence passes.

    `following` is the next nominal time that is yet to be planned: while there is one, the last is further away, and
    asking again once it is planned is soon enough.
    """
    schedule = in_force.definition.schedule
    if schedule.paused and (schedule.paused_until is None or schedule.paused_until > after):
        return schedule.paused_until
    if following is not None or isinstance(schedule.trigger, Manual):
        return None
    if isinstance(schedule.trigger, After):
        return schedule.ends_at if schedule.ends_at is not None and schedule.ends_at > after else None
    last = in_force.trigger.previous_before(LAST + _MILLISECOND)
    return last if last is not None and last > after else None


def _is_over(in_force: InForce, now: datetime) -> bool:
    """Whether no occurrence is to come any more. A chain, whose trigger yields nothing ahead, ends with its window."""
    schedule = in_force.definition.schedule
    if isinstance(schedule.trigger, After):
        return schedule.ends_at is not None and schedule.ends_at <= now
    return in_force.trigger.next_after(now) is None
