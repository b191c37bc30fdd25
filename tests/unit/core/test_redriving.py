"""What may be retried, what the new drive begins with, and what it is protected from."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.core.lifecycle import Finish, Queue, Redrive, Resume, Start, Wait, advance, can_redrive
from scheduler.core.model.execution import Execution, Failure, Kind, State
from scheduler.core.model.schedule import Cron, Overlap, Schedule
from scheduler.core.overlap import ADMIT, SKIP, WAIT, Slots, Terms, admit, release
from scheduler.core.redriving import redrive_of, refusal
from scheduler.core.tracking import AttemptEnded, AttemptStarted, SignalKind, Surroundings, TaskSignal, judge_signals
from scheduler.core.tracking import events_of_reports as events_of
from tests.unit.core.executions import QUEUED, STARTED, after, at, claimed, in_state

ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.LOST)
DAILY = Schedule(id="a", queue="Q", type="t", trigger=Cron(("0 9 * * *",)))
AGAIN = Redrive(at=at(100))


def failed(**changes: object) -> Execution:
    end = Finish(at=at(3), state=State.FAILED, attempt=1, reason="max_tries", error=Failure("E", "x"))
    return after(claimed(**changes), QUEUED, STARTED, end)


# --- which


@pytest.mark.parametrize("state", ENDED)
def test_what_ended_is_claimed_again(state: State) -> None:
    """The next drive: attempts go on, nothing of the end before is left but in the history; the verdict stays."""
    before = in_state(state)
    again = after(before, AGAIN)
    assert (again.state, again.drive, again.attempt, again.attempts_before) == (State.CLAIMED, 1, 1, 1)
    assert (again.reason, again.error, again.result, again.finished_at, again.started_at) == (None,) * 5
    assert (again.worker, again.task_seq, again.asked, again.promoted_at) == (None,) * 4
    assert (again.verdict, again.queued_at, again.lateness_s) == ("fired", before.queued_at, before.lateness_s)
    assert again.history[:-1] == before.history
    assert again.claimed_at == at(100)


@pytest.mark.parametrize("state", [each for each in State if each not in ENDED])
def test_what_is_under_way_or_never_ran_is_not(state: State) -> None:
    """An open one has not ended; one that was never queued keeps its verdict. The refusal names the way out."""
    execution = in_state(state)
    assert advance(execution, AGAIN) is None
    sentence = refusal(execution)
    assert sentence is not None
    assert ("backfill" if execution.queued_at is None and state.value not in ("claimed", "waiting") else "cancel") in (
        sentence
    )


def test_of_a_manual_one_that_never_ran() -> None:
    """Nobody backfills it: it is triggered again."""
    assert "schedctl trigger" in str(refusal(in_state(State.SKIPPED, kind=Kind.MANUAL)))


def test_refused_a_slot_in_a_later_drive() -> None:
    """It was queued once, so it can be retried once more."""
    skipped = after(failed(), AGAIN, Finish(at=at(101), state=State.SKIPPED, reason="buffer_full"))
    assert skipped.verdict == "fired"
    assert can_redrive(skipped)
    assert after(skipped, Redrive(at=at(102))).drive == 2


# --- with what


def test_attempts_go_on_from_the_highest_that_anybody_used() -> None:
    """The daemon's own claims and reports that the record has not seen count, too."""
    reports = [
        AttemptStarted(attempt=3, at=at(4), seq=9, by_daemon=True),
        AttemptEnded(attempt=2, at=at(4), seq=8, state=State.FAILED),
    ]
    assert redrive_of(failed(), reports, DAILY, at(9)).attempts == 3
    assert after(failed(), Redrive(at=at(9), attempts=3)).attempts_before == 3


def test_deadlines_count_from_the_retry() -> None:
    """The same spans; of a second retry again."""
    first = failed(start_by=at(5), end_by=at(60))
    event = redrive_of(first, [], DAILY, at(1000))
    assert (event.start_by, event.end_by) == (at(1005), at(1060))
    ended = after(first, event, QUEUED, Finish(at=at(1010), state=State.LOST))
    assert redrive_of(ended, [], DAILY, at(5000)).end_by == at(5060)


@pytest.mark.parametrize(
    ("own", "schedule", "expected"),
    [
        (None, DAILY, Overlap.BUFFER_ALL),
        (Overlap.ALLOW, DAILY, Overlap.ALLOW),
        (Overlap.SKIP, DAILY, Overlap.BUFFER_ALL),
        (None, Schedule(id="a", queue="Q", type="t", trigger=DAILY.trigger, overlap=Overlap.ALLOW), Overlap.ALLOW),
    ],
)
def test_nothing_is_dropped_for_lack_of_a_slot(own: Overlap | None, schedule: Schedule, expected: Overlap) -> None:
    """It waits for its turn, unless all may run at once."""
    assert redrive_of(failed(overlap=own), [], schedule, at(9)).overlap is expected


