"""Late occurrences that an applied edit leaves nobody to answer for: superseded, told first, then forgotten.

What `services.late` has to decide was noted, or fixed, under the definition in force at the time. A definition that has
been edited since answers for nothing before its edit, and one that is gone for nothing at all. What the definitions
before it owed of that, and nobody has carried out, becomes one range up to the instant of the edit. A crash between
telling and forgetting tells the same again, under the same id.

The row is read first and the schedule after it, so that whatever a note was made under is known; and what is told and
what is forgotten are about that one definition. An edit that comes in between finds the rest of the note in the row,
and has its own turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

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


class _Taken(Struct, frozen=True):
    """What an edit takes away of the late ones in a row. `known` None: deleted, and its mark is gone, too."""

    id: str
    known: Known | None
    row: StatusRow
    now: datetime

    @property
    def in_force(self) -> InForce | None:
        return None if self.known is None else self.known.in_force

    @property
    def spans(self) -> tuple[Span, ...]:
        return disowned(self.row, None if self.in_force is None else self.in_force.definition, self.now)

    @property
    def reason(self) -> str:
        if self.known is None:
            return "deleted"
        return "edited" if self.known.in_force is not None else self.known.absent_reason

    def without(self, row: StatusRow) -> StatusRow:
        """Only what was told is forgotten; a row that has changed since is looked at again."""
        if _late_ones(row) != _late_ones(self.row):
            return row
        if self.in_force is None:
            return without_disowned(row, None, None, self.now)
        return without_disowned(row, self.in_force.definition, self.in_force.trigger, self.now)


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
        """Tell and forget what applied edits of these have taken away. Raises Deposed, Unsure, Unavailable."""
        taken = await self._taken(schedule_ids, tenure)
        if not taken:
            return
        told = {each.id: await self._told(each) for each in taken}
        tenure.check()
        await self._events.store([verdicts_fact(each, found) for each, ranges in told.items() for found in ranges])
        edits = {each.id: _forgetting(each, tenure) for each in taken}
        for schedule_id, result in (await self._rows.try_change(edits, create=False)).items():
            if isinstance(result, StatusRow):
                for each in told[schedule_id]:
                    self._telemetry.verdict(verdict=each.verdict, reason=each.reason, count=each.count)

    async def _taken(self, schedule_ids: Sequence[str], tenure: Tenure) -> list[_Taken]:
        now, rows = self._clock.now(), await self._rows.get_many(list(schedule_ids))
        await self._schedules.fresh()
        seen = zip(schedule_ids, map(self._schedules.get, schedule_ids), rows, strict=True)
        found = (_Taken(schedule_id, known, row, now) for schedule_id, known, row in seen if _is_applied(known, tenure))
        return [each for each in found if each.spans]

    async def _told(self, taken: _Taken) -> list[VerdictRange]:
        return [each for span in taken.spans if (each := await self._superseded(taken, span)) is not None]

    async def _superseded(self, taken: _Taken, span: Span) -> VerdictRange | None:
        """What the definitions before the edit owed of a span and nobody has carried out; None if that is nothing."""
        owed = await self._owed(taken, span)
        ids = [execution_id(taken.id, nominal) for nominal in owed]
        chunks = [ids[start : start + LOOK_UPS] for start in range(0, len(ids), LOOK_UPS)]
        recorded = {each for chunk in chunks for each in await self._records.exist(chunk)}
        left = [nominal for nominal, each in zip(owed, ids, strict=True) if each not in recorded]
        if not left:
            return None
        return VerdictRange(
            first=left[0],
            last=left[-1],
            count=len(left),
            verdict="superseded",
            reason=taken.reason,
            generation=0 if taken.known is None else taken.known.revision,
        )

    async def _owed(self, taken: _Taken, span: Span) -> list[datetime]:
        """By each definition up to the next one, back to the beginning of the span; ascending."""
        end = span.last if taken.known is None else min(span.last, taken.known.effective_at)
        found: set[datetime] = set()
        for change in await self._announcer.earlier(taken.id, taken.known):
            if change.in_force is not None and span.first <= end:
                part = Span(span.first, end)
                found.update(await in_turns(owed_in(change.in_force.definition, change.in_force.trigger, part)))
            end = min(end, change.at)
        return sorted(found)


def _is_applied(known: Known | None, tenure: Tenure) -> bool:
    """Whether what a schedule is now is on the timeline. One whose delete mark is gone was applied before that."""
    return known is None or known.revision <= tenure.office.watermark.applied


def _forgetting(taken: _Taken, tenure: Tenure) -> Edit:
    def edit(row: StatusRow) -> StatusRow:
        tenure.check()
        return taken.without(row)

    return edit


def _late_ones(row: StatusRow) -> tuple[object, ...]:
    return row.late_from, row.late_until, row.deciding
