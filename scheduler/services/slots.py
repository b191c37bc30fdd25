"""Slots: who of one schedule may run. Order everywhere: record, then slot, then pair; terminal record, then release.

Only a terminal record frees a slot. Before anything is skipped, the holders are looked at (`inspect`), so that a dead
replica's backlog of acks does not turn into skips (mechanisms.md, part 5): a holder whose task has left its queue, and
whose end is still on its way to the record, is no reason to skip but one to ask again in a moment.

The same compare-and-set that frees a slot gives it to the next one that waits, whom `promote` then launches. If it is
not launched (a crash), the reconciler finds a record that waits and whose row says that it runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from msgspec import Struct, structs

from scheduler.core.errors import ScheddError, Unsure
from scheduler.core.lifecycle import NEVER_QUEUED
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import StatusRow
from scheduler.core.overlap import ADMIT, SKIP, SPENT, SUPERSEDED, Admission, Slots, Terms, admit, release
from scheduler.services.rows import Edit, StatusRows

Inspect = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Looks at executions; returns those that are over, though nobody has told how they ended."""

Promote = Callable[[Sequence[str]], Awaitable[None]]
"""Launches these, which waited and have a slot now. Raises nothing."""

Admissions = dict[str, Admission | ScheddError]


class Request(Struct, frozen=True):
    """One claimed execution that wants to run on these terms."""

    execution: Execution
    terms: Terms


class SlotKeeper:
    """Takes and frees slots in the status rows. `terms_of(schedule id)`: those of its definition now."""

    def __init__(self, rows: StatusRows, terms_of: Callable[[str], Terms] = lambda _: Terms()) -> None:
        self._rows, self.terms_of = rows, terms_of
        self.inspect: Inspect | None = None  # the tracker's; both are set where everything is wired
        self.promote: Promote | None = None

    # --- taking

    async def take(self, requests: Sequence[Request]) -> Admissions:
        """Per execution id, in the given order within a schedule: an admission, or why it has to ask again soon."""
        admissions: Admissions = {
            each.execution.id: Admission(verdict=ADMIT, slots=Slots()) for each in requests if not each.terms.takes_slot
        }
        bound = [each for each in requests if each.execution.id not in admissions]
        admissions |= await self._take(bound)
        refused = [each for each in bound if _is_refused(admissions[each.execution.id])]
        return admissions | await self._take_after_inspection(refused, admissions)

    async def _take_after_inspection(self, refused: Sequence[Request], admissions: Admissions) -> Admissions:
        """Skipped is only who still finds no slot after all holders were looked at."""
        own = {execution_id for execution_id, each in admissions.items() if not _is_refused(each)}
        holders = _holders(admissions[each.execution.id] for each in refused)
        doubtful = sorted(holders - own)  # what was admitted a moment ago needs no second look
        if not doubtful or self.inspect is None:
            return {}
        try:
            ending = await self.inspect(doubtful)
        except ScheddError as problem:
            return {each.execution.id: problem for each in refused}
        again = await self._take(refused)
        waiting = Unsure("an earlier run is over, and its end not on record yet")
        return {
            execution_id: waiting if _is_refused(each) and ending & _holders([each]) else each
            for execution_id, each in again.items()
        }

    async def _take(self, requests: Sequence[Request]) -> Admissions:
        by_schedule: dict[str, list[Request]] = defaultdict(list)
        for each in requests:
            by_schedule[each.execution.schedule].append(each)
        taken: dict[str, Admissions] = {}

        def edit_for(schedule: str, wanted: list[Request]) -> Edit:
            def edit(row: StatusRow) -> StatusRow:
                slots = slots_of(row)
                found: Admissions = {}
                for each in wanted:
                    admission = admit(slots, each.execution.id, each.terms, each.execution.drive)
                    found[each.execution.id] = admission
                    slots = admission.slots
                taken[schedule] = _at_last(found, slots)
                return with_slots(row, slots)

            return edit

        edits = {schedule: edit_for(schedule, wanted) for schedule, wanted in by_schedule.items()}
        rows = await self._rows.try_change(edits)
        admissions: Admissions = {}
        for schedule, row in rows.items():
            problem = row if isinstance(row, ScheddError) else None
            admissions |= {
                each.execution.id: problem or taken[schedule][each.execution.id] for each in by_schedule[schedule]
            }
        await self.launch(each for each in _promoted(admissions.values()) if each not in admissions)
        return admissions

    # --- freeing

    async def release(self, ended: Sequence[Execution]) -> None:
        """Free the slots of terminal executions; harmless for those that hold none. Raises Unsure, Unavailable."""
        by_schedule: dict[str, list[Execution]] = defaultdict(list)
        for execution in ended:
            by_schedule[execution.schedule].append(execution)

        def edit_for(executions: list[Execution]) -> Edit:
            newest = max(executions, key=lambda each: each.nominal_at)

            def edit(row: StatusRow) -> StatusRow:
                return structs.replace(row, last_outcome=outcome_of(newest) or row.last_outcome)

            return edit

        edits = {schedule: edit_for(executions) for schedule, executions in by_schedule.items()}
        ids = {schedule: {each.id: each.drive for each in executions} for schedule, executions in by_schedule.items()}
        for result in (await self.free(ids, edits, create=False)).values():
            if isinstance(result, ScheddError):
                raise result

    async def free(
        self, ended: Mapping[str, Mapping[str, int]], edits: Mapping[str, Edit] | None = None, *, create: bool = True
    ) -> dict[str, StatusRow | ScheddError]:
        """Free the slots of these executions, by schedule and id, each up to the drive that has ended, in one write per
        row together with whatever else is edited there; who waits moves up and is launched. Also with no ids: who has
        room meanwhile moves up."""
        promoted: dict[str, tuple[str, ...]] = {}

        def edit_for(schedule: str, ids: Mapping[str, int], then: Edit | None) -> Edit:
            def edit(row: StatusRow) -> StatusRow:
                released = release(slots_of(row), ids, self.terms_of(schedule))
                promoted[schedule] = released.promoted
                row = with_slots(row, released.slots)
                return row if then is None else then(row)

            return edit

        combined = {schedule: edit_for(schedule, ids, (edits or {}).get(schedule)) for schedule, ids in ended.items()}
        results = await self._rows.try_change(combined, create=create)
        written = [schedule for schedule, result in results.items() if not isinstance(result, ScheddError)]
        await self.launch(each for schedule in written for each in promoted[schedule])
        return results

    async def launch(self, promoted: Iterable[str]) -> None:
        """Have those launched whose turn has come. Raises nothing."""
        ids = list(promoted)
        if ids and self.promote is not None:
            await self.promote(ids)


