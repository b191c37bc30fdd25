"""What is worth telling somebody: an outcome of a schedule, and what it says beside the outcomes before it. Pure.

failed     an execution ended failed, timed_out or lost
missed     occurrences that time has passed by: verdict missed, or expired before an attempt began
late       an execution that had not begun, or was not dispatched, `late_after` after its fire time
recovered  the first success of a schedule after one or more that failed or were missed
flapping   started: among the last `WINDOW` outcomes there are `START_CHANGES` changes or more from success to trouble
           or back; stopped: `STOP_CHANGES` or fewer are left (two thresholds, as in Nagios, so that flapping does not
           flap)

A schedule of which the last `WINDOW` outcomes are successes is `HEALTHY`: nothing has to be remembered of it. What is
remembered of the others is a few dozen bytes each.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from msgspec import Struct

from scheduler.core.model.execution import State

WINDOW = 10
START_CHANGES = 5
STOP_CHANGES = 2
TROUBLE = frozenset({State.FAILED, State.TIMED_OUT, State.LOST})
PASSED_BY = frozenset({State.MISSED, State.EXPIRED})
_GOOD, _BAD = "s", "f"


class AlertKind(StrEnum):
    """What an alert can be; each is the kind of an event too."""

    MISSED = "missed"
    FAILED = "failed"
    LATE = "late"
    RECOVERED = "recovered"
    FLAPPING = "flapping"


class Health(Struct, frozen=True):
    """What is remembered of a schedule. `outcomes`: the last ones, oldest first, s or f each; `failures` since the last
    success, the first of them at `since`."""

    outcomes: str = ""
    failures: int = 0
    since: datetime | None = None
    flapping: bool = False

    @property
    def changes(self) -> int:
        """How often neighbours differ."""
        return sum(one != other for one, other in pairwise(self.outcomes))


HEALTHY = Health()


class Alert(Struct, frozen=True):
    """One thing to tell; `data` is what the fold knows of it."""

    kind: AlertKind
    data: dict[str, object] = {}


class Outcome(Struct, frozen=True):
    """How one execution ended, or what became of `count` occurrences that none was carried out of.

    `counts`: whether it says anything about the schedule (a backfill does not: it is about the past).
    """

    state: State
    at: datetime
    count: int = 1
    counts: bool = True


def fold(health: Health, outcome: Outcome) -> tuple[Health, tuple[Alert, ...]]:
    """The health after an outcome, and what to tell. Ends that say nothing (cancelled, skipped …) change nothing."""
    if outcome.state is State.SUCCEEDED:
        return _succeeded(health) if outcome.counts else (health, ())
    if outcome.state in TROUBLE:
        kind = AlertKind.FAILED
    elif outcome.state in PASSED_BY:
        kind = AlertKind.MISSED
    else:
        return health, ()
    if not outcome.counts:
        return health, (Alert(kind),)
    failures = health.failures + outcome.count
    since = health.since or outcome.at
    after, flaps = _moved(health, _BAD, failures, since)
    return after, (Alert(kind, {"failures": failures, "failing_since": since}), *flaps)


def _succeeded(health: Health) -> tuple[Health, tuple[Alert, ...]]:
    if health == HEALTHY:
        return health, ()
    told: tuple[Alert, ...] = ()
    if health.failures:
        told = (Alert(AlertKind.RECOVERED, {"failures": health.failures, "failing_since": health.since}),)
    after, flaps = _moved(health, _GOOD, 0, None)
    return after, (*told, *flaps)


def _moved(health: Health, outcome: str, failures: int, since: datetime | None) -> tuple[Health, tuple[Alert, ...]]:
    moved = Health((health.outcomes + outcome)[-WINDOW:], failures, since, health.flapping)
    limit = STOP_CHANGES if health.flapping else START_CHANGES - 1
    flapping = moved.changes > limit
    after = Health(moved.outcomes, failures, since, flapping)
    told: tuple[Alert, ...] = ()
    if flapping is not health.flapping:
        state = "started" if flapping else "stopped"
        told = (Alert(AlertKind.FLAPPING, {"state": state, "changes": moved.changes, "outcomes": moved.outcomes}),)
    return (HEALTHY if _is_healthy(after) else after), told


def _is_healthy(health: Health) -> bool:
    return health.outcomes == _GOOD * WINDOW and not health.flapping
