"""What is worth telling: each outcome beside those before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.alerting import HEALTHY, START_CHANGES, STOP_CHANGES, WINDOW, Alert, Health, Outcome, fold
from scheduler.core.model.execution import State

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)
WORDS = {"s": State.SUCCEEDED, "f": State.FAILED, "m": State.MISSED}


def told(outcomes: str, health: Health = HEALTHY) -> tuple[Health, list[list[Alert]]]:
    """The health after these, a letter each, and what each of them told."""
    found: list[list[Alert]] = []
    for number, letter in enumerate(outcomes):
        health, alerts = fold(health, Outcome(WORDS[letter], AT + timedelta(minutes=number)))
        found.append(list(alerts))
    return health, found


def kinds(outcomes: str) -> list[list[str]]:
    return [[alert.kind.value for alert in alerts] for alerts in told(outcomes)[1]]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("sss", [[], [], []]),
        ("f", [["failed"]]),
        ("m", [["missed"]]),
        ("sfs", [[], ["failed"], ["recovered"]]),
        ("ffss", [["failed"], ["failed"], ["recovered"], []]),
        ("ms", [["missed"], ["recovered"]]),
        ("fsfsf", [["failed"], ["recovered"], ["failed"], ["recovered"], ["failed"]]),
        ("fsfsfs", [["failed"], ["recovered"], ["failed"], ["recovered"], ["failed"], ["recovered", "flapping"]]),
    ],
)
def test_what_is_told(outcomes: str, expected: list[list[str]]) -> None:
    """Trouble each time, the first success after it once, flapping with the fifth change among the last ten."""
    assert kinds(outcomes) == expected


@pytest.mark.parametrize("state", [State.FAILED, State.TIMED_OUT, State.LOST])
def test_each_bad_end_failed(state: State) -> None:
    """Failed, timed out and lost are the same to whoever has to get up at night."""
    _, (alert,) = fold(HEALTHY, Outcome(state, AT))
    assert (alert.kind, alert.data) == ("failed", {"failures": 1, "failing_since": AT})


@pytest.mark.parametrize("state", [State.CANCELLED, State.SKIPPED, State.PAUSED, State.SUPERSEDED])
def test_ends_that_say_nothing(state: State) -> None:
    """What somebody wanted so is neither trouble nor a success."""
    health, _ = told("ff")
    assert fold(health, Outcome(state, AT)) == (health, ())


def test_expired_is_missed() -> None:
    """A start deadline that passed is an occurrence that time has passed by."""
    _, (alert,) = fold(HEALTHY, Outcome(State.EXPIRED, AT))
    assert alert.kind == "missed"


def test_a_range_counts_as_many_and_changes_once() -> None:
    """A hundred missed at once are a hundred failures and one outcome."""
    health, (alert,) = fold(HEALTHY, Outcome(State.MISSED, AT, count=100))
    assert (health.failures, health.outcomes, alert.data["failures"]) == (100, "f", 100)
    _, (recovered,) = fold(health, Outcome(State.SUCCEEDED, AT + timedelta(hours=1)))
    assert recovered.data == {"failures": 100, "failing_since": AT}


def test_a_backfill_says_nothing_about_now() -> None:
    """Its failure is told; its success is no recovery; neither is remembered."""
    health, _ = told("f")
    assert fold(health, Outcome(State.SUCCEEDED, AT, counts=False)) == (health, ())
    after, (alert,) = fold(health, Outcome(State.FAILED, AT, counts=False))
    assert (after, alert.kind) == (health, "failed")


def test_flapping_stops() -> None:
    """It is told once that it began and once that it is over, either way it came to rest."""
    for rest, state in (("s" * WINDOW, HEALTHY), ("f" * WINDOW, None)):
        health, alerts = told("fsfsfs" + rest)
        changes = [alert.data["state"] for each in alerts for alert in each if alert.kind == "flapping"]
        assert changes == ["started", "stopped"]
        assert not health.flapping
        assert state is None or health == state


@given(st.text(alphabet="sfm", max_size=60))
def test_what_is_remembered_is_bounded(outcomes: str) -> None:
    """A few dozen bytes whatever happens; flapping exactly between the two thresholds; ten successes are healthy."""
    health, alerts = told(outcomes)
    assert len(health.outcomes) <= WINDOW
    assert health.changes < START_CHANGES or health.flapping
    assert not health.flapping or health.changes > STOP_CHANGES
    assert told("s" * WINDOW * 2, health)[0] == HEALTHY
    assert all(len(each) <= 2 for each in alerts)
    assert sum(alert.kind == "recovered" for each in alerts for alert in each) <= outcomes.count("s")


@given(st.text(alphabet="sfm", max_size=30), st.text(alphabet="sfm", max_size=30))
def test_it_is_a_fold(one: str, other: str) -> None:
    """Who goes on from what was kept tells the same as who saw it all."""
    health, first = told(one)
    kept, second = told(other, health)
    assert told(one + other)[0].outcomes == kept.outcomes
    assert [[a.kind for a in each] for each in [*first, *second]] == [
        [a.kind for a in each] for each in told(one + other)[1]
    ]
