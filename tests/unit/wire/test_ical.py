"""iCalendar files: which days their events cover."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.calendar import calendar_of_document
from scheduler.wire.ical import Imported, read_ical

FIRST, LAST = date(2026, 1, 1), date(2035, 12, 31)


def read(*events: str, name: str = "", **more: Any) -> Imported:
    blocks = [f"BEGIN:VEVENT\r\nUID:{number}\r\n{event}\r\nEND:VEVENT" for number, event in enumerate(events)]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN", *([f"X-WR-CALNAME:{name}"] if name else [])]
    text = "\r\n".join([*lines, *blocks, "END:VCALENDAR", ""]).replace("\n ", "\n")
    return read_ical(text.encode(), first=FIRST, last=LAST, **more)


def days(*events: str, **more: Any) -> list[str]:
    """Every day, ranges written out."""
    calendar = calendar_of_document("x", read(*events, **more).document)
    found = {*calendar.dates}
    for first, last in calendar.ranges:
        found |= {first + timedelta(days=number) for number in range((last - first).days + 1)}
    return [str(day) for day in sorted(found)]


def lines(*parts: str) -> str:
    return "\r\n".join(parts)


def test_an_all_day_event() -> None:
    """Its end is not included, and without one it is a single day."""
    assert days("DTSTART;VALUE=DATE:20261225") == ["2026-12-25"]
    assert days(lines("DTSTART;VALUE=DATE:20261225", "DTEND;VALUE=DATE:20261227")) == ["2026-12-25", "2026-12-26"]
    assert days(lines("DTSTART;VALUE=DATE:20261225", "DURATION:P3D")) == ["2026-12-25", "2026-12-26", "2026-12-27"]


def test_runs_become_ranges() -> None:
    """A long holiday is one line, and the name of the calendar its description."""
    found = read(
        lines("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20270102"), "DTSTART;VALUE=DATE:20270501", name="Firm"
    )
    assert found.document == {
        "description": "Firm",
        "dates": ["2027-05-01"],
        "ranges": [{"from": "2026-12-24", "to": "2027-01-01"}],
    }
    assert (found.events, found.days) == (2, 10)


def test_timed_events_cover_the_days_they_touch() -> None:
    """On the clocks they are written in; one that ends at midnight does not touch the next day."""
    assert days(lines("DTSTART:20261225T100000Z", "DTEND:20261225T110000Z")) == ["2026-12-25"]
    assert days(lines("DTSTART:20261225T230000Z", "DTEND:20261226T010000Z")) == ["2026-12-25", "2026-12-26"]
    assert days(lines("DTSTART:20261225T230000Z", "DTEND:20261226T000000Z")) == ["2026-12-25"]
    assert days("DTSTART;TZID=Europe/Berlin:20261225T003000") == ["2026-12-25"]
    assert days("DTSTART:20261225T233000Z", timezone="Europe/Berlin") == ["2026-12-26"]


def test_yearly_rules_are_expanded_within_the_range() -> None:
    """Ten Christmases, though the rule began long before and never ends."""
    found = days(lines("DTSTART;VALUE=DATE:19991225", "RRULE:FREQ=YEARLY"))
    assert found == [f"{year}-12-25" for year in range(2026, 2036)]


def test_rules_with_ends_and_exceptions() -> None:
    """COUNT, UNTIL in UTC and local, EXDATE and RDATE."""
    assert days(lines("DTSTART;VALUE=DATE:20260105", "RRULE:FREQ=WEEKLY;COUNT=2")) == ["2026-01-05", "2026-01-12"]
    until = lines("DTSTART:20260105T100000Z", "RRULE:FREQ=WEEKLY;UNTIL=20260112T100000Z")
    assert days(until) == ["2026-01-05", "2026-01-12"]
    assert days(lines("DTSTART;VALUE=DATE:20260105", "RRULE:FREQ=WEEKLY;UNTIL=20260112")) == [
        "2026-01-05",
        "2026-01-12",
    ]
    excepted = lines(
        "DTSTART;VALUE=DATE:20260105",
        "RRULE:FREQ=WEEKLY;COUNT=3",
        "EXDATE;VALUE=DATE:20260112",
        "RDATE;VALUE=DATE:20260201",
    )
    assert days(excepted) == ["2026-01-05", "2026-01-19", "2026-02-01"]
    monday = lines("DTSTART;VALUE=DATE:20260525", "RRULE:FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO;COUNT=3")
    assert days(monday) == ["2026-05-25", "2027-05-31", "2028-05-29"]


def test_a_changed_instance_takes_the_place_of_its_own() -> None:
    """RECURRENCE-ID of the same UID: the rule's instance is gone, the changed one is there."""
    text = lines(
        "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x",
        "BEGIN:VEVENT", "UID:a", "DTSTART;VALUE=DATE:20260105", "RRULE:FREQ=WEEKLY;COUNT=2", "END:VEVENT",
        "BEGIN:VEVENT", "UID:a", "RECURRENCE-ID;VALUE=DATE:20260112", "DTSTART;VALUE=DATE:20260114", "END:VEVENT",
        "END:VCALENDAR", "",
    )  # fmt: skip
    document = read_ical(text.encode(), first=FIRST, last=LAST).document
    assert document == {"dates": ["2026-01-05", "2026-01-14"]}


def test_cancelled_events_cover_nothing() -> None:
    """Nor do events outside of the range."""
    assert days("DTSTART;VALUE=DATE:20260105", lines("DTSTART;VALUE=DATE:20260106", "STATUS:CANCELLED")) == [
        "2026-01-05"
    ]
    with pytest.raises(InvalidArgument, match="covers no day from 2026-01-01 to 2035-12-31"):
        read("DTSTART;VALUE=DATE:20200105")


def test_what_cannot_be_read_is_told() -> None:
    """One bad event keeps the others from nothing; a file that is none is refused."""
    found = read("DTSTART;VALUE=DATE:20260105", lines("SUMMARY:Odd", "DTSTART;VALUE=DATE:20260105", "DURATION:P500D"))
    assert found.problems == ("event 'Odd': lasts longer than 366 days",)
    for raw in (b"", b"hello", b"\xff\xfe", b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n"):
        with pytest.raises(InvalidArgument):
            read_ical(raw, first=FIRST, last=LAST)


def test_endless_rules_are_bounded() -> None:
    """A rule of seconds ends with a sentence, not with the memory."""
    with pytest.raises(InvalidArgument, match="more than 100000 instances"):
        read(lines("SUMMARY:Evil", "DTSTART:20200101T000000Z", "RRULE:FREQ=SECONDLY"))
