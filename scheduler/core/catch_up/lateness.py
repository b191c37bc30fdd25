"""What is late: by its fire time, against the schedule's own measure."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from scheduler.core.catch_up.counting import STEPS
from scheduler.core.firing import fire_time, is_coalesced
from scheduler.core.model.schedule import After, At, Schedule
from scheduler.core.triggers import CompiledTrigger, Moved
from scheduler.core.triggers.base import MILLISECOND

BACK_MAX = 1000  # nominal times that lie between the cut and the newest late one: jitter, moved ones


class Span(Struct, frozen=True):
    """Late nominal times from `first` to `last`, both inclusive."""

    first: datetime
    last: datetime


def late_after(schedule: Schedule, trigger: CompiledTrigger, first: datetime, now: datetime) -> Span | None:
    """What is late from a nominal time on, where that is the next to be armed. None: it is not late, or is armed for
    all that: one-shots and moved ones are few, and are noted one by one when they come out."""
    if isinstance(schedule.trigger, At) or isinstance(trigger, Moved):
        return None
    last = newest_late(schedule, trigger, first, now)
    return None if last is None else Span(first, last)


def is_late(schedule: Schedule, fire_at: datetime, now: datetime) -> bool:
    """Whether an occurrence that should have fired at `fire_at` is a matter of catch-up.

    The one of a chain (`after`) never is: there is only one, and whoever dispatches it decides (`missed_in_chain`).
    """
    return not isinstance(schedule.trigger, After) and _is_over_time(schedule, fire_at, now)


def missed_in_chain(schedule: Schedule, fire_at: datetime, now: datetime) -> str | None:
    """Why the occurrence of a chain is missed, if it is; the chain goes on its delay after that.

    Late it fires in every mode but `none`: it is the oldest and the newest at once.
    """
    if not isinstance(schedule.trigger, After) or not _is_over_time(schedule, fire_at, now):
        return None
    if now - fire_at > schedule.reach:
        return out_of_reach(schedule)
    return "catch_up" if schedule.catch_up.mode == "none" else None


def out_of_reach(schedule: Schedule) -> str:
    """Why what is older than `schedule.reach` is missed: as the policy says, or because its record may be gone."""
    return "window" if schedule.reach == schedule.catch_up.window else "retention"


def _is_over_time(schedule: Schedule, fire_at: datetime, now: datetime) -> bool:
    return now - fire_at > schedule.late_after


def newest_late(schedule: Schedule, trigger: CompiledTrigger, first: datetime, now: datetime) -> datetime | None:
    """The last nominal time, from `first` on, up to which everything is late; None if `first` is not."""
    if not is_late(schedule, fire_time(schedule, trigger, first), now):
        return None
    if isinstance(trigger, Moved):
        return _last_before_a_moved_one(schedule, trigger, first, now)
    cut = now - schedule.late_after - schedule.start_delay
    last = trigger.previous_before(cut + MILLISECOND)
    for _ in range(BACK_MAX):
        if last is None or last <= first:
            break
        if is_late(schedule, fire_time(schedule, trigger, last), now):
            return last
        last = trigger.previous_before(last)
    return first


def _last_before_a_moved_one(schedule: Schedule, trigger: CompiledTrigger, first: datetime, now: datetime) -> datetime:
    """Fire times do not ascend with nominal ones here: one that is yet to come ends the span, and waits. So does one
    that is moved to a day which already has one, or that is not, if the first is: these are skipped, not missed."""
    last, coalesced = first, is_coalesced(trigger, first)
    for _ in range(STEPS):
        following = trigger.next_after(last)
        if following is None or not is_late(schedule, fire_time(schedule, trigger, following), now):
            break
        if is_coalesced(trigger, following) is not coalesced:
            break
        last = following
    return last
