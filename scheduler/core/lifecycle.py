"""What an execution can become: one table decides, and an event that the table does not know changes nothing.

Theory of operation. An execution is created `claimed` by the one write that makes its occurrence ours. It leaves that
state either towards work (`queued`, or `waiting` for a slot) or to an end. Workers move it on: an SDK worker through
reports (`Start`, `Retry`, `Finish`, each naming its attempt), a plain worker through the server's signals, which name
no attempt. Reports may arrive twice, late or out of order, from a process that was thought dead; therefore

- an event that names an attempt older than the record's is stale and changes nothing, and so is a second `Retry` of
  the same one; a `Finish` of it is not: who finds no try left ends the attempt that had asked for another;
- attempts counted from signals are corrected by the first `Start`: if anything was reported, reports decide;
- a terminal state is final for its drive; the first terminal event wins, whoever sends the second;
- only a `Redrive` goes on from an end, and only of what was queued once: with the next drive, which counts attempts on
  and whose reports alone decide from then on. The verdict, `queued_at` and with it the lateness stay the first drive's;
- `Queue` on a record that a fast worker already moved on only fills in what the dispatcher knew (`task_seq`).

Everything that affects transitions lives in this file; `diagram()` draws the docs' picture from the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, structs

from scheduler.core.model.execution import HISTORY_MAX, Action, Asked, Execution, Failure, HistoryEntry, State
from scheduler.core.model.schedule import Overlap

TERMINAL: frozenset[State] = frozenset(
    {
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
        State.TIMED_OUT,
        State.LOST,
        State.SKIPPED,
        State.MISSED,
        State.PAUSED,
        State.SUPERSEDED,
        State.EXPIRED,
    }
)
OUTCOMES = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.LOST)
BRIEF_MAX = 160  # characters of an error in a note
TAKEN_UP = "taken up again"  # the note of whoever goes on with what another one claimed
NEVER_QUEUED = (State.SKIPPED, State.MISSED, State.PAUSED, State.SUPERSEDED, State.EXPIRED)

# Ends that a `Redrive` may go on from; `skipped` only of one that found no slot in a later drive.
REDRIVABLE = (*OUTCOMES, State.EXPIRED, State.SKIPPED)

# From each state, the states that may follow it. A missing pair is an illegal event.
FOLLOWERS: Mapping[State, frozenset[State]] = {
    State.CLAIMED: frozenset({State.QUEUED, State.WAITING, State.LOST, *NEVER_QUEUED}),
    State.WAITING: frozenset({State.QUEUED, State.SKIPPED, State.CANCELLED, State.EXPIRED, State.LOST}),
    State.QUEUED: frozenset({State.RUNNING, State.RETRYING, State.EXPIRED, *OUTCOMES}),
    State.RUNNING: frozenset({State.RUNNING, State.RETRYING, *OUTCOMES}),
    State.RETRYING: frozenset({State.RUNNING, State.RETRYING, State.EXPIRED, *OUTCOMES}),
    **{state: frozenset({State.CLAIMED}) for state in REDRIVABLE},
}


class Queue(Struct, frozen=True):
    """Claim and task are in the stream, at `task_seq` (None: proven by a report, and its claim has expired)."""

    at: datetime
    task_seq: int | None


class Resume(Struct, frozen=True):
    """Somebody goes on with what another one claimed, or launches what waited (the first time that sets `promoted_at`):
    whoever had read the record before must read it again."""

    at: datetime


class Wait(Struct, frozen=True):
    """The overlap policy keeps it for later."""

    at: datetime


class Ask(Struct, frozen=True):
    """Somebody wants it to end. What is asked first holds, but for haste: to terminate goes over to cancel."""

    asked: Asked

    @property
    def at(self) -> datetime:
        return self.asked.at


class Start(Struct, frozen=True):
    """A worker won the claim of this attempt."""

    at: datetime
    attempt: int
    worker: str | None = None


class Retry(Struct, frozen=True):
    """An attempt failed and another will come. `attempt` None: a plain worker's NAK, which names none."""

    at: datetime
    attempt: int | None = None
    error: Failure | None = None
    note: str | None = None


