"""The pure decisions about attempts: which to start, when to wait, what to report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.execution import Failure
from scheduler.core.model.schedule import Backoff
from scheduler.wire.reports import BY_DAEMON, Finished, Outcome, Running, WorkerRow
from scheduler.worker.deciding import (
    LEAST_WAIT_S,
    Bury,
    Done,
    Ending,
    Forfeit,
    How,
    Limits,
    Past,
    Start,
    Tries,
    Wait,
    decide_delivery,
    decide_outcome,
    effective_limits,
    last_heard,
    retry_delay_s,
)

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACK_WAIT_S = 30.0
STEADY = Backoff(jitter=0.0)


def seconds(count: float) -> datetime:
    return T0 + timedelta(seconds=count)


def past(attempt: int = 1, **fields: Any) -> Past:
    return Past(attempt=attempt, started_at=T0, worker="w1", **fields)


def ended(outcome: Outcome, **fields: Any) -> dict[str, Any]:
    return {"finished": Finished(outcome=outcome, **fields), "finished_at": T0}


def decide(before: Past | None, **fields: Any) -> object:
    known: dict[str, Any] = {
        "attempts_before": 0,
        "max_tries": 3,
        "deliveries": 2,
        "ack_wait_s": ACK_WAIT_S,
        "heard_at": T0,
        "now": seconds(31),
    }
    return decide_delivery(before, **{**known, **fields})


# --- deliveries


def test_the_first_attempt_starts_at_once() -> None:
    """Nothing on record: attempt 1; after earlier drives: the one behind them."""
    assert decide(None, deliveries=1) == Start(1)
    assert decide(None, deliveries=7) == Start(1)
    assert decide(past(2, **ended(Outcome.FAILED)), attempts_before=2) == Start(3)


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED, Outcome.TIMED_OUT])
def test_a_final_report_is_the_end(outcome: Outcome) -> None:
    """Whatever final report exists, the task is acknowledged and nothing starts."""
    assert decide(past(1, **ended(outcome))) == Done()


def test_an_attempt_heard_of_within_the_ack_wait_is_waited_for() -> None:
    """The wait is what is left of the silence, at least a little, never more than the ack wait."""
    assert decide(past(), now=seconds(10)) == Wait(20.0)
    assert decide(past(), heard_at=seconds(25), now=seconds(31)) == Wait(24.0)
    assert decide(past(), now=seconds(29.999)) == Wait(LEAST_WAIT_S)
    assert decide(past(), heard_at=seconds(40), now=seconds(31)) == Wait(ACK_WAIT_S)


def test_after_a_whole_ack_wait_of_silence_the_next_attempt_starts() -> None:
    """The delivery count is no evidence: only silence is."""
    assert decide(past(), now=seconds(30)) == Start(2)
    assert decide(past(), deliveries=1, now=seconds(10)) == Wait(20.0)
    assert decide(past(), deliveries=1, now=seconds(30)) == Start(2)


def test_a_lost_attempt_without_a_further_try_is_buried() -> None:
    """max_tries 1 is at most once: the lost attempt is reported, none starts, and nothing is said while it may live."""
    step = decide(past(), max_tries=1)
    assert isinstance(step, Bury)
    assert (step.attempt, step.finished.outcome) == (1, Outcome.FAILED)
    assert step.finished.error is not None
    assert step.finished.error.type == "WorkerLost"
    assert decide(past(), max_tries=1, now=seconds(29)) == Wait(1.0)
    second = decide(past(4), attempts_before=2, max_tries=2)
    assert isinstance(second, Bury)
    assert decide(past(3), attempts_before=2, max_tries=2) == Start(4)


def test_a_retry_goes_on_when_the_server_held_it_back() -> None:
    """After `retry` the next attempt starts on redelivery; on a consumer made anew the pause is kept."""
    retry = ended(Outcome.RETRY, retry_in_s=60.0)
    assert decide(past(1, **retry), deliveries=2, now=seconds(5)) == Start(2)
    assert decide(past(1, **retry), deliveries=1, now=seconds(5)) == Wait(55.0)
    assert decide(past(1, **retry), deliveries=1, now=seconds(-100)) == Wait(60.0)
    assert decide(past(1, **retry), deliveries=1, now=seconds(61)) == Start(2)


def test_a_lower_limit_forfeits_the_next_attempt() -> None:
    """Ended in `retry` under a higher limit: the next attempt is claimed to carry the failure, and not run."""
    failure = Failure("E", "why")
    step = decide(past(2, **ended(Outcome.RETRY, error=failure)), max_tries=2)
    assert isinstance(step, Forfeit)
    assert step.attempt == 3
    assert (step.finished.outcome, step.finished.error) == (Outcome.FAILED, failure)


def test_an_attempt_of_the_daemon_is_never_followed() -> None:
    """The daemon took it to cancel: wait for it to remove the task, however long it is silent."""
    assert decide(past(by=BY_DAEMON), now=seconds(9999)) == Wait(ACK_WAIT_S)


def test_signs_of_life() -> None:
    """A row counts if it lists this attempt; an outage of NATS counts as a sign."""
    row = WorkerRow(worker="w1", running=(Running("id", 1),))
    assert last_heard(past(), "id", None, None, None) == T0
    assert last_heard(past(), "id", row, seconds(20), None) == seconds(20)
    assert last_heard(past(2), "id", row, seconds(20), None) == T0
    assert last_heard(past(), "other", row, seconds(20), None) == T0
    assert last_heard(past(), "id", row, seconds(20), seconds(25)) == seconds(25)


@given(
    attempt=st.integers(1, 12),
    attempts_before=st.integers(0, 6),
    max_tries=st.integers(1, 6),
    deliveries=st.integers(1, 30),
    silence_s=st.floats(0, 100),
    by=st.sampled_from([None, BY_DAEMON]),
    outcome=st.sampled_from([None, *Outcome]),
)
def test_no_step_breaks_the_promise(
    attempt: int, attempts_before: int, max_tries: int, deliveries: int, silence_s: float, by: str | None,
    outcome: Outcome | None,
) -> None:  # fmt: skip
    """Nothing starts beside a live attempt, after a final report, above max_tries, or out of order."""
    before = past(attempt, by=by, **(ended(outcome, retry_in_s=1.0) if outcome else {}))
    step = decide(
        before, attempts_before=attempts_before, max_tries=max_tries, deliveries=deliveries, now=seconds(silence_s)
    )
    if not isinstance(step, Start):
        return
    assert attempts_before < step.attempt <= attempts_before + max_tries
    if attempt > attempts_before:
        assert step.attempt == attempt + 1
        assert outcome is Outcome.RETRY or (outcome is None and silence_s >= ACK_WAIT_S)
        assert by is None


# --- limits


@pytest.mark.parametrize(
    ("schedule", "own", "limits"),
    [
        ((None, None), (None, None), Limits(3, None)),
        ((5, None), (None, None), Limits(5, None)),
        ((5, 10.0), (2, 20.0), Limits(2, 10.0)),
        ((1, 30.0), (4, 5.0), Limits(1, 5.0)),
        ((None, None), (7, 1.5), Limits(7, 1.5)),
    ],
)
def test_the_smaller_limit_wins(
    schedule: tuple[int | None, float | None], own: tuple[int | None, float | None], limits: Limits
) -> None:
    """The smaller max_tries and the shorter timeout of schedule and decorator hold; else 3 tries, no timeout."""
    found = effective_limits(
        schedule_tries=schedule[0], schedule_timeout_s=schedule[1], own_tries=own[0], own_timeout_s=own[1],
        deadline=None, now=T0,
    )  # fmt: skip
    assert found == limits


def test_no_attempt_goes_past_the_deadline() -> None:
    """What is left until the deadline bounds the timeout; a deadline that is past leaves nothing."""

    def timeout_s(deadline: datetime) -> float | None:
        return effective_limits(
            schedule_tries=None, schedule_timeout_s=60.0, own_tries=None, own_timeout_s=None, deadline=deadline, now=T0
        ).timeout_s

    assert timeout_s(seconds(10)) == 10.0
    assert timeout_s(seconds(90)) == 60.0
    assert timeout_s(seconds(-5)) == 0.0


# --- outcomes


def outcome_of(how: How, *, attempt: int = 1, max_tries: int = 3, **fields: Any) -> Finished:
    tries = Tries(attempt=attempt, attempts_before=fields.pop("attempts_before", 0), max_tries=max_tries, **fields)
    ending = Ending(how=how, result=msgspec.Raw(b"1"), failure=Failure("E", "why"))
    return decide_outcome(ending, tries, STEADY, spread=0.5, at=T0)


def test_what_ends_an_execution_at_once() -> None:
    """A result, a cancel and a payload that cannot be read are final, whatever tries are left."""
    assert outcome_of(How.RETURNED).outcome is Outcome.SUCCEEDED
    assert outcome_of(How.CANCELLED).outcome is Outcome.CANCELLED
    assert outcome_of(How.UNUSABLE).outcome is Outcome.FAILED


@pytest.mark.parametrize("how", [How.RAISED, How.TIMED_OUT, How.STOPPED])
def test_failures_are_retried_while_tries_are_left(how: How) -> None:
    """Two of three: retry with error and delay; a stopped worker hands back at once."""
    report = outcome_of(how, attempt=2)
    assert report.outcome is Outcome.RETRY
    assert report.error is not None
    assert report.retry_in_s == (0.0 if how is How.STOPPED else 2.0)


@pytest.mark.parametrize(
    ("how", "outcome"),
    [(How.RAISED, Outcome.FAILED), (How.TIMED_OUT, Outcome.TIMED_OUT), (How.STOPPED, Outcome.FAILED)],
)
def test_the_last_try_is_final(how: How, outcome: Outcome) -> None:
    """Three of three, counted within the drive: failed, or timed_out after a timeout, and never silence."""
    assert outcome_of(how, attempt=3).outcome is outcome
    assert outcome_of(how, attempt=7, attempts_before=4).outcome is outcome
    assert outcome_of(how, attempt=6, attempts_before=4).outcome is Outcome.RETRY


def test_what_the_function_asks_for() -> None:
    """Giving up is final whatever tries are left; a pause that was asked for replaces the backoff's."""
    assert outcome_of(How.GAVE_UP).outcome is Outcome.FAILED
    asked = Ending(how=How.RAISED, retry_in_s=300.0)
    report = decide_outcome(asked, Tries(attempt=1, attempts_before=0, max_tries=2), Backoff(), spread=0.5, at=T0)
    assert (report.outcome, report.retry_in_s) == (Outcome.RETRY, 300.0)
    last = decide_outcome(asked, Tries(attempt=2, attempts_before=0, max_tries=2), Backoff(), spread=0.5, at=T0)
    assert last.outcome is Outcome.FAILED


