"""Cron against a walker that looks at every minute (or second) around every clock change of 2025-2028.

The walker is written from the words of the contract and knows nothing of `scheduler`: it walks the instants one by one,
reads the clock of each off `zoneinfo`, and applies the rule to what it saw. Specifications come as sets of numbers
beside their cron text, so not even the reading of expressions is shared.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import product
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from scheduler.core import triggers, zones
from scheduler.core.model.schedule import Cron, Dst, Gap, Schedule, Twice
from scheduler.core.triggers import CompiledTrigger, compile_trigger

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))
ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "America/Havana",
    "Africa/Casablanca",
    "Asia/Tehran",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "UTC",
)
CALM = {"Asia/Tehran", "Asia/Kathmandu", "Pacific/Apia", "UTC"}  # no change in these years
POLICIES = list(product(Gap, Twice))


class Seen(NamedTuple):
    """What one walk saw: the instants, what the clock showed at each, all walls between, and each wall's instants."""

    change: datetime
    instants: list[datetime]
    clocks: list[datetime]
    walls: list[datetime]
    shown_at: dict[datetime, list[datetime]]
    step: timedelta


class Spec(NamedTuple):
    """A cron text beside the numbers it stands for; `on` says which dates count."""

    text: str
    seconds: set[int]
    minutes: set[int]
    hours: set[int]
    on: Callable[[date], bool]
    fixed: bool


# --- the walker
@cache
def zone(name: str) -> ZoneInfo:
    with resources.files("tzdata.zoneinfo").joinpath(name).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


def clock(at: datetime, tz: ZoneInfo) -> datetime:
    return at.astimezone(tz).replace(tzinfo=None, fold=0)


@cache
def changes(name: str, first_year: int = 2025, last_year: int = 2028) -> tuple[datetime, ...]:
    """The first minute of each new offset; in zones without any, a calm instant of each year instead."""
    tz, found = zone(name), []
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    while at < end:
        if at.astimezone(tz).utcoffset() != (at + HOUR).astimezone(tz).utcoffset():
            minute = at + MINUTE
            while minute.astimezone(tz).utcoffset() == at.astimezone(tz).utcoffset():
                minute += MINUTE
            found.append(minute)
        at += HOUR
    if not found:
        found = [datetime(year, 3, 28, tzinfo=UTC) for year in range(first_year, last_year + 1)]
    return tuple(found)


