"""Simulation: held to brute force over the triggers themselves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from scheduler.core.firing import fire_time, is_coalesced
from scheduler.core.model.schedule import OnExcluded, Schedule
from scheduler.core.simulating import Simulation, simulate, subjects
from scheduler.core.triggers import compile_trigger
from scheduler.wire.schedule import ScheduleLimits, parse_document

LIMITS = ScheduleLimits(minimum_interval=timedelta(milliseconds=100))
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def made(*definitions: dict[str, Any]) -> list[Schedule]:
    found = []
    for number, each in enumerate(definitions):
        fields = {"queue": "q", "type": "t", **each}
        most = fields.pop("max_fires", None)
        found.append(structs.replace(parse_document(f"s{number}", fields, LIMITS), max_fires=most))
    return found


def simulated(schedules: list[Schedule], start: datetime, end: datetime) -> Simulation:
    return simulate([(each, compile_trigger(each)) for each in schedules], start=start, end=end)


def fires_of(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The fire times in [start, end), one by one from the trigger."""
    trigger = compile_trigger(schedule)
    around = timedelta(days=35) if schedule.on_excluded is not OnExcluded.SKIP else timedelta(0)
    found: list[datetime] = []
    nominal = trigger.next_after(start - schedule.start_delay - schedule.jitter - around - timedelta(milliseconds=1))
    while nominal is not None and nominal < end + around:
        fire = fire_time(schedule, trigger, nominal)
        if start <= fire < end and not schedule.is_paused_at(nominal) and not is_coalesced(trigger, nominal):
            found.append(fire)
        nominal = trigger.next_after(nominal)
    return sorted(found)[: schedule.max_fires]


def busiest(fires: list[datetime], span: timedelta) -> tuple[int, datetime] | None:
    """The most fires in one second (or minute) of the clock, and the first that has so many."""
    counts = Counter(fire - (fire - at("1970-01-01")) % span for fire in fires)
    return min(((-count, when) for when, count in counts.items()), default=None)


