"""Days of the calendar: one wall time whatever clocks do, counted from the anchor's local day, both ways."""

# ruff: noqa: DTZ001 - walls are naive on purpose
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.schedule import EPOCH, Dst, EveryDays, Gap, Schedule, Twice
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, clock_changes, compile_trigger, shortest_gap


def compiled(days: int, anchor: datetime = EPOCH, timezone: str = "UTC", **dst: str) -> CompiledTrigger:
    rule = Dst(**dst) if dst else Dst()  # type: ignore[arg-type]  # words are the enums' values
    return compile_trigger(
        Schedule(id="s", queue="q", type="t", trigger=EveryDays(days, anchor), timezone=timezone, dst=rule)
    )


def local(trigger: CompiledTrigger, after: datetime, timezone: str, count: int) -> list[str]:
    found = []
    for _ in range(count):
        at = trigger.next_after(after)
        assert at is not None
        found.append(f"{at.astimezone(ZoneInfo(timezone)):%Y-%m-%dT%H:%M:%S%z}")
        after = at
    return found


def test_the_wall_time_stays_when_clocks_change() -> None:
    """08:30 in Berlin every other day is 08:30 before and after the change, 47 hours apart once."""
    anchor = datetime(2027, 3, 25, 7, 30, tzinfo=UTC)
    trigger = compiled(2, anchor, "Europe/Berlin")
    assert local(trigger, anchor, "Europe/Berlin", 3) == [
        "2027-03-27T08:30:00+0100",
        "2027-03-29T08:30:00+0200",
        "2027-03-31T08:30:00+0200",
    ]
    assert trigger.yields(anchor)
    assert trigger.previous_before(anchor) == datetime(2027, 3, 23, 7, 30, tzinfo=UTC)
    assert shortest_gap(trigger) == timedelta(days=2)


def test_without_an_anchor_days_count_from_1970() -> None:
    """Midnight UTC, a Thursday for weeks; elsewhere the wall time of that instant."""
    assert compiled(1).next_after(datetime(2027, 1, 1, 3, tzinfo=UTC)) == datetime(2027, 1, 2, tzinfo=UTC)
    assert compiled(7).next_after(datetime(2027, 1, 1, tzinfo=UTC)) == datetime(2027, 1, 7, tzinfo=UTC)
    assert local(compiled(1, timezone="Europe/Berlin"), datetime(2027, 7, 1, tzinfo=UTC), "Europe/Berlin", 1) == [
        "2027-07-02T01:00:00+0200"
    ]


def test_the_day_counts_on_local_clocks() -> None:
    """An anchor late in the evening UTC is the next day in Auckland: the count goes by that one."""
    anchor = datetime(2027, 1, 1, 20, tzinfo=UTC)
    found = local(compiled(7, anchor, "Pacific/Auckland"), anchor, "Pacific/Auckland", 1)
    assert found == ["2027-01-09T09:00:00+1300"]


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ({}, ["27T02:30:00+0100", "28T03:00:00+0200", "29T02:30:00+0200"]),
        ({"gap": Gap.SKIP}, ["27T02:30:00+0100", "29T02:30:00+0200", "30T02:30:00+0200"]),
    ],
)
def test_a_gap_follows_the_dst_rule(dst: dict[str, str], expected: list[str]) -> None:
    """02:30 on the day that has none: at the change, or not at all."""
    trigger = compiled(1, datetime(2027, 1, 1, 1, 30, tzinfo=UTC), "Europe/Berlin", **dst)
    found = local(trigger, datetime(2027, 3, 26, 12, tzinfo=UTC), "Europe/Berlin", 3)
    assert found == [f"2027-03-{each}" for each in expected]


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [(Twice.FIRST, ["+0200"]), (Twice.SECOND, ["+0100"]), (Twice.BOTH, ["+0200", "+0100"])],
)
def test_an_overlap_follows_the_dst_rule(overlap: Twice, expected: list[str]) -> None:
    """02:30 on the day that has two."""
    trigger = compiled(1, datetime(2027, 1, 1, 1, 30, tzinfo=UTC), "Europe/Berlin", overlap=overlap)
    found = local(trigger, datetime(2027, 10, 30, 12, tzinfo=UTC), "Europe/Berlin", len(expected))
    assert found == [f"2027-10-31T02:30:00{each}" for each in expected]
    assert len(clock_changes(trigger, datetime(2027, 6, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))) == 1


def test_the_day_that_apia_lost() -> None:
    """Samoa had no 30 December 2011: its 09:00 fires as the 31st begins, and the 31st has its own."""
    anchor = datetime(2011, 12, 28, 19, tzinfo=UTC)
    assert local(compiled(1, anchor, "Pacific/Apia"), anchor, "Pacific/Apia", 3) == [
        "2011-12-29T09:00:00-1000",
        "2011-12-31T00:00:00+1400",
        "2011-12-31T09:00:00+1400",
    ]
    skipping = compiled(1, anchor, "Pacific/Apia", gap=Gap.SKIP)
    assert local(skipping, anchor, "Pacific/Apia", 2)[1] == "2011-12-31T09:00:00+1400"


@given(
    days=st.integers(1, 400),
    anchor=st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)).map(lambda at: at.replace(tzinfo=UTC)),
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)).map(lambda at: at.replace(tzinfo=UTC)),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia"]),
)
def test_neighbours_are_so_many_days_apart(days: int, anchor: datetime, moment: datetime, timezone: str) -> None:
    """Whatever the anchor, in 1970 or 2199: from one to the next the local date moves by exactly `days`."""
    trigger = compiled(days, anchor, timezone)
    one = trigger.next_after(moment)
    two = None if one is None else trigger.next_after(one)
    if one is None or two is None:
        return
    zone = ZoneInfo(timezone)
    apart = two.astimezone(zone).date() - one.astimezone(zone).date()
    assert apart == timedelta(days=days)
    assert trigger.previous_before(two) == one
    assert trigger.yields(one)
    assert not trigger.yields(one + timedelta(milliseconds=1))
    assert FIRST <= one < two <= LAST
