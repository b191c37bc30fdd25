"""Reports and signals as events: which source decides, and what comes twice, late or out of order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle import Event, Finish, Queue, Retry, Start, advance, is_terminal
from scheduler.core.model.execution import Execution, Failure, State
from scheduler.core.tracking import (
    AttemptEnded,
    AttemptStarted,
    Judgement,
    Report,
    SignalKind,
    Surroundings,
    TaskSignal,
    end_of,
    events_of_reports,
    judge_signals,
    newest_start,
)
from tests.unit.core.executions import QUEUED, STARTED, after, at, claimed, in_state

BOOM = Failure("ValueError", "boom", "trace")
LOST_WORDS = Failure("WorkerLost", "worker w1 started attempt 1 and was not heard of")


def started(attempt: int = 1, seq: int = 1, **changes: Any) -> AttemptStarted:
    return AttemptStarted(**({"attempt": attempt, "at": at(seq), "seq": seq, "worker": "w1"} | changes))


def ended(state: State, attempt: int = 1, seq: int = 2, **changes: Any) -> AttemptEnded:
    return AttemptEnded(**({"attempt": attempt, "at": at(seq), "seq": seq, "state": state} | changes))


def told(execution: Execution, *reports: Report, task_seq: int | None = None) -> Execution:
    """The execution after the events of these reports, each of which must be legal."""
    return after(execution, *events_of_reports(execution, reports, task_seq=task_seq))


# --- reports


@pytest.mark.parametrize(
    ("report", "state", "reason"),
    [
        (ended(State.SUCCEEDED, result=b"42"), State.SUCCEEDED, None),
        (ended(State.SUCCEEDED, note="result dropped"), State.SUCCEEDED, "result dropped"),
        (ended(State.FAILED, error=BOOM), State.FAILED, None),
        (ended(State.FAILED, error=BOOM, note="payload unusable"), State.FAILED, "payload unusable"),
        (ended(State.CANCELLED), State.CANCELLED, None),
        (ended(State.TIMED_OUT, error=BOOM), State.TIMED_OUT, None),
        (ended(State.RETRYING, error=BOOM), State.RETRYING, None),
        (ended(State.FAILED, error=LOST_WORDS), State.LOST, "worker_gone"),
        (ended(State.FAILED, error=Failure("WorkerLost", "a user's own class", "trace")), State.FAILED, None),
    ],
)
def test_outcomes(report: AttemptEnded, state: State, reason: str | None) -> None:
    """Each outcome ends the attempt as the contract names it, with result, error and reason."""
    done = told(in_state(State.QUEUED), started(), report)
    assert (done.state, done.reason, done.attempt) == (state, reason, 1)
    assert done.started_at == at(1)
    assert done.error == (None if state is State.SUCCEEDED else report.error)
    assert done.result == report.result


def test_reason_of_the_last_try() -> None:
    """A failure of the last try has the reason max_tries; an earlier one that is final has the worker's own word."""
    third = in_state(State.QUEUED, max_tries=3)
    assert told(third, started(3), ended(State.FAILED, 3, error=BOOM)).reason == "max_tries"
    assert told(third, started(2), ended(State.FAILED, 2, note="fatal")).reason == "fatal"


def test_finished_before_started() -> None:
    """The attempt decides, not the order of arrival: a finish that came first finds its start beside it."""
    done = told(in_state(State.QUEUED), ended(State.SUCCEEDED), started())
    assert [entry.state for entry in done.history[-2:]] == [State.RUNNING, State.SUCCEEDED]


def test_several_attempts_in_one_batch() -> None:
    """A retry and the attempt that follows it are one history."""
    reports = [started(1, 1), ended(State.RETRYING, 1, 2, error=BOOM), started(2, 3), ended(State.SUCCEEDED, 2, 4)]
    done = told(in_state(State.QUEUED), *reports)
    assert (done.state, done.attempt, done.error) == (State.SUCCEEDED, 2, None)


