"""What became of a task: reports of workers and signals of the server as lifecycle events. Pure (mechanisms.md, 7).

Two sources tell about a task, and they are not equal:

- **Reports** name an attempt and say how it went. They may come twice, out of order, or from an earlier drive.
- **Signals** (ack, NAK, TERM, max deliveries) come from the server, name a task and a delivery, and may overtake the
  report that explains them. If any attempt of this drive was ever started, only reports decide. The one exception is
  `max_deliveries`: nobody will get the task any more, so an attempt that is silent has been the last one.

A report or a signal proves that the task was queued. Where the record does not know that yet (a worker was faster than
the dispatcher's write), a `Queue` event goes first, so that the table holds.

A NAK without a start is a plain worker's failed try, unless an SDK worker serves the queue: that one hands back what it
will not start (unknown type, shutting down), and a delivery that was not started is no attempt. On a queue that both
kinds serve such a NAK is no try either; there the queue's `max_deliver` is the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from scheduler.core.lifecycle import Event, Finish, Queue, Retry, Start, advance, is_launching, is_terminal
from scheduler.core.model.execution import Execution, Failure, State

REASON_MAX = 200
WORKER_LOST = "WorkerLost"
"""Type of the error in the final report that a worker files for an attempt of another, silent one."""

INFERRED = "inferred"
MAX_TRIES = "max_tries"
MAX_DELIVER = "max_deliver"
NO_HANDLER = "no_handler"
WORKER_GONE = "worker_gone"
TASK_GONE = "task_gone"
STREAM_LOST = "stream_lost"
BAD_REPORT = "bad_report"


class AttemptStarted(Struct, frozen=True, kw_only=True):
    """A worker claimed this attempt; `by_daemon`: the daemon took it, to keep it from being run."""

    attempt: int
    at: datetime
    seq: int
    worker: str | None = None
    by_daemon: bool = False


class AttemptEnded(Struct, frozen=True, kw_only=True):
    """An attempt is over. `state` is `retrying` where another shall follow, else the final one."""

    attempt: int
    at: datetime
    seq: int
    state: State
    result: bytes | None = None
    error: Failure | None = None
    note: str | None = None


Report = AttemptStarted | AttemptEnded


# --- reports


def events_of_reports(
    execution: Execution, reports: Sequence[Report], *, task_seq: int | None = None
) -> tuple[Event, ...]:
    """The events of these reports, attempt by attempt, without those that the record has already taken in."""
    events: list[Event] = []
    attempt = execution.attempt if execution.started_at is not None else execution.attempts_before
    for report in sorted(_of_drive(execution, reports), key=_place):
        if isinstance(report, AttemptEnded):
            if not _is_told(execution, report):
                events.append(_end(execution, report))
        elif report.attempt > attempt and not report.by_daemon:
            attempt = report.attempt
            events.append(Start(report.at, report.attempt, report.worker))
    return _proven(execution, events, task_seq)


def _place(report: Report) -> tuple[int, bool, int]:
    return report.attempt, isinstance(report, AttemptEnded), report.seq


def _of_drive(execution: Execution, reports: Sequence[Report]) -> list[Report]:
    return [each for each in reports if each.attempt > execution.attempts_before]


def _is_told(execution: Execution, report: AttemptEnded) -> bool:
    """Whether the record says it already: the same report again, or one that was overtaken by its successors."""
    if execution.started_at is None and execution.state is State.RETRYING:
        return False  # counted from a signal
    if report.state is State.RETRYING:
        is_same = report.attempt == execution.attempt
        return report.attempt < execution.attempt or (is_same and execution.state is not State.RUNNING)
    return report.attempt == execution.attempt and execution.state is _end_state(report)


def _end_state(report: AttemptEnded) -> State:
    if report.state is not State.FAILED or report.error is None:
        return report.state
    is_lost = report.error.type == WORKER_LOST and report.error.traceback is None
    return State.LOST if is_lost else State.FAILED


def _end(execution: Execution, report: AttemptEnded) -> Event:
    if report.state is State.RETRYING:
        return Retry(report.at, report.attempt, report.error, _clipped(report.note))
    state = _end_state(report)
    return Finish(
        at=report.at,
        state=state,
        attempt=report.attempt,
        reason=_reason(execution, report, state),
        result=report.result,
        error=report.error,
    )


def _reason(execution: Execution, report: AttemptEnded, state: State) -> str | None:
    if state is State.LOST:
        return WORKER_GONE
    if state is State.FAILED and report.note != BAD_REPORT and not has_tries_left(execution, report.attempt):
        return MAX_TRIES
    return _clipped(report.note)


def _clipped(note: str | None) -> str | None:
    return note[:REASON_MAX] if note else None


def has_tries_left(execution: Execution, attempt: int) -> bool:
    """Whether another attempt may follow this one in the same drive."""
    return attempt - execution.attempts_before < execution.max_tries


def _proven(execution: Execution, events: Sequence[Event], task_seq: int | None) -> tuple[Event, ...]:
    """What a worker or the server tells of was queued, whether or not the record knows it."""
    if not events or not is_launching(execution):
        return tuple(events)
    return (Queue(events[0].at, task_seq), *events)


def newest_start(execution: Execution, reports: Sequence[Report]) -> AttemptStarted | None:
    """The newest attempt of this drive that was started."""
    starts = [each for each in _of_drive(execution, reports) if isinstance(each, AttemptStarted)]
    return max(starts, key=lambda each: each.attempt, default=None)


def end_of(start: AttemptStarted, reports: Sequence[Report]) -> AttemptEnded | None:
    """The newest report about the end of that attempt, or of one after it whose start is not there (any more)."""
    ends = [each for each in reports if isinstance(each, AttemptEnded) and each.attempt >= start.attempt]
    return max(ends, key=_place, default=None)


# --- signals


class SignalKind(StrEnum):
    """What became of one delivery."""

    ACK = "ack"
    NAK = "nak"
    TERM = "term"
    MAX_DELIVERIES = "max_deliveries"


class TaskSignal(Struct, frozen=True, kw_only=True):
    """What the server told about a delivery of a task. `is_removal`: a TERM that our own removal of it caused."""

    kind: SignalKind
    task_seq: int
    deliveries: int
    at: datetime
    reason: str | None = None
    is_removal: bool = False


class Surroundings(Struct, frozen=True, kw_only=True):
    """What else is known when a signal is judged.

    `reports`: newest started and newest ended attempt. `is_sdk_queue`: an SDK worker served the queue at that time;
    `has_handler`: one that knows the type. `is_alive`: the row of the newest attempt's worker lists it.
    """

    reports: tuple[Report, ...] = ()
    is_sdk_queue: bool = False
    has_handler: bool = True
    is_alive: bool = False


class Judgement(Struct, frozen=True):
    """Events for the record; `remove` the task once they are written; `hold` the signal, it cannot be judged yet."""

    events: tuple[Event, ...] = ()
    remove: bool = False
    hold: bool = False


def judge_signals(execution: Execution, signals: Sequence[TaskSignal], known: Surroundings) -> Judgement:
    """Judge the signals about one task of this drive, each against what the ones before it made of the record."""
    events: list[Event] = []
    remove = hold = False
    current = execution
    for signal in sorted(signals, key=lambda each: (each.deliveries, each.at)):
        judgement = _judge(current, signal, known)
        for event in judgement.events:
            current = advance(current, event) or current
        events += judgement.events
        remove, hold = remove or judgement.remove, hold or judgement.hold
    is_over = is_terminal(current)
    return Judgement(tuple(events), remove=remove and is_over, hold=(hold or remove) and not is_over)


def _judge(execution: Execution, signal: TaskSignal, known: Surroundings) -> Judgement:
    if is_terminal(execution):  # a task that may still be delivered though its record has ended
        return Judgement(remove=signal.kind in (SignalKind.NAK, SignalKind.MAX_DELIVERIES))
    start = newest_start(execution, known.reports)
    if start is not None:
        if signal.kind is SignalKind.MAX_DELIVERIES and not start.by_daemon:
            return _judge_last(execution, signal, start, known)
        return Judgement()
    judgement = _judge_plain(execution, signal, known)
    return Judgement(_proven(execution, judgement.events, signal.task_seq), judgement.remove)


def _judge_plain(execution: Execution, signal: TaskSignal, known: Surroundings) -> Judgement:
    """Nobody ever reported a start: the signal is all there is."""
    attempt = _attempt_at(execution, signal)
    match signal.kind:
        case SignalKind.ACK:
            return Judgement((Finish(at=signal.at, state=State.SUCCEEDED, attempt=attempt),))
        case SignalKind.TERM:
            if signal.is_removal:
                return Judgement()
            return Judgement((_failed(signal, attempt, _clipped(signal.reason) or "terminated"),))
        case SignalKind.NAK:
            return _judge_nak(execution, signal, known)
        case SignalKind.MAX_DELIVERIES:
            if known.is_sdk_queue and not known.has_handler:
                return Judgement((_failed(signal, execution.attempt, NO_HANDLER),), remove=True)
            return Judgement((_failed(signal, attempt, MAX_DELIVER),), remove=True)


def _judge_nak(execution: Execution, signal: TaskSignal, known: Surroundings) -> Judgement:
    if known.is_sdk_queue:
        return Judgement()
    attempt = execution.attempts_before + max(1, signal.deliveries)
    if not has_tries_left(execution, attempt):
        return Judgement((_failed(signal, _attempt_at(execution, signal), MAX_TRIES),), remove=True)
    if attempt <= execution.attempt:  # told again, or overtaken by a later one
        return Judgement()
    return Judgement((Retry(signal.at, attempt, note=f"delivery {signal.deliveries} was handed back"),))


def _judge_last(execution: Execution, signal: TaskSignal, start: AttemptStarted, known: Surroundings) -> Judgement:
    """The server will not deliver the task again, so the newest attempt has been the last one."""
    events = events_of_reports(execution, known.reports, task_seq=signal.task_seq)
    end = end_of(start, known.reports)
    if end is not None and end.state is not State.RETRYING:
        return Judgement(events, remove=True)
    if end is not None:
        last = Finish(at=signal.at, state=State.FAILED, attempt=end.attempt, reason=MAX_DELIVER, error=end.error)
        return Judgement((*events, last), remove=True)
    if known.is_alive:
        return Judgement(events, hold=True)
    return Judgement((*events, lost(signal.at, start.attempt, WORKER_GONE)), remove=True)


def _attempt_at(execution: Execution, signal: TaskSignal) -> int:
    """Which attempt a plain worker's delivery was. A consumer made anew counts from 1 again: never back."""
    following = execution.attempt if execution.state is State.RUNNING else execution.attempt + 1
    return max(execution.attempts_before + signal.deliveries, following)


def _failed(signal: TaskSignal, attempt: int, reason: str) -> Finish:
    return Finish(at=signal.at, state=State.FAILED, attempt=attempt, reason=reason)


def lost(at: datetime, attempt: int | None, reason: str) -> Finish:
    """The end of an execution that nobody will tell the end of."""
    return Finish(at=at, state=State.LOST, attempt=attempt, reason=reason)