class Finish(Struct, frozen=True, kw_only=True):
    """The end, or a verdict without a run. `attempt` None: nobody named one."""

    at: datetime
    state: State
    attempt: int | None = None
    reason: str | None = None
    result: bytes | None = None
    error: Failure | None = None


class Redrive(Struct, frozen=True, kw_only=True):
    """Somebody wants it carried out again, from the beginning and with all its tries, under the same id.

    `attempts`: how many there have been so far, as reports tell. `overlap`, `start_by`, `end_by`: of the new drive.
    `payload`: JSON in place of its own from now on; None: its own.
    """

    at: datetime
    attempts: int = 0
    overlap: Overlap | None = None
    start_by: datetime | None = None
    end_by: datetime | None = None
    payload: bytes | None = None


Event = Resume | Queue | Wait | Ask | Start | Retry | Finish | Redrive


def is_terminal(execution: Execution) -> bool:
    return execution.state in TERMINAL


def is_launching(execution: Execution) -> bool:
    """Whether, as far as its record knows, there is no task of this drive yet."""
    return execution.state in (State.CLAIMED, State.WAITING)


def can_redrive(execution: Execution) -> bool:
    """Whether it has ended and was queued once: what never was has a verdict that says why, and keeps it."""
    return execution.state in REDRIVABLE and execution.queued_at is not None


def advance(execution: Execution, event: Event) -> Execution | None:
    """The execution after the event, or None where the table forbids it (the caller counts that and goes on)."""
    match event:
        case Resume():
            return _resume(execution, event)
        case Queue():
            return _queue(execution, event)
        case Wait():
            return _move(execution, State.WAITING, event.at)
        case Ask():
            return _ask(execution, event.asked)
        case Start():
            return _start(execution, event)
        case Retry():
            return _retry(execution, event)
        case Finish():
            return _finish(execution, event)
        case Redrive():
            return _redrive(execution, event)


def _resume(execution: Execution, event: Resume) -> Execution | None:
    """No transition: only its history, and so the record's revision, goes on."""
    if execution.state is State.WAITING and execution.promoted_at is None:
        history = _longer(execution.history, event.at, State.WAITING, "its turn has come")
        return structs.replace(execution, promoted_at=event.at, history=history)
    if execution.state not in (State.CLAIMED, State.WAITING):
        return None
    return structs.replace(execution, history=_longer(execution.history, event.at, execution.state, TAKEN_UP))


def _ask(execution: Execution, asked: Asked) -> Execution | None:
    """No transition: it goes on until its worker, or whoever takes its next attempt, has ended it."""
    if is_terminal(execution) or (execution.asked is not None and not _is_hastier(asked, execution.asked)):
        return None
    note = f"asked to {'end' if asked.action is Action.CANCEL else 'end at once'}: {asked.reason}"
    return structs.replace(execution, asked=asked, history=_longer(execution.history, asked.at, execution.state, note))


def _is_hastier(asked: Asked, before: Asked) -> bool:
    return asked.action is Action.TERMINATE and before.action is not Action.TERMINATE


def _queue(execution: Execution, event: Queue) -> Execution | None:
    if is_launching(execution):
        queued_at = execution.queued_at or event.at
        return _move(execution, State.QUEUED, event.at, queued_at=queued_at, task_seq=event.task_seq)
    if execution.queued_at is None or execution.task_seq is not None or event.task_seq is None:
        return None
    return structs.replace(execution, task_seq=event.task_seq)


def _start(execution: Execution, event: Start) -> Execution | None:
    if event.attempt <= execution.attempts_before or _is_past(execution, event.attempt):
        return None
    note = None
    if execution.state is State.RUNNING:
        note = f"attempt {execution.attempt} went silent"
    started = {"attempt": event.attempt, "worker": event.worker, "started_at": event.at}
    return _move(execution, State.RUNNING, event.at, note=note or f"attempt {event.attempt}", **started)


