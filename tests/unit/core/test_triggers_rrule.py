"""Recurrence rules: clock changes, anchors and ends, and what is refused."""

# ruff: noqa: DTZ001 - walls are naive on purpose
from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Dst, Gap, Twice
from scheduler.core.triggers import FIRST, LAST, shortest_gap
from tests.unit.core.rrule_triggers import compiled, walls

BERLIN = ZoneInfo("Europe/Berlin")


# --- clock changes


@pytest.mark.parametrize(
    ("dst", "march", "october"),
    [
        (Dst(), ["27T02:30+01", "28T03:00+02", "29T02:30+02"], ["30T02:30+02", "31T02:30+02"]),
        (Dst(gap=Gap.SKIP, overlap=Twice.SECOND), ["27T02:30+01", "29T02:30+02"], ["30T02:30+02", "31T02:30+01"]),
        (Dst(overlap=Twice.BOTH), ["28T03:00+02"], ["30T02:30+02", "31T02:30+02", "31T02:30+01"]),
    ],
)
def test_daily_rules_follow_the_dst_rule(dst: Dst, march: list[str], october: list[str]) -> None:
    """A wall time that clocks skip, and one that they show twice."""
    trigger = compiled("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", timezone="Europe/Berlin", dst=dst)
    for month, expected in ((3, march), (10, october)):
        found = []
        cursor = trigger.next_after(datetime(2027, month, int(expected[0][:2]), tzinfo=UTC))
        for _ in expected:
            assert cursor is not None
            found.append(f"{cursor.astimezone(BERLIN):%dT%H:%M%z}"[:-2])
            cursor = trigger.next_after(cursor)
        assert found == expected


@pytest.mark.parametrize("rule", ["FREQ=HOURLY;BYMINUTE=30", "FREQ=MINUTELY;INTERVAL=15", "FREQ=SECONDLY;INTERVAL=600"])
@pytest.mark.parametrize("month", [3, 10])
def test_hourly_rules_follow_elapsed_time(rule: str, month: int) -> None:
    """Over both changes of Berlin: no hole and no double, whatever `dst` says of fixed walls."""
    anchor = datetime(2027, 1, 1, tzinfo=UTC)
    trigger = compiled(rule, anchor=anchor, timezone="Europe/Berlin", dst=Dst(gap=Gap.NEXT, overlap=Twice.FIRST))
    start = datetime(2027, month, 27 if month == 3 else 30, 22, tzinfo=UTC)
    found, cursor = [], trigger.next_after(start)
    while cursor is not None and cursor < start + timedelta(hours=8):
        found.append(cursor)
        cursor = trigger.next_after(cursor)
    assert len({later - earlier for earlier, later in itertools.pairwise(found)}) == 1


def test_hours_by_sixes_stay_on_the_clock() -> None:
    """INTERVAL of an hourly rule counts walls: 0, 6, 12, 18 o'clock before the change and after it."""
    anchor = datetime(2027, 1, 1, 23, tzinfo=UTC)
    trigger = compiled("FREQ=HOURLY;INTERVAL=6", anchor=anchor, timezone="Europe/Berlin")
    found = walls(trigger, 9, BERLIN, datetime(2027, 3, 27, 12, tzinfo=UTC))
    assert [at.hour for at in found] == [18, 0, 6, 12, 18, 0, 6, 12, 18]


# --- anchor, UNTIL, COUNT


def test_without_an_anchor_parts_are_the_first_of_their_kind() -> None:
    """Midnight, the first day of the week, the 1st, January."""
    now = datetime(2026, 11, 21, 8, tzinfo=UTC)
    for rule, expected in (
        ("FREQ=DAILY", datetime(2026, 11, 22)),
        ("FREQ=WEEKLY", datetime(2026, 11, 23)),
        ("FREQ=WEEKLY;WKST=SU", datetime(2026, 11, 22)),
        ("FREQ=MONTHLY", datetime(2026, 12, 1)),
        ("FREQ=YEARLY", datetime(2027, 1, 1)),
        ("FREQ=YEARLY;BYMONTH=3", datetime(2027, 3, 1)),
        ("FREQ=YEARLY;BYWEEKNO=10", datetime(2027, 3, 8)),
        ("FREQ=DAILY;BYHOUR=9", datetime(2026, 11, 21, 9)),
        ("FREQ=HOURLY", datetime(2026, 11, 21, 9)),
        ("rrule:freq=minutely;byminute=30", datetime(2026, 11, 21, 8, 30)),
    ):
        assert walls(compiled(rule), 1, ZoneInfo("UTC"), now) == [expected], rule
        berlin = walls(compiled(rule, timezone="Europe/Berlin"), 1, BERLIN, now - timedelta(hours=1))
        assert berlin == [expected], rule
        assert compiled(rule).previous_before(FIRST + timedelta(days=900)) is not None


