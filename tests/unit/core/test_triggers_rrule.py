"""Recurrence rules: every example of RFC 5545, 3.8.5.3, clock changes, and what is refused."""

# ruff: noqa: DTZ001, DTZ007 - walls are naive on purpose
from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Dst, Gap, RRule, Schedule, Twice
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, compile_trigger, shortest_gap

NEW_YORK = ZoneInfo("America/New_York")
BERLIN = ZoneInfo("Europe/Berlin")


def compiled(
    *rules: str,
    anchor: datetime | None = None,
    timezone: str = "UTC",
    dst: Dst = Dst(),  # noqa: B008 - frozen
) -> CompiledTrigger:
    return compile_trigger(
        Schedule(id="s", queue="q", type="t", trigger=RRule(rules, anchor), timezone=timezone, dst=dst)
    )


def walls(trigger: CompiledTrigger, count: int, zone: ZoneInfo, after: datetime = FIRST) -> list[datetime]:
    found, cursor = [], trigger.next_after(after)
    while cursor is not None and len(found) < count:
        found.append(cursor.astimezone(zone).replace(tzinfo=None))
        cursor = trigger.next_after(cursor)
    return found


def dates(text: str, times: str = "09:00") -> list[datetime]:
    """`1997-09: 2 4-6, 1998-01: 3`: those days, each at those times."""
    found = []
    for month in text.split(","):
        name, _, days = month.strip().partition(": ")
        for day in days.split():
            first, _, last = day.partition("-")
            for number in range(int(first), int(last or first) + 1):
                found += [datetime.strptime(f"{name}-{number} {time}", "%Y-%m-%d %H:%M") for time in times.split()]
    return found


