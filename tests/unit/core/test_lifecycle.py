"""What an execution can become: every pair of state and event, and random histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle import (
    FOLLOWERS,
    OUTCOMES,
    TERMINAL,
    Ask,
    Event,
    Finish,
    Queue,
    Retry,
    Start,
    Wait,
    advance,
    diagram,
    is_terminal,
)
from scheduler.core.model.execution import HISTORY_MAX, Action, Asked, Failure, State
from tests.unit.core.executions import QUEUED, STARTED, after, at, claimed, in_state

C, W, Q, R, Y = State.CLAIMED, State.WAITING, State.QUEUED, State.RUNNING, State.RETRYING
NEVER_RUN = {State.SKIPPED, State.MISSED, State.PAUSED, State.SUPERSEDED, State.EXPIRED}
RAN = set(OUTCOMES)

# The contract, part 5, as a second hand wrote it down: from each state the states that an event may lead to.
LEGAL: dict[State, set[State]] = {
    C: {Q, W, State.LOST, *NEVER_RUN},
    W: {Q, State.SKIPPED, State.CANCELLED, State.EXPIRED, State.LOST},
    Q: {R, Y, State.EXPIRED, *RAN},
    R: {R, Y, *RAN},
    Y: {R, Y, State.EXPIRED, *RAN},
}
AGAIN = {*RAN, State.EXPIRED, State.SKIPPED}  # a retry goes on from these
TABLE = LEGAL | {state: {C} for state in AGAIN}


def _event_to(target: State) -> Event | None:
    """An event with a new attempt that aims at this state; None where no event does."""
    match target:
        case State.CLAIMED:
            return None
        case State.WAITING:
            return Wait(at(9))
        case State.QUEUED:
            return Queue(at(9), 11)
        case State.RUNNING:
            return Start(at(9), 2, "w2")
        case State.RETRYING:
            return Retry(at(9), 2)
        case _:
            return Finish(at=at(9), state=target, attempt=2 if target in RAN else None)


@pytest.mark.parametrize("target", [state for state in State if state is not State.CLAIMED])
@pytest.mark.parametrize("state", list(State))
def test_every_pair(state: State, target: State) -> None:
    """A legal event leads to its state and is in the history; an illegal one changes nothing."""
    before = in_state(state)
    event = _event_to(target)
    assert event is not None
    moved = advance(before, event)
    if target in LEGAL.get(state, set()):
        assert moved is not None
        assert moved.state is target
        assert moved.history[-1].state is target
        assert moved.history[:-1] == before.history
    else:
        assert moved is None or moved == before
    assert in_state(state) == before  # and nobody has touched the one before


def test_table_is_the_contract() -> None:
    """The table in code allows exactly what the contract lists, and an end is followed by nothing but a retry."""
    assert {state: set(followers) for state, followers in FOLLOWERS.items()} == TABLE
    assert set(State) - set(LEGAL) == set(TERMINAL)


def test_queue_sets_when_and_where() -> None:
    """`queued_at` makes the verdict `fired` and the lateness known; the task sequence is kept."""
    queued = after(claimed(), QUEUED)
    assert (queued.queued_at, queued.task_seq, queued.verdict, queued.lateness_s) == (at(1), 11, "fired", 1.0)


def test_queue_after_a_fast_worker_fills_in_the_sequence_only() -> None:
    """The dispatcher's late word on a record that a report has moved on adds the task sequence and changes no state."""
    running = after(claimed(), Queue(at(2), None), STARTED)
    filled = after(running, Queue(at(5), 11))
    assert (filled.task_seq, filled.queued_at, filled.state, filled.history) == (11, at(2), R, running.history)
    assert advance(filled, Queue(at(6), 12)) is None
    assert advance(running, Queue(at(6), None)) is None


def test_start_is_stale_once_a_later_one_was_seen() -> None:
    """A start that names an attempt not newer than the record's changes nothing."""
    second = after(claimed(), QUEUED, STARTED, Start(at(40), 2, "w2"))
    assert second.attempt == 2
    assert second.worker == "w2"
    assert second.history[-1].note == "attempt 1 went silent"
    assert advance(second, STARTED) is None
    assert advance(second, Start(at(41), 2, "w3")) is None


def test_first_start_corrects_what_signals_counted() -> None:
    """Two deliveries handed back unstarted were counted as tries; the first real start says that it is attempt 1."""
    guessed = after(claimed(), QUEUED, Retry(at(2)), Retry(at(3)))
    assert guessed.attempt == 2
    started = after(guessed, Start(at(4), 1, "w1"))
    assert (started.attempt, started.state) == (1, R)
    assert after(started, Finish(at=at(5), state=State.SUCCEEDED, attempt=1)).state is State.SUCCEEDED


def test_start_of_an_earlier_drive_is_stale() -> None:
    """After a re-drive the attempts of the drive before it move nothing."""
    again = after(claimed(drive=1, attempt=2, attempts_before=2), QUEUED)
    assert advance(again, Start(at(3), 2, "w1")) is None
    assert after(again, Start(at(3), 3, "w1")).attempt == 3


def test_retry_counts_once() -> None:
    """The same retry told twice, or told after its successor began, changes nothing."""
    retrying = after(claimed(), QUEUED, STARTED, Retry(at(3), 1, Failure("E", "x")))
    assert retrying.error == Failure("E", "x")
    assert advance(retrying, Retry(at(4), 1)) is None
    second = after(retrying, Start(at(5), 2, "w1"))
    assert advance(second, Retry(at(6), 1)) is None


