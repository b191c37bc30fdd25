"""Executions that shall end before they would by themselves: cancelled, or past a deadline. Pure (mechanisms.md, 7).

`start_by` holds until an attempt has started, `end_by` until everything is over, retries included. What a worker runs
ends through its worker: an SDK worker ends an attempt at `end_by` by itself, so the daemon speaks up only `SLACK`
later; and who was asked to cancel and has not done so `SLACK` after its grace is told to terminate. Everything else
the daemon ends, by taking the next attempt before a worker does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.lifecycle import is_terminal
from scheduler.core.model.execution import Action, Asked, Execution, State
from scheduler.core.tracking import AttemptStarted, Report, end_of, newest_start

START_DEADLINE, DEADLINE = "start_deadline", "deadline"
OVERLAP, REQUESTED = "overlap", "requested"  # why it was asked to end
PURGED = "purged"  # the same; a worker that has it in hand may go on, and no further attempt follows
SLACK = timedelta(seconds=5)  # an SDK worker's own end of an attempt, and the way of its report
GRACE_S = 10.0  # how long a worker may tidy up where the one who asked did not say
NOT_STARTED = (State.CLAIMED, State.WAITING, State.QUEUED)

SEND_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 15.0)  # then every 30 s: a worker may have missed a core message
SEND_AGAIN_LAST_S = 30.0
SENDS_MAX = 120  # an hour of them; whoever is alive and has not ended by then does not listen


class Wish(Struct, frozen=True):
    """How it shall end, why, and how its worker is told if one has it in hand (None: not yet)."""

    state: State
    reason: str
    action: Action | None = None
    grace_s: float | None = None


def wish_of(execution: Execution, now: datetime) -> Wish | None:
    """What is wanted of it at this moment beyond its own course; None: nothing."""
    if is_terminal(execution):
        return None
    asked = execution.asked
    if asked is not None:
        if _is_grace_over(asked, now):
            return Wish(State.CANCELLED, asked.reason, Action.TERMINATE, 0.0)
        return Wish(State.CANCELLED, asked.reason, asked.action, asked.grace_s)
    if execution.end_by is not None and execution.end_by <= now:
        action = Action.TERMINATE if execution.end_by + SLACK <= now else None
        return Wish(State.EXPIRED, DEADLINE, action, 0.0)
    if execution.start_by is not None and execution.start_by <= now and execution.state in NOT_STARTED:
        return Wish(State.EXPIRED, START_DEADLINE)
    return None


def _is_grace_over(asked: Asked, now: datetime) -> bool:
    grace_s = GRACE_S if asked.grace_s is None else asked.grace_s
    return asked.at + timedelta(seconds=grace_s) + SLACK <= now


def looked_at(
    state: State, *, start_by: datetime | None, end_by: datetime | None, asked_at: datetime | None
) -> datetime | None:
    """When somebody has to look at an open execution for the first time; None: never."""
    marks = [asked_at, end_by, start_by if state in NOT_STARTED else None]
    return min((mark for mark in marks if mark is not None), default=None)


def look_again_after(looks: int) -> timedelta:
    """How long after the look of that number (from 0) to look again."""
    return timedelta(seconds=SEND_AGAIN_S[looks] if looks < len(SEND_AGAIN_S) else SEND_AGAIN_LAST_S)


def attempt_to_take(execution: Execution, reports: Sequence[Report]) -> int | None:
    """The attempt that keeps its task from being run (again) if the daemon takes it; None: a worker has it in hand, or
    has told its end already."""
    start = newest_start(execution, reports)
    if start is None:
        return execution.attempts_before + 1
    if start.by_daemon:
        return start.attempt
    end = end_of(start, reports)
    if end is None or end.state is not State.RETRYING:
        return None
    return end.attempt + 1


def has_begun(execution: Execution, reports: Sequence[Report]) -> bool:
    """Whether a worker has started any attempt, as the reports know before the record does."""
    return any(
        isinstance(each, AttemptStarted) and not each.by_daemon and each.attempt > execution.attempts_before
        for each in reports
    )


def is_told(execution: Execution, reports: Sequence[Report]) -> bool:
    """Whether a final report is there: the tracker folds it, and nothing else is to be done."""
    start = newest_start(execution, reports)
    end = None if start is None else end_of(start, reports)
    return end is not None and end.state is not State.RETRYING
