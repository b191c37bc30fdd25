"""`exclude` and `on_excluded`: the outermost layer of a trigger.

skip                    an excluded nominal time is none: nobody expects it
next_business_day       it stays, and fires at the same wall time on the next day on which that is not excluded
previous_business_day   the same backwards: it fires *before* its nominal time, so whoever plans by nominal time has to
                        look `lead` further ahead

A moved occurrence goes at most 31 days; where no day is found it is left out, as with skip. Its new wall time follows
the schedule's `dst` like any fixed one. Where the new day already has an occurrence, the moved one is *coalesced*:
it is skipped, on record. The new day has one if a nominal time that is not excluded lies on it, or if an earlier
nominal time was moved there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from scheduler.core.calendars import DAY_S
from scheduler.core.model.schedule import Dst
from scheduler.core.triggers.base import FIRST, LAST, MILLISECOND, CompiledTrigger, floor_second, from_second
from scheduler.core.triggers.exclusions import Exclusions
from scheduler.core.triggers.walls import instants_of
from scheduler.core.zones import Zone

MOVED_DAYS_MAX: Final = 31
LEAD: Final = timedelta(days=MOVED_DAYS_MAX + 1)
"""No occurrence is moved further than this: 31 days on the clocks, and the hours that clocks may change by."""
STEPS_MAX: Final = 50_000  # runs of excluded times passed over in one search; then there is nothing to be found
_MOVES_MAX: Final = 2000  # the same where for each a month of days is tried
_NOTHING: Final = timedelta(0)
_BACK_MAX: Final = 200  # earlier nominal times looked at for one that was moved to the same day


class Excluded:
    """The instants of `inner` that are not excluded."""

    __slots__ = ("exclusions", "inner")

    def __init__(self, inner: CompiledTrigger, exclusions: Exclusions) -> None:
        self.inner, self.exclusions = inner, exclusions

    def next_after(self, at: datetime) -> datetime | None:
        nominal = self.inner.next_after(at)
        for _ in range(STEPS_MAX):
            if nominal is None or not self.exclusions.holds(nominal):
                return nominal
            nominal = self.inner.next_after(self.exclusions.end(nominal) - MILLISECOND)
        return None

    def previous_before(self, at: datetime) -> datetime | None:
        nominal = self.inner.previous_before(at)
        for _ in range(STEPS_MAX):
            if nominal is None or not self.exclusions.holds(nominal):
                return nominal
            nominal = self.inner.previous_before(self.exclusions.start(nominal))
        return None

    def yields(self, nominal: datetime) -> bool:
        return self.inner.yields(nominal) and not self.exclusions.holds(nominal)

    def first_allowed(self, at: datetime) -> datetime | None:
        """The first instant from `at` on that is not excluded, whatever the inner trigger yields. For chains."""
        for _ in range(STEPS_MAX):
            if at > LAST:
                return None
            if not self.exclusions.holds(at):
                return at
            at = self.exclusions.end(at)
        return None

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        return self.inner.notes_at(nominal)


class Moved:
    """The instants of `inner`; excluded ones fire on another day (`target`), and are left out if there is none."""

    __slots__ = ("_dst", "_zone", "exclusions", "inner", "is_backwards")

    def __init__(
        self, inner: CompiledTrigger, exclusions: Exclusions, zone: Zone, dst: Dst, *, is_backwards: bool
    ) -> None:
        self.inner, self.exclusions, self.is_backwards = inner, exclusions, is_backwards
        self._zone, self._dst = zone, dst

    @property
    def lead(self) -> timedelta:
        """How long before its nominal time an occurrence may fire, at most."""
        return LEAD if self.is_backwards else timedelta(0)

    def next_after(self, at: datetime) -> datetime | None:
        nominal = self.inner.next_after(at)
        for _ in range(_MOVES_MAX):
            if nominal is None or self.target(nominal) is not None:
                return nominal
            nominal = self.inner.next_after(nominal + self._barren(nominal, forward=True))
        return None

    def previous_before(self, at: datetime) -> datetime | None:
        nominal = self.inner.previous_before(at)
        for _ in range(_MOVES_MAX):
            if nominal is None or self.target(nominal) is not None:
                return nominal
            nominal = self.inner.previous_before(nominal - self._barren(nominal, forward=False))
        return None

    def yields(self, nominal: datetime) -> bool:
        return self.inner.yields(nominal) and self.target(nominal) is not None

    # --- where it is moved to
    def target(self, nominal: datetime) -> datetime | None:
        """The instant it is moved to; itself where it is not excluded, None where no day is found."""
        if not self.exclusions.holds(nominal):
            return nominal
        return next((at for at in self._elsewhere(nominal) if not self.exclusions.holds(at)), None)

    def _elsewhere(self, nominal: datetime) -> Iterator[datetime]:
        """The same wall time on the days around, nearest first."""
        instant = floor_second(nominal)
        rest = nominal - from_second(instant)
        wall = instant + self._zone.segment_at(instant).offset
        step = -DAY_S if self.is_backwards else DAY_S
        for number in range(1, MOVED_DAYS_MAX + 1):
            for found in instants_of(self._zone, wall + number * step, self._dst):
                at = from_second(found) + rest
                if FIRST <= at <= LAST:
                    yield at

    def is_moved(self, nominal: datetime) -> bool:
        return self.exclusions.holds(nominal)

    def is_coalesced(self, nominal: datetime) -> bool:
        """Whether it is moved to a day that already has an occurrence."""
        target = self.target(nominal)
        if target is None or target == nominal:
            return False
        start, end = self._day_of(target)
        return self._has_own(start, end) or any(
            self._lands(earlier, start, end) for earlier in self._before(nominal, start, end)
        )

    def _has_own(self, start: datetime, end: datetime) -> bool:
        """Whether a nominal time of this day is not excluded."""
        nominal = self.inner.next_after(start - MILLISECOND)
        while nominal is not None and nominal < end:
            if not self.exclusions.holds(nominal):
                return True
            nominal = self.inner.next_after(self.exclusions.end(nominal) - MILLISECOND)
        return False

    def _before(self, nominal: datetime, start: datetime, end: datetime) -> Iterator[datetime]:
        """Earlier nominal times that may be moved to the day as well, the latest first."""
        oldest = end if self.is_backwards else start - LEAD
        earlier = self.inner.previous_before(nominal)
        for _ in range(_BACK_MAX):
            if earlier is None or earlier < oldest:
                return
            yield earlier
            earlier = self.inner.previous_before(earlier)

    def _lands(self, nominal: datetime, start: datetime, end: datetime) -> bool:
        target = self.target(nominal)
        return target is not None and start <= target < end

    def _day_of(self, at: datetime) -> tuple[datetime, datetime]:
        """The instants at which its local day begins and ends."""
        instant = floor_second(at)
        midnight = (instant + self._zone.segment_at(instant).offset) // DAY_S * DAY_S
        return from_second(self._zone.place(midnight).first), from_second(self._zone.place(midnight + DAY_S).first)

    def _barren(self, nominal: datetime, *, forward: bool) -> timedelta:
        """No day is found for this one; nor for those up to so much later (or earlier), for each of the days around
        is excluded that long as well. Where clocks change in between nothing is said."""
        instant = floor_second(nominal)
        wall = instant + self._zone.segment_at(instant).offset
        step = -DAY_S if self.is_backwards else DAY_S
        span = self._uniform(nominal, forward=forward)
        for number in range(1, MOVED_DAYS_MAX + 1):
            place = self._zone.place(wall + number * step)
            if not place.exists or place.second is not None:
                return _NOTHING
            span = min(
                span, self._uniform(from_second(place.first) + (nominal - from_second(instant)), forward=forward)
            )
        return max(span, _NOTHING)

    def _uniform(self, at: datetime, *, forward: bool) -> timedelta:
        """How long before or after the instant, which is excluded, it stays so and clocks do not change."""
        segment = self._zone.segment_at(floor_second(at))
        if forward:
            return from_second(min(floor_second(self.exclusions.end(at)), segment.end)) - at - MILLISECOND
        return at - from_second(max(floor_second(self.exclusions.start(at)), segment.start))

    # --- for people
    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        notes = self.inner.notes_at(nominal)
        if not self.is_moved(nominal):
            return notes
        moved = f"moved from {self._zone.local(nominal):%a %Y-%m-%d} (excluded)"
        return (moved, "coalesced: its new day already has one") if self.is_coalesced(nominal) else (moved,)
