"""Wall times on the clocks of a zone: the one place where local times become instants, daylight saving included.

Cron, days of the calendar and recurrence rules each say which *walls* they name (a `WallSequence`); `WallTrigger` turns
those into instants, under one of two rules:

- *fixed* walls follow the schedule's `dst` (contract, part 3). One in a gap fires at the transition (`next`; several
  that do are one occurrence) or not at all (`skip`). One that comes twice fires the `first` time, the `second`, or
  `both` times.
- *elapsed* time: every instant at which clocks show one of the walls, so that an hourly schedule has no hole and no
  double. That is what `{skip, both}` says, so there is one search for both rules.

Instants and walls are whole seconds, see zones.py. A search goes from segment to segment of constant offset and jumps
over those that hold no wall; it looks at a few segments, never at every one between two distant walls.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Protocol

from scheduler.core.model.schedule import Dst, Gap, Twice
from scheduler.core.triggers.base import LAST, ceiling_second, floor_second, from_second
from scheduler.core.zones import Place, Segment, Zone

LAST_S: Final = floor_second(LAST)
ELAPSED: Final = Dst(gap=Gap.SKIP, overlap=Twice.BOTH)
_FAR_S: Final = 2 * 86_400  # more than any two offsets can differ
_NOTES_MAX: Final = 5
_TIMES: Final = {Twice.FIRST: "the first time", Twice.SECOND: "the second time", Twice.BOTH: "both times"}


class WallSequence(Protocol):
    """Ascending wall times in whole seconds: what a rule names on a calendar that knows no zone."""

    def at_or_after(self, wall: int) -> int | None:
        """The first wall that is not before `wall`; None if there is none."""

    def at_or_before(self, wall: int) -> int | None:
        """The last wall that is not after `wall`; None if there is none."""


def instants_of(zone: Zone, wall: int, dst: Dst) -> tuple[int, ...]:
    """When a fixed wall time fires: no, one or two instants, ascending."""
    place = zone.place(wall)
    if not place.exists:
        return (place.first,) if dst.gap is Gap.NEXT else ()
    if place.second is None or dst.overlap is Twice.FIRST:
        return (place.first,)
    return (place.second,) if dst.overlap is Twice.SECOND else (place.first, place.second)


class WallTrigger:
    """The walls of a rule as instants of a zone. `dst` is the rule for fixed walls; None: elapsed time."""

    __slots__ = ("_first_only", "_gap_fires", "_second_only", "_walls", "dst", "zone")

    def __init__(self, walls: WallSequence, zone: Zone, dst: Dst | None) -> None:
        self._walls = walls
        self.zone = zone
        self.dst = dst
        rule = ELAPSED if dst is None else dst
        self._gap_fires = rule.gap is Gap.NEXT
        self._first_only = rule.overlap is Twice.FIRST
        self._second_only = rule.overlap is Twice.SECOND

    def next_after(self, at: datetime) -> datetime | None:
        found = self._at_or_after(max(floor_second(at) + 1, 0))
        return None if found is None or found > LAST_S else from_second(found)

    def previous_before(self, at: datetime) -> datetime | None:
        found = self._at_or_before(min(ceiling_second(at) - 1, LAST_S))
        return None if found is None or found < 0 else from_second(found)

    def yields(self, nominal: datetime) -> bool:
        instant = floor_second(nominal)
        return not nominal.microsecond and 0 <= instant <= LAST_S and self._at_or_after(instant) == instant

    def _span(self, segment: Segment) -> tuple[int, int]:
        """The walls low <= wall < high fire in the segment; those before its own first one at its start."""
        low, high = segment.start + segment.offset, segment.end + segment.offset
        if (self._gap_fires and segment.shown < low) or (self._first_only and segment.shown > low):
            low = segment.shown
        if self._second_only and segment.again < high:
            high = segment.again
        return low, high

    def _at_or_after(self, instant: int) -> int | None:
        while instant <= LAST_S:
            segment = self.zone.segment_at(instant)
            low, high = self._span(segment)
            wall = self._walls.at_or_after(low if instant == segment.start else max(low, instant + segment.offset))
            if wall is not None and wall < high:
                return max(segment.start, wall - segment.offset)
            if segment.end - instant <= _FAR_S:
                instant = segment.end  # also where the walls are over: the next segment may show the last one again
            elif wall is None:
                return None
            else:
                instant = max(segment.end, wall - _FAR_S)
        return None

    def _at_or_before(self, instant: int) -> int | None:
        while instant >= 0:
            segment = self.zone.segment_at(instant)
            low, high = self._span(segment)
            wall = self._walls.at_or_before(min(high - 1, instant + segment.offset))
            if wall is not None and wall >= low:
                return max(segment.start, wall - segment.offset)
            if instant - segment.start <= _FAR_S:
                instant = segment.start - 1
            elif wall is None:
                return None
            else:
                instant = min(segment.start - 1, wall + _FAR_S)
        return None

    # --- for people
    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        """How daylight saving moved, merged or doubled this occurrence."""
        instant = floor_second(nominal)
        segment = self.zone.segment_at(instant)
        shown = instant + segment.offset
        if instant == segment.start and segment.shown < shown:
            return tuple(self._notes(segment.shown, shown, instant))
        return tuple(self._notes(shown, shown + 1, instant))

    def clock_changes(self, after: datetime, until: datetime) -> Iterator[tuple[datetime, str]]:
        """The walls in (after, until] that clocks skip or show twice: the change, and what becomes of the wall."""
        for change in self.zone.changes(floor_second(after), floor_second(until)):
            before, now = self.zone.segment_at(change - 1).offset, self.zone.segment_at(change).offset
            for note in self._notes(change + min(before, now), change + max(before, now)):
                yield from_second(change), note

    def _notes(self, low: int, high: int, instant: int | None = None) -> Iterator[str]:
        """A note for each odd wall low <= wall < high (that fires at the instant); the first few of many."""
        if self.dst is None:
            return
        for count in range(_NOTES_MAX + 1):
            wall = self._walls.at_or_after(low)
            if wall is None or wall >= high:
                return
            place = self.zone.place(wall)
            if count == _NOTES_MAX:
                yield f"and more on this day before {_shown(high)}"
            elif _is_odd(place) and (instant is None or instant in instants_of(self.zone, wall, self.dst)):
                yield self._note(wall, place, self.dst)
            low = wall + 1

    def _note(self, wall: int, place: Place, dst: Dst) -> str:
        day = f"{from_second(wall):%Y-%m-%d} "
        if place.exists:
            return f"{day}{_shown(wall)} comes twice in {self.zone.name}; fires {_TIMES[dst.overlap]}"
        if dst.gap is Gap.SKIP:
            return f"{day}{_shown(wall)} does not exist in {self.zone.name}; skipped"
        end = place.first + self.zone.segment_at(place.first).offset
        moved = _shown(end) if end // 86_400 == wall // 86_400 else f"{from_second(end):%Y-%m-%d} {_shown(end)}"
        return f"{day}{_shown(wall)} does not exist in {self.zone.name}; fires at {moved}"


def _is_odd(place: Place) -> bool:
    return not place.exists or place.second is not None


def _shown(wall: int) -> str:
    """The time of day, with seconds where it has any."""
    return from_second(wall).strftime("%H:%M:%S" if wall % 60 else "%H:%M")
