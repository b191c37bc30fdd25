"""Late occurrences that an applied edit leaves nobody to answer for: superseded, told first, then forgotten.

What `services.late` has to decide was noted, or fixed, under the definition in force at the time. A definition that has
been edited since answers for nothing before its edit, and one that is gone for nothing at all. What the definitions
before it owed of that, and nobody has carried out, becomes one range up to the instant of the edit. A crash between
telling and forgetting tells the same again, under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scheduler.core.auditing import VerdictRange
from scheduler.core.catch_up import Span, disowned, owed_in, without_disowned
from scheduler.core.dispatching import InForce
from scheduler.core.model.status import StatusRow
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events
from scheduler.ports.telemetry import Telemetry
from scheduler.services.announcing import Announcer, verdicts_fact
from scheduler.services.leader import Tenure
from scheduler.services.records import Records
from scheduler.services.rows import Edit, StatusRows
from scheduler.services.schedules import Known, ScheduleCache
from scheduler.services.together import in_turns
from scheduler.wire.ids import execution_id

LOOK_UPS = 256  # records asked for at once


class Disowner:
    """The part of catch-up that comes before anything is decided."""

    def __init__(
        self,
        *,
        rows: StatusRows,
        schedules: ScheduleCache,
        records: Records,
        events: Events,
        announcer: Announcer,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._rows, self._schedules, self._records = rows, schedules, records
        self._events, self._announcer = events, announcer
        self._clock, self._telemetry = clock, telemetry

    async def disown(self, schedule_ids: Sequence[str], tenure: Tenure) -> None:
        """Tell and forget what nobody answers for. Raises Deposed, Unavailable."""
        now = self._clock.now()
        applied = [each for each in schedule_ids if self._is_applied(each, tenure)]
        before = dict(zip(applied, await self._rows.get_many(applied), strict=True))
        told: dict[str, list[VerdictRange]] = {}
        for schedule_id, row in before.items():
            in_force = self._in_force(schedule_id)
            if spans := disowned(row, None if in_force is None else in_force.definition, now):
                told[schedule_id] = [each for span in spans if (each := await self._superseded(schedule_id, span))]
        if not told:
            return
        tenure.check()
        await self._events.store([verdicts_fact(each, found) for each, ranges in told.items() for found in ranges])
        edits = {each: _forgetting(before[each], self._in_force(each), now, tenure) for each in told}
        for schedule_id, result in (await self._rows.try_change(edits, create=False)).items():
            if isinstance(result, StatusRow):
                for found in told[schedule_id]:
                    self._telemetry.verdict(verdict=found.verdict, reason=found.reason, count=found.count)

    async def _superseded(self, schedule_id: str, span: Span) -> VerdictRange | None:
        """What was owed of a span and nobody has carried out; None if that is nothing."""
        known = self._schedules.get(schedule_id)
        if known is None:
            return None
        owed = await self._owed_before(known, span)
        recorded = await self._recorded(schedule_id, owed)
        left = [nominal for nominal in owed if execution_id(schedule_id, nominal) not in recorded]
        if not left:
            return None
        return VerdictRange(
            first=left[0],
            last=left[-1],
            count=len(left),
            verdict="superseded",
            reason="edited" if known.in_force is not None else known.absent_reason,
            generation=known.revision,
        )

    async def _owed_before(self, known: Known, span: Span) -> list[datetime]:
        """Nominal times of a span that the definitions before the newest owed, each up to its own edit; ascending."""
        found: set[datetime] = set()
        end = min(span.last, known.at)
        for change in await self._announcer.earlier(known):
            if change.in_force is not None and span.first <= end:
                part = Span(span.first, end)
                found.update(await in_turns(owed_in(change.in_force.definition, change.in_force.trigger, part)))
            end = min(end, change.at)
        return sorted(found)

    async def _recorded(self, schedule_id: str, nominals: Sequence[datetime]) -> set[str]:
        ids = [execution_id(schedule_id, nominal) for nominal in nominals]
        groups = (ids[start : start + LOOK_UPS] for start in range(0, len(ids), LOOK_UPS))
        return {each for group in groups for each in await self._records.exist(group)}

    def _is_applied(self, schedule_id: str, tenure: Tenure) -> bool:
        known = self._schedules.get(schedule_id)
        return known is None or known.revision <= tenure.office.watermark.applied

    def _in_force(self, schedule_id: str) -> InForce | None:
        known = self._schedules.get(schedule_id)
        return None if known is None else known.in_force


def _forgetting(told: StatusRow, in_force: InForce | None, now: datetime, tenure: Tenure) -> Edit:
    """Only what was told is forgotten; a row that has changed since is looked at again."""

    def edit(row: StatusRow) -> StatusRow:
        tenure.check()
        if (row.late_from, row.deciding) != (told.late_from, told.deciding):
            return row
        if in_force is None:
            return without_disowned(row, None, None, now)
        return without_disowned(row, in_force.definition, in_force.trigger, now)

    return edit
