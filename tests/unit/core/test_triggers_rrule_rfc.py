"""Recurrence rules held to every example of RFC 5545, 3.8.5.3."""

# ruff: noqa: DTZ007 - walls are naive on purpose
from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.unit.core.rrule_triggers import compiled, walls

NEW_YORK = ZoneInfo("America/New_York")


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
