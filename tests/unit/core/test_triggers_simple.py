"""Intervals, one-shots and manual: the grid, its ends, and the laws every trigger obeys."""

# ruff: noqa: DTZ001 - hypothesis takes naive bounds; each instant gets its zone
from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.schedule import EPOCH, At, Every, Manual, Schedule, Trigger
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, compile_trigger, shortest_gap

MS = timedelta(milliseconds=1)


def compiled(trigger: Trigger) -> CompiledTrigger:
    return compile_trigger(Schedule(id="s", queue="q", type="t", trigger=trigger))


instants = st.datetimes(datetime(1971, 1, 1), datetime(2190, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC, microsecond=at.microsecond // 1000 * 1000)
)
intervals = st.integers(1, 10**10).map(lambda count: timedelta(milliseconds=count))


@given(interval=intervals, anchor=instants, at=instants)
def test_interval_is_the_grid(interval: timedelta, anchor: datetime, at: datetime) -> None:
    """next and previous are the two neighbours of `at` on anchor + n * interval, however far the anchor is."""
    trigger = compiled(Every(interval, anchor))
    later, earlier = trigger.next_after(at), trigger.previous_before(at)
    assert later is not None
    assert at < later <= at + interval
    assert (later - anchor) % interval == timedelta(0)
    assert trigger.yields(later)
    assert not trigger.yields(later + MS) or interval == MS
    if earlier is not None:
        assert at - interval <= earlier < at
        assert trigger.yields(earlier)
        assert trigger.next_after(earlier) == (at if trigger.yields(at) else later)
    assert shortest_gap(trigger) == interval


def test_interval_is_anchored_at_1970() -> None:
    """`every: 2s` fires on even seconds and `every: 10m` on the tens of minutes, whoever asks when."""
    at = datetime(2027, 1, 1, 12, 34, 56, 789_000, tzinfo=UTC)
    assert compiled(Every(timedelta(seconds=2))).next_after(at) == datetime(2027, 1, 1, 12, 34, 58, tzinfo=UTC)
    assert compiled(Every(timedelta(minutes=10))).next_after(at) == datetime(2027, 1, 1, 12, 40, tzinfo=UTC)


def test_interval_at_the_ends_of_time() -> None:
    """Nothing before 1970, nothing after 2199, and no exception wherever one asks."""
    trigger = compiled(Every(timedelta(hours=1)))
    assert trigger.next_after(datetime(1, 1, 1, tzinfo=UTC)) == FIRST
    assert trigger.previous_before(FIRST) is None
    assert trigger.next_after(LAST) is None
    assert trigger.next_after(datetime(9999, 12, 31, tzinfo=UTC)) is None
    assert trigger.previous_before(datetime(9999, 12, 31, tzinfo=UTC)) == datetime(2199, 12, 31, 23, tzinfo=UTC)
    assert compiled(Every(MS)).previous_before(datetime(9999, 1, 1, tzinfo=UTC)) == LAST
    odd = compiled(Every(timedelta(hours=1), EPOCH + timedelta(minutes=7)))
    assert odd.next_after(datetime(1, 1, 1, tzinfo=UTC)) == EPOCH + timedelta(minutes=7)


@given(found=st.sets(instants, min_size=1, max_size=8), at=instants)
def test_once_yields_exactly_its_instants(found: set[datetime], at: datetime) -> None:
    """One-shots come out in order, each once, and none else."""
    ordered = sorted(found)
    trigger = compiled(At(tuple(ordered)))
    walked, cursor = [], trigger.next_after(FIRST)
    while cursor is not None:
        walked.append(cursor)
        cursor = trigger.next_after(cursor)
    assert walked == ordered
    assert trigger.next_after(at) == min((one for one in ordered if one > at), default=None)
    assert trigger.previous_before(at) == max((one for one in ordered if one < at), default=None)
    assert trigger.yields(at) == (at in found)
    assert shortest_gap(trigger) is None


def test_manual_never_fires() -> None:
    """A manual schedule yields nothing in either direction."""
    trigger = compiled(Manual())
    assert trigger.next_after(FIRST) is None
    assert trigger.previous_before(LAST) is None
    assert not trigger.yields(FIRST)
    assert trigger.notes_at(FIRST) == ()
    assert shortest_gap(trigger) is None
