"""Clock changes, one by one: what a schedule does in the gap and in the hour that comes twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.model.schedule import Cron, Every, Schedule
from scheduler.core.triggers import CompiledTrigger, compile_trigger
from scheduler.core.zones import zone_of


def compiled(expression: str, zone: str) -> CompiledTrigger:
    return compile_trigger(Schedule(id="s", queue="q", type="t", trigger=Cron((expression,)), timezone=zone))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local_fires(expression: str, zone: str, day: str, days: int = 1) -> list[str]:
    """Local time and offset of every fire in `days` times 24 hours from 00:00 UTC of a day."""
    trigger, tz = compiled(expression, zone), zone_of(zone).tz
    at = trigger.next_after(utc(day) - timedelta(milliseconds=1))
    until = utc(day) + timedelta(days=days)
    found = []
    while at is not None and at < until:
        found.append(at.astimezone(tz).isoformat(timespec="minutes")[5:])
        at = trigger.next_after(at)
    return found


CASES = {
    "Berlin: fixed in the gap fires at the transition": (
        ("30 2 * * *", "Europe/Berlin", "2027-03-27", 3),
        ["03-27T02:30+01:00", "03-28T03:00+02:00", "03-29T02:30+02:00"],
    ),
    "Berlin: several fixed times in the gap are one": (
        ("0,15,30,45 2 * * *", "Europe/Berlin", "2027-03-28", 1),
        ["03-28T03:00+02:00"],
    ),
    "Berlin: a fixed time in the gap and one at its end are one": (
        ("30 1,2,3 * * *", "Europe/Berlin", "2027-03-28", 1),
        ["03-28T01:30+01:00", "03-28T03:00+02:00", "03-28T03:30+02:00", "03-29T01:30+02:00"],
    ),
    "Berlin: fixed at the end of the gap fires there, once": (
        ("0 2,3 * * *", "Europe/Berlin", "2027-03-28", 1),
        ["03-28T03:00+02:00"],
    ),
    "Berlin: fixed in the hour that comes twice fires the first time": (
        ("30 2 * * *", "Europe/Berlin", "2027-10-30", 3),
        ["10-30T02:30+02:00", "10-31T02:30+02:00", "11-01T02:30+01:00"],
    ),
    "Berlin: hourly has no hole in the gap": (
        ("0 * * * *", "Europe/Berlin", "2027-03-28", 1),
        [
            *(f"03-28T{h:02d}:00+0{1 if h < 2 else 2}:00" for h in (1, *range(3, 24))),
            "03-29T00:00+02:00",
            "03-29T01:00+02:00",
        ],
    ),
    "Berlin: every half hour goes on through the hour that comes twice": (
        ("*/30 2 * * *", "Europe/Berlin", "2027-10-31", 1),
        ["10-31T02:00+02:00", "10-31T02:30+02:00", "10-31T02:00+01:00", "10-31T02:30+01:00"],
    ),
    "Berlin: a starred expression in the gap has nothing to fire": (
        ("*/30 2 * * *", "Europe/Berlin", "2027-03-28", 1),
        [],
    ),
    "Berlin: a starred minute in the gap, its neighbours unmoved": (
        ("*/30 1-3 * * *", "Europe/Berlin", "2027-03-28", 1),
        [
            "03-28T01:00+01:00",
            "03-28T01:30+01:00",
            "03-28T03:00+02:00",
            "03-28T03:30+02:00",
            "03-29T01:00+02:00",
            "03-29T01:30+02:00",
        ],
    ),
    "Berlin: six fields, fixed, in the gap": (
        ("30 15,45 2 * * *", "Europe/Berlin", "2027-03-28", 1),
        ["03-28T03:00+02:00"],
    ),
    "New York: fixed in the gap": (
        ("30 2 * * *", "America/New_York", "2027-03-14", 2),
        ["03-14T03:00-04:00", "03-15T02:30-04:00"],
    ),
    "New York: fixed in the hour that comes twice": (
        ("30 1 * * *", "America/New_York", "2027-11-07", 2),
        ["11-07T01:30-04:00", "11-08T01:30-05:00"],
    ),
    "New York: Sundays only, the gap Sunday included": (
        ("30 2 * * 0", "America/New_York", "2027-03-07", 15),
        ["03-07T02:30-05:00", "03-14T03:00-04:00", "03-21T02:30-04:00"],
    ),
    "Lord Howe: a gap of half an hour": (
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-01", 3),
        ["10-02T02:15+10:30", "10-03T02:30+11:00", "10-04T02:15+11:00"],
    ),
    "Lord Howe: half an hour comes twice": (
        ("45 1 * * *", "Australia/Lord_Howe", "2027-04-02", 3),
        ["04-03T01:45+11:00", "04-04T01:45+11:00", "04-05T01:45+10:30"],
    ),
    "Lord Howe: every ten minutes through the half hour that comes twice": (
        ("*/10 1 * * *", "Australia/Lord_Howe", "2027-04-03", 1),
        [
            *(f"04-04T01:{m}0+11:00" for m in range(6)),
            *(f"04-04T01:{m}0+10:30" for m in range(3, 6)),
        ],
    ),
    "Cairo: midnight does not exist, the day does": (
        ("0 0 * * *", "Africa/Cairo", "2027-04-28", 3),
        ["04-29T00:00+02:00", "04-30T01:00+03:00", "05-01T00:00+03:00"],
    ),
    "Cairo: the weekday of a missing midnight counts": (
        ("30 0 * * 5", "Africa/Cairo", "2027-04-29", 7),
        ["04-30T01:00+03:00"],
    ),
    "Santiago: midnight does not exist": (
        ("0 0 * * *", "America/Santiago", "2027-09-04", 3),
        ["09-04T00:00-04:00", "09-05T01:00-03:00", "09-06T00:00-03:00"],
    ),
    "Santiago: the last hour of the day comes twice": (
        ("30 23 * * *", "America/Santiago", "2027-04-03", 3),
        ["04-02T23:30-03:00", "04-03T23:30-03:00", "04-04T23:30-04:00"],
    ),
    "Casablanca: clocks go back for Ramadan": (
        ("30 2 * * *", "Africa/Casablanca", "2025-02-22", 3),
        ["02-22T02:30+01:00", "02-23T02:30+01:00", "02-24T02:30+00:00"],
    ),
    "Casablanca: and forward again after it": (
        ("30 2 * * *", "Africa/Casablanca", "2025-04-05", 3),
        ["04-05T02:30+00:00", "04-06T03:00+01:00", "04-07T02:30+01:00"],
    ),
    "Apia 2011: a whole day is missing; what was due on it fires at its end": (
        ("0 9 * * *", "Pacific/Apia", "2011-12-29", 4),
        ["12-29T09:00-10:00", "12-31T00:00+14:00", "12-31T09:00+14:00", "01-01T09:00+14:00", "01-02T09:00+14:00"],
    ),
    "Apia 2011: elapsed time knows no missing day": (
        ("0 */12 * * *", "Pacific/Apia", "2011-12-29", 3),
        [
            "12-29T00:00-10:00",
            "12-29T12:00-10:00",
            "12-31T00:00+14:00",
            "12-31T12:00+14:00",
            "01-01T00:00+14:00",
            "01-01T12:00+14:00",
        ],
    ),
    "UTC knows no clock change": (("30 2 * * *", "UTC", "2027-03-28", 1), ["03-28T02:30+00:00"]),
}


@pytest.mark.parametrize("case", CASES)
def test_clock_change(case: str) -> None:
    """Each documented clock change gives exactly the fires that the contract's rule gives."""
    (expression, zone, day, days), expected = CASES[case]
    assert local_fires(expression, zone, day, days) == expected