@pytest.mark.parametrize(
    ("retry", "note"),
    [
        (Retry(at(3), 1, Failure("OSError", "busy,\n try later")), "attempt 1: OSError: busy, try later"),
        (Retry(at(3), 1, Failure("E", "x" * 500)), f"attempt 1: E: {'x' * 156}…"),
        (Retry(at(3), 1, Failure("E", "x"), "shortened"), "attempt 1: E: x: shortened"),
        (Retry(at(3), 2, note="delivery 2 was handed back"), "attempt 2: delivery 2 was handed back"),
        (Retry(at(3)), "attempt 2"),
    ],
)
def test_a_retry_says_why(retry: Retry, note: str) -> None:
    """Which attempt failed and of what, in one short line of the history: the next error replaces the one on record."""
    assert after(claimed(), QUEUED, STARTED, retry).history[-1].note == note


def test_finish_may_bury_an_attempt_that_asked_for_another() -> None:
    """Who finds no try left files the final end of the attempt whose retry is on record."""
    retrying = after(claimed(), QUEUED, STARTED, Retry(at(3), 1, Failure("E", "x")))
    buried = after(retrying, Finish(at=at(9), state=State.FAILED, attempt=1, reason="max_tries"))
    assert (buried.state, buried.reason, buried.error) == (State.FAILED, "max_tries", Failure("E", "x"))


def test_finish_of_an_older_attempt_is_stale() -> None:
    """An attempt that was taken for lost cannot end the execution under its successor."""
    second = after(claimed(), QUEUED, STARTED, Start(at(40), 2, "w2"))
    assert advance(second, Finish(at=at(41), state=State.SUCCEEDED, attempt=1)) is None


def test_success_clears_an_earlier_error() -> None:
    """An execution that succeeds in its second attempt shows no error, and its result."""
    retrying = after(claimed(), QUEUED, STARTED, Retry(at(3), 1, Failure("E", "x")), Start(at(5), 2, "w1"))
    done = after(retrying, Finish(at=at(6), state=State.SUCCEEDED, attempt=2, result=b"1"))
    assert (done.error, done.result, done.attempt, done.duration_s) == (None, b"1", 2, 1.0)


def test_what_is_asked_first_holds_but_for_haste() -> None:
    """Neither its reason nor its grace is put off by whoever asks again; to terminate goes over to cancel, once."""
    first, later = (Ask(Asked(Action.CANCEL, at(each), "requested", 30.0)) for each in (1, 2))
    at_once = Ask(Asked(Action.TERMINATE, at(3), "overlap", 0.0))
    asked = after(claimed(), QUEUED, STARTED, first)
    assert asked.asked == first.asked
    assert advance(asked, later) is None
    hastier = after(asked, at_once)
    assert hastier.asked == at_once.asked
    assert advance(hastier, at_once) is None


def test_history_is_bounded() -> None:
    """A record that retries for ever keeps how it began and what happened last."""
    execution = after(claimed(), QUEUED)
    for number in range(1, 100):
        execution = after(execution, Start(at(number), number, "w"), Retry(at(number), number))
    assert len(execution.history) == HISTORY_MAX
    assert execution.history[0].state is C
    assert execution.history[-1].at == at(99)


_attempts = st.integers(1, 4)
_moments = st.integers(0, 100).map(at)
_events = st.one_of(
    st.builds(Queue, _moments, st.none() | st.integers(1, 9)),
    st.builds(Wait, _moments),
    st.builds(Start, _moments, _attempts, st.sampled_from(["w1", "w2"])),
    st.builds(Retry, _moments, st.none() | _attempts),
    st.builds(Finish, at=_moments, state=st.sampled_from(sorted(TERMINAL)), attempt=st.none() | _attempts),
)


@given(st.lists(_events, max_size=30))
def test_random_histories(events: list[Event]) -> None:
    """Whatever is told in whatever order: an end is final, and attempts never go back once one was really started."""
    execution = claimed()
    for event in events:
        following = advance(execution, event)
        if is_terminal(execution) and following is not None:
            assert (following.state, following.history) == (execution.state, execution.history)
        if following is None:
            continue
        if following.state is not execution.state:
            assert following.state in LEGAL[execution.state]
        if execution.started_at is not None:
            assert following.attempt >= execution.attempt
        if execution.queued_at is not None:
            assert following.queued_at == execution.queued_at
        assert (following.finished_at is not None) == is_terminal(following)
        assert len(following.history) <= HISTORY_MAX
        execution = following


@given(st.lists(_events, max_size=12))
def test_told_twice_is_told_once(events: list[Event]) -> None:
    """Telling each event twice in a row comes to the same state as telling it once (events that name their attempt)."""
    named = [event for event in events if not (isinstance(event, Retry) and event.attempt is None)]
    once = twice = claimed()
    for event in named:
        once = advance(once, event) or once
        twice = advance(twice, event) or twice
        twice = advance(twice, event) or twice
    assert (twice.state, twice.attempt, twice.queued_at, twice.reason) == (
        once.state,
        once.attempt,
        once.queued_at,
        once.reason,
    )


def test_diagram_is_generated_from_the_table() -> None:
    """The picture in the docs has an arrow for every pair of the table, and no other."""
    lines = [line.strip() for line in diagram().splitlines()]
    assert lines[0] == "stateDiagram-v2"
    arrows = {tuple(line.split(" --> ")) for line in lines[1:]}
    expected = {(state.value, follower.value) for state, followers in TABLE.items() for follower in followers}
    expected |= {("[*]", "claimed")} | {(state.value, "[*]") for state in set(State) - set(LEGAL)}
    assert arrows == expected
