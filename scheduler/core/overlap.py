"""Overlap: may this execution run now? Pure functions over the slots of one schedule.

Both are idempotent, because a crash anywhere repeats them: an execution that has a slot is admitted again, releasing
one that has none changes nothing.
"""

from __future__ import annotations

from msgspec import Struct

from scheduler.core.model.schedule import Overlap

ADMIT, WAIT, SKIP = "admit", "wait", "skip"


class Slots(Struct, frozen=True):
    """Execution ids that run and that wait for a slot, oldest first."""

    active: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class Admission(Struct, frozen=True):
    """`verdict` is admit, wait or skip; `slots` what to store; `reason` why it is skipped."""

    verdict: str
    slots: Slots
    reason: str | None = None


class Release(Struct, frozen=True):
    """The slots after a run ended, and the waiting executions that its end lets start."""

    slots: Slots
    promoted: tuple[str, ...] = ()


def takes_slot(policy: Overlap, max_running: int | None) -> bool:
    """`allow` without a limit needs no bookkeeping at all."""
    return policy is not Overlap.ALLOW or max_running is not None


def admit(slots: Slots, execution_id: str, policy: Overlap, max_running: int | None) -> Admission:
    """Decide about one execution against what runs. `skip` and `allow` so far; the others are refused at save."""
    if execution_id in slots.active:
        return Admission(ADMIT, slots)
    limit, reason = _limit(policy, max_running)
    if limit is not None and len(slots.active) >= limit:
        return Admission(SKIP, slots, reason)
    return Admission(ADMIT, Slots((*slots.active, execution_id), slots.waiting))


def _limit(policy: Overlap, max_running: int | None) -> tuple[int | None, str]:
    if policy is Overlap.SKIP:
        return 1, "overlap"
    return max_running, "max_running"


def release(slots: Slots, execution_ids: frozenset[str] | set[str]) -> Release:
    """Take ended executions out of the slots."""
    active = tuple(each for each in slots.active if each not in execution_ids)
    waiting = tuple(each for each in slots.waiting if each not in execution_ids)
    return Release(Slots(active, waiting))
