"""`cron` on the clocks of a zone, daylight saving included.

The rule (contract, part 3, and the `dst` default {next, first}):

- *fixed* expressions, whose minute and hour do not begin with `*`, fire once per wall time: one that falls into a gap
  fires at the transition (several that do are one occurrence), one that comes twice fires the first time only;
- all others follow elapsed time: every instant whose wall time matches, so an hourly schedule has no hole and no
  double when clocks change.

Instants and walls are whole seconds, see zones.py. `Walls` gives the next matching wall in the plain calendar; here
that is carried over to instants, one segment of constant offset after another.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from scheduler.core.triggers.base import LAST, ceiling_second, floor_second, from_second
from scheduler.core.triggers.cron_calendar import Walls
from scheduler.core.triggers.cron_text import CronFields
from scheduler.core.zones import Place, Zone

_LAST_S: Final = floor_second(LAST)
_FAR_S: Final = 2 * 86_400  # more than any two offsets can differ
_GAP_NOTES_MAX: Final = 5


class CronTrigger:
    """One compiled expression in one zone."""

    __slots__ = ("_walls", "fields", "fixed", "zone")

    def __init__(self, fields: CronFields, zone: Zone) -> None:
        self.fields = fields
        self.fixed = fields.fixed
        self.zone = zone
        self._walls = Walls(fields.days, fields.times)

    def next_after(self, at: datetime) -> datetime | None:
        instant = max(floor_second(at) + 1, 0)
        if instant > _LAST_S:
            return None
        found = self._fixed_from(instant) if self.fixed else self._elapsed_from(instant)
        return None if found is None or found > _LAST_S else from_second(found)

    def previous_before(self, at: datetime) -> datetime | None:
        instant = min(ceiling_second(at) - 1, _LAST_S)
        if instant < 0:
            return None
        found = self._fixed_until(instant) if self.fixed else self._elapsed_until(instant)
        return None if found is None or found < 0 else from_second(found)

    def yields(self, nominal: datetime) -> bool:
        instant = floor_second(nominal)
        if nominal.microsecond or not 0 <= instant <= _LAST_S:
            return False
        return (self._fixed_from(instant) if self.fixed else self._elapsed_from(instant)) == instant

    # --- fixed: from walls to instants
    def _fixed_from(self, instant: int) -> int | None:
        """The first fire >= instant. Walls already shown before the segment began do not fire in it again."""
        segment = self.zone.segment_at(instant)
        wall = segment.shown if instant == segment.start else max(instant + segment.offset, segment.shown)
        found = self._walls.at_or_after(wall)
        return None if found is None else self.zone.place(found).instant

    def _fixed_until(self, instant: int) -> int | None:
        """The last fire <= instant."""
        segment = self.zone.segment_at(instant)
        found = self._walls.at_or_before(max(instant + segment.offset, segment.shown - 1))
        return None if found is None else self.zone.place(found).instant

    # --- elapsed: from instants to walls
    def _elapsed_from(self, instant: int) -> int | None:
        """The first fire >= instant, segment by segment; far jumps go straight to the neighbourhood of the wall."""
        while instant <= _LAST_S:
            segment = self.zone.segment_at(instant)
            wall = self._walls.at_or_after(instant + segment.offset)
            if wall is None or wall - segment.offset < segment.end:
                return None if wall is None else wall - segment.offset
            near = segment.end - instant <= _FAR_S
            instant = segment.end if near else max(segment.end, wall - _FAR_S)
        return None

    def _elapsed_until(self, instant: int) -> int | None:
        """The last fire <= instant."""
        while instant >= 0:
            segment = self.zone.segment_at(instant)
            wall = self._walls.at_or_before(instant + segment.offset)
            if wall is None or wall - segment.offset >= segment.start:
                return None if wall is None else wall - segment.offset
            near = instant - segment.start <= _FAR_S
            instant = segment.start - 1 if near else min(segment.start - 1, wall + _FAR_S)
        return None

    # --- for people
    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        """How daylight saving moved or merged this occurrence."""
        if not self.fixed:
            return ()
        instant = floor_second(nominal)
        local = f"{self.zone.local(nominal):%H:%M}"
        return tuple(self._note(wall, place, local) for wall, place in self._walls_at(instant) if _odd(place))

    def _walls_at(self, instant: int) -> list[tuple[int, Place]]:
        """The walls (at most a few) whose fire is this instant."""
        segment = self.zone.segment_at(instant)
        wall = segment.shown if instant == segment.start else instant + segment.offset
        found: list[tuple[int, Place]] = []
        while len(found) < _GAP_NOTES_MAX and (next_wall := self._walls.at_or_after(wall)) is not None:
            place = self.zone.place(next_wall)
            if place.instant != instant:
                break
            found.append((next_wall, place))
            wall = next_wall + 1
        return found

    def _note(self, wall: int, place: Place, local: str) -> str:
        shown = f"{from_second(wall):%H:%M}"
        if place.exists:
            return f"{shown} comes twice on this day in {self.zone.name}; fires the first time"
        return f"{shown} does not exist on this day in {self.zone.name}; fires at {local}"


def _odd(place: Place) -> bool:
    return place.twice or not place.exists