def test_a_retry_that_would_not_be_delivered_is_final() -> None:
    """At the queue's last delivery a failure is final and says why."""
    report = outcome_of(How.RAISED, attempt=2, max_tries=50, deliveries=20, max_deliver=20)
    assert report.outcome is Outcome.FAILED
    assert report.note is not None
    assert "max_deliver 20" in report.note
    assert outcome_of(How.RAISED, attempt=2, max_tries=50, deliveries=19, max_deliver=20).outcome is Outcome.RETRY
    assert outcome_of(How.RAISED, attempt=2, max_tries=50, deliveries=99, max_deliver=-1).outcome is Outcome.RETRY


def test_delays_grow_to_their_limit() -> None:
    """Initial times factor per try, at most max, spread by the jitter; a factor too large for numbers is max."""
    assert [retry_delay_s(STEADY, number, 0.5) for number in (1, 2, 3, 9, 10, 5000)] == [1, 2, 4, 256, 300, 300]
    assert retry_delay_s(Backoff(), 1, 0.0) == 0.8
    assert retry_delay_s(Backoff(), 1, 1.0) == 1.2


@given(number=st.integers(1, 1000), spread=st.floats(0, 1), factor=st.floats(1, 1000), jitter=st.floats(0, 1))
def test_delays_are_bounded(number: int, spread: float, factor: float, jitter: float) -> None:
    """No delay is negative or above max * (1 + jitter)."""
    delay_s = retry_delay_s(Backoff(factor=factor, jitter=jitter), number, spread)
    assert 0 <= delay_s <= 300 * (1 + jitter) + 0.001
