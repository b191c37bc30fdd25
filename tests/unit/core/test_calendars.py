"""Exclusions and what they do to occurrences, against dates written out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.core.calendars import Calendar
from scheduler.core.catch_up import catch_up
from scheduler.core.dispatching import Close, Fire, InForce, decide_dispatch
from scheduler.core.errors import InvalidArgument
from scheduler.core.firing import fire_time, is_coalesced, lead_of, occurrence_of
from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Definition, Dst, Every, Gap, OnExcluded, Schedule, Twice
from scheduler.core.model.status import Deciding
from scheduler.core.planning import plan_window
from scheduler.core.previewing import preview
from scheduler.core.triggers import compile_trigger
from tests.unit.core.exclusions import NEXT, PREVIOUS, compiled, schedule_of

WEEKEND = Calendar(name="weekend", weekdays=(5, 6))
XMAS = Calendar(name="xmas", yearly=((12, 25), (12, 26)))
MS = timedelta(milliseconds=1)


def fires(schedule: Schedule, after: str, count: int, *calendars: Calendar) -> list[str]:
    """`nominal > fire` where it was moved, on local clocks; `coalesced` behind those that are."""
    trigger, zone = compiled(schedule, *calendars), ZoneInfo(schedule.timezone)
    at: datetime | None = datetime.fromisoformat(after).replace(tzinfo=zone).astimezone(UTC)
    found = []
    for _ in range(count):
        assert at is not None
        at = trigger.next_after(at)
        if at is None:
            break
        fire = fire_time(schedule, trigger, at)
        text = f"{at.astimezone(zone):%a %m-%d %H:%M}"
        if fire != at:
            text += f" > {fire.astimezone(zone):%a %m-%d %H:%M}"
        found.append(text + (" coalesced" if is_coalesced(trigger, at) else ""))
    return found


# --- tables by hand: 2026-12-25 is a Friday, 2027-12-25 a Saturday, 2028-12-25 a Monday


def test_excluded_days_vanish() -> None:
    """A daily schedule on working days passes over Christmas and the weekend behind it."""
    schedule = schedule_of("0 9 * * *", "weekend", "xmas")
    assert fires(schedule, "2026-12-23T12:00", 3, WEEKEND, XMAS) == [
        "Thu 12-24 09:00",
        "Mon 12-28 09:00",
        "Tue 12-29 09:00",
    ]


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (2026, "Fri 12-25 09:00 > Mon 12-28 09:00"),
        (2027, "Sat 12-25 09:00 > Mon 12-27 09:00"),
        (2028, "Mon 12-25 09:00 > Wed 12-27 09:00"),
    ],
)
def test_christmas_goes_to_the_next_business_day(year: int, expected: str) -> None:
    """The 25th fires on the first day behind the holidays that is no weekend."""
    schedule = schedule_of("0 9 25 12 *", "weekend", "xmas", on_excluded=NEXT)
    assert fires(schedule, f"{year}-12-01T00:00", 1, WEEKEND, XMAS) == [expected]


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (2026, "Fri 12-25 09:00 > Thu 12-24 09:00"),
        (2027, "Sat 12-25 09:00 > Fri 12-24 09:00"),
        (2028, "Mon 12-25 09:00 > Fri 12-22 09:00"),
    ],
)
def test_christmas_goes_to_the_previous_business_day(year: int, expected: str) -> None:
    """The 25th fires on the last day before the holidays that is no weekend."""
    schedule = schedule_of("0 9 25 12 *", "weekend", "xmas", on_excluded=PREVIOUS)
    assert fires(schedule, f"{year}-12-01T00:00", 1, WEEKEND, XMAS) == [expected]


def test_month_ends_paid_on_the_previous_business_day() -> None:
    """The last day of each month, as payrolls want it: 2026-01-31 is a Saturday, 02-28 too, 05-31 a Sunday."""
    schedule = schedule_of("0 18 L * *", "weekend", on_excluded=PREVIOUS)
    assert fires(schedule, "2026-01-01T00:00", 5, WEEKEND) == [
        "Sat 01-31 18:00 > Fri 01-30 18:00",
        "Sat 02-28 18:00 > Fri 02-27 18:00",
        "Tue 03-31 18:00",
        "Thu 04-30 18:00",
        "Sun 05-31 18:00 > Fri 05-29 18:00",
    ]


def test_a_month_end_may_move_into_the_next_month() -> None:
    """`next_business_day` knows no month: Sunday the 31st becomes Monday the 1st."""
    schedule = schedule_of("0 18 31 5 *", "weekend", on_excluded=NEXT)
    assert fires(schedule, "2026-05-01T00:00", 1, WEEKEND) == ["Sun 05-31 18:00 > Mon 06-01 18:00"]


def test_a_run_of_holidays_coalesces_into_a_day_that_has_one() -> None:
    """Daily, and Friday to Sunday are excluded: Monday has its own, so none of the three fires beside it."""
    schedule = schedule_of("0 9 * * *", "weekend", "xmas", on_excluded=NEXT)
    assert fires(schedule, "2026-12-24T12:00", 4, WEEKEND, XMAS) == [
        "Fri 12-25 09:00 > Mon 12-28 09:00 coalesced",
        "Sat 12-26 09:00 > Mon 12-28 09:00 coalesced",
        "Sun 12-27 09:00 > Mon 12-28 09:00 coalesced",
        "Mon 12-28 09:00",
    ]


def test_one_that_coalesces_is_skipped_however_late() -> None:
    """Its verdict is that of its day, and none of catch-up: neither missed nor made up for."""
    schedule = schedule_of("0 9 * * *", "weekend", "xmas", on_excluded=NEXT)
    trigger = compiled(schedule, WEEKEND, XMAS)
    friday = trigger.next_after(datetime(2026, 12, 25, tzinfo=UTC))
    assert friday is not None
    assert is_coalesced(trigger, friday)
    decision = catch_up(schedule, trigger, Deciding(friday, friday, friday + timedelta(days=4)))
    assert decision.fires == ()
    assert [(each.first, each.verdict, each.reason) for each in decision.ranges] == [(friday, "skipped", "coalesced")]


@pytest.mark.parametrize(("direction", "day"), [(NEXT, "Mon 12-28"), (PREVIOUS, "Thu 12-24")])
def test_the_earliest_of_a_run_has_the_day(direction: OnExcluded, day: str) -> None:
    """Fridays and Saturdays only, both excluded: the first takes the new day, whichever way, the other is coalesced."""
    schedule = schedule_of("0 9 * * 5,6", "weekend", "xmas", on_excluded=direction)
    assert fires(schedule, "2026-12-22T12:00", 2, WEEKEND, XMAS) == [
        f"Fri 12-25 09:00 > {day} 09:00",
        f"Sat 12-26 09:00 > {day} 09:00 coalesced",
    ]


def test_two_times_of_one_day() -> None:
    """The new day may have one at another time of day: it is the day that counts."""
    schedule = schedule_of("0 9,17 25 12 *", "xmas", on_excluded=NEXT)
    assert fires(schedule, "2026-12-01T00:00", 2, XMAS) == [
        "Fri 12-25 09:00 > Sun 12-27 09:00",
        "Fri 12-25 17:00 > Sun 12-27 17:00 coalesced",
    ]


def test_a_year_of_holidays_is_skipped() -> None:
    """Where no day is found within 31, an occurrence is left out; one a month from the end is moved."""
    year = Calendar(name="year", ranges=((date(2026, 1, 1), date(2026, 12, 31)),))
    schedule = schedule_of("0 9 3,15 * *", "year", on_excluded=NEXT)
    assert fires(schedule, "2025-12-20T00:00", 3, year) == [
        "Thu 12-03 09:00 > Fri 01-01 09:00",
        "Tue 12-15 09:00 > Fri 01-01 09:00 coalesced",
        "Sun 01-03 09:00",
    ]
    schedule = schedule_of("0 9 3,15 * *", "year", on_excluded=PREVIOUS)
    assert fires(schedule, "2025-12-20T00:00", 3, year) == [
        "Sat 01-03 09:00 > Wed 12-31 09:00",
        "Thu 01-15 09:00 > Wed 12-31 09:00 coalesced",
        "Sun 01-03 09:00",
    ]


def test_moved_into_a_gap_and_into_a_repeated_hour() -> None:
    """The new wall time follows `dst`: 2027-03-28 02:30 does not exist in Berlin, 2027-10-31 02:30 comes twice."""
    spring = Calendar(name="spring", dates=(date(2027, 3, 27),))
    schedule = schedule_of("30 2 27 3 *", "spring", on_excluded=NEXT)
    assert fires(schedule, "2027-03-01T00:00", 1, spring) == ["Sat 03-27 02:30 > Sun 03-28 03:00"]
    skipping = schedule_of("30 2 27 3 *", "spring", on_excluded=NEXT, dst=Dst(gap=Gap.SKIP))
    assert fires(skipping, "2027-03-01T00:00", 1, spring) == ["Sat 03-27 02:30 > Mon 03-29 02:30"]
    autumn = Calendar(name="autumn", dates=(date(2027, 10, 30),))
    for twice, hour in ((Twice.FIRST, 0), (Twice.SECOND, 1), (Twice.BOTH, 0)):
        schedule = schedule_of("30 2 30 10 *", "autumn", on_excluded=NEXT, dst=Dst(overlap=twice))
        trigger = compiled(schedule, autumn)
        nominal = trigger.next_after(datetime(2027, 10, 1, tzinfo=UTC))
        assert nominal is not None
        assert fire_time(schedule, trigger, nominal) == datetime(2027, 10, 31, hour, 30, tzinfo=UTC)


def test_the_days_are_those_of_the_zone() -> None:
    """The same date is excluded from 05:00 UTC on in New York, and in UTC where the calendar says so."""
    day = Calendar(name="day", dates=(date(2026, 12, 25),))
    local = compiled(schedule_of(Every(timedelta(hours=1)), "day", zone="America/New_York"), day)
    assert local.yields(datetime(2026, 12, 25, 4, tzinfo=UTC))
    assert local.next_after(datetime(2026, 12, 25, 4, tzinfo=UTC)) == datetime(2026, 12, 26, 5, tzinfo=UTC)
    own = Calendar(name="day", dates=(date(2026, 12, 25),), timezone="UTC")
    fixed = compiled(schedule_of(Every(timedelta(hours=1)), "day", zone="America/New_York"), own)
    assert fixed.next_after(datetime(2026, 12, 24, 23, tzinfo=UTC)) == datetime(2026, 12, 26, tzinfo=UTC)


def test_a_day_of_25_hours() -> None:
    """The day on which clocks go back is excluded whole, and nothing beside it."""
    day = Calendar(name="day", dates=(date(2027, 10, 31),))
    trigger = compiled(schedule_of(Every(timedelta(minutes=30)), "day"), day)
    last = datetime(2027, 10, 30, 21, 30, tzinfo=UTC)
    assert trigger.next_after(last) == last + timedelta(hours=25, minutes=30)
    assert trigger.previous_before(last + timedelta(hours=25, minutes=30)) == last


def test_leap_days() -> None:
    """`02-29` excludes the leap day, and nothing in other years."""
    leap = Calendar(name="leap", yearly=((2, 29),))
    schedule = schedule_of("0 9 * 2-3 *", "leap")
    assert fires(schedule, "2028-02-28T00:00", 2, leap) == ["Mon 02-28 09:00", "Wed 03-01 09:00"]
    assert fires(schedule, "2027-02-28T00:00", 2, leap) == ["Sun 02-28 09:00", "Mon 03-01 09:00"]


def test_cron_expressions_exclude_minutes() -> None:
    """Five fields name whole minutes, whatever the second; six name seconds."""
    minutes = compiled(schedule_of("*/20 * * * * *", "* 10 * * *", zone="UTC"))
    assert minutes.next_after(datetime(2026, 1, 1, 9, 59, 40, tzinfo=UTC)) == datetime(2026, 1, 1, 11, tzinfo=UTC)
    seconds = compiled(schedule_of("*/20 * * * * *", "20 * * * * *", zone="UTC"))
    assert not seconds.yields(datetime(2026, 1, 1, 10, 0, 20, tzinfo=UTC))
    assert seconds.yields(datetime(2026, 1, 1, 10, 0, 40, tzinfo=UTC))
    with pytest.raises(InvalidArgument, match="names no times"):
        compiled(schedule_of("* * * * *", "@every 1h"))


def test_a_missing_calendar_makes_it_invalid() -> None:
    """The error names the calendar and the field."""
    with pytest.raises(InvalidArgument, match="there is no calendar 'x'") as caught:
        compile_trigger(schedule_of("0 9 * * *", "x"))
    assert caught.value.field == "exclude"


@pytest.mark.parametrize("direction", list(OnExcluded))
@pytest.mark.parametrize("exclude", ["* * * * *", "everything", "0 * * * *"])
def test_what_excludes_everything_ends_the_search(direction: OnExcluded, exclude: str) -> None:
    """Nothing is found, and soon, even for an interval of seconds."""
    everything = Calendar(name="everything", weekdays=tuple(range(7)))
    rule = "0 * * * *" if exclude.startswith("0") else Every(timedelta(seconds=1))
    trigger = compiled(schedule_of(rule, exclude, on_excluded=direction, zone="UTC"), everything)
    assert trigger.next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None
    assert trigger.previous_before(datetime(2026, 1, 1, tzinfo=UTC)) is None


# --- planning and dispatch


def test_planned_ahead_because_it_fires_before_its_nominal_time() -> None:
    """Only backwards moves need a lead, and a window of nominal time holds the moved one with its fire time."""
    schedule = schedule_of("0 9 25 12 *", "weekend", "xmas", on_excluded=PREVIOUS)
    trigger = compiled(schedule, WEEKEND, XMAS)
    assert lead_of(trigger) >= timedelta(days=31)
    assert lead_of(compiled(schedule_of("0 9 25 12 *", "xmas", on_excluded=NEXT), XMAS)) == timedelta(0)
    definition = Definition(schedule=schedule, generation=1, effective_at=datetime(2026, 12, 1, tzinfo=UTC))
    plan = plan_window(
        definition, trigger, after=definition.effective_at, until=definition.effective_at + lead_of(trigger)
    )
    assert [each.fire_at for each in plan.occurrences] == [datetime(2026, 12, 24, 8, tzinfo=UTC)]


def test_what_would_have_fired_before_the_definition_is_not_planned() -> None:
    """Stored on the morning of the 24th, behind the fire time of the 25th: nothing is fired retroactively."""
    schedule = schedule_of("0 9 25 12 *", "xmas", on_excluded=PREVIOUS)
    definition = Definition(schedule=schedule, generation=1, effective_at=datetime(2026, 12, 24, 9, tzinfo=UTC))
    trigger = compiled(schedule, XMAS)
    plan = plan_window(definition, trigger, after=definition.effective_at, until=datetime(2027, 1, 1, tzinfo=UTC))
    assert plan.occurrences == ()


def decided(schedule: Schedule, nominal: datetime, now: datetime, *calendars: Calendar) -> Fire | Close:
    trigger = compiled(schedule, *calendars)
    in_force = InForce(
        Definition(schedule=schedule, generation=1, effective_at=datetime(2026, 1, 1, tzinfo=UTC)), trigger
    )
    occurrence = occurrence_of(in_force.definition, trigger, nominal)
    decision = decide_dispatch(occurrence, in_force, execution_id="x", epoch=1, now=now)
    assert isinstance(decision, Fire | Close)
    return decision


def test_a_coalesced_one_is_closed_on_record() -> None:
    """Whoever decides about it: skipped, reason coalesced."""
    schedule = schedule_of("0 9 * * *", "weekend", on_excluded=NEXT, zone="UTC")
    monday = datetime(2026, 12, 21, 9, tzinfo=UTC)
    decision = decided(schedule, monday - timedelta(days=2), monday, WEEKEND)
    assert isinstance(decision, Close)
    assert (decision.execution.state, decision.execution.reason) == (State.SKIPPED, "coalesced")
    assert isinstance(decided(schedule, monday, monday, WEEKEND), Fire)


def test_a_record_made_before_its_nominal_time_outlives_it() -> None:
    """The record is what a repeat meets: it stays at least until the nominal time, whatever the retention."""
    schedule = schedule_of("0 9 21 12 *", "0 9 15-21 12 *", on_excluded=PREVIOUS, zone="UTC")
    nominal = datetime(2026, 12, 21, 9, tzinfo=UTC)
    decision = decided(schedule, nominal, nominal - timedelta(days=7))
    assert isinstance(decision, Fire)
    assert decision.execution.fire_at == nominal - timedelta(days=7)
    assert decision.execution.retention_s >= timedelta(days=7).total_seconds()


def test_preview_tells_where_it_goes() -> None:
    """Excluded ones are left out, moved ones say where they come from, coalesced ones that they will not run."""
    skipping = schedule_of("0 9 * * *", "weekend", zone="UTC")
    shown = preview(skipping, compiled(skipping, WEEKEND), after=datetime(2026, 12, 18, 12, tzinfo=UTC), count=1)
    assert [(each.local, each.notes) for each in shown] == [("2026-12-21T09:00:00+00:00", ())]
    moving = schedule_of("0 9 * * 5,6", "xmas", on_excluded=NEXT, zone="UTC")
    shown = preview(moving, compiled(moving, XMAS), after=datetime(2026, 12, 24, tzinfo=UTC), count=2)
    assert [each.notes for each in shown] == [
        ("moved from Fri 2026-12-25 (excluded)",),
        ("moved from Sat 2026-12-26 (excluded)", "coalesced: its new day already has one"),
    ]
