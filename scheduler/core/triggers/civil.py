"""`every: "1d"`, `"2w"`: every so many days of the calendar, at one wall time, whatever clocks do in between.

The wall time and the day to count from are those of the anchor on the clocks of the schedule's zone, cut to seconds.
Elapsed time from one to the next is 24 hours a day on most days only: who means that writes "24h".
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from scheduler.core.model.schedule import Dst
from scheduler.core.triggers.base import floor_second
from scheduler.core.triggers.walls import WallTrigger
from scheduler.core.zones import Zone

_DAY_S: Final = 86_400


class WallGrid:
    """The walls base + n * step, n any whole number; all in seconds."""

    __slots__ = ("_base", "_step")

    def __init__(self, base: int, step: int) -> None:
        self._base, self._step = base, step

    def at_or_after(self, wall: int) -> int | None:
        return wall + (self._base - wall) % self._step

    def at_or_before(self, wall: int) -> int | None:
        return wall - (wall - self._base) % self._step


class CivilDays(WallTrigger):
    """Every `days` days, counted from the anchor's local day, both ways."""

    __slots__ = ("interval",)

    def __init__(self, days: int, anchor: datetime, zone: Zone, dst: Dst) -> None:
        super().__init__(WallGrid(wall_of(anchor, zone), days * _DAY_S), zone, dst)
        self.interval = timedelta(days=days)


def wall_of(at: datetime, zone: Zone) -> int:
    """What clocks of the zone show at an instant, cut to whole seconds."""
    instant = floor_second(at)
    return instant + zone.segment_at(instant).offset