@cache
def walk(name: str, change: datetime, around: timedelta, step: timedelta) -> Seen:
    tz = zone(name)
    instants = [change + n * step for n in range(-(around // step), around // step + 1)]
    clocks = [clock(at, tz) for at in instants]
    shown_at: dict[datetime, list[datetime]] = {}
    for at, shown in zip(instants, clocks, strict=True):
        shown_at.setdefault(shown, []).append(at)
    first, last = min(clocks), max(clocks)
    walls = [first + n * step for n in range((last - first) // step + 1)]
    return Seen(change, instants, clocks, walls, shown_at, step)


def matched(spec: Spec, seen: Seen) -> list[datetime]:
    """Fixed: the walls, whether clocks show them or not. Elapsed: the instants at which the clock shows one."""
    if spec.fixed:
        return [wall for wall in seen.walls if matches(spec, wall)]
    return [at for at, shown in zip(seen.instants, seen.clocks, strict=True) if matches(spec, shown)]


def fired(walls: list[datetime], seen: Seen, gap: Gap, overlap: Twice) -> list[datetime]:
    """The instants at which fixed walls fire, by the words of the contract."""
    fires: set[datetime] = set()
    for wall in walls:
        instants = seen.shown_at.get(wall, [])
        if not instants:
            fires |= {after_gap(wall, seen)} if gap is Gap.NEXT else set()
        elif overlap is Twice.BOTH:
            fires |= set(instants)
        else:
            fires.add(instants[0] if overlap is Twice.FIRST else instants[-1])
    return sorted(fires)


def matches(spec: Spec, wall: datetime) -> bool:
    return (
        wall.minute in spec.minutes and wall.hour in spec.hours and wall.second in spec.seconds and spec.on(wall.date())
    )


def after_gap(wall: datetime, seen: Seen) -> datetime:
    """The first instant at which the clock has passed the wall."""
    return next(at for at, shown in zip(seen.instants, seen.clocks, strict=True) if shown > wall)


# --- specifications at, before and after a change
def any_day(day: date) -> bool:
    return True


def specs(seen: Seen) -> Iterator[Spec]:
    """Minutes before, in and after the odd stretch of time; alone, in lists, on the day only, and starred."""
    middle = len(seen.instants) // 2
    now, before = seen.clocks[middle], seen.clocks[middle - 1] + seen.step
    low, high = min(now, before), max(now, before)
    half = low + (high - low) / 2
    half = half.replace(second=0)
    walls = {low - HOUR, low - MINUTE, low, low + MINUTE, half, high - MINUTE, high, high + MINUTE, high + HOUR}
    for wall in sorted(walls):
        yield Spec(f"{wall.minute} {wall.hour} * * *", {0}, {wall.minute}, {wall.hour}, any_day, fixed=True)
    hours = {(low + n * HOUR).hour for n in (-1, 0, 1)}
    hour_text = ",".join(str(hour) for hour in sorted(hours))
    minutes = {0, 15, 29, 30, 59}
    yield Spec(f"0,15,29-30,59 {hour_text} * * *", {0}, minutes, hours, any_day, fixed=True)
    yield Spec(f"0-59 {half.hour} * * *", {0}, set(range(60)), {half.hour}, any_day, fixed=True)
    yield Spec(f"0-59/7 {hour_text} * * *", {0}, set(range(0, 60, 7)), hours, any_day, fixed=True)
    yield Spec("30 0-23 * * *", {0}, {30}, set(range(24)), any_day, fixed=True)
    for day in {low.date(), now.date(), high.date()}:
        yield Spec(
            f"{half.minute} {half.hour} {day.day} * *", {0}, {half.minute}, {half.hour}, on_day(day.day), fixed=True
        )
        weekday = day.isoweekday()
        yield Spec(
            f"{half.minute} {half.hour} * * {weekday}", {0}, {half.minute}, {half.hour}, on_weekday(weekday), fixed=True
        )
    everything, all_hours = set(range(60)), set(range(24))
    yield Spec("* * * * *", {0}, everything, all_hours, any_day, fixed=False)
    yield Spec("*/15 * * * *", {0}, {0, 15, 30, 45}, all_hours, any_day, fixed=False)
    yield Spec("7 * * * *", {0}, {7}, all_hours, any_day, fixed=False)
    yield Spec("30 */2 * * *", {0}, {30}, set(range(0, 24, 2)), any_day, fixed=False)
    yield Spec("59 */3 * * *", {0}, {59}, set(range(0, 24, 3)), any_day, fixed=False)
    for wall in (low, half, high):
        yield Spec(f"*/7 {wall.hour} * * *", {0}, set(range(0, 60, 7)), {wall.hour}, any_day, fixed=False)
        yield Spec(f"* {wall.hour} {wall.day} * *", {0}, everything, {wall.hour}, on_day(wall.day), fixed=False)


def on_day(number: int) -> Callable[[date], bool]:
    return lambda day: day.day == number


def on_weekday(number: int) -> Callable[[date], bool]:
    return lambda day: day.isoweekday() == number


def specs_of_seconds(seen: Seen) -> Iterator[Spec]:
    """Six fields: seconds at the borders of the odd stretch, and every second."""
    middle = len(seen.instants) // 2
    now, before = seen.clocks[middle], seen.clocks[middle - 1] + seen.step
    low, high = min(now, before), max(now, before)
    for wall in (low - SECOND, low, low + SECOND, high - SECOND, high, high + SECOND):
        text = f"{wall.second} {wall.minute} {wall.hour} * * *"
        yield Spec(text, {wall.second}, {wall.minute}, {wall.hour}, any_day, fixed=True)
    minute, hour = (high - MINUTE).minute, (high - MINUTE).hour
    yield Spec(f"* {minute} {hour} * * *", set(range(60)), {minute}, {hour}, any_day, fixed=True)
    yield Spec("*/20 0,30,59 0-23 * * *", {0, 20, 40}, {0, 30, 59}, set(range(24)), any_day, fixed=True)
    yield Spec("* * * * * *", set(range(60)), set(range(60)), set(range(24)), any_day, fixed=False)
    yield Spec("59 */5 * * * *", {59}, set(range(0, 60, 5)), set(range(24)), any_day, fixed=False)


# --- holding the trigger to it
def compiled(text: str, name: str, gap: Gap, overlap: Twice) -> CompiledTrigger:
    dst = Dst(gap=gap, overlap=overlap)
    return compile_trigger(Schedule(id="s", queue="q", type="t", trigger=Cron((text,)), timezone=name, dst=dst))


def disagreement(trigger: CompiledTrigger, fires: list[datetime], seen: Seen, starts: list[datetime]) -> str | None:
    """Where the trigger differs from the fires of the walk, forwards, backwards and asked about single instants.

    The outermost day of the walk is left out: of a wall that comes twice there, one may lie outside.
    """
    low, high = starts[0], starts[-1]
    found, at = [], trigger.next_after(low)
    while at is not None and at <= high:
        found.append(at)
        at = trigger.next_after(at)
    inner = fires[bisect_right(fires, low) : bisect_right(fires, high)]
    if found != inner:
        return f"next_after: {sorted(set(found) ^ set(inner))[:4]}"
    for start in starts:
        after, before = bisect_right(fires, start), bisect_left(fires, start)
        if after < len(fires) and trigger.next_after(start) != fires[after]:
            return f"next_after({start})"
        if before and trigger.previous_before(start) != fires[before - 1]:
            return f"previous_before({start}): {trigger.previous_before(start)} is not {fires[before - 1]}"
        if trigger.yields(start) != (before < len(fires) and fires[before] == start):
            return f"yields({start})"
    return None


def starts_of(seen: Seen, inner: timedelta, every: int) -> list[datetime]:
    """Where to ask: the ends of the inner part, and points before, at and after the change."""
    change = seen.change
    near = [change + n * every * seen.step for n in range(-30, 31)]
    exact = [change + sign * span for span in (timedelta(milliseconds=1), SECOND, MINUTE, HOUR) for sign in (-1, 1)]
    return sorted({change - inner, *near, *exact, change, change + inner})


def check(name: str, seen: Seen, all_specs: list[Spec], starts: list[datetime]) -> tuple[int, list[str]]:
    """How many pairs of specification and policy were held to the walk, and what disagreed."""
    checked, wrong = 0, []
    for spec in all_specs:
        found = matched(spec, seen)
        for gap, overlap in POLICIES if spec.fixed else POLICIES[::5]:  # the others follow elapsed time whatever it is
            fires = fired(found, seen, gap, overlap) if spec.fixed else found
            problem = disagreement(compiled(spec.text, name, gap, overlap), fires, seen, starts)
            checked += 1
            if problem is not None:
                wrong.append(f"{spec.text} {gap}/{overlap} at {seen.change}: {problem}")
    return checked, wrong


@pytest.mark.parametrize("name", ZONES)
def test_every_minute_around_every_change(name: str) -> None:
    """With every policy, fixed and wildcard, a schedule fires at exactly the minutes that the walk over them finds."""
    for change in changes(name):
        seen = walk(name, change, 36 * HOUR, MINUTE)
        checked, wrong = check(name, seen, list(specs(seen)), starts_of(seen, 30 * HOUR, 7))
        assert not wrong
        assert checked > 80


@pytest.mark.parametrize("name", ZONES)
def test_every_second_around_a_change(name: str) -> None:
    """Six fields likewise, second by second, around the first changes each way."""
    for change in changes(name)[:2]:
        seen = walk(name, change, 150 * MINUTE, SECOND)
        checked, wrong = check(name, seen, list(specs_of_seconds(seen)), starts_of(seen, 70 * MINUTE, 13))
        assert not wrong
        assert checked == 8 * 6 + 2 * 2


def test_the_walk_meets_the_changes() -> None:
    """The oracle is not idle: it meets gaps and overlaps in each zone that has any, of an hour and of half one."""
    assert sum(len(changes(name)) for name in set(ZONES) - CALM) >= 60
    for name in set(ZONES) - CALM:
        sizes = set()
        for change in changes(name):
            seen = walk(name, change, 36 * HOUR, MINUTE)
            middle = len(seen.instants) // 2
            sizes.add((seen.clocks[middle] - seen.clocks[middle - 1] - MINUTE) // MINUTE)
        assert sizes == ({30, -30} if name == "Australia/Lord_Howe" else {60, -60})


def test_a_day_that_never_was() -> None:
    """Apia had no 30 December 2011: the rules hold for a gap of a whole day, too."""
    change = datetime(2011, 12, 30, 10, tzinfo=UTC)
    seen = walk("Pacific/Apia", change, 72 * HOUR, MINUTE)
    _, wrong = check("Pacific/Apia", seen, list(specs(seen)), starts_of(seen, 40 * HOUR, 7))
    assert not wrong


@pytest.mark.parametrize("block_bits", [15, 12])
@pytest.mark.parametrize("name", ["Europe/Berlin", "Australia/Lord_Howe", "America/Havana"])
def test_borders_of_blocks_are_not_noticed(name: str, block_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone is read in blocks of half a year; with blocks of hours their borders lie before, in and after changes."""
    monkeypatch.setattr(zones, "_BLOCK_BITS", block_bits)
    monkeypatch.setattr(zones, "_load", zones._load.__wrapped__)
    triggers._shared_cron.cache_clear()
    for change in changes(name)[:2]:
        seen = walk(name, change, 36 * HOUR, MINUTE)
        assert check(name, seen, list(specs(seen)), starts_of(seen, 8 * HOUR, 7))[1] == []
    triggers._shared_cron.cache_clear()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [*sorted(set(ZONES) - CALM), "America/St_Johns", "Antarctica/Troll", "Asia/Gaza"])
def test_random_expressions_around_every_change(name: str) -> None:
    """Thousands of random minutes and hours, lists, ranges and steps, from every minute of the change."""
    numbers = random.Random(name)
    for change in changes(name):
        seen = walk(name, change, 36 * HOUR, MINUTE)
        starts = starts_of(seen, 30 * HOUR, 1)
        wrong = check(name, seen, [random_spec(numbers) for _ in range(60)], starts)[1]
        assert not wrong


def random_spec(numbers: random.Random) -> Spec:
    minute_text, minutes = random_field(numbers, 59)
    hour_text, hours = random_field(numbers, numbers.choice([3, 23]))
    text = f"{minute_text} {hour_text} * * *"
    return Spec(text, {0}, minutes, hours, any_day, fixed=not (minute_text[0] == "*" or hour_text[0] == "*"))


def random_field(numbers: random.Random, highest: int) -> tuple[str, set[int]]:
    kind, low, high = numbers.randrange(4), *sorted(numbers.sample(range(highest + 1), 2))
    if kind == 0:
        step = numbers.randint(1, highest)
        return f"*/{step}", set(range(0, 60 if highest == 59 else 24, step))
    if kind == 1:
        step = numbers.randint(1, 9)
        return f"{low}-{high}/{step}", set(range(low, high + 1, step))
    if kind == 2:
        return f"{low},{high}", {low, high}
    return str(low), {low}
