"""Jitter: the same for ever, never across the next nominal time, evenly spread."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.firing import fire_time
from scheduler.core.jitter import jitter_of
from scheduler.core.model.schedule import At, Every, Schedule
from scheduler.core.triggers import compile_trigger

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)

GOLDEN = {
    ("report", 0, MINUTE): 35_092,
    ("report", 1, MINUTE): 6_171,
    ("mail.daily", 0, MINUTE): 2_225,
    ("mail.daily", 0, timedelta(hours=24)): 3_205_275,
    ("s", 86_400, timedelta(days=3650)): 277_530_255_300,
}


@pytest.mark.parametrize(("case", "milliseconds"), GOLDEN.items())
def test_the_hash_is_frozen(case: tuple[str, int, timedelta], milliseconds: int) -> None:
    """A change would move the fire times of every schedule with jitter, under way at that moment too."""
    schedule_id, offset_s, most = case
    assert jitter_of(schedule_id, NOON + timedelta(seconds=offset_s), most, None) == milliseconds * MS


@given(
    schedule_id=st.text("abc.-", min_size=1, max_size=8),
    offset_ms=st.integers(0, 10**12),
    most_ms=st.integers(0, 10**9),
    gap_ms=st.none() | st.integers(1, 10**9),
)
def test_it_never_reaches_the_next_nominal_time(
    schedule_id: str, offset_ms: int, most_ms: int, gap_ms: int | None
) -> None:
    """From nothing to less than the jitter, and less than the gap; whole milliseconds."""
    nominal = NOON + offset_ms * MS
    following = None if gap_ms is None else nominal + gap_ms * MS
    jitter = jitter_of(schedule_id, nominal, most_ms * MS, following)
    least = min(most_ms, most_ms if gap_ms is None else gap_ms)
    assert timedelta(0) <= jitter < max(1, least) * MS
    assert not jitter % MS
    assert jitter == jitter_of(schedule_id, nominal, most_ms * MS, following)


def test_it_is_evenly_spread() -> None:
    """Over schedules at one instant, and over the instants of one schedule: no tenth of the span is left out."""
    for found in (
        [jitter_of(f"s{number}", NOON, MINUTE, None) for number in range(10_000)],
        [jitter_of("s", NOON + number * MINUTE, MINUTE, NOON + (number + 1) * MINUTE) for number in range(10_000)],
    ):
        tenths = Counter(each // (MINUTE / 10) for each in found)
        assert sorted(tenths) == list(range(10))
        assert all(850 < count < 1150 for count in tenths.values())


def test_an_edit_of_the_jitter_stretches_it() -> None:
    """Twice the jitter is twice the delay, to the millisecond: who was early in the span stays early."""
    for number in range(100):
        one = jitter_of(f"s{number}", NOON, MINUTE, None)
        assert timedelta(0) <= jitter_of(f"s{number}", NOON, 2 * MINUTE, None) - 2 * one <= MS


def test_a_fire_time_is_nominal_and_delay_and_jitter() -> None:
    """They add up; without a next nominal time (the last one-shot, the end of a window) nothing caps the jitter."""
    trigger = At((NOON, NOON + MINUTE))
    plain = Schedule(id="report", queue="q", type="t", trigger=trigger, start_delay=MINUTE)
    schedule = Schedule(
        id="report", queue="q", type="t", trigger=trigger, start_delay=MINUTE, jitter=timedelta(hours=24)
    )
    compiled = compile_trigger(schedule)
    assert fire_time(plain, compiled, NOON) == NOON + MINUTE
    assert NOON + MINUTE <= fire_time(schedule, compiled, NOON) < NOON + 2 * MINUTE
    assert fire_time(schedule, compiled, NOON + MINUTE) > NOON + timedelta(hours=1)
    ends = Schedule(
        id="report", queue="q", type="t", trigger=Every(MINUTE), jitter=timedelta(hours=9), ends_at=NOON + MS
    )
    assert fire_time(ends, compile_trigger(ends), NOON) > NOON + MINUTE
    assert fire_time(ends, compile_trigger(ends), NOON - MINUTE) < NOON
