"""How long does a simulation of many mixed schedules over a year take, and in how much memory? One line of JSON.

    .venv/bin/python -m tests.bench.simulate [--schedules 10000] [--days 365]

The mixture: crons with H, nightly ones with jitter, thousands of distinct expressions over 8 zones, every-minute ones,
intervals from 1 s to days with many anchors, lists of expressions, one-shots. `triggers` are the microseconds of one
step (`next_after`) of a trigger of each kind, on average over a year's walk or 20,000 steps.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.core.model.schedule import Schedule
from scheduler.core.simulating import simulate
from scheduler.core.triggers import CompiledTrigger, compile_trigger
from scheduler.wire.schedule import parse_document

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS_MAX = 20_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "America/Santiago",
         "Africa/Cairo", "Australia/Lord_Howe")  # fmt: skip
INTERVALS = ("1s", "5s", "10s", "30s", "1m", "7m", "10m", "15m", "1h", "61m", "6h", "36h")
KINDS: dict[str, dict[str, Any]] = {
    "cron every minute": {"cron": "* * * * *"},
    "cron weekdays, Berlin": {"cron": "30 2 * * 1-5", "timezone": "Europe/Berlin"},
    "cron last of month": {"cron": "0 0 L * *"},
    "union of two": {"cron": ["0 9 * * *", "30 17 * * 1-5"]},
    "every 7m": {"every": "7m"},
}


def definitions(count: int) -> Iterator[dict[str, Any]]:
    """A mixture, the same every time."""
    for number in range(count):
        zone = {"timezone": ZONES[number // 10 % len(ZONES)]}
        minute, hour, day = number * 7 % 60, number * 11 % 24, number % 28 + 1
        match number % 10:
            case 0:
                yield {"cron": "H H * * *", **zone}
            case 1:
                yield {"cron": "0 3 * * *", "jitter": "30m", **zone}
            case 2:
                yield {"cron": "H/15 * * * *", **zone}
            case 3:
                yield {"cron": f"{minute} {hour} * * {number % 7}", **zone}
            case 4:
                yield {"cron": f"{minute} {hour} {day} * *", **zone}
            case 5:
                yield {"cron": "* * * * *", **zone}
            case 6:
                yield {"every": INTERVALS[number // 10 % len(INTERVALS)]}
            case 7:
                anchor = (START + timedelta(milliseconds=number * 977)).isoformat()
                yield {"every": INTERVALS[number // 10 % len(INTERVALS)], "anchor": anchor}
            case 8:
                yield {"cron": [f"{minute} {hour} * * *", f"{minute} * {day} * *"], **zone}
            case _:
                yield {"at": (START + timedelta(minutes=number * 13 % 525_000)).isoformat()}


def made(number: int, definition: dict[str, Any]) -> tuple[Schedule, CompiledTrigger]:
    schedule = parse_document(f"bench-{number}", {"queue": "q", "type": "t", **definition})
    return schedule, compile_trigger(schedule)


def step_us(definition: dict[str, Any]) -> float:
    """Microseconds for one step of such a trigger."""
    _, trigger = made(0, definition)
    at: datetime | None = START
    begin, steps = time.perf_counter(), 0
    while at is not None and steps < STEPS_MAX and at < START + timedelta(days=365):
        at, steps = trigger.next_after(at), steps + 1
    return round((time.perf_counter() - begin) / steps * 1e6, 2)


def peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    triggers = {kind: step_us(definition) for kind, definition in KINDS.items()}
    before_mb, begin = peak_mb(), time.perf_counter()
    schedules = [made(number, definition) for number, definition in enumerate(definitions(options.schedules))]
    read_s, begin = time.perf_counter() - begin, time.perf_counter()
    result = simulate(schedules, start=START, end=START + timedelta(days=options.days))
    figures = {
        "schedules": len(schedules),
        "days": options.days,
        "fires": result.fires,
        "read_s": round(read_s, 2),
        "simulate_s": round(time.perf_counter() - begin, 2),
        "peak_mb": peak_mb(),
        "peak_mb_before": before_mb,
        "triggers": triggers,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
