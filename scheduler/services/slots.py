"""Slots: who of one schedule may run. Order everywhere: record, then slot, then pair; terminal record, then release.

Only a terminal record frees a slot. Before anything is skipped, the holders are looked at (`inspect`), so that a dead
replica's backlog of acks does not turn into skips (mechanisms.md, part 5): a holder whose task has left its queue, and
whose end is still on its way to the record, is no reason to skip but one to ask again in a moment.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct, structs

from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.core.model.status import StatusRow
from scheduler.core.overlap import ADMIT, SKIP, Admission, Slots, admit, release, takes_slot
from scheduler.services.rows import StatusRows

log = logging.getLogger(__name__)
Inspect = Callable[[Sequence[str]], Awaitable[frozenset[str]]]
"""Looks at executions; returns those that are over, though nobody has told how they ended."""


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

    async def take(self, requests: Sequence[Request]) -> dict[str, Admission]:
        """An admission per execution id, in the given order within a schedule; none for what has to ask again soon.

        Raises Unsure, Unavailable.
        """
        free = {
            each.execution.id: Admission(ADMIT, Slots())
            for each in requests
            if not takes_slot(each.overlap, each.max_running)
        }
        bound = [each for each in requests if each.execution.id not in free]
        if not bound:
            return free
        admissions = await self._take(bound)
        if self.inspect is not None and any(each.verdict == SKIP for each in admissions.values()):
            admissions = await self._take_after_inspection(bound, admissions)
        return free | admissions

    async def _take_after_inspection(
        self, requests: Sequence[Request], admissions: dict[str, Admission]
    ) -> dict[str, Admission]:
        refused = [each for each in requests if admissions[each.execution.id].verdict == SKIP]
        own = {each.execution.id for each in requests if admissions[each.execution.id].verdict == ADMIT}
        held = {holder for each in refused for holder in admissions[each.execution.id].slots.active}
        holders = sorted(held - own)  # what was admitted a moment ago needs no second look
        if not holders or self.inspect is None:
            return admissions
        ending = await self.inspect(holders)
        admissions |= await self._take(refused)
        return {
            execution_id: admission
            for execution_id, admission in admissions.items()
            if admission.verdict != SKIP or not ending.intersection(admission.slots.active)
        }

    async def _take(self, requests: Sequence[Request]) -> dict[str, Admission]:
        by_schedule: dict[str, list[Request]] = defaultdict(list)
        for each in requests:
            by_schedule[each.execution.schedule].append(each)
        admissions: dict[str, Admission] = {}

        def edit_for(wanted: list[Request]) -> Callable[[StatusRow], StatusRow]:
            def edit(row: StatusRow) -> StatusRow:
                slots = Slots(row.active, row.waiting)
                for each in wanted:
                    admission = admit(slots, each.execution.id, each.overlap, each.max_running)
                    admissions[each.execution.id] = admission
                    slots = admission.slots
                return structs.replace(row, active=slots.active, waiting=slots.waiting)

            return edit

        await self._rows.change({schedule: edit_for(wanted) for schedule, wanted in by_schedule.items()})
        return admissions

    async def release(self, ended: Sequence[Execution]) -> None:
        """Free the slots of terminal executions; harmless for those that hold none. Raises Unsure, Unavailable."""
        by_schedule: dict[str, list[Execution]] = defaultdict(list)
        for execution in ended:
            by_schedule[execution.schedule].append(execution)

        def edit_for(executions: list[Execution]) -> Callable[[StatusRow], StatusRow]:
            ids = frozenset(each.id for each in executions)
            newest = max(executions, key=lambda each: each.nominal_at)

            def edit(row: StatusRow) -> StatusRow:
                slots = release(Slots(row.active, row.waiting), ids).slots
                outcome = row.last_outcome if newest.state is State.SKIPPED else newest.state.value
                return structs.replace(row, active=slots.active, waiting=slots.waiting, last_outcome=outcome)

            return edit

        await self._rows.change({schedule: edit_for(executions) for schedule, executions in by_schedule.items()})
