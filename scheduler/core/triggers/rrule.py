"""`rrule`: recurrence rules of RFC 5545 on the clocks of the schedule's zone.

- `anchor` is DTSTART: nothing fires before it, intervals are counted from it, and parts that a rule leaves out (the
  hour of FREQ=DAILY, the day of FREQ=MONTHLY) are its local ones. It is an occurrence itself only if it fits the rule.
- Without an anchor, left out parts are the first of their kind: midnight, the week's first day (WKST), the 1st,
  January. INTERVAL above 1 and COUNT have no meaning then, and are refused.
- DAILY and coarser rules name fixed wall times, which follow the schedule's `dst`. HOURLY and finer ones follow elapsed
  time as wildcards in cron do: every instant at which clocks show one of their walls, no hole and no double. Their
  INTERVAL counts walls, so FREQ=HOURLY;INTERVAL=6 stays at 0, 6, 12 and 18 o'clock all year; `every` is for a grid of
  elapsed time.
- UNTIL is inclusive, in UTC or local; a date counts as a whole. COUNT counts what fires.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from msgspec import structs

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Dst
from scheduler.core.triggers.base import FIRST, MILLISECOND, SECOND, CompiledTrigger
from scheduler.core.triggers.civil import wall_of
from scheduler.core.triggers.cron_calendar import DAY_S, Times
from scheduler.core.triggers.rrule_calendar import (
    UNIT_S,
    Anchor,
    ChosenWalls,
    RuleDays,
    Steps,
    Ticks,
    chosen_of,
    days_before,
    week_start,
)
from scheduler.core.triggers.rrule_text import Freq, Rule, read_rrule
from scheduler.core.triggers.walls import WallSequence, WallTrigger
from scheduler.core.triggers.windowed import windowed
from scheduler.core.zones import Zone, zone_of

_ALL_HOURS: Final = tuple(range(24))
_ALL_SIXTY: Final = tuple(range(60))
_GAPS_SEEN: Final = 500
_YEARS_SEEN_S: Final = 3653 * DAY_S
_FAR: Final = 1 << 60


class RuleTrigger(WallTrigger):
    """One rule in one zone, without the bounds that `compile_rrule` puts around it."""

    __slots__ = ("_sequence",)

    def __init__(self, walls: WallSequence, zone: Zone, dst: Dst | None) -> None:
        super().__init__(walls, zone, dst)
        self._sequence = walls

    def shortest_gap(self) -> timedelta | None:
        """The shortest distance between two walls of the first ten years, or hundreds; None if there is but one."""
        first = wall = self._sequence.at_or_after(-_FAR)
        gap = _FAR
        for _ in range(_GAPS_SEEN):
            following = None if wall is None else self._sequence.at_or_after(wall + 1)
            if first is None or wall is None or following is None:
                break
            wall, gap = following, min(gap, following - wall)
            if wall - first > _YEARS_SEEN_S:
                break
        return None if gap == _FAR else timedelta(seconds=gap)


@lru_cache(maxsize=4096)
def compile_rrule(text: str, anchor: datetime | None, timezone: str, dst: Dst) -> CompiledTrigger:
    """The trigger of one rule. Raises InvalidArgument, field rrule or anchor, also for a rule that never fires."""
    rule = read_rrule(text)
    if anchor is None and (rule.interval > 1 or rule.count is not None):
        part = "INTERVAL" if rule.count is None else "COUNT"
        raise InvalidArgument(
            f"rrule {text[:60]!r} has {part}, which counts from a start: give that instant as anchor", field="anchor"
        )
    start = None if anchor is None else anchor - (anchor - FIRST) % SECOND
    trigger = _between_start_and_until(rule, start, zone_of(timezone), dst)
    if trigger is None or trigger.next_after(FIRST - MILLISECOND) is None:
        raise InvalidArgument(f"rrule {text[:60]!r} never fires{_why_never(rule, start)}", field="rrule")
    return trigger if rule.count is None else windowed(trigger, None, _end_of_count(trigger, rule.count))


def _between_start_and_until(rule: Rule, start: datetime | None, zone: Zone, dst: Dst) -> CompiledTrigger | None:
    """None if it names no wall at all."""
    anchor = Anchor(_usual_start(rule.wkst) if start is None else wall_of(start, zone))
    walls = _walls_of(_complete(rule, anchor), anchor)
    if walls is None:
        return None
    bounded = BoundedWalls(walls, _FAR if rule.until_wall is None else rule.until_wall)
    trigger = RuleTrigger(bounded, zone, dst if rule.freq >= Freq.DAILY else None)
    return windowed(trigger, start, None if rule.until is None else rule.until + SECOND)


def _end_of_count(trigger: CompiledTrigger, count: int) -> datetime | None:
    """Right behind the last of so many occurrences; None if there are not that many."""
    at: datetime | None = FIRST - MILLISECOND
    for _ in range(count):
        at = None if at is None else trigger.next_after(at)
    return None if at is None else at + MILLISECOND


def _why_never(rule: Rule, start: datetime | None) -> str:
    if rule.until is None and rule.until_wall is None:
        return " before the year 2200"
    return " up to its UNTIL" if start is None else " between anchor and UNTIL"


def _usual_start(wkst: int) -> int:
    """Without an anchor: the first 1 January since 1970 that begins a week, at midnight."""
    day, year = 0, 1970
    while week_start(day, wkst) != day:
        year += 1
        day = days_before(year)
    return day * DAY_S


def _complete(rule: Rule, anchor: Anchor) -> Rule:
    """With what the rule leaves out taken from the anchor."""
    at, time = anchor.date, anchor.wall % DAY_S
    filled: dict[str, Any] = {
        "hours": rule.hours or (_ALL_HOURS if rule.freq < Freq.DAILY else (time // 3600,)),
        "minutes": rule.minutes or (_ALL_SIXTY if rule.freq < Freq.HOURLY else (time // 60 % 60,)),
        "seconds": rule.seconds or (_ALL_SIXTY if rule.freq < Freq.MINUTELY else (time % 60,)),
    }
    if rule.weekdays is None and rule.monthdays is None and rule.yeardays is None:
        if rule.weeks is not None or rule.freq is Freq.WEEKLY:
            filled["weekdays"] = frozenset({(0, at.weekday())})
        elif rule.freq in (Freq.MONTHLY, Freq.YEARLY):
            filled["monthdays"] = frozenset({at.day})
            if rule.freq is Freq.YEARLY:
                filled["months"] = rule.months or frozenset({at.month})
    return structs.replace(rule, **filled)


def _walls_of(rule: Rule, anchor: Anchor) -> WallSequence | None:
    if rule.freq < Freq.DAILY:
        return _fine_walls(rule, anchor)
    days, times = RuleDays(rule, anchor), _times(rule, Freq.SECONDLY, Freq.HOURLY)
    if rule.positions is None:
        return Steps(days, times, DAY_S)
    if rule.freq is not Freq.DAILY:
        return ChosenWalls(rule, days, times)
    chosen = chosen_of(times, rule.positions)
    return None if chosen is None else Steps(days, chosen, DAY_S)


def _fine_walls(rule: Rule, anchor: Anchor) -> WallSequence | None:
    """Of FREQ=HOURLY, MINUTELY and SECONDLY: ticks of that unit, and what lies within each."""
    ticks = Ticks(rule, anchor, _times(rule, rule.freq, Freq.HOURLY))
    times = _times(rule, Freq.SECONDLY, Freq(rule.freq - 1)) if rule.freq else Times((0,), (0,), (0,))
    within = times if rule.positions is None else chosen_of(times, rule.positions)
    return Steps(ticks, within, UNIT_S[rule.freq]) if within is not None and ticks.are_reachable() else None


def _times(rule: Rule, finest: Freq, coarsest: Freq) -> Times:
    """The times that these units make up; the others are zero."""
    parts = ((Freq.HOURLY, rule.hours), (Freq.MINUTELY, rule.minutes), (Freq.SECONDLY, rule.seconds))
    hours, minutes, seconds = (part if part and finest <= unit <= coarsest else (0,) for unit, part in parts)
    return Times(hours, minutes, seconds)


class BoundedWalls:
    """The walls up to `last`. The answer before is kept: between two walls far apart everybody asks for the same."""

    __slots__ = ("_after", "_before", "_last", "_walls")

    def __init__(self, walls: WallSequence, last: int) -> None:
        self._walls, self._last = walls, last
        self._after: tuple[int, int | None] = (_FAR, None)
        self._before: tuple[int, int | None] = (-_FAR, None)

    def at_or_after(self, wall: int) -> int | None:
        asked, found = self._after
        if not (asked <= wall and (found is None or wall <= found)):
            found = self._walls.at_or_after(wall)
            found = None if found is None or found > self._last else found
            self._after = (wall, found)
        return found

    def at_or_before(self, wall: int) -> int | None:
        wall = min(wall, self._last)
        asked, found = self._before
        if not (asked >= wall and (found is None or wall >= found)):
            found = self._walls.at_or_before(wall)
            self._before = (wall, found)
        return found
