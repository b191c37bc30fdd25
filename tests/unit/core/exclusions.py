"""Schedules that exclude days, for tests."""

from __future__ import annotations

from scheduler.core.calendars import Calendar
from scheduler.core.model.schedule import Cron, Dst, OnExcluded, Schedule, Trigger
from scheduler.core.triggers import CompiledTrigger, compile_trigger

BERLIN = "Europe/Berlin"
NEXT, PREVIOUS, SKIP = OnExcluded.NEXT_BUSINESS_DAY, OnExcluded.PREVIOUS_BUSINESS_DAY, OnExcluded.SKIP


def schedule_of(
    trigger: Trigger | str,
    *exclude: str,
    on_excluded: OnExcluded = SKIP,
    zone: str = BERLIN,
    dst: Dst = Dst(),  # noqa: B008 - immutable
) -> Schedule:
    rule = Cron((trigger,)) if isinstance(trigger, str) else trigger
    return Schedule(
        id="s", queue="q", type="t", trigger=rule, timezone=zone, exclude=exclude, on_excluded=on_excluded, dst=dst
    )


def compiled(schedule: Schedule, *calendars: Calendar) -> CompiledTrigger:
    by_name = {calendar.name: calendar for calendar in calendars}
    return compile_trigger(schedule, by_name.__getitem__)
