"""Health: where ok ends, where crit begins, and that whatever is not well says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from scheduler.core.health import Check, Facts, Level, QueueFacts, ReplicaFacts, StoreFacts, Unknown, judge, worst
from scheduler.core.health.judging import percentile
from scheduler.core.health.told import size, span

WELL = Facts(
    leader="a, epoch 7",
    replicas=[ReplicaFacts("a", "1.0"), ReplicaFacts("b", "1.0")],
    ahead_s=118.0,
    horizon_s=120.0,
    lateness_s=[0.01] * 100,
    lateness_window_s=600.0,
    active=10,
    paused=1,
    invalid=0,
    skew_s=0.002,
    skew_max_s=30.0,
    queues=[QueueFacts(queue="Q", pending=3, ack_pending=1, pending_max=100, oldest_s=2.0)],
    stores=[StoreFacts(name="S", messages=5, size=2048, copies=3, copies_wanted=3)],
    room=(2048, None),
)


def queue(**more: Any) -> list[QueueFacts]:
    return [QueueFacts(**{"queue": "Q", "pending": 0, "ack_pending": 0, "pending_max": 100, **more})]


def store(**more: Any) -> list[StoreFacts]:
    return [StoreFacts(**{"name": "S", "messages": 1, "size": 1, **more})]


def one(facts: Facts, name: str) -> Check:
    [found] = [check for check in judge(facts) if check.name == name]
    return found


def test_all_well() -> None:
    """Every check is ok, none gives advice."""
    checks = judge(WELL)
    assert worst(checks) is Level.OK
    assert [check.name for check in checks] == [
        *("leader", "replicas", "planning", "lateness", "schedules", "clock", "queue", "store", "disk")
    ]
    assert not [check for check in checks if check.advice]
    assert one(WELL, "queue").told == "3 waiting, 1 at work, oldest 2.0s"
    assert one(WELL, "lateness").told == "p99 10ms, of 100 fires in the last 10m00s"


@pytest.mark.parametrize(
    ("name", "level", "change"),
    [
        ("leader", Level.CRIT, {"leader": None}),
        ("replicas", Level.WARN, {"replicas": []}),
        ("replicas", Level.WARN, {"replicas": [ReplicaFacts("a", "1.0"), ReplicaFacts("b", "1.1")]}),
        ("replicas", Level.OK, {"replicas": [ReplicaFacts("a", "1.0")]}),
        ("planning", Level.WARN, {"ahead_s": None}),
        ("planning", Level.OK, {"ahead_s": 61.0}),
        ("planning", Level.WARN, {"ahead_s": 60.0}),
        ("planning", Level.CRIT, {"ahead_s": 0.0}),
        ("planning", Level.CRIT, {"ahead_s": -90.0}),
        ("lateness", Level.OK, {"lateness_s": []}),
        ("lateness", Level.OK, {"lateness_s": [0.0] * 99 + [60.0]}),
        ("lateness", Level.WARN, {"lateness_s": [0.0] * 98 + [1.0, 60.0]}),
        ("lateness", Level.CRIT, {"lateness_s": [10.0]}),
        ("schedules", Level.WARN, {"invalid": 1}),
        ("clock", Level.WARN, {"skew_s": -3.0}),
        ("clock", Level.CRIT, {"skew_s": 30.0}),
        ("queues", Level.OK, {"queues": []}),
        ("queues", Level.WARN, {"queues": Unknown("no answer in time")}),
        ("queue", Level.OK, {"queues": queue(pending=79)}),
        ("queue", Level.WARN, {"queues": queue(pending=80)}),
        ("queue", Level.CRIT, {"queues": queue(pending=100, ack_pending=5)}),
        ("queue", Level.WARN, {"queues": queue(pending=1, oldest_s=300.0)}),
        ("queue", Level.CRIT, {"queues": queue(pending=1, oldest_s=3600.0)}),
        ("queue", Level.OK, {"queues": queue(pending=1, oldest_s=3600.0, paused=True)}),
        ("stores", Level.WARN, {"stores": Unknown("refused")}),
        ("store", Level.OK, {"stores": store(fill=0.79)}),
        ("store", Level.WARN, {"stores": store(fill=0.8)}),
        ("store", Level.CRIT, {"stores": store(fill=0.95)}),
        ("store", Level.WARN, {"stores": store(copies=2, copies_wanted=3)}),
        ("store", Level.CRIT, {"stores": store(copies=0, copies_wanted=3)}),
        ("disk", Level.OK, {"room": (79, 100)}),
        ("disk", Level.WARN, {"room": (80, 100)}),
        ("disk", Level.CRIT, {"room": (95, 100)}),
        ("disk", Level.WARN, {"room": Unknown("refused")}),
    ],
)
def test_each_threshold(name: str, level: Level, change: dict[str, Any]) -> None:
    """One thing changes, its check alone does, and it says what to do unless it is ok."""
    facts = replace(WELL, **change)
    found = one(facts, name)
    assert found.level is level
    assert (found.advice is None) is (level is Level.OK)
    assert worst(judge(facts)) is level


def test_the_worst_decides() -> None:
    """crit beats warn; nothing looked at is ok."""
    assert worst(judge(replace(WELL, invalid=1, leader=None))) is Level.CRIT
    assert worst([]) is Level.OK


def test_percentile() -> None:
    """Nearest rank, whatever the order."""
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert percentile([5.0], 0.99) == 5.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.9994, "999ms"), (1, "1.0s"), (59.96, "1m00s"), (3599.9, "1h00m"), (90000, "1d01h"), (-2, "-2.0s")],
)
def test_spans(seconds: float, text: str) -> None:
    """The two largest units, never 60 of one."""
    assert span(seconds) == text


def test_sizes() -> None:
    """Powers of 1024."""
    assert [size(count) for count in (0, 1023, 1024, 1 << 30)] == ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"]
