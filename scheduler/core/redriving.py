"""Carrying out again what has ended: which executions that is offered for, and what its new drive begins with. Pure.

The id, the verdict and the nominal time stay, and so does everything the record says of what to run; the drive and with
it the claim are new (mechanisms.md, part 7). Attempts are counted on from the highest number that anybody has used, the
daemon included, so that no report of an earlier drive can be taken for one of this. Deadlines, which count from the
fire time, count from the moment of the retry here.

What was never queued has a verdict that says why, and a retry must not turn that into another one: a backfill runs
such a nominal time, under an id of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from scheduler.core.backfilling import policy_of
from scheduler.core.lifecycle import Redrive, can_redrive, is_terminal
from scheduler.core.model.execution import Execution, Kind
from scheduler.core.model.schedule import Overlap, Schedule
from scheduler.core.tracking import Report


def refusal(execution: Execution) -> str | None:
    """Why it cannot be retried, and what to do instead; None: it can."""
    if not is_terminal(execution):
        return (
            f"execution {execution.id!r} has not ended, it is {execution.state}: wait for its end, or cancel it first"
        )
    if can_redrive(execution):
        return None
    instead = "`schedctl trigger` runs its schedule now"
    if execution.kind is not Kind.MANUAL:
        instead = "`schedctl backfill` runs nominal times of the past"
    return f"execution {execution.id!r} never got into a queue, it is {execution.state}: {instead}"


def redrive_of(
    execution: Execution, reports: Sequence[Report], schedule: Schedule, now: datetime, payload: bytes | None = None
) -> Redrive:
    """What opens its next drive. `reports`: its newest ones; `schedule`: as it is now."""
    base = execution.claimed_at if execution.drive else execution.fire_at
    return Redrive(
        at=now,
        attempts=max((each.attempt for each in reports), default=0),
        overlap=overlap_of(execution, schedule),
        start_by=_moved(execution.start_by, base, now),
        end_by=_moved(execution.end_by, base, now),
        payload=payload,
    )


def overlap_of(execution: Execution, schedule: Schedule) -> Overlap:
    """Under which policy it runs again. As with a backfill nothing that somebody asked for is dropped because another
    one runs: it waits, unless all may run at once."""
    return Overlap.ALLOW if execution.overlap is Overlap.ALLOW else policy_of(schedule, None)


def _moved(by: datetime | None, base: datetime | None, now: datetime) -> datetime | None:
    """The same span from now on."""
    return None if by is None or base is None else now + max(timedelta(0), by - base)