def outcome_of(ended: Execution) -> str | None:
    """How the work went; None of what was never queued: a skip says nothing about that."""
    return ended.state.value if ended.queued_at is not None or ended.state not in NEVER_QUEUED else None


def slots_of(row: StatusRow) -> Slots:
    return Slots(row.active, row.waiting, row.fires, row.drives)


def with_slots(row: StatusRow, slots: Slots) -> StatusRow:
    return structs.replace(row, active=slots.active, waiting=slots.waiting, fires=slots.fires, drives=slots.drives)


def _at_last(admissions: Admissions, slots: Slots) -> Admissions:
    """As they stand after all of a group were decided: an earlier one may have had to make room for a later one."""
    found: Admissions = {}
    for execution_id, each in admissions.items():
        is_dropped = isinstance(each, Admission) and each.verdict != SKIP and not slots.holds(execution_id)
        found[execution_id] = Admission(verdict=SKIP, slots=slots, reason=SUPERSEDED) if is_dropped else each
    return found


def _is_refused(admission: Admission | ScheddError) -> bool:
    """Whether it found no place because of others. For those that are too late or too many nobody needs a look."""
    if not isinstance(admission, Admission) or admission.verdict != SKIP:
        return False
    return admission.reason not in (SPENT, SUPERSEDED)


def _promoted(admissions: Iterable[Admission | ScheddError]) -> list[str]:
    return [each for found in admissions if isinstance(found, Admission) for each in found.promoted]


def _holders(admissions: Iterable[Admission | ScheddError]) -> set[str]:
    """Who holds the slots that these did not get."""
    return {holder for each in admissions if isinstance(each, Admission) for holder in each.slots.active}
