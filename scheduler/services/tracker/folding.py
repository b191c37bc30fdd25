"""Record first, then everything that follows from it: counters, and at its end slot, row, event.

A crash between the record and the slot leaves a slot that an ended execution holds. Whoever meets such a record again
(the message was not acknowledged, so it comes again) frees the slot then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import is_terminal
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import StatusRow
from scheduler.services.records import Change, Changed, Records, Stored
from scheduler.services.rows import StatusRows
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper, slots_of

log = logging.getLogger(__name__)


class Folder:
    """Applies changes to records and settles those that ended."""

    def __init__(self, *, records: Records, settlement: Settlement, slots: SlotKeeper, rows: StatusRows) -> None:
        self._records, self._settlement, self._slots, self._rows = records, settlement, slots, rows

    async def fold(
        self, changes: Sequence[Change], known: Mapping[str, Stored] | None = None
    ) -> list[Changed | ScheddError]:
        """For each change what came of it, or the error that met it: then it has to be folded again.

        `known`: see `Records.try_advance_many`.
        """
        if not changes:
            return []
        results = await self._records.try_advance_many(changes, known)
        moved = [each for each in results if isinstance(each, Changed) and each.execution is not None]
        self._settlement.fired([each.execution for each in moved if each.fired and each.execution])
        await self._settlement.settle([each.execution for each in moved if each.ended and each.execution])
        before = [each.execution for each in moved if each.execution and is_terminal(each.execution) and not each.ended]
        await self._settlement.follow(before)
        try:
            await self.free(before)
        except ScheddError as problem:
            log.warning("slots not freed yet", extra={"event": "slot_release_failed", "error": problem.message})
        return results

    async def free(self, ended: Sequence[Execution]) -> list[Execution]:
        """Free the slots that these ended executions still hold; returns those that did. Raises Unsure, Unavailable."""
        if not ended:
            return []
        schedules = sorted({each.schedule for each in ended})
        rows = dict(zip(schedules, await self._rows.get_many(schedules), strict=True))
        held = [each for each in ended if _holds(rows[each.schedule], each)]
        if held:
            await self._slots.release(held)
        return held


def _holds(row: StatusRow, execution: Execution) -> bool:
    """Whether it holds a slot in this drive, or still holds that of an earlier one."""
    slots = slots_of(row)
    return slots.holds(execution.id) and slots.drives.get(execution.id, 0) <= execution.drive
