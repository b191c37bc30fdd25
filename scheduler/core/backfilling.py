"""Backfill: run what a range of the past would have fired, once more or for the first time. Pure.

The nominal times are those that the definition in force yields in [start, end), exclusions and windows included,
whether or not they once fired; a pause has no say. They are fixed when the backfill is stored: an edit changes what is
run (payload, policy), not which times. Each run is an execution of its own with the id of the backfill in its id, so
carrying it out twice is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct, structs

from scheduler.core.firing import is_coalesced
from scheduler.core.model.schedule import Overlap, Schedule
from scheduler.core.triggers import CompiledTrigger
from scheduler.core.triggers.base import MILLISECOND

MAX_DEFAULT = 1_000
MAX_MAX = 10_000
RATE_DEFAULT = 10.0
RATE_MIN, RATE_MAX = 0.01, 1_000.0
BURST = 500
"""Starts at once, however long nothing could be started."""
WAITING_MAX = 20
"""Runs that wait for their turn in the schedule's buffer; further ones are started when these have moved on."""


class BackfillState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class Backfill(Struct, frozen=True, kw_only=True):
    """One backfill as it stands. `left` are the nominal times not started yet, ascending; `count` is their number in
    the beginning, `rate` starts per second at most."""

    id: str
    schedule: str
    start: datetime
    end: datetime
    rate: float
    overlap: Overlap | None
    created_at: datetime
    count: int
    left: tuple[datetime, ...]
    state: BackfillState = BackfillState.RUNNING
    reason: str | None = None
    finished_at: datetime | None = None

    @property
    def started(self) -> int:
        return self.count - len(self.left)

    def after_starting(self, count: int, now: datetime) -> Backfill:
        """The backfill when the first `count` of what was left have been started."""
        moved = structs.replace(self, left=self.left[count:])
        return moved if moved.left else moved.over(BackfillState.DONE, None, now)

    def over(self, state: BackfillState, reason: str | None, now: datetime) -> Backfill:
        return structs.replace(self, state=state, reason=reason, finished_at=now)


def nominals_between(trigger: CompiledTrigger, start: datetime, end: datetime) -> Iterator[datetime]:
    """The nominal times with start <= nominal < end, ascending, without coalesced ones; there may be very many."""
    nominal = trigger.next_after(start - MILLISECOND)
    while nominal is not None and nominal < end:
        if not is_coalesced(trigger, nominal):
            yield nominal
        nominal = trigger.next_after(nominal)


def policy_of(schedule: Schedule, asked: Overlap | None) -> Overlap:
    """What was asked for. Else nothing of a backfill is dropped: `allow` where the schedule says so without a limit,
    otherwise `buffer_all`, one after the other (`max_running` at once)."""
    if asked is not None:
        return asked
    if schedule.overlap is Overlap.ALLOW and schedule.max_running is None:
        return Overlap.ALLOW
    return Overlap.BUFFER_ALL


def room(policy: Overlap, waiting: int) -> int:
    """How many may be started now, by what waits in the schedule's buffer already."""
    return max(0, WAITING_MAX - waiting) if policy is Overlap.BUFFER_ALL else BURST


class Pace(Struct, frozen=True):
    """When the next start is due, in seconds of any clock that does not jump."""

    next_s: float

    def due(self, rate: float, now_s: float) -> int:
        """How many starts are due."""
        return 0 if now_s < self.next_s else min(BURST, int((now_s - self.next_s) * rate) + 1)

    def after(self, count: int, rate: float, now_s: float) -> Pace:
        """The pace after so many; what was due a second ago and could not be started is not made up for in a rush."""
        return Pace(max(self.next_s, now_s - 1.0) + count / rate) if count else self


def is_spent(backfill: Backfill, now: datetime, kept: timedelta) -> bool:
    """Whether nobody needs to know of it any more."""
    return backfill.finished_at is not None and backfill.finished_at < now - kept
