"""What is late is handed over to the leader: one durable note per schedule, its oldest late nominal time.

The note is `late_from` in the status row. It is written before the due messages are acknowledged (dispatcher), and
before the watermark moves past what was never armed (planner): what nobody holds any more is noted, or has a verdict.
What lies in a catch-up that is fixed or carried out already needs no note: whoever comes with it is done.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from scheduler.core.catch_up import with_late
from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import StatusRow
from scheduler.services.rows import Edit, StatusRows

log = logging.getLogger(__name__)


class LateOnes:
    """Notes in status rows."""

    def __init__(self, rows: StatusRows) -> None:
        self._rows = rows

    async def note(self, executions: Sequence[Execution]) -> set[str]:
        """Note these; returns the ids of those that the leader knows of now. Raises nothing: the others come again."""
        by_schedule: dict[str, list[Execution]] = defaultdict(list)
        for each in executions:
            by_schedule[each.schedule].append(each)
        edits = {schedule_id: _noting([each.nominal_at for each in late]) for schedule_id, late in by_schedule.items()}
        noted: set[str] = set()
        for schedule_id, result in (await self._rows.try_change(edits)).items():
            if isinstance(result, ScheddError):
                extra = {"event": "late_not_noted", "schedule": schedule_id, "error": result.message}
                log.warning("late occurrences will be noted later", extra=extra)
            else:
                noted.update(each.id for each in by_schedule[schedule_id])
        return noted


def _noting(nominals: Sequence[datetime]) -> Edit:
    def edit(row: StatusRow) -> StatusRow:
        return with_late(row, nominals)

    return edit
