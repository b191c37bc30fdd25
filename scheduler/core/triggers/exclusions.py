"""`exclude`: which instants a schedule leaves out, by calendars and cron expressions on the clocks of a zone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from scheduler.core.calendars import DAY_S, Calendar, CalendarOf, DayPart, Part, day_number, is_cron, run_of
from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers.base import floor_second, from_second
from scheduler.core.triggers.cron_text import SHORTCUTS, CronFields, read_cron, split_zone
from scheduler.core.zones import Zone, zone_of


class CronPart:
    """The minutes that a cron expression names; the seconds, if it has a field for them."""

    __slots__ = ("_days", "_every_hour", "_every_minute", "_grain_s", "_times")

    def __init__(self, fields: CronFields, *, has_seconds: bool) -> None:
        self._days, self._times = fields.days, fields.times
        all_seconds = not has_seconds or len(fields.times.seconds) == 60
        self._grain_s = 60 if all_seconds else 1
        self._every_minute = all_seconds and len(fields.times.minutes) == 60
        self._every_hour = self._every_minute and len(fields.times.hours) == 24

    def holds(self, wall: int) -> bool:
        day, time = divmod(wall, DAY_S)
        hour, minute = time // 3600, time // 60 % 60
        if hour not in self._times.hours or minute not in self._times.minutes:
            return False
        return (self._grain_s == 60 or time % 60 in self._times.seconds) and self._names(day)

    def _names(self, day: int) -> bool:
        return self._days.at_or_after(day) == day

    def end(self, wall: int) -> int:
        if self._every_hour:
            return run_of(self._names, wall // DAY_S, 1) * DAY_S
        grain_s = 3600 if self._every_minute else self._grain_s
        return (wall // grain_s + 1) * grain_s

    def start(self, wall: int) -> int:
        if self._every_hour:
            return (run_of(self._names, wall // DAY_S, -1) + 1) * DAY_S
        grain_s = 3600 if self._every_minute else self._grain_s
        return wall // grain_s * grain_s


class Exclusions:
    """Everything that a schedule excludes, each part on the clocks of its zone; asked in instants."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[tuple[Zone, Part]]) -> None:
        self._parts = tuple(parts)

    def holds(self, at: datetime) -> bool:
        """Whether the instant is excluded."""
        instant = floor_second(at)
        return any(part.holds(instant + zone.segment_at(instant).offset) for zone, part in self._parts)

    def end(self, at: datetime) -> datetime:
        """Every instant from this one (it is excluded) up to before the end is excluded, too."""
        instant = floor_second(at)
        end = instant + 1
        for zone, part in self._parts:
            segment = zone.segment_at(instant)
            if part.holds(instant + segment.offset):
                end = max(end, min(segment.end, part.end(instant + segment.offset) - segment.offset))
        return from_second(end)

    def start(self, at: datetime) -> datetime:
        """Every instant from the start up to this one (it is excluded) is excluded."""
        instant = floor_second(at)
        start = instant
        for zone, part in self._parts:
            segment = zone.segment_at(instant)
            if part.holds(instant + segment.offset):
                start = min(start, max(segment.start, part.start(instant + segment.offset) - segment.offset))
        return from_second(start)


def exclusions_of(entries: Iterable[str], zone: Zone, schedule_id: str, calendar_of: CalendarOf) -> Exclusions:
    """What a schedule's `exclude` says; `calendar_of` is asked for each name. Raises InvalidArgument (`exclude`)."""
    parts: list[tuple[Zone, Part]] = []
    for entry in entries:
        if is_cron(entry):
            named, expression = split_zone(entry)
            own = zone if named is None else zone_of(named, field="exclude")
            parts.append((own, _cron_part(expression, schedule_id)))
            continue
        calendar = calendar_of(entry)
        own = zone if calendar.timezone is None else zone_of(calendar.timezone)
        parts += ((own, part) for part in parts_of(calendar))
    return Exclusions(parts)


@lru_cache(maxsize=1024)
def parts_of(calendar: Calendar) -> tuple[Part, ...]:
    """A calendar made ready to ask; schedules share it. Raises InvalidArgument (`cron`): `H` hashes its name."""
    spans = [*((day, day) for day in calendar.dates), *calendar.ranges]
    parts: list[Part] = [_cron_part(expression, calendar.name, field="cron") for expression in calendar.cron]
    if spans or calendar.yearly or calendar.weekdays:
        days = ((day_number(first), day_number(last)) for first, last in spans)
        parts.insert(0, DayPart(days, calendar.yearly, calendar.weekdays))
    return tuple(parts)


def _cron_part(expression: str, hashed: str, *, field: str = "exclude") -> CronPart:
    if expression.strip().lower().startswith("@every"):
        raise InvalidArgument(f"{expression!r:.80} names no times to exclude: use a cron expression", field=field)
    text = SHORTCUTS.get(expression.strip().lower(), expression)
    return CronPart(read_cron(expression, hashed, field=field), has_seconds=len(text.split()) > 5)
