"""Executions for tests: short to write, and any of them in any state that the table can lead to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.core.lifecycle import Event, Finish, Queue, Retry, Start, Wait, advance
from scheduler.core.model.execution import Execution, HistoryEntry, Kind, State

T0 = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def claimed(**changes: Any) -> Execution:
    values: dict[str, Any] = {
        "id": "a.20261121T080000000Z",
        "schedule": "a",
        "generation": 7,
        "epoch": 3,
        "kind": Kind.AUTO,
        "nominal_at": T0,
        "fire_at": T0,
        "queue": "Q",
        "type": "t",
        "claimed_at": T0,
        "history": (HistoryEntry(T0, State.CLAIMED),),
    }
    return Execution(**(values | changes))


def after(execution: Execution, *events: Event) -> Execution:
    """The execution after these events, each of which must be legal."""
    for event in events:
        following = advance(execution, event)
        assert following is not None, f"{event} is illegal in {execution.state}"
        execution = following
    return execution


QUEUED = Queue(at(1), 11)
STARTED = Start(at(2), 1, "w1")

WAYS: dict[State, tuple[Event, ...]] = {
    State.CLAIMED: (),
    State.WAITING: (Wait(at(1)),),
    State.QUEUED: (QUEUED,),
    State.RUNNING: (QUEUED, STARTED),
    State.RETRYING: (QUEUED, STARTED, Retry(at(3), 1)),
    **{
        state: (QUEUED, STARTED, Finish(at=at(3), state=state, attempt=1))
        for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.LOST)
    },
    **{
        state: (Finish(at=at(1), state=state),)
        for state in (State.SKIPPED, State.MISSED, State.PAUSED, State.SUPERSEDED, State.EXPIRED)
    },
}
"""How to come to each state."""


def in_state(state: State, **changes: Any) -> Execution:
    return after(claimed(**changes), *WAYS[state])
