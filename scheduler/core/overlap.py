"""Overlap: may this execution run now? Pure functions over the slots of one schedule.

What an occurrence meets is decided when it comes, by the policy that holds then:

- `skip`: one runs. `allow`: all run, with `max_running` so many. The surplus of both is skipped.
- `buffer_one`: one waits, the first that came. `buffer_all`: they wait in the order of their nominal times, at most
  `BUFFER_MAX`. `latest`: one waits, the newest; who waited before is dropped.
- `cancel_other`: what runs is cancelled, and the newcomer waits for its end; a newer one takes its place, as with
  `latest`. `terminate_other`: what runs is told to stop at once, and nobody waits for it.

`max_running` is how many may run at once (1 if it is not given); `skip` is always one. Those that a policy cancels are
the oldest. `max_fires` counts what fired by itself: those that got a slot, plus those that wait and will get one.

A run that is carried out again (`drive` > 0) is no other fire, and the slot it holds is that of its newest drive: what
frees the slot of an earlier one comes too late and frees nothing.

Everything is idempotent, because a crash anywhere repeats it: who has a slot is admitted again and names the same
victims, who waits waits, who was released is released.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, structs

from scheduler.core.model.schedule import Overlap, Schedule

ADMIT, WAIT, SKIP = "admit", "wait", "skip"
BUFFER_MAX = 100  # execution ids that wait in one row
LEAVING_MAX = 100  # terminated ones that are not over yet, beside those that run

BUFFER_FULL = "buffer_full"
SUPERSEDED = "superseded_in_buffer"
SPENT = "max_fires"

_NEWEST_WAITS = (Overlap.LATEST, Overlap.CANCEL_OTHER)
_AUTO_TAIL = len("20261121T080000000Z")


class Terms(Struct, frozen=True):
    """What a schedule says about runs at the same time, and about how many there shall be."""

    overlap: Overlap = Overlap.SKIP
    max_running: int | None = None
    max_fires: int | None = None

    @property
    def takes_slot(self) -> bool:
        """`allow` without a limit needs no bookkeeping at all."""
        return self.overlap is not Overlap.ALLOW or self.max_running is not None or self.max_fires is not None

    @property
    def limit(self) -> int | None:
        """How many may run at once; None: any number."""
        if self.overlap is Overlap.SKIP:
            return 1
        return self.max_running if self.overlap is Overlap.ALLOW else self.max_running or 1


def terms_of(schedule: Schedule, overlap: Overlap | None = None) -> Terms:
    """The terms of a schedule, or those of one run that names another policy."""
    return Terms(overlap or schedule.overlap, schedule.max_running, schedule.max_fires)


class Slots(Struct, frozen=True):
    """Execution ids that run, oldest first, and that wait for a slot, next first. `fires`: how many automatic ones
    have got a slot so far, counted under `max_fires` only. `drives`: of those that are not in their first one."""

    active: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    fires: int = 0
    drives: dict[str, int] = {}

    def holds(self, execution_id: str) -> bool:
        return execution_id in self.active or execution_id in self.waiting


class Admission(Struct, frozen=True, kw_only=True):
    """`verdict` is admit, wait or skip; `slots` what to store; `reason` why it is skipped.

    `dropped` waited and do not any more; `promoted` waited and run now; `cancel` and `terminate` are those that shall
    end because of it.
    """

    verdict: str
    slots: Slots
    reason: str | None = None
    dropped: tuple[str, ...] = ()
    promoted: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()
    terminate: tuple[str, ...] = ()


class Release(Struct, frozen=True):
    """The slots after runs ended, and the waiting executions that their end lets start."""

    slots: Slots
    promoted: tuple[str, ...] = ()


def is_automatic(execution_id: str) -> bool:
    """Whether the id is that of a nominal time alone: manual and backfill runs carry a suffix (contract, part 2)."""
    return len(execution_id.rpartition(".")[2]) == _AUTO_TAIL


# --- one comes


def admit(slots: Slots, execution_id: str, terms: Terms, drive: int = 0) -> Admission:
    """Decide about one execution. Who waits goes first wherever there is room."""
    if drive > slots.drives.get(execution_id, 0):
        slots = structs.replace(slots, drives={**slots.drives, execution_id: drive})
    admission = _admit(slots, execution_id, terms)
    return structs.replace(admission, slots=_tidy(admission.slots))


def _tidy(slots: Slots) -> Slots:
    """Without the drives of those that hold nothing."""
    if not slots.drives:
        return slots
    return structs.replace(slots, drives={each: drive for each, drive in slots.drives.items() if slots.holds(each)})


def _admit(slots: Slots, execution_id: str, terms: Terms) -> Admission:
    slots, promoted = _promote(slots, terms)
    if execution_id in slots.active:
        victims = _terminated_by(slots, execution_id, terms)
        return Admission(verdict=ADMIT, slots=slots, promoted=promoted, terminate=victims)
    if execution_id in slots.waiting:
        return Admission(verdict=WAIT, slots=slots, promoted=promoted, cancel=_cancelled_by(slots, terms))
    admission = _newcomer(slots, execution_id, terms)
    if _is_fire(slots, execution_id) and _is_spent(slots, admission, terms):
        admission = Admission(verdict=SKIP, slots=slots, reason=SPENT)
    return structs.replace(admission, promoted=promoted)


def _is_fire(slots: Slots, execution_id: str) -> bool:
    """Whether it counts for `max_fires`: one that is carried out again has been counted."""
    return is_automatic(execution_id) and execution_id not in slots.drives


def _is_spent(slots: Slots, admission: Admission, terms: Terms) -> bool:
    if terms.max_fires is None:
        return False
    return slots.fires >= terms.max_fires or _committed(admission.slots) > terms.max_fires


def _newcomer(slots: Slots, execution_id: str, terms: Terms) -> Admission:
    limit = terms.limit
    if limit is None or len(slots.active) < limit:
        return Admission(verdict=ADMIT, slots=_enter(slots, execution_id, terms))
    match terms.overlap:
        case Overlap.SKIP:
            return Admission(verdict=SKIP, slots=slots, reason="overlap")
        case Overlap.ALLOW:
            return Admission(verdict=SKIP, slots=slots, reason="max_running")
        case Overlap.BUFFER_ONE:
            return _wait(slots, execution_id) if not slots.waiting else _full(slots)
        case Overlap.BUFFER_ALL:
            return _wait(slots, execution_id) if len(slots.waiting) < BUFFER_MAX else _full(slots)
        case Overlap.LATEST:
            return _wait_as_newest(slots, execution_id, terms, keep=1)
        case Overlap.CANCEL_OTHER:
            return _wait_as_newest(slots, execution_id, terms, keep=limit)
        case Overlap.TERMINATE_OTHER:
            if len(slots.active) >= limit + LEAVING_MAX:
                return Admission(verdict=SKIP, slots=slots, reason="overlap")
            slots = _enter(slots, execution_id, terms)
            return Admission(verdict=ADMIT, slots=slots, terminate=_terminated_by(slots, execution_id, terms))


def _enter(slots: Slots, execution_id: str, terms: Terms) -> Slots:
    fires = slots.fires + (terms.max_fires is not None and _is_fire(slots, execution_id))
    return structs.replace(slots, active=(*slots.active, execution_id), fires=fires)


def _wait(slots: Slots, execution_id: str) -> Admission:
    """Ids of one schedule sort as their nominal times do."""
    waiting = tuple(sorted((*slots.waiting, execution_id)))
    return Admission(verdict=WAIT, slots=structs.replace(slots, waiting=waiting))


def _full(slots: Slots) -> Admission:
    return Admission(verdict=SKIP, slots=slots, reason=BUFFER_FULL)


def _wait_as_newest(slots: Slots, execution_id: str, terms: Terms, *, keep: int) -> Admission:
    waiting = sorted((*slots.waiting, execution_id))
    kept, dropped = tuple(waiting[-keep:]), tuple(waiting[:-keep])
    if execution_id in dropped:  # it comes too late: a newer one waits already
        return Admission(verdict=SKIP, slots=slots, reason=SUPERSEDED)
    slots = structs.replace(slots, waiting=kept)
    return Admission(verdict=WAIT, slots=slots, dropped=dropped, cancel=_cancelled_by(slots, terms))


def _cancelled_by(slots: Slots, terms: Terms) -> tuple[str, ...]:
    """The oldest runs, as many as have to end for those who wait."""
    if terms.overlap is not Overlap.CANCEL_OTHER or terms.limit is None:
        return ()
    surplus = len(slots.active) + len(slots.waiting) - terms.limit
    return slots.active[: max(0, surplus)]


def _terminated_by(slots: Slots, execution_id: str, terms: Terms) -> tuple[str, ...]:
    """What was there before it and has no room beside it."""
    if terms.overlap is not Overlap.TERMINATE_OTHER or terms.limit is None:
        return ()
    return slots.active[: max(0, slots.active.index(execution_id) + 1 - terms.limit)]


def _committed(slots: Slots) -> int:
    """Automatic ones that fired, or will as soon as there is room."""
    return slots.fires + sum(_is_fire(slots, each) for each in slots.waiting)


# --- some end


def release(slots: Slots, ended: Mapping[str, int], terms: Terms) -> Release:
    """Take executions out of the slots, each up to the drive that has ended; who waits moves up, first come first
    served."""
    active = tuple(each for each in slots.active if not _is_over(slots, each, ended))
    waiting = tuple(each for each in slots.waiting if not _is_over(slots, each, ended))
    freed, promoted = _promote(structs.replace(slots, active=active, waiting=waiting), terms)
    return Release(_tidy(freed), promoted)


def _is_over(slots: Slots, execution_id: str, ended: Mapping[str, int]) -> bool:
    return slots.drives.get(execution_id, 0) <= ended.get(execution_id, -1)


def _promote(slots: Slots, terms: Terms) -> tuple[Slots, tuple[str, ...]]:
    room = len(slots.waiting) if terms.limit is None else max(0, terms.limit - len(slots.active))
    promoted = slots.waiting[:room]
    for each in promoted:
        slots = _enter(slots, each, terms)
    return structs.replace(slots, waiting=slots.waiting[len(promoted) :]), promoted
