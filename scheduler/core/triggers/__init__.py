"""When does it fire? One file per kind of trigger; `compile_trigger` makes a schedule's trigger ready to ask.

Compiled triggers are immutable and shared between schedules that say the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache

from scheduler.core.calendars import CalendarOf, no_calendars
from scheduler.core.durations import duration_ms, has_civil_units
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import After, At, Cron, Dst, Every, EveryDays, Manual, OnExcluded, RRule, Schedule
from scheduler.core.triggers.base import EPOCH, FIRST, LAST, CompiledTrigger
from scheduler.core.triggers.chained import Chained
from scheduler.core.triggers.civil import CivilDays
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.cron_text import read_cron, split_zone, uses_hash
from scheduler.core.triggers.excluded import Excluded, Moved
from scheduler.core.triggers.exclusions import exclusions_of
from scheduler.core.triggers.gaps import shortest_gap
from scheduler.core.triggers.interval import Interval
from scheduler.core.triggers.once import Once
from scheduler.core.triggers.rrule import compile_rrule
from scheduler.core.triggers.union import Union
from scheduler.core.triggers.walls import WallTrigger
from scheduler.core.triggers.windowed import Windowed, windowed
from scheduler.core.zones import Zone, zone_of

__all__ = [
    "EPOCH",
    "FIRST",
    "LAST",
    "CompiledTrigger",
    "Excluded",
    "Moved",
    "clock_changes",
    "compile_trigger",
    "shortest_gap",
    "zone_at",
]

_NEVER = Once(())
_DAY_MS = 86_400_000
_EVERY_MAX_MS = 3650 * _DAY_MS


def compile_trigger(schedule: Schedule, calendar_of: CalendarOf = no_calendars) -> CompiledTrigger:
    """The trigger of a schedule. Raises InvalidArgument for what can never work: `.field` says what.

    Layers, each a trigger itself: what the rule names, then the window [starts_at, ends_at), then what `exclude` leaves
    out or moves. `calendar_of` finds the calendars that it names.
    """
    zone_of(schedule.timezone)  # every schedule is shown on these clocks, so a wrong zone is refused everywhere
    within = windowed(_compile_rule(schedule), schedule.starts_at, schedule.ends_at)
    return _without_excluded(within, schedule, calendar_of)


def _without_excluded(inner: CompiledTrigger, schedule: Schedule, calendar_of: CalendarOf) -> CompiledTrigger:
    if not schedule.exclude:
        return inner
    zone = zone_of(schedule.timezone)
    exclusions = exclusions_of(schedule.exclude, zone, schedule.id, calendar_of)
    if schedule.on_excluded is OnExcluded.SKIP:
        return Excluded(inner, exclusions)
    is_backwards = schedule.on_excluded is OnExcluded.PREVIOUS_BUSINESS_DAY
    return Moved(inner, exclusions, zone, schedule.dst, is_backwards=is_backwards)


def _compile_rule(schedule: Schedule) -> CompiledTrigger:
    match schedule.trigger:
        case Cron(expressions):
            return _united([_compile_cron(text, schedule) for text in expressions])
        case Every(interval, anchor):
            return Interval(interval, anchor)
        case At(instants):
            return Once(instants)
        case After(delay):
            return Chained(delay)
        case EveryDays(days, anchor):
            return CivilDays(days, anchor, zone_of(schedule.timezone), schedule.dst)
        case RRule(rules, start):
            return _united([compile_rrule(text, start, schedule.timezone, schedule.dst) for text in rules])
        case Manual():
            return _NEVER


def _united(parts: list[CompiledTrigger]) -> CompiledTrigger:
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def clock_changes(trigger: CompiledTrigger, after: datetime, until: datetime) -> list[tuple[datetime, str]]:
    """What clocks do to the wall times of a trigger in (after, until]: the change and a sentence each, ascending."""
    match trigger:
        case WallTrigger():
            return list(trigger.clock_changes(after, until))
        case Union():
            notes = {note: None for part in trigger.parts for note in clock_changes(part, after, until)}
            return sorted(notes)
        case Windowed():
            return clock_changes(trigger.inner, *trigger.within(after, until))
        case Excluded() | Moved():
            changes = clock_changes(trigger.inner, after, until)
            return [(at, note) for at, note in changes if not trigger.exclusions.holds(at)]
        case _:
            return []


def zone_at(trigger: CompiledTrigger, nominal: datetime) -> Zone | None:
    """The zone whose clocks this occurrence goes by; None where it goes by elapsed time or fixed instants."""
    match trigger:
        case WallTrigger():
            return trigger.zone
        case Union():
            zones = (zone_at(part, nominal) for part in trigger.parts if part.yields(nominal))
            return next((zone for zone in zones if zone is not None), None)
        case Windowed() | Excluded() | Moved():
            return zone_at(trigger.inner, nominal)
        case _:
            return None


def _compile_cron(expression: str, schedule: Schedule) -> CompiledTrigger:
    zone, rest = split_zone(expression)
    timezone = schedule.timezone if zone is None else zone_of(zone, field="cron").name
    return _shared_cron(rest, timezone, schedule.dst, schedule.id if uses_hash(rest) else "")


@lru_cache(maxsize=16_384)
def _shared_cron(expression: str, timezone: str, dst: Dst, schedule_id: str) -> CompiledTrigger:
    word, _, rest = expression.strip().partition(" ")
    if word.lower() == "@every":
        return _every(rest.strip().lower(), zone_of(timezone), dst)
    trigger = CronTrigger(read_cron(expression, schedule_id), zone_of(timezone), dst)
    if trigger.next_after(FIRST) is None:
        raise InvalidArgument(f"{expression!r:.120} never fires: clocks in {timezone} skip all its times", field="cron")
    return trigger


def _every(text: str, zone: Zone, dst: Dst) -> CompiledTrigger:
    """As the field `every` without an anchor: a grid of elapsed time, or days of the calendar."""
    count_ms = duration_ms(text)
    if not count_ms or count_ms > _EVERY_MAX_MS:
        raise InvalidArgument(f"'@every {text:.60}' needs a duration, as in '@every 10m'", field="cron")
    if not has_civil_units(text):
        return Interval(timedelta(milliseconds=count_ms), EPOCH)
    days, rest_ms = divmod(count_ms, _DAY_MS)
    if rest_ms or any(unit in text for unit in "hms"):
        told = f"'@every {text:.60}' mixes days of the calendar with hours: use whole days and weeks, or hours"
        raise InvalidArgument(told, field="cron")
    return CivilDays(days, EPOCH, zone, dst)
