"""A candidate on its way to the queue, and what its record tells about it. Pure; the way itself is `launch`."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.errors import Conflict, ScheddError, Unsure
from scheduler.core.lifecycle import TAKEN_UP, Event, Finish, Queue
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Schedule
from scheduler.core.overlap import Terms, terms_of
from scheduler.core.reconciling import CLAIMED_TOO_LONG
from scheduler.core.triggers import CompiledTrigger
from scheduler.services.records import Stored

Result = Execution | ScheddError
FRESH = timedelta(seconds=5)  # how long its creator may go on with a record without a look back


class Candidate(Struct, frozen=True):
    """An execution to launch: claimed, stored or not. `has_waited`: it may be on record as waiting, and goes on.
    `revision`: under which its caller has just stored it himself (a new drive of an old record); 0: he has not."""

    execution: Execution
    schedule: Schedule
    trigger: CompiledTrigger
    has_waited: bool = False
    revision: int = 0


class Step(Struct):
    """A candidate under way: its record as stored, or the result that ended its way.

    `fresh`: we created the record, or opened its drive. `doubt`: whether it was created is not known.
    """

    candidate: Candidate
    stored: Stored | None = None
    fresh: bool = True
    doubt: Unsure | None = None
    result: Result | None = None

    @property
    def execution(self) -> Execution:
        return self.candidate.execution if self.stored is None else self.stored.execution

    @property
    def terms(self) -> Terms:
        """Those of the schedule as it is now, and the policy that the record names for this run."""
        return terms_of(self.candidate.schedule, self.execution.overlap)

    @property
    def is_open(self) -> bool:
        state = self.execution.state
        return state is State.CLAIMED or (state is State.WAITING and self.candidate.has_waited)


def unreadable(step: Step) -> Conflict:
    return Conflict(f"{step.candidate.execution.id} had a record, and it cannot be read (any more)")


def waits(execution: Execution) -> bool:
    """On record as waiting, and nobody has begun to launch it."""
    return execution.state is State.WAITING and execution.promoted_at is None


def is_taken_up(execution: Execution) -> bool:
    """Whether somebody else than its creator went on with it: its task may be under way."""
    since = execution.claimed_at
    return execution.promoted_at is not None or any(
        each.note == TAKEN_UP and (since is None or each.at >= since) for each in execution.history
    )


def age(step: Step, now: datetime) -> timedelta:
    """How long its task may have been in the queue."""
    since = step.execution.launched_from
    if since is None:
        return timedelta(0) if waits(step.execution) else timedelta.max
    return now - since


def is_left_to_us(step: Step, now: datetime) -> bool:
    """Whether nobody else can be about to send its task: its creator does so for a while without a look back."""
    since = age(step, now)
    return waits(step.execution) or (since <= FRESH if step.fresh else since >= 2 * FRESH)


def end_of_stale(claim_seq: int | None, now: datetime) -> Event:
    """A claim proves the task. Without one nobody can tell whether there was any."""
    if claim_seq is not None:
        return Queue(now, claim_seq + 1)
    return Finish(at=now, state=State.LOST, reason=CLAIMED_TOO_LONG)


def open_ones(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.result is None]