SEPTEMBER_2 = "1997-09-02T09:00"
JANUARIES = "1998-01: 1-31, 1999-01: 1-31, 2000-01: 1-31"
TO_CHRISTMAS = "19971224T000000Z"
TEN_TUESDAYS_AND_THURSDAYS = "1997-09: 2 4 9 11 16 18 23 25 30, 1997-10: 2"
EVERY_20_MINUTES = (
    "09:00 09:20 09:40 10:00 10:20 10:40 11:00 11:20 11:40 12:00 12:20 12:40 "
    "13:00 13:20 13:40 14:00 14:20 14:40 15:00 15:20 15:40 16:00 16:20 16:40"
)
# rule, DTSTART in New York, the dates of the RFC; True: those are all, and nothing comes after them
EXAMPLES: dict[str, tuple[str, str, list[datetime], bool]] = {
    "daily for 10 occurrences": ("FREQ=DAILY;COUNT=10", SEPTEMBER_2, dates("1997-09: 2-11"), True),
    "daily until December 24, 1997": (
        f"FREQ=DAILY;UNTIL={TO_CHRISTMAS}",
        SEPTEMBER_2,
        dates("1997-09: 2-30, 1997-10: 1-31, 1997-11: 1-30, 1997-12: 1-23"),
        True,
    ),
    "every other day": (
        "FREQ=DAILY;INTERVAL=2",
        SEPTEMBER_2,
        dates(
            "1997-09: 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30,"
            "1997-10: 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30, 1997-11: 1 3 5"
        ),
        False,
    ),
    "every 10 days, 5 occurrences": (
        "FREQ=DAILY;INTERVAL=10;COUNT=5",
        SEPTEMBER_2,
        dates("1997-09: 2 12 22, 1997-10: 2 12"),
        True,
    ),
    "every day in January, for 3 years": (
        "FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
        "1998-01-01T09:00",
        dates(JANUARIES),
        True,
    ),
    "every day in January, said by day": (
        "FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1",
        "1998-01-01T09:00",
        dates(JANUARIES),
        True,
    ),
    "weekly for 10 occurrences": (
        "FREQ=WEEKLY;COUNT=10",
        SEPTEMBER_2,
        dates("1997-09: 2 9 16 23 30, 1997-10: 7 14 21 28, 1997-11: 4"),
        True,
    ),
    "weekly until December 24, 1997": (
        f"FREQ=WEEKLY;UNTIL={TO_CHRISTMAS}",
        SEPTEMBER_2,
        dates("1997-09: 2 9 16 23 30, 1997-10: 7 14 21 28, 1997-11: 4 11 18 25, 1997-12: 2 9 16 23"),
        True,
    ),
    "every other week": (
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        SEPTEMBER_2,
        dates("1997-09: 2 16 30, 1997-10: 14 28, 1997-11: 11 25, 1997-12: 9 23, 1998-01: 6 20, 1998-02: 3 17"),
        False,
    ),
    "weekly on Tuesday and Thursday for five weeks": (
        "FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH",
        SEPTEMBER_2,
        dates(TEN_TUESDAYS_AND_THURSDAYS),
        True,
    ),
    "the same, counted": (
        "FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH",
        SEPTEMBER_2,
        dates(TEN_TUESDAYS_AND_THURSDAYS),
        True,
    ),
    "every other week on Monday, Wednesday, Friday until December 24": (
        f"FREQ=WEEKLY;INTERVAL=2;UNTIL={TO_CHRISTMAS};WKST=SU;BYDAY=MO,WE,FR",
        "1997-09-01T09:00",
        dates(
            "1997-09: 1 3 5 15 17 19 29, 1997-10: 1 3 13 15 17 27 29 31,1997-11: 10 12 14 24 26 28, 1997-12: 8 10 12 22"
        ),
        True,
    ),
    "every other week on Tuesday and Thursday, 8 occurrences": (
        "FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH",
        SEPTEMBER_2,
        dates("1997-09: 2 4 16 18 30, 1997-10: 2 14 16"),
        True,
    ),
    "monthly on the first Friday, 10 occurrences": (
        "FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
        "1997-09-05T09:00",
        dates(
            "1997-09: 5, 1997-10: 3, 1997-11: 7, 1997-12: 5, 1998-01: 2,"
            "1998-02: 6, 1998-03: 6, 1998-04: 3, 1998-05: 1, 1998-06: 5"
        ),
        True,
    ),
    "monthly on the first Friday until December 24": (
        f"FREQ=MONTHLY;UNTIL={TO_CHRISTMAS};BYDAY=1FR",
        "1997-09-05T09:00",
        dates("1997-09: 5, 1997-10: 3, 1997-11: 7, 1997-12: 5"),
        True,
    ),
    "every other month on the first and last Sunday": (
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "1997-09-07T09:00",
        dates("1997-09: 7 28, 1997-11: 2 30, 1998-01: 4 25, 1998-03: 1 29, 1998-05: 3 31"),
        True,
    ),
    "monthly on the second-to-last Monday": (
        "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        "1997-09-22T09:00",
        dates("1997-09: 22, 1997-10: 20, 1997-11: 17, 1997-12: 22, 1998-01: 19, 1998-02: 16"),
        True,
    ),
    "monthly on the third-to-the-last day": (
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "1997-09-28T09:00",
        dates("1997-09: 28, 1997-10: 29, 1997-11: 28, 1997-12: 29, 1998-01: 29, 1998-02: 26"),
        False,
    ),
    "monthly on the 2nd and 15th": (
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
        SEPTEMBER_2,
        dates("1997-09: 2 15, 1997-10: 2 15, 1997-11: 2 15, 1997-12: 2 15, 1998-01: 2 15"),
        True,
    ),
    "monthly on the first and last day": (
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        "1997-09-30T09:00",
        dates("1997-09: 30, 1997-10: 1 31, 1997-11: 1 30, 1997-12: 1 31, 1998-01: 1 31, 1998-02: 1"),
        True,
    ),
    "every 18 months on the 10th thru 15th": (
        "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        "1997-09-10T09:00",
        dates("1997-09: 10-15, 1999-03: 10-13"),
        True,
    ),
    "every Tuesday, every other month": (
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        SEPTEMBER_2,
        dates("1997-09: 2 9 16 23 30, 1997-11: 4 11 18 25, 1998-01: 6 13 20 27, 1998-03: 3 10 17 24 31"),
        False,
    ),
    "yearly in June and July": (
        "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        "1997-06-10T09:00",
        dates(
            "1997-06: 10, 1997-07: 10, 1998-06: 10, 1998-07: 10, 1999-06: 10,"
            "1999-07: 10, 2000-06: 10, 2000-07: 10, 2001-06: 10, 2001-07: 10"
        ),
        True,
    ),
    "every other year on January, February, and March": (
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "1997-03-10T09:00",
        dates(
            "1997-03: 10, 1999-01: 10, 1999-02: 10, 1999-03: 10, 2001-01: 10,"
            "2001-02: 10, 2001-03: 10, 2003-01: 10, 2003-02: 10, 2003-03: 10"
        ),
        True,
    ),
    "every third year on the 1st, 100th, and 200th day": (
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "1997-01-01T09:00",
        dates(
            "1997-01: 1, 1997-04: 10, 1997-07: 19, 2000-01: 1, 2000-04: 9,"
            "2000-07: 18, 2003-01: 1, 2003-04: 10, 2003-07: 19, 2006-01: 1"
        ),
        True,
    ),
    "every 20th Monday of the year": (
        "FREQ=YEARLY;BYDAY=20MO",
        "1997-05-19T09:00",
        dates("1997-05: 19, 1998-05: 18, 1999-05: 17"),
        False,
    ),
    "Monday of week number 20": (
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        "1997-05-12T09:00",
        dates("1997-05: 12, 1998-05: 11, 1999-05: 17"),
        False,
    ),
    "every Thursday in March": (
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "1997-03-13T09:00",
        dates("1997-03: 13 20 27, 1998-03: 5 12 19 26, 1999-03: 4 11 18 25"),
        False,
    ),
    "every Thursday, but only during June, July, and August": (
        "FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
        "1997-06-05T09:00",
        dates(
            "1997-06: 5 12 19 26, 1997-07: 3 10 17 24 31, 1997-08: 7 14 21 28,"
            "1998-06: 4 11 18 25, 1998-07: 2 9 16 23 30, 1998-08: 6 13 20 27,"
            "1999-06: 3 10 17 24, 1999-07: 1 8 15 22 29, 1999-08: 5 12 19 26"
        ),
        False,
    ),
    "every Friday the 13th": (
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        SEPTEMBER_2,
        dates("1998-02: 13, 1998-03: 13, 1998-11: 13, 1999-08: 13, 2000-10: 13"),
        False,
    ),
    "the first Saturday that follows the first Sunday": (
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "1997-09-13T09:00",
        dates(
            "1997-09: 13, 1997-10: 11, 1997-11: 8, 1997-12: 13, 1998-01: 10,"
            "1998-02: 7, 1998-03: 7, 1998-04: 11, 1998-05: 9, 1998-06: 13"
        ),
        False,
    ),
    "US Presidential Election day": (
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "1996-11-05T09:00",
        dates("1996-11: 5, 2000-11: 7, 2004-11: 2"),
        False,
    ),
    "the third instance of Tuesday, Wednesday, or Thursday": (
        "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
        "1997-09-04T09:00",
        dates("1997-09: 4, 1997-10: 7, 1997-11: 6"),
        True,
    ),
    "the second-to-last weekday of the month": (
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "1997-09-29T09:00",
        dates("1997-09: 29, 1997-10: 30, 1997-11: 27, 1997-12: 30, 1998-01: 29, 1998-02: 26, 1998-03: 30"),
        False,
    ),
    "every 3 hours from 9:00 AM to 5:00 PM (UNTIL as corrected by erratum 3883)": (
        "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z",
        SEPTEMBER_2,
        dates("1997-09: 2", "09:00 12:00 15:00"),
        True,
    ),
    "every 15 minutes for 6 occurrences": (
        "FREQ=MINUTELY;INTERVAL=15;COUNT=6",
        SEPTEMBER_2,
        dates("1997-09: 2", "09:00 09:15 09:30 09:45 10:00 10:15"),
        True,
    ),
    "every hour and a half for 4 occurrences": (
        "FREQ=MINUTELY;INTERVAL=90;COUNT=4",
        SEPTEMBER_2,
        dates("1997-09: 2", "09:00 10:30 12:00 13:30"),
        True,
    ),
    "every 20 minutes from 9:00 AM to 4:40 PM every day": (
        "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40",
        SEPTEMBER_2,
        dates("1997-09: 2-3", EVERY_20_MINUTES),
        False,
    ),
    "the same, by minutes": (
        "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16",
        SEPTEMBER_2,
        dates("1997-09: 2-3", EVERY_20_MINUTES),
        False,
    ),
    "weeks that start on Monday": (
        "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
        "1997-08-05T09:00",
        dates("1997-08: 5 10 19 24"),
        True,
    ),
    "weeks that start on Sunday": (
        "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
        "1997-08-05T09:00",
        dates("1997-08: 5 17 19 31"),
        True,
    ),
    "an invalid date is ignored": (
        "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
        "2007-01-15T09:00",
        dates("2007-01: 15 30, 2007-02: 15, 2007-03: 15 30"),
        True,
    ),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_the_examples_of_the_rfc(case: str) -> None:
    """The dates that RFC 5545 lists, both ways, and behind the last of a bounded rule nothing."""
    rule, start, expected, is_all = EXAMPLES[case]
    anchor = datetime.fromisoformat(start).replace(tzinfo=NEW_YORK).astimezone(UTC)
    trigger = compiled(rule, anchor=anchor, timezone="America/New_York")
    assert walls(trigger, len(expected) + is_all, NEW_YORK) == expected
    last = expected[-1].replace(tzinfo=NEW_YORK).astimezone(UTC)
    backwards, cursor = [last], trigger.previous_before(last)
    while cursor is not None:
        backwards.append(cursor)
        cursor = trigger.previous_before(cursor)
    assert [at.astimezone(NEW_YORK).replace(tzinfo=None) for at in reversed(backwards)] == expected
    assert all(trigger.yields(at) for at in backwards)


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
