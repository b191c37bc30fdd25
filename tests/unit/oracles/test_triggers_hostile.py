"""Cron as somebody would write it who wants to break the daemon: nonsense, half sense, and what costs the most."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import product
from time import process_time
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Gap, Twice
from scheduler.core.triggers import compile_trigger
from scheduler.wire.schedule import parse_document, warnings_for

NOW = datetime(2027, 1, 1, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)
LETTERS = "0123456789*/,-#?+LWHRlwhr@ \tjanfebmondsu()=CRON_TZ"


def words(text: str) -> list[str]:
    return text.split()


ANYWHERE = words("* */5 H H(0-29) H(1-9)/3 h/15 1-5 22-2 5/15 5/2 */99 */9999 H/9999 1,2,3 2-2 2-2/9 0 1 7 9")
DAYS = words("L LW L-3 L-3W L-0 L-30 L-31 15W W15 31W 00W ? +L +5 +15W +* +? ++1 L,LW,1W 29-2 31")
WEEKDAYS = words("5L L5 friL fri#2 1,5#2 7L 8L L fri-mon Mon/2 7/2 7-7 6-7 0-7 +5 +5#5 ? *#2 5#6 1#0")
NONSENSE = [
    "",
    "-",
    "/",
    "#",
    ",",
    "1,,2",
    "*-5",
    "-1",
    "R",
    "R(1-5)",
    "٣",
    "\x00",
    "\u2028",
    "99999999999999999999",
    "=",
    "TZ=UTC",
]
FRONT = ["", "", "", "", "TZ=UTC ", "CRON_TZ=Europe/Berlin ", "CRON_TZ=Nowhere ", "@every ", "@daily ", "TZ=../x "]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia", "Etc/GMT+12"]
DSTS = [{"gap": gap, "overlap": overlap} for gap, overlap in product(Gap, Twice)]


def half_sense(numbers: random.Random) -> str:
    """An expression whose every field could be meant, but for one in ten."""

    def entry(more: list[str]) -> str:
        return numbers.choice(NONSENSE if numbers.random() < 0.04 else ANYWHERE + more + more)

    fields = [entry([]), entry([]), entry(DAYS), entry([]), entry(WEEKDAYS)]
    if numbers.random() < 0.5:
        fields.insert(0, entry([]))
        if numbers.random() < 0.5:
            fields.append(numbers.choice(["*", "2027", "2026-2030/2", "2099", "1970", "2030-2026", "*/7"]))
    return numbers.choice(FRONT) + " ".join(fields)


def nonsense(numbers: random.Random) -> str:
    return "".join(numbers.choice(LETTERS) for _ in range(numbers.randrange(60)))


def tried(document: dict[str, Any]) -> bool:
    """Whether it is a schedule. It answers in order, or is refused in one line that names the field; nothing else."""
    refused = None
    try:
        schedule = parse_document("s", {"queue": "q", "type": "t", **document})
    except InvalidArgument as problem:
        refused = problem
    if refused is not None:
        assert refused.field == "cron"
        assert "\n" not in refused.message
        assert len(refused.message) < 400
        return False
    trigger = compile_trigger(schedule)
    assert len(warnings_for(schedule, 30.0, now=NOW)) <= 41
    following, previous = trigger.next_after(NOW), trigger.previous_before(NOW)
    if following is not None:
        assert following > NOW
        assert trigger.yields(following)
        assert trigger.previous_before(following + MOMENT) == following
        trigger.notes_at(following)
    if previous is not None:
        assert previous < NOW
        assert trigger.yields(previous)
        assert trigger.next_after(previous - MOMENT) == previous
    return following is not None or previous is not None


def test_ten_thousand_random_texts() -> None:
    """Whatever the text: a trigger that answers consistently, or one refusal, and in no case long thought."""
    numbers = random.Random(20_261_121)
    accepted, slowest = 0, 0.0
    for count in range(10_000):
        text = nonsense(numbers) if count % 4 == 0 else half_sense(numbers)
        began = process_time()
        accepted += tried({"cron": text, "timezone": numbers.choice(ZONES), "dst": numbers.choice(DSTS)})
        slowest = max(slowest, process_time() - began)
    assert 1500 < accepted < 8500
    assert slowest < 1


COSTLY: dict[str, list[str]] = {
    "a day in 28 years": ["0 0 29 2 +1"],
    "a day in 28 years, at a gap": ["30 2 29 3 +0"],
    "a gap every year": ["30 2 * 3 0L"],
    "a gap once": ["0 30 2 28 3 ? 2027"],
    "the last second there is": ["59 59 23 31 12 ? 2099"],
    "everything, written out": ["0-59 0-59 0-23 1-31 1-12 0-7 1970-2099"],
    "no day": ["0 0 L-30 2 *", "0 0 30 2 *"],
    "64 that hash": [f"H(0-{n + 1}) H H * * H" for n in range(58)],
    "64 with years": [f"{n} {n} {n % 24} {n % 28 + 1} {n % 12 + 1} ? {2027 + n}" for n in range(60)],
    "64 days of their own": [f"{n % 60} 9 {n % 28 + 1},L-{n % 20} * +{n % 6 + 1}" for n in range(64)],
    "64 zones": [f"CRON_TZ=Etc/GMT{n % 24 - 12:+d} {n % 60} {n % 24} * * *" for n in range(64)],
    "64 grids": [f"@every {n + 1}h" for n in range(64)],
    "grids, zones, years": [
        *(f"@every {n + 61}m" for n in range(20)),
        *(f"TZ=Asia/Tokyo {n} {n} * * *" for n in range(20)),
        *(f"{n} {n} 29 2 *" for n in range(20)),
    ],
}


@pytest.mark.parametrize("case", COSTLY)
@pytest.mark.parametrize("dst", [DSTS[0], DSTS[-1]], ids=["default", "skip-both"])
def test_what_costs_the_most(case: str, dst: dict[str, str]) -> None:
    """The largest unions and the rarest days are read, checked and searched, or refused, in less than a second."""
    for zone in ("Europe/Berlin", "Australia/Lord_Howe"):
        began = process_time()
        tried({"cron": COSTLY[case], "timezone": zone, "dst": dst})
        assert process_time() - began < 1.5
