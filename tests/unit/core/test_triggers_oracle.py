"""Cron held to two independent oracles: cronsim, and a walker that looks at every single minute."""

# ruff: noqa: DTZ001 - hypothesis takes naive bounds; each instant gets its zone
from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from scheduler.core import zones
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Cron, Schedule
from scheduler.core.triggers import LAST, CompiledTrigger, compile_trigger
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.cron_text import read_cron
from scheduler.core.zones import Zone, zone_of

# Zones whose clocks change by whole hours and not at midnight: cronsim looks for an hour in whole hours, which misses
# what a shift of half an hour moves (Lord_Howe), and fires starred expressions at a midnight that does not exist
# (Cairo, Santiago, Havana). The walker below has all of those.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Sydney",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Pacific/Apia",
)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def compiled(expression: str, zone: str = "UTC", schedule_id: str = "s") -> CompiledTrigger:
    schedule = Schedule(id=schedule_id, queue="q", type="t", trigger=Cron((expression,)), timezone=zone)
    return compile_trigger(schedule)


def fires(trigger: CompiledTrigger, after: datetime) -> Iterator[datetime]:
    at = trigger.next_after(after)
    while at is not None:
        yield at
        at = trigger.next_after(at)


def ranges(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    pairs = st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1]).map(sorted)
    return pairs.map(lambda pair: f"{pair[0]}-{pair[1]}")