def test_an_anchor_in_milliseconds_is_cut_to_seconds() -> None:
    """The anchor's own second is the first occurrence."""
    anchor = datetime(2027, 1, 1, 9, 0, 5, 999_000, UTC)
    trigger = compiled("FREQ=DAILY;COUNT=2", anchor=anchor)
    assert walls(trigger, 9, ZoneInfo("UTC")) == [datetime(2027, 1, 1, 9, 0, 5), datetime(2027, 1, 2, 9, 0, 5)]


def test_until_is_inclusive_in_utc_local_and_as_a_date() -> None:
    """The occurrence at UNTIL itself is in; a local one goes by the zone's clocks; a date counts as a whole."""
    for until, days in (
        ("20270103T080000Z", 3),
        ("20270103T075959Z", 2),
        ("20270103T090000", 3),
        ("20270103T085959", 2),
        ("20270103", 3),
        ("20270102", 2),
    ):
        trigger = compiled(f"FREQ=DAILY;BYHOUR=9;UNTIL={until}", timezone="Europe/Berlin")
        found = walls(trigger, 9, BERLIN, datetime(2026, 12, 31, 12, tzinfo=UTC))
        assert found == [datetime(2027, 1, number, 9) for number in range(1, days + 1)], until
        assert trigger.previous_before(LAST) == found[-1].replace(tzinfo=BERLIN)


def test_count_counts_what_fires() -> None:
    """A skipped wall is not counted, one that comes twice counts twice."""
    anchor = datetime(2027, 3, 27, 1, 30, tzinfo=UTC)
    skipping = compiled("FREQ=DAILY;COUNT=2", anchor=anchor, timezone="Europe/Berlin", dst=Dst(gap=Gap.SKIP))
    assert walls(skipping, 9, BERLIN) == [datetime(2027, 3, 27, 2, 30), datetime(2027, 3, 29, 2, 30)]
    hourly = compiled("FREQ=HOURLY;COUNT=4", anchor=datetime(2027, 10, 30, 23, tzinfo=UTC), timezone="Europe/Berlin")
    assert [at.hour for at in walls(hourly, 9, BERLIN)] == [1, 2, 2, 3]


def test_rules_together_are_a_union() -> None:
    """An instant that two rules name is one occurrence."""
    trigger = compiled("FREQ=DAILY;BYHOUR=9", "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9,10")
    found = walls(trigger, 4, ZoneInfo("UTC"), datetime(2026, 11, 22, tzinfo=UTC))
    assert [f"{at:%d %H}" for at in found] == ["22 09", "23 09", "23 10", "24 09"]


def test_numbered_and_plain_weekdays_together() -> None:
    """Each entry of BYDAY adds its days: all Mondays, and the second Tuesday."""
    trigger = compiled("FREQ=MONTHLY;BYDAY=MO,2TU")
    found = walls(trigger, 6, ZoneInfo("UTC"), datetime(2026, 10, 31, tzinfo=UTC))
    assert [at.day for at in found] == [2, 9, 10, 16, 23, 30]


@pytest.mark.parametrize(
    ("rule", "gap"),
    [
        ("FREQ=SECONDLY", timedelta(seconds=1)),
        ("FREQ=SECONDLY;BYSECOND=0,20", timedelta(seconds=20)),
        ("FREQ=MINUTELY;BYMINUTE=0,10", timedelta(minutes=10)),
        ("FREQ=DAILY;BYHOUR=0,23;BYMINUTE=30", timedelta(hours=1)),
        ("FREQ=MONTHLY;BYMONTHDAY=1,-1", timedelta(days=1)),
        ("FREQ=DAILY;UNTIL=20300101", timedelta(days=1)),
    ],
)
def test_the_shortest_gap(rule: str, gap: timedelta) -> None:
    """What the minimum interval is compared with."""
    assert shortest_gap(compiled(rule)) == gap


# --- refused