def test_an_interval_ignores_clock_changes() -> None:
    """`every` is elapsed time: the same distance before, in and after a gap."""
    schedule = Schedule(id="s", queue="q", type="t", trigger=Every(timedelta(minutes=45)), timezone="Europe/Berlin")
    trigger = compile_trigger(schedule)
    at = trigger.next_after(utc("2027-03-27T22:00"))
    for _ in range(12):
        assert at is not None
        later = trigger.next_after(at)
        assert later is not None
        assert later - at == timedelta(minutes=45)
        at = later


NOTES = {
    "gap": ("30 2 * * *", "2027-03-28T01:00", ("2027-03-28 02:30 does not exist in Europe/Berlin; fires at 03:00",)),
    "overlap": (
        "30 2 * * *",
        "2027-10-31T00:30",
        ("2027-10-31 02:30 comes twice in Europe/Berlin; fires the first time",),
    ),
    "plain day": ("30 2 * * *", "2027-05-01T00:30", ()),
    "elapsed": ("*/30 * * * *", "2027-10-31T00:30", ()),
    "several": (
        "0,30 2,3 * * *",
        "2027-03-28T01:00",
        (
            "2027-03-28 02:00 does not exist in Europe/Berlin; fires at 03:00",
            "2027-03-28 02:30 does not exist in Europe/Berlin; fires at 03:00",
        ),
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes(case: str) -> None:
    """A shifted or doubled wall time is explained, nothing else is."""
    expression, nominal, expected = NOTES[case]
    trigger = compiled(expression, "Europe/Berlin")
    assert trigger.yields(utc(nominal))
    assert trigger.notes_at(utc(nominal)) == expected


def test_notes_of_a_union_are_told_once() -> None:
    """Two expressions that name the same missing time explain it once."""
    crons = Cron(("30 2 * * *", "30 2 * * 0"))
    trigger = compile_trigger(Schedule(id="s", queue="q", type="t", trigger=crons, timezone="Europe/Berlin"))
    assert trigger.notes_at(utc("2027-03-28T01:00")) == NOTES["gap"][2]


def test_notes_of_many_walls_in_one_gap_are_few() -> None:
    """An expression with every second of the missing hour does not write thousands of notes."""
    trigger = compiled("0-59 0-59 2 * * *", "Europe/Berlin")
    notes = trigger.notes_at(utc("2027-03-28T01:00"))
    assert len(notes) == 6
    assert notes[-1] == "and more on this day before 03:00"
