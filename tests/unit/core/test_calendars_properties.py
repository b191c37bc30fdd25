"""Exclusions of any calendar, for any rule and zone, against a brute-force walk."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.calendars import Calendar
from scheduler.core.firing import fire_time, is_coalesced, lead_of
from scheduler.core.model.schedule import At, Cron, Every, OnExcluded, Trigger
from scheduler.core.triggers import CompiledTrigger
from tests.unit.core.exclusions import BERLIN, NEXT, PREVIOUS, compiled, schedule_of

_days = st.integers(0, 89).map(lambda number: date(2026, 3, 1) + timedelta(days=number))
_calendars = st.builds(
    lambda dates, spans, weekdays, cron, zone: Calendar(
        name="c",
        dates=tuple(sorted(dates)),
        ranges=tuple((first, first + timedelta(days=length)) for first, length in spans),
        weekdays=tuple(sorted(weekdays)),
        cron=tuple(cron),
        timezone=zone,
    ),
    st.sets(_days, max_size=6),
    st.lists(st.tuples(_days, st.integers(0, 40)), max_size=2),
    st.sets(st.integers(0, 6), max_size=3),
    st.lists(st.sampled_from(["* 9-11 * * *", "30 * * * *", "* * 10-20 4 *", "15 10 * * * *"]), max_size=2),
    st.sampled_from([None, "Asia/Kathmandu", "America/Havana"]),
)
_rules = st.sampled_from(
    [
        Cron(("0 9 * * *",)),
        Cron(("30 2 * * *",)),
        Cron(("0 9,17 * * 1,5",)),
        Cron(("15 */6 * * *",)),
        Every(timedelta(hours=7)),
        Every(timedelta(minutes=250)),
        At((datetime(2026, 3, 29, 10, tzinfo=UTC), datetime(2026, 4, 15, 10, 0, 0, 5000, tzinfo=UTC))),
    ]
)
_zones = st.sampled_from(["UTC", BERLIN, "America/Havana", "Australia/Lord_Howe"])
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 20, tzinfo=UTC)


def is_excluded(calendar: Calendar, at: datetime, zone: str) -> bool:
    """The same question, answered in another way: from the local datetime, field by field."""
    local = at.astimezone(ZoneInfo(calendar.timezone or zone))
    day = local.date()
    by_cron = {
        "* 9-11 * * *": local.hour in range(9, 12),
        "30 * * * *": local.minute == 30,
        "* * 10-20 4 *": local.month == 4 and local.day in range(10, 21),
        "15 10 * * * *": (local.minute, local.second) == (10, 15),
    }
    return (
        day in calendar.dates
        or any(first <= day <= last for first, last in calendar.ranges)
        or day.weekday() in calendar.weekdays
        or any(by_cron[expression] for expression in calendar.cron)
    )


def walked(trigger: CompiledTrigger, start: datetime, end: datetime) -> list[datetime]:
    found, at = [], trigger.next_after(start)
    while at is not None and at <= end:
        found.append(at)
        at = trigger.next_after(at)
    return found


@settings(max_examples=60, deadline=None)
@given(_calendars, _rules, _zones)
def test_exclusions_leave_exactly_the_rest(calendar: Calendar, rule: Trigger, zone: str) -> None:
    """With skip: those of the rule that the calendar does not hold, forwards, backwards and one by one."""
    plain = walked(compiled(schedule_of(rule, zone=zone)), START, END)
    trigger = compiled(schedule_of(rule, "c", zone=zone), calendar)
    rest = [at for at in plain if not is_excluded(calendar, at, zone)]
    assert walked(trigger, START, END) == rest
    assert [at for at in plain if trigger.yields(at)] == rest
    for earlier, later in pairwise(rest):
        assert trigger.previous_before(later) == earlier


@settings(max_examples=50, deadline=None)
@given(_calendars, _rules, _zones, st.sampled_from([NEXT, PREVIOUS]))
def test_moved_ones_land_on_free_times(calendar: Calendar, rule: Trigger, zone: str, direction: OnExcluded) -> None:
    """No fire time is excluded; it lies within 31 days, the right way; next and previous agree."""
    schedule = schedule_of(rule, "c", zone=zone, on_excluded=direction)
    trigger = compiled(schedule, calendar)
    plain = walked(compiled(schedule_of(rule, zone=zone)), START, END)
    found = walked(trigger, START, END)
    assert found == [at for at in plain if trigger.yields(at)]
    for earlier, later in pairwise(found):
        assert trigger.previous_before(later) == earlier
    for nominal in plain:
        if nominal not in found:
            assert is_excluded(calendar, nominal, zone)
            continue
        fire = fire_time(schedule, trigger, nominal)
        assert not is_excluded(calendar, fire, zone)
        assert (fire == nominal) == (not is_excluded(calendar, nominal, zone))
        assert timedelta(0) <= (fire - nominal if direction is NEXT else nominal - fire) <= timedelta(days=31, hours=1)
        assert nominal - fire <= lead_of(trigger)


@settings(max_examples=50, deadline=None)
@given(_calendars, _rules, _zones, st.sampled_from([NEXT, PREVIOUS]))
def test_a_day_gets_one_more_at_most(calendar: Calendar, rule: Trigger, zone: str, direction: OnExcluded) -> None:
    """Of all moved ones only those are not coalesced whose new day has nothing else, and they are alone on it."""
    schedule = schedule_of(rule, "c", zone=zone, on_excluded=direction)
    trigger = compiled(schedule, calendar)
    found = walked(trigger, START, END)
    naturals = {at.astimezone(ZoneInfo(zone)).date() for at in found if not is_excluded(calendar, at, zone)}
    taken: dict[date, datetime] = {}
    for nominal in found:
        day = fire_time(schedule, trigger, nominal).astimezone(ZoneInfo(zone)).date()
        if not is_excluded(calendar, nominal, zone) or is_coalesced(trigger, nominal):
            continue
        assert day not in naturals
        assert day not in taken or START + timedelta(days=35) > nominal
        taken[day] = nominal