def check(schedules: list[Schedule], start: datetime, end: datetime) -> None:
    result = simulated(schedules, start, end)
    by_id = {each.id: fires_of(each, start, end) for each in schedules}
    everything = [fire for fires in by_id.values() for fire in fires]
    assert dict(result.totals) == {name: len(fires) for name, fires in by_id.items()}
    assert result.fires == len(everything)
    hours = Counter((fire - at("1970-01-01")) // HOUR for fire in everything)
    begin = (start - at("1970-01-01")) // HOUR
    assert list(result.hours) == [hours[begin + number] for number in range(len(result.hours))]
    assert sum(result.hours) == len(everything)
    for peak, span in ((result.busiest_second, timedelta(seconds=1)), (result.busiest_minute, timedelta(minutes=1))):
        assert (None if peak is None else (-peak.fires, peak.at)) == busiest(everything, span)
        if peak is not None:
            inside = {name: sum(peak.at <= fire < peak.at + span for fire in fires) for name, fires in by_id.items()}
            assert peak.schedules == sum(count > 0 for count in inside.values())
            assert all(inside[name] == count for name, count in peak.named)
            assert len(peak.named) == min(5, peak.schedules)


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
CRONS = [
    "*/5 * * * *", "30 2 * * *", "0 * * * *", "H H * * *", "*/7 */3 * * 1-5", "15,45 0-4 1,15 * *", "0 0 L * *",
    "30 0 2 * * *", "*/10 * 3 * * *", "* * * * 0", "59 23 31 12 *", "0 3 * * 1#2",
]  # fmt: skip
CRON = st.fixed_dictionaries(
    {"cron": st.sampled_from(CRONS) | st.lists(st.sampled_from(CRONS), min_size=2, max_size=3, unique=True)},
    optional={
        "timezone": st.sampled_from(ZONES),
        "dst": st.fixed_dictionaries(
            {"gap": st.sampled_from(["next", "skip"]), "overlap": st.sampled_from(["first", "second", "both"])}
        ),
    },
)
EVERY = st.fixed_dictionaries(
    {"every": st.sampled_from(["900ms", "1s", "1500ms", "7s", "10m", "61m", "26h", "100001ms", "1h30m"])},
    optional={"anchor": st.sampled_from(["2026-01-01T00:00:00.250Z", "2027-03-01T12:34:56Z", "1999-12-31T23:59:59Z"])},
)
RULE = st.sampled_from(
    [
        {"rrule": "FREQ=DAILY;BYHOUR=2,9;BYMINUTE=30", "timezone": "Europe/Berlin"},
        {"rrule": "FREQ=HOURLY", "timezone": "America/New_York"},
        {"every": "1d", "anchor": "2026-01-01T01:30:00Z", "timezone": "Europe/Berlin"},
    ]
)
AT = st.fixed_dictionaries({"at": st.sampled_from(["2026-03-29T01:00:00.001Z", "2026-10-25T00:30:00Z"])})
WITH = st.fixed_dictionaries(
    {},
    optional={
        "start_delay": st.sampled_from(["1ms", "90s", "2h", "30h", "1500ms"]),
        "paused_until": st.sampled_from(["2026-03-29T01:30:00Z", "2026-10-25T00:00:00.500Z"]),
        "max_fires": st.sampled_from([1, 7, 500]),
        "jitter": st.sampled_from(["1ms", "20s", "15m", "3h"]),
    },
)
WINDOW = st.sampled_from(
    [
        {},
        {},
        {"starts_at": "2026-03-28T12:00:00Z"},
        {"starts_at": "2026-10-24T22:00:00.001Z"},
        {"ends_at": "2026-10-25T12:00:00.001Z"},
        {"starts_at": "2026-03-28T12:00:00.999Z", "ends_at": "2026-03-29T01:30:00Z"},
    ]
)
EXCLUDE = st.sampled_from(
    [
        *([{}] * 4),
        {"exclude": ["* * * * 0,6"]},
        {"exclude": ["* 0-11 * * *"]},
        {"exclude": ["* * * * 0,6"], "on_excluded": "next_business_day"},
        {"exclude": ["* * 28-31 * *"], "on_excluded": "previous_business_day"},
    ]
)
STARTS = [at(text) for text in ("2026-03-28 00:00", "2026-10-24 07:30:15.250", "2026-12-30 23:59:59.999", "2026-04-04")]


def together(parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Exclusions only for what fires seldom: brute force looks five weeks around moved ones."""
    rule, how, window, exclude = parts
    cron = rule.get("cron", "30")
    seldom = all(text[0] in "3150" for text in ([cron] if isinstance(cron, str) else cron))
    seldom &= rule.get("every", "1d") in {"61m", "26h", "1d"} and rule.get("rrule") != "FREQ=HOURLY"
    return rule | how | window | (exclude if seldom else {})


ONE = st.tuples(CRON | EVERY | RULE | AT, WITH, WINDOW, EXCLUDE).map(together)
DEFINITIONS = st.lists(ONE, min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(
    definitions=DEFINITIONS,
    start=st.sampled_from(STARTS),
    hours=st.integers(min_value=1, max_value=30),
    rest_ms=st.sampled_from([0, 1, 500, 59_000]),
)
def test_it_counts_what_the_triggers_yield(
    definitions: list[dict[str, Any]], start: datetime, hours: int, rest_ms: int
) -> None:
    """Any mixture of schedules: hours, peaks, who is in them and totals are those of a walk over every fire."""
    check(made(*definitions), start, start + timedelta(hours=hours, milliseconds=rest_ms))


def test_dense_patterns_are_laid_whole() -> None:
    """Patterns of thousands of fires a day go by another way than sparse ones: the same sums, over clock changes."""
    definitions = [
        {"cron": "* * * * * *", "timezone": "Europe/Berlin"},
        {"cron": "*/2 * * * * *", "timezone": "Europe/Berlin"},
        {"cron": "* * 0-11 * * 1-5", "timezone": "America/New_York"},
        {"every": "700ms"},
        {"every": "13s", "anchor": "2026-03-28T21:00:00Z"},
        {"every": "13s"},
    ]
    check(made(*definitions), at("2026-03-28 20:00"), at("2026-03-29 06:00"))  # and Saturday ends in New York


def test_schedules_that_beat_alike_share_in_everything() -> None:
    """A thousand of one expression cost one; all are counted, the peak names some and tells how many there are."""
    schedules = made(*[{"cron": "0 0 * * *"}] * 1000, {"cron": "0 12 * * *"})
    result = simulated(schedules, at("2026-01-01"), at("2027-01-01"))
    assert result.fires == 1001 * 365
    assert result.busiest_second is not None
    assert (result.busiest_second.fires, result.busiest_second.schedules) == (1000, 1000)
    assert result.busiest_second.at == at("2026-01-01")
    assert len(result.busiest_second.named) == 5
    assert sum(result.hours[::24]) == 365_000


def test_the_window_is_half_open() -> None:
    """A fire at the start counts, one at the end does not: adjoining windows add up."""
    (schedule,) = made({"cron": "0 * * * *"})
    edge = at("2026-05-01 12:00")
    assert simulated([schedule], edge, edge + HOUR).fires == 1
    assert simulated([schedule], edge - HOUR, edge).fires == 1
    assert simulated([schedule], edge, edge + timedelta(milliseconds=1)).fires == 1


def test_what_never_fires_is_told_with_zero() -> None:
    """A paused or a manual schedule has its line in the totals."""
    result = simulated(
        made({"cron": "0 * * * *", "paused": True}, {"manual": True}), at("2026-01-01"), at("2026-02-01")
    )
    assert (result.fires, result.totals) == (0, (("s0", 0), ("s1", 0)))
    assert result.busiest_second is None
    assert result.busiest_minute is None


def test_clock_changes_are_told_once_with_how_many_they_hit() -> None:
    """Two schedules at a wall time that is skipped: one sentence."""
    schedules = made(*[{"cron": "30 2 * * *", "timezone": "Europe/Berlin"}] * 2, {"cron": "30 2 * * *"})
    result = simulated(schedules, at("2026-01-01"), at("2026-06-01"))
    assert result.clock_changes == (("2026-03-29 02:30 does not exist in Europe/Berlin; fires at 03:00", 2),)


@pytest.mark.parametrize("years", [1])
def test_a_year_of_a_fast_interval_is_arithmetic(years: int) -> None:
    """The sum over years of a second-by-second interval is exact."""
    (schedule,) = made({"every": "1s"})
    result = simulated([schedule], at("2026-01-01"), at("2026-01-01") + timedelta(days=365 * years))
    assert result.fires == 365 * years * 86_400
    assert set(result.hours) == {3600}


def test_much_jitter_is_drawn_once_per_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of exact draws a schedule keeps one: nothing is lost, and the herd is still spread."""
    monkeypatch.setattr(subjects, "EXACT_MAX", 400)
    schedules = made(*[{"cron": "0 * * * *", "jitter": "10m"}] * 200, *[{"cron": "30 12 * * *", "jitter": "10m"}] * 5)
    result = simulated(schedules, at("2026-05-01"), at("2026-05-03"))
    assert result.spread == 200 - 8  # 5 * 2 and 8 * 48 fires are within the limit
    assert result.fires == pytest.approx(200 * 48 + 10, abs=200)
    assert result.busiest_second is not None
    assert result.busiest_second.fires <= 10
    late = [count for count, hour in zip(result.hours, range(48), strict=True) if hour % 24 != 12]
    assert min(late) == max(late) == 200