def test_a_report_proves_that_the_task_was_queued() -> None:
    """A worker faster than the dispatcher's write: the record passes through queued, at the sequence of its task."""
    done = told(claimed(), started(), ended(State.SUCCEEDED), task_seq=11)
    assert (done.queued_at, done.task_seq, done.state) == (at(1), 11, State.SUCCEEDED)
    assert [entry.state for entry in done.history] == [
        State.CLAIMED,
        State.QUEUED,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    assert told(claimed(), started()).task_seq is None  # its claim has expired


def test_daemon_starts_are_no_runs() -> None:
    """An attempt that the daemon took to keep the task from running is told by the daemon itself."""
    assert events_of_reports(in_state(State.QUEUED), [started(by_daemon=True, worker=None)]) == ()


def test_reports_of_an_earlier_drive() -> None:
    """After a re-drive the reports of the drive before it are old news."""
    again = after(claimed(drive=1, attempt=2, attempts_before=2), QUEUED)
    assert events_of_reports(again, [started(2), ended(State.SUCCEEDED, 2)]) == ()
    assert told(again, started(3, 7)).state is State.RUNNING


@pytest.mark.parametrize(
    "reports",
    [
        [started()],
        [started(), ended(State.SUCCEEDED)],
        [started(), ended(State.RETRYING)],
        [started(), ended(State.RETRYING), started(2, 3)],
        [started(), ended(State.FAILED, error=LOST_WORDS)],
    ],
)
def test_reports_told_again_say_nothing(reports: list[Report]) -> None:
    """A redelivery yields no event at all, so nothing is counted as illegal."""
    done = told(in_state(State.QUEUED), *reports)
    assert events_of_reports(done, reports) == ()
    for report in reports:
        assert events_of_reports(done, [report]) == ()


def test_an_end_after_the_end_is_told_to_the_table() -> None:
    """A final report on a record that was given up is an illegal event: it is worth counting, and changes nothing."""
    lost = in_state(State.LOST)
    events = events_of_reports(lost, [ended(State.SUCCEEDED)])
    assert len(events) == 1
    assert advance(lost, events[0]) is None


def test_newest_start_and_its_end() -> None:
    """The newest attempt of this drive, and the last word about it."""
    again = claimed(attempts_before=1)
    reports = [started(1, 1), ended(State.FAILED, 1, 2), started(2, 3), ended(State.RETRYING, 2, 4)]
    start = newest_start(again, reports)
    assert start == reports[2]
    assert start is not None
    assert end_of(start, reports) == reports[3]
    assert newest_start(again, reports[:2]) is None


_reports = st.lists(
    st.one_of(
        st.builds(started, st.integers(1, 3), st.integers(1, 50)),
        st.builds(
            ended,
            st.sampled_from([State.SUCCEEDED, State.FAILED, State.RETRYING]),
            st.integers(1, 3),
            st.integers(1, 50),
        ),
    ),
    max_size=8,
)


def _folded(execution: Execution, batches: list[list[Report]]) -> Execution:
    for batch in batches:
        for event in events_of_reports(execution, batch):
            execution = advance(execution, event) or execution
    return execution


@given(_reports)
def test_folding_twice_is_folding_once(reports: list[Report]) -> None:
    """Whatever was folded, folding the whole batch again changes nothing: a crash before the acknowledgement."""
    once = _folded(in_state(State.QUEUED), [reports])
    again = _folded(once, [reports])
    assert (again.state, again.attempt, again.reason) == (once.state, once.attempt, once.reason)


def _true_history(retries: int, end: State) -> list[Report]:
    """What a well-behaved SDK publishes: so many retries, then an end."""
    reports: list[Report] = []
    for attempt in range(1, retries + 1):
        reports += [started(attempt, len(reports) + 1), ended(State.RETRYING, attempt, len(reports) + 2, error=BOOM)]
    return [*reports, started(retries + 1, len(reports) + 1), ended(end, retries + 1, len(reports) + 2)]


@given(st.integers(0, 3), st.sampled_from([State.SUCCEEDED, State.FAILED]), st.data())
def test_any_order_of_arrival(retries: int, end: State, data: st.DataObject) -> None:
    """Batches of one execution in any order, some twice, each with the newest start read back: the same end."""
    reports = _true_history(retries, end)
    order = data.draw(st.permutations([*reports, *reports[:1]]))
    execution = in_state(State.QUEUED, max_tries=9)
    newest = newest_start(execution, reports)
    assert newest is not None
    for report in order:
        for event in events_of_reports(execution, [report, newest] if isinstance(report, AttemptEnded) else [report]):
            execution = advance(execution, event) or execution
    assert (execution.state, execution.attempt) == (end, retries + 1)


# --- signals


def signal(kind: SignalKind, deliveries: int = 1, seconds: float = 5, **changes: Any) -> TaskSignal:
    values = {"kind": kind, "task_seq": 11, "deliveries": deliveries, "at": at(seconds)}
    return TaskSignal(**(values | changes))


ACK, NAK, TERM, LAST = SignalKind.ACK, SignalKind.NAK, SignalKind.TERM, SignalKind.MAX_DELIVERIES
ALONE = Surroundings()
RUNS = Surroundings(reports=(started(),))


def judged(execution: Execution, *signals: TaskSignal, known: Surroundings = ALONE) -> tuple[Execution, Judgement]:
    judgement = judge_signals(execution, signals, known)
    return after(execution, *judgement.events), judgement


@pytest.mark.parametrize("state", [State.CLAIMED, State.QUEUED, State.RETRYING])
def test_ack_of_a_plain_worker(state: State) -> None:
    """An ack of a task that nobody reported on is a success, whatever the dispatcher has written so far."""
    execution = claimed() if state is State.CLAIMED else after(claimed(), QUEUED)
    if state is State.RETRYING:
        execution = after(execution, Retry(at(3), 1))
    done, judgement = judged(execution, signal(ACK, 2 if state is State.RETRYING else 1))
    assert (done.state, done.reason) == (State.SUCCEEDED, None)
    assert done.attempt == (2 if state is State.RETRYING else 1)
    assert done.task_seq == 11
    assert not judgement.remove


def test_term_of_a_plain_worker() -> None:
    """TERM fails it, with the worker's text as the reason; our own removal of the task is no outcome."""
    assert judged(in_state(State.QUEUED), signal(TERM, reason="bad input"))[0].reason == "bad input"
    assert judged(in_state(State.QUEUED), signal(TERM))[0].reason == "terminated"
    assert judge_signals(in_state(State.QUEUED), [signal(TERM, is_removal=True)], ALONE) == Judgement()


def test_nak_of_a_plain_worker() -> None:
    """NAK is a failed try: another follows until max_tries, then it failed and its task has to go."""
    once, judgement = judged(in_state(State.QUEUED, max_tries=2), signal(NAK))
    assert (once.state, once.attempt, judgement.remove) == (State.RETRYING, 1, False)
    twice, judgement = judged(once, signal(NAK, 2, 6))
    assert (twice.state, twice.reason, twice.attempt, judgement.remove) == (State.FAILED, "max_tries", 2, True)


def test_nak_with_one_try() -> None:
    """max_tries 1: the first NAK is the end."""
    done, judgement = judged(in_state(State.QUEUED, max_tries=1), signal(NAK))
    assert (done.state, done.reason, judgement.remove) == (State.FAILED, "max_tries", True)


def test_nak_told_again_or_late() -> None:
    """The same NAK again, or one that a later NAK overtook, counts no second try."""
    twice, _ = judged(in_state(State.QUEUED, max_tries=5), signal(NAK, 1), signal(NAK, 2, 6))
    assert twice.attempt == 2
    assert judge_signals(twice, [signal(NAK, 1)], ALONE) == Judgement()
    assert judge_signals(twice, [signal(NAK, 2, 6)], ALONE) == Judgement()


def test_signals_of_one_batch_are_one_history() -> None:
    """Two NAKs and the ack of the third delivery, in whatever order they were pulled."""
    done, _ = judged(in_state(State.QUEUED, max_tries=5), signal(ACK, 3, 7), signal(NAK, 2, 6), signal(NAK, 1, 5))
    assert (done.state, done.attempt) == (State.SUCCEEDED, 3)
    assert [entry.state for entry in done.history[-3:]] == [State.RETRYING, State.RETRYING, State.SUCCEEDED]


def test_a_consumer_made_anew_counts_from_one() -> None:
    """The ack of delivery 1 after two tries is the third try, not a stale first."""
    retrying = after(in_state(State.QUEUED, max_tries=5), Retry(at(2), 1), Retry(at(3), 2))
    done, _ = judged(retrying, signal(ACK, 1))
    assert (done.state, done.attempt) == (State.SUCCEEDED, 3)


def test_max_deliveries_of_a_plain_worker() -> None:
    """Silence through every delivery is a failure; the message stays in the stream, so it has to be removed."""
    done, judgement = judged(in_state(State.QUEUED), signal(LAST, 20))
    assert (done.state, done.reason, done.attempt, judgement.remove) == (State.FAILED, "max_deliver", 20, True)


def test_sdk_queue_hands_back_without_a_try() -> None:
    """An SDK worker that does not start a task costs no try, even the only one."""
    known = Surroundings(is_sdk_queue=True)
    assert judge_signals(in_state(State.QUEUED, max_tries=1), [signal(NAK)], known) == Judgement()


def test_no_handler() -> None:
    """A type that no worker of the queue knows fails at max_deliver as no_handler, without an attempt."""
    known = Surroundings(is_sdk_queue=True, has_handler=False)
    done, judgement = judged(in_state(State.QUEUED), signal(LAST, 20), known=known)
    assert (done.state, done.reason, done.attempt, judgement.remove) == (State.FAILED, "no_handler", 0, True)


@pytest.mark.parametrize("kind", [ACK, NAK, TERM])
@pytest.mark.parametrize("state", [State.CLAIMED, State.QUEUED, State.RUNNING])
def test_only_reports_decide_once_something_started(kind: SignalKind, state: State) -> None:
    """A signal can overtake the report that explains it: it moves nothing, and removes nothing."""
    assert judge_signals(in_state(state), [signal(kind, 3)], RUNS) == Judgement()


def test_a_start_of_an_earlier_drive_is_no_start() -> None:
    """A plain worker that takes over a re-driven execution is heard by its signals."""
    again = after(claimed(drive=1, attempt=1, attempts_before=1), QUEUED)
    done, _ = judged(again, signal(ACK), known=RUNS)
    assert (done.state, done.attempt) == (State.SUCCEEDED, 2)


def test_max_deliveries_of_a_silent_attempt() -> None:
    """Nobody will get the task any more and its worker is gone: lost, whatever tries are left."""
    done, judgement = judged(in_state(State.QUEUED), signal(LAST, 20), known=RUNS)
    assert (done.state, done.reason, done.attempt, judgement.remove) == (State.LOST, "worker_gone", 1, True)


def test_max_deliveries_of_an_attempt_that_runs() -> None:
    """Its worker says that it runs it: the signal is held until that has ended."""
    known = Surroundings(reports=(started(),), is_alive=True)
    running, judgement = judged(in_state(State.QUEUED), signal(LAST, 20), known=known)
    assert (running.state, judgement.hold, judgement.remove) == (State.RUNNING, True, False)


def test_max_deliveries_between_two_attempts() -> None:
    """The attempt asked for another and the queue has none left: failed with its error, not lost."""
    known = Surroundings(reports=(started(), ended(State.RETRYING, error=BOOM)))
    done, judgement = judged(in_state(State.QUEUED), signal(LAST, 20), known=known)
    assert (done.state, done.reason, done.error, judgement.remove) == (State.FAILED, "max_deliver", BOOM, True)


def test_max_deliveries_after_the_end() -> None:
    """The final report was there all along: it counts, and the task that nobody acknowledged goes."""
    known = Surroundings(reports=(started(), ended(State.SUCCEEDED)))
    done, judgement = judged(in_state(State.RUNNING), signal(LAST, 20), known=known)
    assert (done.state, judgement.remove, judgement.hold) == (State.SUCCEEDED, True, False)


def test_max_deliveries_of_an_attempt_the_daemon_took() -> None:
    """The daemon is removing the task and writes the record itself."""
    known = Surroundings(reports=(started(by_daemon=True),))
    assert judge_signals(in_state(State.QUEUED), [signal(LAST, 20)], known) == Judgement()


@pytest.mark.parametrize("kind", list(SignalKind))
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.LOST, State.CANCELLED])
def test_signals_after_the_end(state: State, kind: SignalKind) -> None:
    """An ended record never moves; a task that may still be delivered is removed."""
    judgement = judge_signals(in_state(state), [signal(kind, 3)], ALONE)
    assert judgement == Judgement(remove=kind in (NAK, LAST))


