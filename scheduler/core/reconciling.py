"""What is and should not be: differences that outlived a crash, and the step that closes each. Pure.

Repairs only roll forward, by the same steps as the normal way, and leave alone what is younger than a grace: somebody
may be about to do it. Nothing repairs a claimed record older than half the claim floor F: its claim may be about to
expire, and skipping once is better than running twice (mechanisms.md, parts 4 and 9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from scheduler.core.ending import wish_of
from scheduler.core.lifecycle import Event, Finish, Queue, is_terminal
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.tracking import (
    INFERRED,
    STREAM_LOST,
    TASK_GONE,
    WORKER_GONE,
    Report,
    end_of,
    has_tries_left,
    lost,
    newest_start,
)

CLAIMED_TOO_LONG = "claimed_too_long"


class Repair(StrEnum):
    """The kinds of repair, one file each in `services.reconcile`, and one label each in the metrics."""

    CLAIMED = "claimed"
    WAITING = "waiting"
    GONE = "gone"
    LEFTOVERS = "leftovers"
    SLOTS = "slots"
    ROWS = "rows"
    ARMS = "arms"
    CHAINS = "chains"
    WORKERS = "workers"
    CONSUMERS = "consumers"
    EVENTS = "events"
    GHOSTS = "ghosts"
    DUE = "due"


REPAIR_KINDS: tuple[str, ...] = tuple(Repair)


class Ages(Struct, frozen=True):
    """`grace`: what is younger is left alone. `floor`: F, how long claim and record outlive the record's creation."""

    grace: timedelta = timedelta(seconds=30)
    floor: timedelta = timedelta(minutes=30)


# --- claimed, but not queued


class Launch(Struct, frozen=True):
    """Go on from the stored record: slot, pair, queued."""


class Record(Struct, frozen=True):
    """Write these events, nothing else is to be done."""

    events: tuple[Event, ...]


def repair_claimed(execution: Execution, claim_seq: int | None, now: datetime, ages: Ages) -> Launch | Record | None:
    """A record that is still `claimed`. `claim_seq`: where its claim stands in the tasks stream, if it does.

    A claim proves the task, whatever the age. Without one an old record ends: while the record is younger than F a
    claim would still be there, so the task was never queued.
    """
    if execution.state is not State.CLAIMED:
        return None
    age = now - (execution.claimed_at or execution.fire_at)
    if age <= ages.grace:
        return None
    if claim_seq is not None:
        return Record((Queue(now, claim_seq + 1),))
    if is_past_launching(execution, now, ages):
        return Record((lost(now, None, CLAIMED_TOO_LONG),))
    return Launch()


def is_past_launching(execution: Execution, now: datetime, ages: Ages) -> bool:
    """Whether it is still `claimed` and too old for a pair: without one it ends. Its age is that of the record, however
    long ago its nominal time may be."""
    age = now - (execution.claimed_at or execution.fire_at)
    return execution.state is State.CLAIMED and age > ages.floor / 2


# --- queued, but the task is gone


def events_of_vanished(
    execution: Execution, reports: Sequence[Report], now: datetime, *, with_stream: bool = False
) -> tuple[Event, ...]:
    """The task left the stream, no signal tells why, and no worker says that it still runs it.

    Without a start a plain worker acknowledged it, and the signal got lost: succeeded, inferred. With one only reports
    decide, and there is no final one. `with_stream`: the whole stream was lost, so nobody need have worked on it.
    """
    if is_terminal(execution):
        return ()
    start = newest_start(execution, reports)
    if start is None and with_stream:
        return (lost(now, None, STREAM_LOST),)
    if start is None:
        return (Finish(at=now, state=State.SUCCEEDED, reason=INFERRED),)
    end = end_of(start, reports)
    if end is None:
        return (lost(now, start.attempt, WORKER_GONE),)
    return (lost(now, end.attempt, TASK_GONE),) if end.state is State.RETRYING else ()


# --- running, but the worker is gone


def repair_silent(
    execution: Execution, reports: Sequence[Report], silent: timedelta, ack_wait: timedelta, now: datetime
) -> Finish | None:
    """An attempt whose worker's row is absent, or without it, for `silent`.

    With tries left the redelivery deals with it, unless it is to end. Without any, nothing more will happen: lost.
    """
    start = newest_start(execution, reports)
    if execution.state is not State.RUNNING or start is None or start.attempt != execution.attempt or start.by_daemon:
        return None
    if end_of(start, reports) is not None or min(silent, now - start.at) < ack_wait:
        return None
    wish = wish_of(execution, now)
    if wish is not None:  # no other attempt shall follow
        state = State.CANCELLED if wish.state is State.CANCELLED else State.TIMED_OUT
        return Finish(at=now, state=state, attempt=start.attempt, reason=wish.reason)
    return None if has_tries_left(execution, start.attempt) else lost(now, start.attempt, WORKER_GONE)


# --- slots held by nobody


def freed_slots(holders: Iterable[str], known: Mapping[str, Execution | None]) -> tuple[list[str], list[Execution]]:
    """Of the holders of slots: ids without a record, and executions that have ended. Both free their slots."""
    holders = list(holders)
    missing = [each for each in holders if each in known and known[each] is None]
    ended = [execution for each in holders if (execution := known.get(each)) is not None and is_terminal(execution)]
    return missing, ended


# --- ended long ago, and there again


def may_be_a_ghost(execution: Execution, written_at: datetime, now: datetime, ages: Ages) -> bool:
    """Open, and not written for longer than its record is kept after an end: it may have ended, been forgotten, and
    been brought back as it was before by a server that crashed. Or it waits for something, or nobody was there to end
    it: that is for others to tell."""
    kept = max(timedelta(seconds=execution.retention_s), ages.floor)
    return not is_terminal(execution) and now - written_at > kept + ages.grace


# --- arms that should have fired


def overdue_arms(armed: Iterable[Occurrence], now: datetime, grace: timedelta) -> list[Occurrence]:
    """What still stands on the timeline although it should have fired: stuck in the server until it is armed again."""
    return sorted((each for each in armed if now - each.fire_at > grace), key=lambda each: each.fire_at)


def is_passed_over(oldest: int, *floors: int | None) -> bool:
    """Whether the oldest message there is lies below what a consumer was done with at each of these looks. None: there
    was no look."""
    return all(floor is not None and oldest <= floor for floor in floors)