def test_another_payload() -> None:
    """From then on it is the record's; without one its own stays."""
    assert after(failed(payload=b"1"), AGAIN).payload == b"1"
    again = after(failed(payload=b"\xff", payload_is_json=False), Redrive(at=at(9), payload=b"null"))
    assert (again.payload, again.payload_is_json) == (b"null", True)
    assert again.history[-1].note == "retried, drive 1, with another payload"


# --- against what


def test_reports_of_the_drive_before_move_nothing() -> None:
    """Late, repeated or never folded: they name attempts of an earlier drive."""
    late = [
        AttemptStarted(attempt=1, at=at(200), seq=1),
        AttemptEnded(attempt=1, at=at(201), seq=2, state=State.SUCCEEDED),
        AttemptEnded(attempt=1, at=at(201), seq=3, state=State.RETRYING),
    ]
    for again in (after(failed(), AGAIN), after(failed(), AGAIN, Queue(at(101), 50))):
        assert events_of(again, late) == ()
        assert advance(again, Start(at(202), 1)) is None


def test_a_fast_worker_of_the_new_drive() -> None:
    """Its report proves that the task is queued, though the record says claimed; when that was stays the first time."""
    again = after(failed(), AGAIN)
    events = events_of(again, [AttemptStarted(attempt=2, at=at(102), seq=9, worker="w")], task_seq=77)
    running = after(again, *events)
    assert (running.state, running.attempt, running.task_seq, running.queued_at) == (State.RUNNING, 2, 77, at(1))
    ack = TaskSignal(kind=SignalKind.ACK, task_seq=77, deliveries=1, at=at(103))
    plain = judge_signals(again, [ack], Surroundings())
    assert after(again, *plain.events).state is State.SUCCEEDED
    assert after(again, *plain.events).attempt == 2


def test_plain_tries_are_counted_anew() -> None:
    """max_tries of a drive: three NAKs after two attempts of the drive before end the fifth."""
    again = after(failed(max_tries=3), Redrive(at=at(9), attempts=2), Queue(at(10), 50))
    naks = [TaskSignal(kind=SignalKind.NAK, task_seq=50, deliveries=n, at=at(10 + n)) for n in (1, 2, 3)]
    done = after(again, *judge_signals(again, naks, Surroundings()).events)
    assert (done.state, done.reason, done.attempt) == (State.FAILED, "max_tries", 5)


def test_taken_up_in_an_earlier_drive() -> None:
    """Who went on with it then says nothing about this drive."""
    again = after(failed(), AGAIN, Resume(at(110)), Wait(at(111)), Resume(at(120)))
    assert again.promoted_at == at(120)
    ended = after(again, Queue(at(121), 60), Finish(at=at(130), state=State.FAILED, attempt=2))
    assert after(ended, Redrive(at=at(140))).promoted_at is None


# --- slots


ONE = Terms(Overlap.BUFFER_ALL)
FIRST, SECOND = "a.20261121T080000000Z", "a.20261121T080001000Z"


def test_the_end_of_an_earlier_drive_frees_nothing() -> None:
    """Its release comes late, after the new drive got the slot: that one runs."""
    held = admit(Slots((FIRST,)), FIRST, ONE, drive=1)  # the slot of the first drive is still there
    assert held.verdict == ADMIT
    assert held.slots.drives == {FIRST: 1}
    assert release(held.slots, {FIRST: 0}, ONE).slots == held.slots
    assert release(held.slots, {FIRST: 1}, ONE).slots == Slots()
    waits = admit(Slots((SECOND,)), FIRST, ONE, drive=2)
    assert waits.verdict == WAIT
    assert release(waits.slots, {FIRST: 1}, ONE).slots == waits.slots
    assert release(waits.slots, {SECOND: 0}, ONE).slots == Slots((FIRST,), drives={FIRST: 2})


def test_refused_leaves_no_trace() -> None:
    """Who gets nothing leaves no drive behind."""
    found = admit(Slots((SECOND,)), FIRST, Terms(Overlap.SKIP), drive=1)
    assert (found.verdict, found.slots) == (SKIP, Slots((SECOND,)))


def test_a_retry_is_no_fire() -> None:
    """max_fires counts what fired by itself, once: neither a retry that runs at once nor one that waited counts."""
    terms = Terms(Overlap.BUFFER_ALL, None, 2)
    spent = Slots(fires=2)
    assert admit(spent, FIRST, terms).verdict == SKIP
    assert admit(spent, FIRST, terms, drive=1).slots == Slots((FIRST,), fires=2, drives={FIRST: 1})
    waiting = admit(Slots((SECOND,), fires=2), FIRST, terms, drive=1).slots
    assert release(waiting, {SECOND: 0}, terms).slots == Slots((FIRST,), fires=2, drives={FIRST: 1})
    one_left = Slots((SECOND,), (FIRST,), fires=1, drives={FIRST: 1})
    assert admit(one_left, "a.20261121T080002000Z", terms).verdict == WAIT, "the one that is left to fire still may"


def test_spans_never_go_back() -> None:
    """A deadline that lay before its own base (somebody's clock) is now, not earlier."""
    odd = failed(end_by=at(-5))
    assert redrive_of(odd, [], DAILY, at(9)).end_by == at(9) + timedelta(0)