REFUSED = {
    "nothing": ("", "NAME=VALUE"),
    "no rule": ("every day", "NAME=VALUE"),
    "no FREQ": ("INTERVAL=2", "no FREQ"),
    "unknown FREQ": ("FREQ=FORTNIGHTLY", "YEARLY"),
    "unknown part": ("FREQ=DAILY;BYEASTER=0", "BYEASTER"),
    "twice": ("FREQ=DAILY;BYHOUR=1;BYHOUR=2", "BYHOUR twice"),
    "two lines": ("FREQ=DAILY\nFREQ=WEEKLY", "one line"),
    "EXDATE": ("RRULE:FREQ=DAILY\nEXDATE:19970902T090000", "one line"),
    "trailing": ("FREQ=DAILY;", "NAME=VALUE"),
    "interval of zero": ("FREQ=DAILY;INTERVAL=0", "1 to 1000000"),
    "interval of a word": ("FREQ=DAILY;INTERVAL=two", "whole number"),
    "count too large": ("FREQ=DAILY;COUNT=10001", "1 to 10000"),
    "hour 24": ("FREQ=DAILY;BYHOUR=24", "0 to 23"),
    "minute -1": ("FREQ=DAILY;BYMINUTE=-1", "0 to 59"),
    "month 13": ("FREQ=YEARLY;BYMONTH=13", "1 to 12"),
    "month -1": ("FREQ=YEARLY;BYMONTH=-1", "1 to 12"),
    "day 0": ("FREQ=MONTHLY;BYMONTHDAY=0", "1 to 31"),
    "day -32": ("FREQ=MONTHLY;BYMONTHDAY=-32", "1 to 31"),
    "empty list": ("FREQ=MONTHLY;BYMONTHDAY=", "1 to 31"),
    "other digits": ("FREQ=MONTHLY;BYMONTHDAY=\u0661", "1 to 31"),
    "weekday": ("FREQ=WEEKLY;BYDAY=MON", "as MO"),
    "weekday zero": ("FREQ=MONTHLY;BYDAY=0MO", "1 to 53"),
    "wkst": ("FREQ=WEEKLY;WKST=1", "MO, TU"),
    "until": ("FREQ=DAILY;UNTIL=2027-12-31", "20271231"),
    "until the 30th of February": ("FREQ=DAILY;UNTIL=20270230", "day"),
    "until far away": ("FREQ=DAILY;UNTIL=99991231", "1970 and 2199"),
    "until and count": ("FREQ=DAILY;UNTIL=20271231;COUNT=3", "COUNT and UNTIL"),
    "week number by month": ("FREQ=MONTHLY;BYWEEKNO=3", "FREQ=YEARLY"),
    "year day by week": ("FREQ=WEEKLY;BYYEARDAY=3", "YEARLY"),
    "month day by week": ("FREQ=WEEKLY;BYMONTHDAY=3", "DAILY"),
    "numbered weekday by week": ("FREQ=WEEKLY;BYDAY=1MO", "FREQ=MONTHLY"),
    "numbered weekday and week number": ("FREQ=YEARLY;BYWEEKNO=3;BYDAY=1MO", "without BYWEEKNO"),
    "position alone": ("FREQ=MONTHLY;BYSETPOS=1", "BYSETPOS alone"),
    "30 February": ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "never fires before the year 2200"),
    "31 in short months": ("FREQ=MONTHLY;BYMONTH=4,6,9,11;BYMONTHDAY=31", "never fires"),
    "31 in short months, by day": ("FREQ=DAILY;BYMONTH=4,6,9,11;BYMONTHDAY=31", "never fires"),
    "by seconds": ("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30", "never fires"),
    "position that no set has": ("FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2", "never fires"),
    "position of an hour": ("FREQ=HOURLY;BYMINUTE=1,2;BYSETPOS=3", "never fires"),
    "past before it begins": ("FREQ=DAILY;UNTIL=19691231", "1970"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """What is no rule, what the RFC forbids, and what never fires, each with its reason; in bounded time."""
    rule, reason = REFUSED[case]
    with pytest.raises(InvalidArgument, match=reason) as caught:
        compiled(rule)
    assert caught.value.field == "rrule"


ANCHORED = {
    "odd minutes by twos from 0": "FREQ=MINUTELY;INTERVAL=2;BYMINUTE=1,3,5",
    "Mondays by sevens from Tuesday": "FREQ=DAILY;INTERVAL=7;BYDAY=MO",
    "seven hours never meet it": "FREQ=HOURLY;INTERVAL=7;BYDAY=TU;BYHOUR=18",
    "until before the anchor": "FREQ=DAILY;UNTIL=20200101",
}


@pytest.mark.parametrize("case", ANCHORED)
def test_an_interval_that_never_meets_its_days_is_refused(case: str) -> None:
    """From an anchor too: a search that ends, and says so."""
    with pytest.raises(InvalidArgument, match="never fires"):
        compiled(ANCHORED[case], anchor=datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize("rule", ["FREQ=DAILY;INTERVAL=2", "FREQ=DAILY;COUNT=3"])
def test_what_counts_needs_an_anchor(rule: str) -> None:
    """INTERVAL above 1 and COUNT have no meaning without a start."""
    with pytest.raises(InvalidArgument, match="give that instant as anchor") as caught:
        compiled(rule)
    assert caught.value.field == "anchor"
    assert compiled(rule, anchor=FIRST).next_after(FIRST) == FIRST + timedelta(days=1 + ("INTERVAL" in rule))
