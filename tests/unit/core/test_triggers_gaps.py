"""How close do occurrences come? Exact for cron in one zone, unions included; over midnight, over new year, rarely."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.triggers import CompiledTrigger, shortest_gap
from tests.unit.core.cron_triggers import NEW_YEAR, compiled

# --- one expression
GAPS = {
    "0 9 * * *": 86_400,
    "*/15 * * * *": 900,
    "* * * * * *": 1,
    "0,50 0 9 * * *": 50,
    "10,50 * * * * *": 20,
    "0 9,17 * * *": 28_800,
    "59,0 * * * *": 60,
    "5-50/45 * * * *": 900,
    "@every 90s": 90,
}


@pytest.mark.parametrize("expression", GAPS)
def test_shortest_gap(expression: str) -> None:
    """The shortest gap is what the closest two neighbours of a week really have."""
    trigger = compiled(expression)
    assert shortest_gap(trigger) == timedelta(seconds=GAPS[expression])


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=3),
    seconds=st.sets(st.integers(0, 59), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_shortest_gap_is_never_above_a_real_one(minutes: set[int], hours: set[int], seconds: set[int]) -> None:
    """Over three days no two neighbours are closer than the shortest gap, and some are that close."""
    lists = (",".join(str(number) for number in sorted(numbers)) for numbers in (seconds, minutes, hours))
    trigger = compiled(" ".join(lists) + " * * *")
    found, at = [], trigger.next_after(NEW_YEAR)
    while at is not None and at < NEW_YEAR + timedelta(days=3):
        found.append(at)
        at = trigger.next_after(at)
    assert min(later - earlier for earlier, later in pairwise(found)) == shortest_gap(trigger)


# --- unions: how close the occurrences of several expressions come
UNIONS: dict[str, tuple[tuple[str, ...], float]] = {
    "the same minute": (("0 9 * * *", "0 9 * * *"), 86_400),
    "seconds apart on each day": (("0 9 * * *", "40 0 9 * * *"), 40),
    "over midnight": (("59 23 * * *", "0 0 * * *"), 60),
    "over the year's end only": (("59 59 23 31 12 *", "0 0 0 1 1 *"), 1),
    "over one year's end": (("59 59 23 31 12 ? 2029", "0 0 0 1 1 ? 2030"), 1),
    "never over the year's end": (("59 59 23 31 12 ? 2029", "0 0 0 1 1 ? 2031"), 86_400),
    "never on one day": (("0 9 * * 1", "40 0 9 * * 2"), 86_400),
    "on a Thursday that is 29 February": (("0 9 29 2 *", "2 9 * 2 +4#5"), 120),
    "on a day that both name, rarely": (("0 9 29 2 *", "2 9 * * 2#5"), 120),
    "three, the first and the last": (("0 9 * * *", "0 12 * * *", "7 9 * * *"), 420),
    "grids": (("@every 7m", "@every 10m"), 60),
    "the same grid": (("@every 7m", "@every 7m"), 420),
    "a grid between seconds": (("* * * * * *", "@every 1500ms"), 0.5),
    "a grid on the hour": (("0 9 * * *", "@every 1h"), 3600),
    "two zones": (("0 9 * * *", "CRON_TZ=Asia/Kathmandu 50 14 * * *"), 300),
    "two zones, one instant": (("0 9 * * *", "CRON_TZ=Asia/Kathmandu 45 14 * * *"), 86_400),
    "once each": (("0 0 0 1 1 * 2030", "5 0 0 1 1 * 2030"), 5),
}


@pytest.mark.parametrize("case", UNIONS)
def test_shortest_gap_of_a_union(case: str) -> None:
    """Expressions that come close to each other are found, however rarely they do, over midnight and new year too."""
    expressions, seconds = UNIONS[case]
    assert shortest_gap(compiled(*expressions)) == timedelta(seconds=seconds)


@given(
    expressions=st.lists(
        st.tuples(
            st.sampled_from(["0", "1", "30,59", "*/20"]),
            st.sampled_from(["0", "59", "10,20", "*/15"]),
            st.sampled_from(["0", "23", "5,6", "*/8"]),
            st.sampled_from(["*", "L", "1", "*/9"]),
            st.sampled_from(["*", "1", "5L", "2#2"]),
        ).map(lambda f: f"{f[0]} {f[1]} {f[2]} {f[3]} 1-3 {f[4]}"),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_shortest_gap_is_what_a_walk_finds(expressions: list[str]) -> None:
    """The gap of a union is exactly the smallest distance in a walk over years (days that repeat within these)."""
    trigger = compiled(*expressions)
    found = [at for at in iterate(trigger, NEW_YEAR) if at < NEW_YEAR + timedelta(days=365 * 2)]
    walked = min((later - earlier for earlier, later in pairwise(found)), default=timedelta(days=1))
    gap = shortest_gap(trigger)
    assert gap is not None
    assert gap <= min(walked, timedelta(days=1))
    if gap < timedelta(days=1) and gap < walked:  # closer only outside of the walk: show where
        assert gap in {later - earlier for earlier, later in pairwise(iterate(trigger, NEW_YEAR, years=28))}


def iterate(trigger: CompiledTrigger, start: datetime, years: int = 2) -> Iterator[datetime]:
    at = trigger.next_after(start)
    while at is not None and at < start + timedelta(days=366 * years):
        yield at
        at = trigger.next_after(at)


def test_many_expressions_are_checked_fast() -> None:
    """The largest union there may be is held to the minimum interval in well under a second."""
    expressions = [f"{n} {n % 7},30 {n % 24} {n % 28 + 1},L-{n % 9} * {n % 6}" for n in range(60)]
    grids = ["@every 1001s", "@every 3h", "CRON_TZ=Asia/Tokyo 0 9 * * *", "CRON_TZ=Europe/London 0 9 * * *"]
    began = process_time()
    assert shortest_gap(compiled(*expressions, *grids)) is not None
    assert process_time() - began < 1.5
