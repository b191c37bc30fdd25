"""What each difference between should and is leads to, and what is left alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle import Queue, Retry, Start, is_terminal
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.reconciling import (
    REPAIR_KINDS,
    Ages,
    Launch,
    Record,
    events_of_vanished,
    freed_slots,
    overdue_arms,
    repair_claimed,
    repair_silent,
)
from scheduler.core.tracking import AttemptEnded, AttemptStarted, Report
from tests.unit.core.executions import T0, after, at, claimed, in_state

AGES = Ages(grace=timedelta(seconds=30), floor=timedelta(minutes=30))
WAIT = timedelta(seconds=30)


def started(attempt: int = 1, *, by_daemon: bool = False) -> AttemptStarted:
    return AttemptStarted(attempt=attempt, at=at(2), seq=attempt * 2 - 1, worker="w1", by_daemon=by_daemon)


def ended(state: State, attempt: int = 1) -> AttemptEnded:
    return AttemptEnded(attempt=attempt, at=at(3), seq=attempt * 2, state=state)


# --- claimed


@pytest.mark.parametrize(
    ("age_s", "claim_seq", "expected"),
    [
        (30, None, "nothing"),
        (30.001, None, "launch"),
        (900, None, "launch"),
        (900.001, None, "lost"),
        (7200, None, "lost"),
        (30, 10, "nothing"),
        (60, 10, "queued"),
        (1200, 10, "queued"),
    ],
)
def test_claimed(age_s: float, claim_seq: int | None, expected: str) -> None:
    """Young: left alone. Its claim is there: queued. Up to half the floor: rolled forward. Older: lost, not doubled."""
    repair = repair_claimed(claimed(), claim_seq, at(age_s), AGES)
    match repair:
        case None:
            assert expected == "nothing"
        case Launch():
            assert expected == "launch"
        case Record(events):
            moved = after(claimed(), *events)
            assert moved.state.value == expected
            if expected == "queued":
                assert events == (Queue(at(age_s), 11),)
            else:
                assert moved.reason == "claimed_too_long"


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLAIMED])
def test_claimed_repairs_nothing_else(state: State) -> None:
    """A record that has moved on is none of this repair's business."""
    assert repair_claimed(in_state(state), None, at(9999), AGES) is None


@given(st.floats(0, 7200), st.none() | st.integers(1, 99))
def test_claimed_never_goes_back(age_s: float, claim_seq: int | None) -> None:
    """No age and no claim makes a repair that ends a record whose task is known to be queued."""
    repair = repair_claimed(claimed(), claim_seq, at(age_s), AGES)
    if claim_seq is not None and isinstance(repair, Record):
        assert after(claimed(), *repair.events).state is State.QUEUED
    if isinstance(repair, Launch):
        assert age_s <= AGES.floor.total_seconds() / 2


# --- gone


@pytest.mark.parametrize("state", [State.QUEUED, State.RETRYING])
def test_vanished_from_a_plain_worker(state: State) -> None:
    """Nothing was ever reported: a plain worker acknowledged it and the signal got lost. Succeeded, and it says so."""
    execution = in_state(State.QUEUED) if state is State.QUEUED else after(in_state(State.QUEUED), Retry(at(2), 1))
    done = after(execution, *events_of_vanished(execution, (), at(99)))
    assert (done.state, done.reason) == (State.SUCCEEDED, "inferred")


@pytest.mark.parametrize(
    ("reports", "state", "reason"),
    [
        ((started(),), State.LOST, "worker_gone"),
        ((started(by_daemon=True),), State.LOST, "worker_gone"),
        ((started(), ended(State.RETRYING)), State.LOST, "task_gone"),
        ((started(), ended(State.RETRYING), started(2)), State.LOST, "worker_gone"),
    ],
)
def test_vanished_after_a_start(reports: tuple[Report, ...], state: State, reason: str) -> None:
    """Something was started and no end is on record: never a success."""
    execution = in_state(State.RUNNING)
    done = after(execution, *events_of_vanished(execution, reports, at(99)))
    assert (done.state, done.reason) == (state, reason)


