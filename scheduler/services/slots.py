"""Slots: who of one schedule may run. Order everywhere: record, then slot, then pair; terminal record, then release.

Only a terminal record frees a slot. Before anything is skipped, the holders are looked at (`inspect`), so that a dead
replica's backlog of acks does not turn into skips (mechanisms.md, part 5): a holder whose task has left its queue, and
whose end is still on its way to the record, is no reason to skip but one to ask again in a moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct, structs

from scheduler.core.errors import ScheddError, Unsure
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.core.model.status import StatusRow
from scheduler.core.overlap import ADMIT, SKIP, Admission, Slots, admit, release, takes_slot
from scheduler.services.rows import Edit, StatusRows

Inspect = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Looks at executions; returns those that are over, though nobody has told how they ended."""

Admissions = dict[str, Admission | ScheddError]


class Request(Struct, frozen=True):
    """One claimed execution that wants to run under a policy."""

    execution: Execution
    overlap: Overlap
    max_running: int | None


class SlotKeeper:
    """Takes and frees slots in the status rows."""

    def __init__(self, rows: StatusRows) -> None:
        self._rows = rows
        self.inspect: Inspect | None = None  # the tracker's; set where everything is wired

    async def take(self, requests: Sequence[Request]) -> Admissions:
        """Per execution id, in the given order within a schedule: an admission, or why it has to ask again soon."""
        admissions: Admissions = {
            each.execution.id: Admission(ADMIT, Slots())
            for each in requests
            if not takes_slot(each.overlap, each.max_running)
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
        admissions: Admissions = {}

        def edit_for(wanted: list[Request]) -> Edit:
            def edit(row: StatusRow) -> StatusRow:
                slots = Slots(row.active, row.waiting)
                for each in wanted:
                    admission = admit(slots, each.execution.id, each.overlap, each.max_running)
                    admissions[each.execution.id] = admission
                    slots = admission.slots
                return structs.replace(row, active=slots.active, waiting=slots.waiting)

            return edit

        rows = await self._rows.try_change({schedule: edit_for(wanted) for schedule, wanted in by_schedule.items()})
        for schedule, row in rows.items():
            if isinstance(row, ScheddError):
                admissions |= {each.execution.id: row for each in by_schedule[schedule]}
        return admissions

    async def release(self, ended: Sequence[Execution]) -> None:
        """Free the slots of terminal executions; harmless for those that hold none. Raises Unsure, Unavailable."""
        by_schedule: dict[str, list[Execution]] = defaultdict(list)
        for execution in ended:
            by_schedule[execution.schedule].append(execution)

        def edit_for(executions: list[Execution]) -> Edit:
            ids = frozenset(each.id for each in executions)
            newest = max(executions, key=lambda each: each.nominal_at)

            def edit(row: StatusRow) -> StatusRow:
                slots = release(Slots(row.active, row.waiting), ids).slots
                outcome = row.last_outcome if newest.state is State.SKIPPED else newest.state.value
                return structs.replace(row, active=slots.active, waiting=slots.waiting, last_outcome=outcome)

            return edit

        edits = {schedule: edit_for(executions) for schedule, executions in by_schedule.items()}
        await self._rows.change(edits, create=False)


def _is_refused(admission: Admission | ScheddError) -> bool:
    return isinstance(admission, Admission) and admission.verdict == SKIP


def _holders(admissions: Iterable[Admission | ScheddError]) -> set[str]:
    """Who holds the slots that these did not get."""
    return {holder for each in admissions if isinstance(each, Admission) for holder in each.slots.active}
