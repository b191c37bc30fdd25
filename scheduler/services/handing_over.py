"""What is late is handed over to the leader: one durable note per schedule, its oldest and newest late nominal times.

The note is `late_from` and `late_until` in the status row. It is written before the due messages are acknowledged
(dispatcher), and before the watermark moves past what was never armed (planner): what nobody holds any more is noted,
or has a verdict. What lies in a catch-up that is fixed or carried out already needs no note: whoever comes with it is
done.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from scheduler.core.catch_up import Span, is_owed, with_late, with_late_span
from scheduler.core.dispatching import InForce
from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import StatusRow
from scheduler.services.rows import Edit, StatusRows

log = logging.getLogger(__name__)
ROWS_MAX = 1000  # read and written at once


class LateOne(Struct, frozen=True):
    """An occurrence that came too late: as the execution it would have been, and the definition in force."""

    execution: Execution
    in_force: InForce


class Noted(Struct):
    """`done`: ids of those that the leader knows of now. `disowned`: those that the definition does not answer for."""

    done: set[str]
    disowned: list[Execution]


class LateOnes:
    """Notes in status rows."""

    def __init__(self, rows: StatusRows) -> None:
        self._rows = rows

    async def note(self, late: Iterable[LateOne]) -> Noted:
        """Note these, one write per schedule. Raises nothing: those that are in neither list come again."""
        noted = Noted(set(), [])
        by_schedule: dict[str, list[LateOne]] = defaultdict(list)
        for each in late:
            if is_owed(each.in_force.definition, each.execution.nominal_at):
                by_schedule[each.execution.schedule].append(each)
            else:
                noted.disowned.append(each.execution)
        results = await self._rows.try_change({schedule_id: _noting(some) for schedule_id, some in by_schedule.items()})
        for schedule_id, result in results.items():
            if isinstance(result, ScheddError):
                extra = {"event": "late_not_noted", "schedule": schedule_id, "error": result.message}
                log.warning("late occurrences will be noted later", extra=extra)
            else:
                noted.done.update(each.execution.id for each in by_schedule[schedule_id])
        return noted

    async def note_spans(self, spans: Sequence[tuple[InForce, Span]], before_write: Callable[[], None]) -> None:
        """Note what was never armed. Raises Unsure, Unavailable, and what `before_write` raises."""
        for start in range(0, len(spans), ROWS_MAX):
            some = spans[start : start + ROWS_MAX]
            edits = {each.definition.id: _noting_span(each, span, before_write) for each, span in some}
            await self._rows.change(edits)


def _noting(late: Sequence[LateOne]) -> Edit:
    def edit(row: StatusRow) -> StatusRow:
        return with_late(row, [each.execution.nominal_at for each in late])

    return edit


def _noting_span(in_force: InForce, span: Span, before_write: Callable[[], None]) -> Edit:
    def edit(row: StatusRow) -> StatusRow:
        before_write()
        return with_late_span(row, in_force.trigger, span)

    return edit
