"""`after`: a fixed delay from the end of the last run. A chain of occurrences, not a window of nominal times. Pure.

When the next occurrence is due is known only once the one before has ended, so no trigger can compute it and nothing is
planned ahead: the status row holds the one occurrence that is to come, or whose run is not over yet (`Chain`), and
every step is a compare-and-set of that row (mechanisms.md, part 3):

- *begin*: the first nominal time is the server's timestamp of the definition. Like every other it fires `start_delay`
  after its nominal time (core/firing), so that the delay is added once.
- *start*: whoever dispatches the occurrence marks it in the row, before there is a record. From then on an edit leaves
  it alone; before that, an edit may move it, and a message that is on its way for the old nominal time is superseded.
- *follow*: the step that ends the run, or stores the verdict of what did not run, moves the row to end + delay. Manual
  runs and backfills are no part of the chain.

A definition only ever moves what is to come, and never to before it took effect; one that asks for the same nominal
time leaves it alone. While paused without an end, invalid, or past `ends_at` or `max_fires` nothing is to come, and the
chain goes on from where it stood. What would lie on an excluded day is put off to its end. Deleting ends a chain; what
is created after that is a new one.

For audit: every record of an `after` schedule is its own expectation. What is expected of it is the recorded chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import structs

from scheduler.core.arming import Arming
from scheduler.core.dispatching import InForce
from scheduler.core.firing import occurrence_of
from scheduler.core.lifecycle import is_terminal
from scheduler.core.model.execution import Execution, Kind
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import After, Schedule
from scheduler.core.model.status import Chain, StatusRow
from scheduler.core.overlap import SPENT
from scheduler.core.reconciling import Ages
from scheduler.core.triggers import CompiledTrigger, Excluded


def is_chained(in_force: InForce | None) -> bool:
    """Whether this is a schedule whose occurrences follow the ends of its runs."""
    return in_force is not None and isinstance(in_force.definition.schedule.trigger, After)


def begin(in_force: InForce, since: datetime) -> Chain:
    """A new chain: it begins with its definition, but not before `since` (schedd's first start, or a lost row)."""
    return adjusted(Chain(counts_from=max(in_force.definition.effective_at, since), is_first=True), in_force)


def applied(chain: Chain | None, in_force: InForce | None, since: datetime) -> Chain | None:
    """What a definition makes of the chain in its row. `in_force` None: invalid; it stands still until repaired."""
    if in_force is None:
        return None if chain is None else _halted(chain)
    if not is_chained(in_force):
        return None
    return begin(in_force, since) if chain is None else adjusted(chain, in_force)


def adjusted(chain: Chain, in_force: InForce) -> Chain:
    """The chain under this definition. What has started is left alone, and so is what is asked for as before."""
    if chain.started_at is not None:
        return chain
    definition, trigger = in_force.definition, in_force.trigger
    target = _target(chain, definition.schedule, trigger)
    if target is None or (target == chain.target and chain.nominal is not None):
        return structs.replace(chain, target=target, nominal=None if target is None else chain.nominal)
    nominal = _allowed(max(target, definition.effective_at), definition.schedule, trigger)
    return structs.replace(chain, target=target, nominal=nominal)


def _target(chain: Chain, schedule: Schedule, trigger: CompiledTrigger) -> datetime | None:
    """When the schedule wants its next occurrence, whenever it came to say so; None: not as it is now."""
    if not isinstance(schedule.trigger, After) or (schedule.paused and schedule.paused_until is None):
        return None
    target = chain.counts_from if chain.is_first else chain.counts_from + schedule.trigger.delay
    if schedule.starts_at is not None:
        target = max(target, schedule.starts_at)
    if schedule.paused and schedule.paused_until is not None:
        target = max(target, schedule.paused_until)
    return _allowed(target, schedule, trigger)


def _allowed(at: datetime, schedule: Schedule, trigger: CompiledTrigger) -> datetime | None:
    """The first instant from there on that is not excluded; None if the schedule has ended by then."""
    found = trigger.first_allowed(at) if isinstance(trigger, Excluded) else at
    return None if found is None or (schedule.ends_at is not None and found >= schedule.ends_at) else found


def _halted(chain: Chain) -> Chain:
    return chain if chain.started_at is not None else structs.replace(chain, target=None, nominal=None)


# --- its steps


def started(chain: Chain | None, nominal: datetime, now: datetime) -> Chain | None:
    """The chain with its occurrence marked as started, again or for the first time; None: it is not the one to come."""
    if chain is None or chain.nominal != nominal:
        return None
    return chain if chain.started_at is not None else structs.replace(chain, started_at=now)


def followed(chain: Chain | None, execution: Execution, in_force: InForce | None) -> Chain | None:
    """The chain after this execution has ended; unchanged if it is not the one that the chain waits for.

    `in_force` None: the schedule is invalid or deleted now. The chain then keeps the end that it will count from.
    """
    if chain is None or execution.kind is not Kind.AUTO or chain.nominal != execution.nominal_at:
        return chain
    if not is_terminal(execution) or execution.finished_at is None:
        return chain
    if execution.reason == SPENT:  # no other may fire; an edit that raises max_fires goes on from here
        return Chain(counts_from=max(execution.finished_at, execution.nominal_at))
    return _after(max(execution.finished_at, execution.nominal_at), in_force)


def given_up(chain: Chain | None, nominal: datetime, now: datetime, in_force: InForce | None) -> Chain | None:
    """The chain after its run is found to be gone without a record; that is noticed only now."""
    if chain is None or chain.nominal != nominal:
        return chain
    return _after(max(now, nominal), in_force)


def _after(end: datetime, in_force: InForce | None) -> Chain:
    chain = Chain(counts_from=end)
    return chain if in_force is None else adjusted(chain, in_force)


class Stall(StrEnum):
    """What closes the gap that a crash left in a chain."""

    FOLLOW = "follow"
    GIVE_UP = "give_up"
    ARM = "arm"


def seems_stalled(chain: Chain | None, in_force: InForce, now: datetime, grace: timedelta) -> bool:
    """Whether its record is worth a look: started or due long ago, and still the one that the chain waits for."""
    if chain is None or chain.nominal is None:
        return False
    since = chain.started_at or occurrence_of(in_force.definition, in_force.trigger, chain.nominal).fire_at
    return now - since > grace


def repair_chain(chain: Chain, record: Execution | None, now: datetime, ages: Ages) -> Stall | None:
    """What to do about one that seems stalled. None: its run goes on, and whatever keeps it going sees to it.

    What has not started is armed again: start and record keep it from happening twice. What has started and has no
    record is still due, for its message is acknowledged after the record; half the claim floor later nobody can tell
    any more whether there was one, and the chain goes on without it.
    """
    if record is not None:
        return Stall.FOLLOW if is_terminal(record) else None
    if chain.started_at is None:
        return Stall.ARM
    return Stall.GIVE_UP if now - chain.started_at > ages.floor / 2 else None


# --- what the timeline and people get to see


def to_come(chain: Chain | None, in_force: InForce | None) -> Occurrence | None:
    """The one occurrence that is to be armed; None while its run is under way, and while nothing is to come."""
    if chain is None or in_force is None or chain.nominal is None or chain.started_at is not None:
        return None
    return occurrence_of(in_force.definition, in_force.trigger, chain.nominal)


def plan_chain(chain: Chain | None, in_force: InForce, armed: Sequence[datetime]) -> Arming:
    """The edit of a chained schedule: its one occurrence armed, whatever else is armed not."""
    occurrence = to_come(chain, in_force)
    arms = () if occurrence is None else (occurrence,)
    nominal = None if chain is None else chain.nominal
    return Arming(arms, tuple(sorted(at for at in set(armed) if at != nominal)))


def with_chain(row: StatusRow, chain: Chain | None, in_force: InForce | None = None) -> StatusRow:
    """The row with this chain, and with what follows from it for the next nominal time.

    Where the definition's `max_fires` is reached, nothing is to come any more.
    """
    if chain is None and row.chain is None:
        return row
    most = None if in_force is None else in_force.definition.schedule.max_fires
    if chain is not None and most is not None and row.fires >= most:
        chain = _halted(chain)
    return structs.replace(row, chain=chain, next_nominal=next_of(chain))


def next_of(chain: Chain | None) -> datetime | None:
    """The nominal time that is to come, for the row; while a run is under way nobody knows it."""
    return None if chain is None or chain.started_at is not None else chain.nominal