def test_vanished_with_a_final_report() -> None:
    """The report is there: it decides, and absence has nothing to add."""
    assert events_of_vanished(in_state(State.RUNNING), (started(), ended(State.FAILED)), at(99)) == ()
    assert events_of_vanished(in_state(State.SUCCEEDED), (), at(99)) == ()


# --- silent


@pytest.mark.parametrize(
    ("max_tries", "silent_s", "now_s", "reports", "is_lost"),
    [
        (1, 30, 99, (started(),), True),
        (1, 29, 99, (started(),), False),  # not yet a whole ack wait
        (1, 30, 31, (started(),), False),  # it started a moment ago
        (2, 30, 99, (started(),), False),  # the redelivery starts another attempt
        (1, 30, 99, (started(), ended(State.SUCCEEDED)), False),  # it has ended, only nobody has folded that
        (1, 30, 99, (started(), ended(State.RETRYING)), False),
        (1, 30, 99, (started(by_daemon=True),), False),
        (1, 30, 99, (), False),  # nobody knows of a start
        (2, 30, 99, (started(), started(2)), False),  # a newer attempt than the record knows
    ],
)
def test_silent(max_tries: int, silent_s: float, now_s: float, reports: tuple[Report, ...], is_lost: bool) -> None:
    """Lost only after a whole ack wait of silence, without a report and without a try left."""
    execution = in_state(State.RUNNING, max_tries=max_tries)
    end = repair_silent(execution, reports, timedelta(seconds=silent_s), WAIT, at(now_s))
    assert (end is not None) == is_lost
    if end is not None:
        done = after(execution, end)
        assert (done.state, done.reason) == (State.LOST, "worker_gone")


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_silent_only_while_running(state: State) -> None:
    """What waits for its next attempt, or has ended, is not silent."""
    assert repair_silent(in_state(state, max_tries=1), (started(),), WAIT * 9, WAIT, at(999)) is None


def test_silent_in_a_later_drive() -> None:
    """Tries are counted anew in each drive."""
    again = claimed(drive=1, attempt=3, attempts_before=3, max_tries=2)
    execution = after(again, Queue(at(1), 11), Start(at(2), 4, "w1"))
    assert repair_silent(execution, (started(4),), WAIT, WAIT, at(99)) is None
    last = after(execution, Start(at(40), 5, "w1"))
    assert repair_silent(last, (started(5),), WAIT, WAIT, at(99)) is not None


# --- slots


def test_freed_slots() -> None:
    """Ended holders and holders without a record free their slots; open ones, and ones not read, keep theirs."""
    ids = ["ended", "missing", "open", "unread"]
    known: dict[str, Execution | None] = {
        "ended": in_state(State.FAILED, id="ended"),
        "missing": None,
        "open": in_state(State.RUNNING, id="open"),
    }
    missing, ended_ones = freed_slots(ids, known)
    assert missing == ["missing"]
    assert [each.id for each in ended_ones] == ["ended"]


@given(st.dictionaries(st.text(min_size=1), st.sampled_from([None, *State])))
def test_only_what_ended_is_freed(states: dict[str, State | None]) -> None:
    """No slot of a run that is not over is ever given away."""
    known = {each: None if state is None else in_state(state, id=each) for each, state in states.items()}
    missing, ended_ones = freed_slots(states, known)
    assert all(is_terminal(each) for each in ended_ones)
    assert {*missing, *(each.id for each in ended_ones)} == {
        each for each, execution in known.items() if execution is None or is_terminal(execution)
    }


# --- arms


def test_overdue_arms() -> None:
    """Overdue is what should have fired more than a grace ago, by its fire time; oldest first."""
    arms = [Occurrence("a", T0, at(seconds), 1) for seconds in (50, 10, 70, 69)]
    assert [each.fire_at for each in overdue_arms(arms, at(100), timedelta(seconds=30))] == [at(10), at(50), at(69)]


def test_repair_kinds() -> None:
    """The labels of the metric, as they are registered beforehand."""
    assert REPAIR_KINDS == (
        "claimed", "waiting", "gone", "leftovers", "slots", "rows", "arms", "chains", "workers", "consumers",
        "events", "ghosts", "due",
    )  # fmt: skip
