"""What a put is told about a schedule that is valid and hardly meant: warnings, in a sentence each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from scheduler.wire.schedule import warnings_for
from tests.unit.wire.test_schedule import BASE, NO_TRIGGER, parse


def test_warning_for_a_long_timeout() -> None:
    """A timeout above the queue's ack_wait is valid, and a plain worker's author is told what it means."""
    assert warnings_for(parse({**BASE, "timeout": "30s"}), 30.0) == []
    (warning,) = warnings_for(parse({**BASE, "timeout": "31s"}), 30.0)
    assert "in-progress" in warning


def test_warning_for_max_running_without_effect() -> None:
    """max_running beside overlap skip does nothing; that is said."""
    (warning,) = warnings_for(parse({**BASE, "max_running": 3}), 30.0)
    assert "max_running" in warning
    assert warnings_for(parse({**BASE, "max_running": 3, "overlap": "allow"}), 30.0) == []


def test_warning_for_a_schedule_that_is_over() -> None:
    """A schedule without any instant to come says so; a late one-shot and a manual one do not."""
    now = datetime(2027, 1, 1, tzinfo=UTC)
    over = parse({**NO_TRIGGER, "cron": "0 0 0 1 1 * 2020"})
    assert any("never fire again" in warning for warning in warnings_for(over, 30.0, now=now))
    old = parse({**NO_TRIGGER, "at": "2026-11-21T08:00:00Z"})
    assert any("never fire again" in warning for warning in warnings_for(old, 30.0, now=now))
    late = parse({**NO_TRIGGER, "at": "2026-12-31T23:00:00Z"})
    assert warnings_for(late, 30.0, now=now) == []
    assert warnings_for(parse({**NO_TRIGGER, "manual": True}), 30.0, now=now) == []
    assert warnings_for(parse(BASE), 30.0, now=now) == []


CLOCK_WARNINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "default": (
        {"cron": "30 2 * * *"},
        [
            "2027-03-28 02:30 does not exist in Europe/Berlin; fires at 03:00",
            "2027-10-31 02:30 comes twice in Europe/Berlin; fires the first time",
        ],
    ),
    "skip, both": (
        {"cron": "30 2 * * *", "dst": {"gap": "skip", "overlap": "both"}},
        [
            "2027-03-28 02:30 does not exist in Europe/Berlin; skipped",
            "2027-10-31 02:30 comes twice in Europe/Berlin; fires both times",
        ],
    ),
    "second": (
        {"cron": "15 30 2 31 * *", "dst": {"overlap": "second"}},
        ["2027-10-31 02:30:15 comes twice in Europe/Berlin; fires the second time"],
    ),
    "beside the change": ({"cron": "30 4 * * *"}, []),
    "elapsed time": ({"cron": "*/30 2 * * *"}, []),
    "interval": ({"every": "30m"}, []),
    "midnight": (
        {"cron": "0 0 * * *", "timezone": "Africa/Cairo"},
        [
            "2027-04-30 00:00 does not exist in Africa/Cairo; fires at 01:00",
        ],
    ),
    "a union says it once": (
        {"cron": ["30 2 * * *", "30 2 * * 0"]},
        [
            "2027-03-28 02:30 does not exist in Europe/Berlin; fires at 03:00",
            "2027-10-31 02:30 comes twice in Europe/Berlin; fires the first time",
        ],
    ),
}


@pytest.mark.parametrize("case", CLOCK_WARNINGS)
def test_warning_for_clock_changes(case: str) -> None:
    """What the clocks of the next year skip or show twice is told when the schedule is saved, and nothing else."""
    document, expected = CLOCK_WARNINGS[case]
    saved = parse({**NO_TRIGGER, "timezone": "Europe/Berlin", **document})
    assert warnings_for(saved, 30.0, now=datetime(2027, 1, 1, tzinfo=UTC)) == expected


def test_many_warnings_for_clock_changes_are_few() -> None:
    """An expression for every second of the missing hour does not make a reply of thousands of lines."""
    crons = [f"0-59 0-59 2 {day} * *" for day in range(1, 32)]
    saved = parse({**NO_TRIGGER, "timezone": "Europe/Berlin", "cron": crons})
    warnings = warnings_for(saved, 30.0, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert "2027-03-28 02:00 does not exist in Europe/Berlin; fires at 03:00" in warnings
    assert len(warnings) <= 21


def test_warning_for_days_that_begin_at_an_odd_time() -> None:
    """Days without an anchor count from midnight UTC, which is another time of day elsewhere: told with the fix."""
    now = datetime(2027, 1, 1, tzinfo=UTC)
    days = {**BASE, "every": "1d"}
    (odd,) = warnings_for(parse({**days, "timezone": "Asia/Kathmandu"}), 30.0, now=now)
    assert "fires at 05:30 in Asia/Kathmandu" in odd
    assert "anchor" in odd
    assert warnings_for(parse(days), 30.0, now=now) == []
    anchored = {**days, "timezone": "Asia/Kathmandu", "anchor": "2027-01-01T00:00:00+05:45"}
    assert warnings_for(parse(anchored), 30.0, now=now) == []


def test_warning_for_a_window_that_is_over_or_empty() -> None:
    """A window that has passed, or in which the trigger names no instant, is told with its reason."""
    now = datetime(2027, 1, 1, tzinfo=UTC)
    (over,) = warnings_for(parse({**BASE, "ends_at": "2026-12-31T00:00:00Z"}), 30.0, now=now)
    assert over == "this schedule will never fire again: ends_at 2026-12-31T00:00:00.000Z is past"
    between = {"starts_at": "2027-06-01T00:00:01Z", "ends_at": "2027-06-02T00:00:00Z"}
    (empty,) = warnings_for(parse({**NO_TRIGGER, "cron": "@daily", **between}), 30.0, now=now)
    assert empty == "this schedule will never fire at all: what it names lies outside of starts_at and ends_at"
    daily = {**NO_TRIGGER, "cron": "@daily", "exclude": ["* * * * *"]}
    (excluded,) = warnings_for(parse(daily), 30.0, now=now)
    assert excluded == "this schedule will never fire at all: everything it names is excluded"
    (either,) = warnings_for(parse({**daily, **between}), 30.0, now=now)
    assert "what it names is excluded or lies outside of starts_at and ends_at" in either
    late = {**NO_TRIGGER, "at": "2026-12-31T23:00:00Z"}
    assert warnings_for(parse({**late, "starts_at": "2026-12-31T23:00:00Z"}), 30.0, now=now) == []
    (missed,) = warnings_for(parse({**late, "catch_up": {"mode": "none"}}), 30.0, now=now)
    assert missed == "this schedule will never fire again: every instant it names is past"
    in_time = {**NO_TRIGGER, "at": "2026-12-31T23:59:51Z", "catch_up": {"mode": "none"}}
    assert warnings_for(parse(in_time), 30.0, now=now) == []
    (never,) = warnings_for(parse({**late, "starts_at": "2026-12-31T23:00:01Z"}), 30.0, now=now)
    assert "never fire at all" in never
    assert warnings_for(parse({**BASE, "starts_at": "2150-12-31T00:00:00Z"}), 30.0, now=now) == []


@pytest.mark.parametrize(
    ("expression", "step"),
    [("*/90 * * * *", "*/90 for the minute is 0"), ("TZ=UTC 0 0 */45,* * *", "*/45 for the day is 1")],
)
def test_warning_for_a_step_longer_than_its_field(expression: str, step: str) -> None:
    """A step that leaves one value is told: who writes */90 means every 90 minutes and would get every hour."""
    [warning] = warnings_for(parse({**NO_TRIGGER, "cron": expression}), 30.0)
    assert step in warning


@pytest.mark.parametrize("expression", ["*/30 */23 */30 */11 */6", "@daily", "@every 90m", "0 5/59 * * *"])
def test_no_warning_for_steps_within_their_field(expression: str) -> None:
    """The longest step that has two values, shortcuts and steps from a number are as they were meant."""
    assert warnings_for(parse({**NO_TRIGGER, "cron": expression}), 30.0) == []


def test_no_warning_for_clocks_on_an_excluded_day() -> None:
    """What does not fire on the day that clocks change is not warned about."""
    crons = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "exclude": ["* * * * 0"]}
    saved = parse({**NO_TRIGGER, **crons})
    assert warnings_for(saved, 30.0, now=datetime(2027, 1, 1, tzinfo=UTC)) == []


def test_warning_for_a_business_day_on_a_weekend() -> None:
    """Christmas 2026 is a Friday: moved to a Saturday that nobody excluded it is told, once; with the weekend excluded,
    skipped, or on a Saturday that has an occurrence of its own it is not."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    xmas, weekend = "* * 25 12 *", "* * * * sat,sun"

    def told(**fields: Any) -> list[str]:
        fields = {"cron": "0 18 25 * *", "exclude": [xmas], "on_excluded": "next_business_day", **fields}
        return warnings_for(parse({**NO_TRIGGER, **fields}), 30.0, now=now)

    (warning,) = told()
    assert warning == (
        "the occurrence of Fri 2026-12-25 moves to Sat 2026-12-26: a business day is any that exclude leaves, "
        "so exclude the weekend if it is none"
    )
    assert told(exclude=[xmas, weekend]) == []
    assert told(on_excluded="previous_business_day") == []
    assert told(on_excluded="skip") == []
    assert told(cron="0 18 * * *") == []
