"""What an edit does to the fires ahead: which instants a schedule gains, and which it loses. Pure.

Both definitions are walked by their own triggers, as previews and the planner do, jitter, moved days and pauses
included, so the answer is exact for the stretch that was compared. Two things it cannot know: how often a schedule
with `max_fires` has fired already, and when a chain (`after`) will go on; both are left to whoever shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from scheduler.core.model.schedule import Schedule
from scheduler.core.simulating.subjects import at_ms, ms_of, subjects_of
from scheduler.core.triggers import CompiledTrigger

SHOWN_MAX = 3
STEPS_MAX = 200_000
"""Fires looked at for one comparison: two definitions that fire each second all day long."""
Rule = tuple[Schedule, CompiledTrigger]


class Fires(Struct, frozen=True):
    """How many, and the first few of them."""

    count: int = 0
    first: tuple[datetime, ...] = ()


class Comparison(Struct, frozen=True):
    """Fire times in [start, until): those that only the new definition has, and those that only the old one had.

    `until` is earlier than asked for, and `is_whole` false, where there were too many fires to look at; `steps` is how
    many were.
    """

    gained: Fires
    lost: Fires
    until: datetime
    steps: int
    is_whole: bool = True


def compare_fires(
    before: Rule | None, after: Rule | None, start: datetime, end: datetime, *, steps_max: int = STEPS_MAX
) -> Comparison:
    """None: nothing fires (there is no such schedule, or it is invalid). At most `steps_max` fires are looked at."""
    gained, lost = _Collected(), _Collected()
    old, new = _fires(before, start, end), _fires(after, start, end)
    mine, theirs = next(old, None), next(new, None)
    steps = 0
    while mine is not None or theirs is not None:
        earlier = min(at for at in (mine, theirs) if at is not None)
        if steps >= steps_max:
            return Comparison(gained.fires(), lost.fires(), at_ms(earlier), steps, is_whole=False)
        if mine != theirs:
            (lost if mine == earlier else gained).add(earlier)
        if mine == earlier:
            mine, steps = next(old, None), steps + 1
        if theirs == earlier:
            theirs, steps = next(new, None), steps + 1
    return Comparison(gained.fires(), lost.fires(), end, steps)


class _Collected:
    __slots__ = ("count", "first")

    def __init__(self) -> None:
        self.count = 0
        self.first: list[datetime] = []

    def add(self, at: int) -> None:
        self.count += 1
        if len(self.first) < SHOWN_MAX:
            self.first.append(at_ms(at))

    def fires(self) -> Fires:
        return Fires(self.count, tuple(self.first))


def _fires(rule: Rule | None, start: datetime, end: datetime) -> Iterator[int]:
    """Fire times in [start, end), ascending, each once, in milliseconds since 1970."""
    if rule is None:
        return
    low, high = ms_of(start), ms_of(end)
    last: int | None = None
    for subject in subjects_of([rule], low, high):
        for at in subject.walk(low, high):
            if at != last:
                last = at
                yield at