def field(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    """One field in every form that cronsim knows.

    Left out, because the two mean different things by it: a step from a single weekday ("1/2": cronsim counts on to
    7, which is Sunday again) and a step on a range of one ("5-5/2": cronsim reads "5/2"). cronsim knows no wrapping
    ranges, W, H and years; those have tables of their own.
    """
    number = st.integers(low, high).map(str)
    steps = st.integers(1, high + 2)
    stepped = st.builds(lambda text, step: f"{text}/{step}", ranges(low, high), steps)
    starred = steps.map(lambda step: f"*/{step}")
    words = [st.sampled_from(names)] if names else []
    plain = st.one_of(number, ranges(low, high), stepped, *words)
    lists = st.lists(plain, min_size=1, max_size=3).map(",".join)
    from_number = st.builds(lambda n, step: f"{n}/{step}", number, steps) if names is not WEEKDAYS else st.nothing()
    return st.one_of(st.just("*"), st.just("*"), starred, lists, from_number)


nth_weekday = st.builds(lambda day, n: f"{day}#{n}", st.integers(0, 7), st.integers(1, 5))
five_fields = st.tuples(
    field(0, 59),
    field(0, 23),
    st.one_of(field(1, 31), st.just("L")),
    field(1, 12, MONTHS),
    st.one_of(field(0, 7, WEEKDAYS), nth_weekday),
).map(" ".join)
starts = st.datetimes(datetime(2019, 1, 1), datetime(2036, 1, 1)).map(lambda at: at.replace(tzinfo=UTC, microsecond=0))


def cronsim_fires(expression: str, zone: ZoneInfo, after: datetime, count: int) -> list[datetime]:
    """What cronsim says, each instant once (it repeats one for every wall time of a gap), nothing in the past."""
    found: list[datetime] = []
    for local in islice(CronSim(expression, after.astimezone(zone)), count * 3):
        at = local.astimezone(UTC)
        if after < at <= LAST and (not found or at > found[-1]):
            found.append(at)
    return found[:count]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(expression=five_fields, zone=st.sampled_from(ZONES), after=starts)
@example("30 2 * * *", "Europe/Berlin", datetime(2027, 3, 27, tzinfo=UTC))
@example("*/15 * * * *", "Europe/Berlin", datetime(2027, 10, 30, 22, tzinfo=UTC))
@example("0 0 */2 * 1", "UTC", datetime(2027, 1, 1, tzinfo=UTC))
@example("0 0 13 * 5#2", "UTC", datetime(2027, 1, 1, tzinfo=UTC))
@example("0 0 * * 7", "UTC", datetime(2027, 1, 1, tzinfo=UTC))
def test_fires_as_cronsim_does(expression: str, zone: str, after: datetime) -> None:
    """Every five-field expression fires at the instants cronsim gives, in every zone and through clock changes."""
    local = after.astimezone(zone_of(zone).tz)
    assume(local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset())  # cronsim cannot start inside one
    try:
        expected = cronsim_fires(expression, zone_of(zone).tz, after, 25)
    except CronSimError:
        with pytest.raises(InvalidArgument):
            compiled(expression, zone)
        return
    if not expected:
        return
    assert list(islice(fires(compiled(expression, zone), after), len(expected))) == expected


def walked(expression: str, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """The rule by brute force: look at every minute (elapsed), or at every wall minute (fixed)."""
    fields = read_cron(expression, "s")
    minutes, hours, days = fields.times.minutes, fields.times.hours, fields.days
    epoch = datetime(1970, 1, 1)

    def matches(wall: datetime) -> bool:
        day = (wall.date() - epoch.date()).days
        return wall.minute in minutes and wall.hour in hours and days.at_or_after(day) == day

    if not fields.fixed:
        count = (until - after) // timedelta(minutes=1)
        minutes_between = (after + timedelta(minutes=n) for n in range(1, count + 1))
        return [at for at in minutes_between if matches(at.astimezone(zone).replace(tzinfo=None))]
    found: set[datetime] = set()
    wall = (after - timedelta(days=2)).replace(tzinfo=None, second=0)
    while wall < (until + timedelta(days=2)).replace(tzinfo=None):
        if matches(wall):
            at = wall.replace(tzinfo=zone)
            if at.utcoffset() < at.replace(fold=1).utcoffset():  # type: ignore[operator]  # a gap: both offsets are known
                at = first_after_gap(wall, zone)
            found.add(at.astimezone(UTC))
        wall += timedelta(minutes=1)
    return sorted(at for at in found if after < at <= until)


def first_after_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The transition, found minute by minute: the first instant with the later offset."""
    at = (wall - timedelta(days=1, hours=1)).replace(tzinfo=zone).astimezone(UTC)
    while at.astimezone(zone).replace(tzinfo=None) <= wall:
        at += timedelta(minutes=1)
    return at


CHANGES = (
    ("Europe/Berlin", datetime(2027, 3, 28, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2027, 10, 31, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 3, 14, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 11, 7, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2027, 4, 3, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2027, 10, 2, 15, 30, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2027, 4, 29, 22, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2027, 10, 28, 21, tzinfo=UTC)),
    ("America/Santiago", datetime(2027, 9, 5, 4, tzinfo=UTC)),
    ("America/Santiago", datetime(2027, 4, 4, 3, tzinfo=UTC)),
    ("America/Havana", datetime(2027, 3, 14, 5, tzinfo=UTC)),
    ("America/Havana", datetime(2027, 11, 7, 5, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2025, 2, 23, 2, tzinfo=UTC)),
)


@settings(max_examples=150, deadline=None)
@given(
    minute=field(0, 59),
    hour=st.one_of(field(0, 23), st.sampled_from(["0", "1", "2", "3", "0-4", "1,2", "*/2"])),
    change=st.sampled_from(CHANGES),
    offset=st.integers(-1500, 1500),
    block_bits=st.sampled_from([24, 24, 13, 11]),
)
def test_fires_as_a_walker_sees_it(
    minute: str, hour: str, change: tuple[str, datetime], offset: int, block_bits: int
) -> None:
    """Around every kind of clock change the fires are those of a walk over each minute, from wherever one starts.

    Segments are made per block of time; with blocks of an hour and less their borders fall everywhere, into gaps and
    overlaps too, and must not be noticed.
    """
    name, at = change
    after = at + timedelta(minutes=offset)
    until = after + timedelta(hours=40)
    expression = f"{minute} {hour} * * *"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zones, "_BLOCK_BITS", block_bits)
        trigger = CronTrigger(read_cron(expression, "s"), Zone(name, zone_of(name).tz))
        found = list(takewhile(lambda fire: fire <= until, fires(trigger, after)))
        assert all(trigger.yields(fire) for fire in found)
        assert [trigger.previous_before(fire) for fire in found[1:]] == found[:-1]
    assert found == walked(expression, zone_of(name).tz, after, until)


@settings(max_examples=300, deadline=None)
@given(
    expression=five_fields,
    zone=st.sampled_from(ZONES),
    after=starts,
    change=st.sampled_from(CHANGES),
    near=st.booleans(),
)
def test_backwards_is_the_mirror_of_forwards(
    expression: str, zone: str, after: datetime, change: tuple[str, datetime], near: bool
) -> None:
    """previous_before undoes next_after, nothing lies between, and both agree with yields."""
    try:
        trigger = compiled(expression, change[0] if near else zone)
    except InvalidArgument:
        return
    start = change[1] - timedelta(hours=3) if near else after
    found = list(islice(fires(trigger, start), 12))
    for earlier, later in pairwise(found):
        assert earlier < later
        assert trigger.previous_before(later) == earlier
        assert trigger.yields(later)
        assert not trigger.yields(later + timedelta(milliseconds=1))
    if found:
        before = trigger.previous_before(found[0])
        assert before is None or before <= start
        assert before is None or trigger.next_after(before) == found[0]


# --- the days that neither library knows all of
def named_by_calendar(kind: str, number: int, day: date) -> bool:
    """Whether L-n, nW or L-nW is this day, by looking at each day of its month."""
    length = monthrange(day.year, day.month)[1]
    target = {"L-": length - number, "W": min(number, length), "L-W": length - number}[kind]
    if kind == "L-":
        return day.day == target
    if target < 1:
        return False
    working = [n for n in range(1, length + 1) if date(day.year, day.month, n).weekday() < 5]
    # Saturday prefers the Friday, Sunday the Monday: both are one day away, unless the month ends there
    nearest = min(working, key=lambda n: (abs(n - target), n > target))
    return day.day == nearest


@pytest.mark.parametrize("kind", ["L-", "W", "L-W"])
@pytest.mark.parametrize("number", range(1, 31))
def test_special_days_as_a_calendar_shows_them(kind: str, number: int) -> None:
    """L-3, 15W and L-3W name the days that one finds by looking at a calendar, in every kind of month."""
    text = {"L-": f"L-{number}", "W": f"{number}W", "L-W": f"L-{number}W"}[kind]
    start = date(2023, 12, 31)
    days = [start + timedelta(days=n) for n in range(1, 366 * 6)]
    expected = [day for day in days if named_by_calendar(kind, number, day)]
    found = islice(fires(compiled(f"0 0 {text} * *"), datetime(2023, 12, 31, 12, tzinfo=UTC)), len(expected))
    assert [at.date() for at in found] == expected