def _retry(execution: Execution, event: Retry) -> Execution | None:
    if event.attempt is not None and (event.attempt < execution.attempt or _is_told(execution, event.attempt)):
        return None
    attempt = execution.attempt + 1 if event.attempt is None else event.attempt
    error = event.error or execution.error
    note = ": ".join(filter(None, (f"attempt {attempt}", _brief(event.error), event.note)))
    return _move(execution, State.RETRYING, event.at, note=note, attempt=attempt, error=error)


def _brief(error: Failure | None) -> str | None:
    """The error in one line; all of it is in the record until the next one takes its place."""
    if error is None:
        return None
    text = " ".join(f"{error.type}: {error.message}"[: 2 * BRIEF_MAX].split())
    return text if len(text) <= BRIEF_MAX else f"{text[: BRIEF_MAX - 1]}…"


def _finish(execution: Execution, event: Finish) -> Execution | None:
    if event.attempt is not None and event.attempt < execution.attempt and execution.started_at is not None:
        return None
    reason = event.reason
    if reason is None and event.state is State.CANCELLED and execution.asked is not None:
        reason = execution.asked.reason
    changes: dict[str, object] = {"finished_at": event.at, "reason": reason, "result": event.result}
    if event.attempt is not None:
        changes["attempt"] = event.attempt
    elif event.state in (State.SUCCEEDED, State.FAILED) and execution.state in (State.QUEUED, State.RETRYING):
        changes["attempt"] = execution.attempt + 1  # a plain worker's signal stands for the try it ends
    changes["error"] = None if event.state is State.SUCCEEDED else event.error or execution.error
    return _move(execution, event.state, event.at, note=reason, **changes)


def _redrive(execution: Execution, event: Redrive) -> Execution | None:
    if not can_redrive(execution):
        return None
    attempts, drive = max(execution.attempt, execution.attempts_before, event.attempts), execution.drive + 1
    changes: dict[str, object] = dict.fromkeys(_OF_ONE_DRIVE)
    if event.payload is not None:
        changes |= {"payload": event.payload, "payload_is_json": True}
    return _move(
        execution,
        State.CLAIMED,
        event.at,
        note=f"retried, drive {drive}" + (", with another payload" if event.payload is not None else ""),
        **changes,
        drive=drive,
        attempt=attempts,
        attempts_before=attempts,
        claimed_at=event.at,
        overlap=event.overlap,
        start_by=event.start_by,
        end_by=event.end_by,
    )


# What a new drive knows nothing of; the history keeps how the ones before it ended.
_OF_ONE_DRIVE = (
    "reason", "worker", "task_seq", "asked", "promoted_at", "started_at", "finished_at", "result", "error",
)  # fmt: skip


def _is_past(execution: Execution, attempt: int) -> bool:
    """Whether this attempt has started before. What signals alone have counted (no `started_at`) is a guess, which
    the first real start corrects: a worker may hand a task back without having started it."""
    return attempt <= execution.attempt and execution.started_at is not None


def _is_told(execution: Execution, attempt: int) -> bool:
    return attempt == execution.attempt and execution.state is State.RETRYING


def _move(
    execution: Execution, state: State, at: datetime, *, note: str | None = None, **changes: object
) -> Execution | None:
    if state not in FOLLOWERS.get(execution.state, frozenset()):
        return None
    return structs.replace(execution, state=state, history=_longer(execution.history, at, state, note), **changes)


def _longer(
    history: tuple[HistoryEntry, ...], at: datetime, state: State, note: str | None
) -> tuple[HistoryEntry, ...]:
    """With another entry. A long one keeps how it began and what happened last."""
    if len(history) >= HISTORY_MAX:
        history = (history[0], *history[-(HISTORY_MAX - 2) :])
    return (*history, HistoryEntry(at, state, note))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> claimed"]
    for state, followers in FOLLOWERS.items():
        lines += [f"    {state} --> {follower}" for follower in sorted(followers)]
    return "\n".join([*lines, *(f"    {state} --> [*]" for state in sorted(TERMINAL))])