_signals = st.lists(
    st.builds(signal, st.sampled_from(list(SignalKind)), st.integers(1, 5), st.integers(1, 50)), max_size=6
)
_surroundings = st.builds(
    Surroundings,
    reports=_reports.map(tuple),
    is_sdk_queue=st.booleans(),
    has_handler=st.booleans(),
    is_alive=st.booleans(),
)


@given(st.sampled_from([State.CLAIMED, State.QUEUED, State.RETRYING, State.RUNNING]), _signals, _surroundings)
def test_any_signals(state: State, signals: list[TaskSignal], known: Surroundings) -> None:
    """TERM, NAK and max deliveries never make a success of a plain worker's task, a removal always has an ended
    record before it, and judging again after a crash between record and removal removes all the same."""
    execution = in_state(state)
    judgement = judge_signals(execution, signals, known)
    moved = execution
    for event in judgement.events:
        moved = advance(moved, event) or moved
    kinds = {each.kind for each in signals}
    if ACK not in kinds and newest_start(execution, known.reports) is None:
        assert moved.state is not State.SUCCEEDED
    if judgement.remove:
        assert is_terminal(moved)
        assert judge_signals(moved, signals, known).remove
    assert not (judgement.hold and is_terminal(moved))


def test_events_name_what_they_mean() -> None:
    """The very events of a plain worker's success on a record that still says claimed."""
    judgement = judge_signals(claimed(), [signal(ACK)], ALONE)
    events: tuple[Event, ...] = (Queue(at(5), 11), Finish(at=at(5), state=State.SUCCEEDED, attempt=1))
    assert judgement.events == events
    assert events_of_reports(claimed(), [started()], task_seq=11) == (Queue(at(1), 11), Start(at(1), 1, "w1"))
    assert STARTED.attempt == 1
