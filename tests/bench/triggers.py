"""How fast does each kind of trigger answer? Prints one line of JSON per trigger, calls per second of processor time.

    .venv/bin/python -m tests.bench.triggers [--calls 20000]

`next_after`: each call with the answer of the one before, as the planner asks. `spread`: `next_after` from instants
all over twenty years, in no order, as a preview or an audit asks. `yields`: as the dispatcher asks. `compile_us`:
reading and compiling it for the first time, and once more when another schedule says the same (`again_us`).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import process_time

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import At, Cron, Every, EveryDays, RRule, Schedule, Trigger
from scheduler.core.triggers import CompiledTrigger, compile_trigger
from scheduler.core.triggers.cron_calendar import days_of

START = datetime(2027, 1, 1, tzinfo=UTC)
BERLIN = "Europe/Berlin"
CASES: dict[str, tuple[Trigger, str]] = {
    "interval 10s": (Every(timedelta(seconds=10)), "UTC"),
    "at, 1000 instants": (At(tuple(START + n * timedelta(days=7) for n in range(1000))), "UTC"),
    "cron every second, UTC": (Cron(("* * * * * *",)), "UTC"),
    "cron every minute, UTC": (Cron(("* * * * *",)), "UTC"),
    "cron every 5 minutes, Berlin": (Cron(("*/5 * * * *",)), BERLIN),
    "cron daily, UTC": (Cron(("30 2 * * *",)), "UTC"),
    "cron daily, Berlin": (Cron(("30 2 * * *",)), BERLIN),
    "cron working days, New York": (Cron(("0 9 * * 1-5",)), "America/New_York"),
    "cron last Friday, Berlin": (Cron(("0 9 * * 5L",)), BERLIN),
    "cron 29 February, Berlin": (Cron(("0 9 29 2 *",)), BERLIN),
    "cron hashed, Berlin": (Cron(("H H * * *",)), BERLIN),
    "cron, union of 5, Berlin": (Cron(tuple(f"{n} {n} * * *" for n in range(5))), BERLIN),
    "every 1d, Berlin": (EveryDays(1, START), BERLIN),
    "rrule weekly, Berlin": (RRule(("FREQ=WEEKLY;BYDAY=MO,TH",), START), BERLIN),
}


def schedule_of(trigger: Trigger, zone: str, name: str = "bench") -> Schedule:
    return Schedule(id=name, queue="q", type="t", trigger=trigger, timezone=zone)


def per_second(calls: int, what: Callable[[], object]) -> int:
    """The best of three rounds."""
    best = float("inf")
    for _ in range(3):
        began = process_time()
        what()
        best = min(best, process_time() - began)
    return round(calls / best)


def follow(trigger: CompiledTrigger, calls: int) -> None:
    at: datetime | None = START
    for _ in range(calls):
        at = trigger.next_after(at or START)


def measure(trigger: CompiledTrigger, calls: int) -> dict[str, int]:
    numbers = random.Random(1)
    anywhere = [START + timedelta(seconds=numbers.randrange(20 * 365 * 86_400)) for _ in range(calls)]
    nominal = trigger.next_after(START) or START
    return {
        "next_after": per_second(calls, lambda: follow(trigger, calls)),
        "spread": per_second(calls, lambda: [trigger.next_after(at) for at in anywhere]),
        "yields": per_second(calls, lambda: [trigger.yields(nominal) for _ in range(calls)]),
    }


def compiling_us(trigger: Trigger, zone: str) -> dict[str, float]:
    days_of.cache_clear()
    began = process_time()
    compile_trigger(schedule_of(trigger, zone, "first"))
    middle = process_time()
    compile_trigger(schedule_of(trigger, zone, "second"))
    return {"compile_us": round((middle - began) * 1e6, 1), "again_us": round((process_time() - middle) * 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    for name, (trigger, zone) in CASES.items():
        try:
            compiled = compiling_us(trigger, zone)
            print(
                json.dumps({"trigger": name, **measure(compile_trigger(schedule_of(trigger, zone)), calls), **compiled})
            )
        except InvalidArgument as problem:
            print(json.dumps({"trigger": name, "refused": problem.sentence}))


if __name__ == "__main__":
    main()
