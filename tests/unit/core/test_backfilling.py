"""Backfill, the pure part: which nominal times, under which policy, at which pace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.backfilling import (
    BURST,
    WAITING_MAX,
    Backfill,
    BackfillState,
    Pace,
    is_spent,
    nominals_between,
    policy_of,
    room,
)
from scheduler.core.model.schedule import Overlap, Schedule
from scheduler.core.triggers import compile_trigger
from scheduler.wire.schedule import parse_document

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def schedule(**fields: object) -> Schedule:
    return parse_document("a", {"cron": "0 * * * *", "queue": "q", "type": "t", **fields})


def backfill(count: int = 3) -> Backfill:
    left = tuple(NOON + number * HOUR for number in range(count))
    return Backfill(
        id="b", schedule="a", start=NOON, end=NOON + count * HOUR, rate=1.0, overlap=None, created_at=NOON,
        count=count, left=left,
    )  # fmt: skip


def test_the_range_is_half_open() -> None:
    """From is in it, to is not: adjoining ranges run nothing twice."""
    trigger = compile_trigger(schedule())
    assert list(nominals_between(trigger, NOON, NOON + 2 * HOUR)) == [NOON, NOON + HOUR]
    assert list(nominals_between(trigger, NOON + HOUR / 2, NOON + HOUR)) == []


def test_what_the_definition_yields_counts() -> None:
    """Its window holds, a pause does not."""
    windowed = schedule(starts_at="2026-11-01T13:00:00Z", ends_at="2026-11-01T14:00:00Z", paused=True)
    assert list(nominals_between(compile_trigger(windowed), NOON, NOON + 9 * HOUR)) == [NOON + HOUR]


def test_exclusions_are_left_out_and_so_is_what_coalesces() -> None:
    """2026-11-01 is a Sunday: excluded it is none of the list; moved to Monday, which has a run of its own, neither."""
    daily = {"cron": "0 12 * * *", "exclude": ["* * * * sun"]}
    for fields in (daily, {**daily, "on_excluded": "next_business_day"}):
        trigger = compile_trigger(schedule(**fields))
        assert list(nominals_between(trigger, NOON, NOON + 48 * HOUR)) == [NOON + 24 * HOUR]


@pytest.mark.parametrize(
    ("fields", "asked", "policy"),
    [
        ({}, None, Overlap.BUFFER_ALL),
        ({"overlap": "allow"}, None, Overlap.ALLOW),
        ({"overlap": "allow", "max_running": 2}, None, Overlap.BUFFER_ALL),
        ({"overlap": "buffer_one"}, None, Overlap.BUFFER_ALL),
        ({}, Overlap.SKIP, Overlap.SKIP),
        ({"overlap": "allow"}, Overlap.LATEST, Overlap.LATEST),
    ],
)
def test_nothing_is_dropped_unless_asked_for(fields: dict[str, object], asked: Overlap | None, policy: Overlap) -> None:
    """The schedule's own policy would drop most of a backfill; what the request names is taken as it is."""
    assert policy_of(schedule(**fields), asked) is policy


def test_the_buffer_is_never_filled() -> None:
    """Starts stop while enough wait; policies without a buffer know no such limit."""
    assert room(Overlap.BUFFER_ALL, 0) == WAITING_MAX
    assert room(Overlap.BUFFER_ALL, WAITING_MAX - 1) == 1
    assert room(Overlap.BUFFER_ALL, WAITING_MAX + 5) == 0
    assert room(Overlap.SKIP, 100) == room(Overlap.ALLOW, 0) == BURST


@given(rate=st.floats(min_value=0.01, max_value=1000), looks=st.lists(st.floats(0.01, 5), min_size=1, max_size=60))
def test_never_faster_than_the_rate(rate: float, looks: list[float]) -> None:
    """Over any time, at most rate * time starts, the one at the beginning and what a second is good for besides."""
    now_s, started, pace = 100.0, 0, Pace(100.0)
    for wait_s in looks:
        due = pace.due(rate, now_s)
        assert 0 <= due <= BURST
        pace = pace.after(due, rate, now_s)
        started += due
        assert started <= (now_s - 100.0) * rate + 1 + 1e-6
        now_s += wait_s


def test_the_pace_is_kept() -> None:
    """Looked at often enough, the rate is reached; a long standstill is not made up for in a rush."""
    now_s, started, pace = 0.0, 0, Pace(0.0)
    while now_s < 10:
        due = pace.due(10.0, now_s)
        pace, started, now_s = pace.after(due, 10.0, now_s), started + due, now_s + 0.25
    assert 98 <= started <= 101
    held = Pace(0.0)
    due = held.due(10.0, 600.0)
    assert due == BURST
    assert held.after(20, 10.0, 600.0).due(10.0, 600.25) == 0


def test_it_is_done_when_nothing_is_left() -> None:
    """Starting takes from the front; the last one ends it."""
    first = backfill().after_starting(2, NOON)
    assert (first.started, first.left, first.state) == (2, (NOON + 2 * HOUR,), BackfillState.RUNNING)
    last = first.after_starting(1, NOON + HOUR)
    assert (last.started, last.left, last.state, last.finished_at) == (3, (), BackfillState.DONE, NOON + HOUR)


def test_only_what_is_over_is_ever_spent() -> None:
    """One that runs is kept however old it is."""
    assert not is_spent(backfill(), NOON + 999 * HOUR, HOUR)
    over = backfill().over(BackfillState.CANCELLED, "cancelled", NOON)
    assert not is_spent(over, NOON + HOUR, HOUR)
    assert is_spent(over, NOON + 2 * HOUR, HOUR)
