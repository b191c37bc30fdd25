"""What the leader notes of each schedule: its status row, and an event for each change.

The order is events, rows, watermark: a leader that dies in between is repeated by its successor, so events come at
least once, and the row still tells what the state was before. A state also changes by itself (a pause ends, the last
occurrence passes); those instants are kept in an agenda, so that only the rows that turn are touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec import structs

from scheduler.core.arming import Arming, next_wanted, state_of, turns_at
from scheduler.core.chain import applied, with_chain
from scheduler.core.model.status import ScheduleState, StatusRow
from scheduler.core.triggers import EPOCH
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Fact
from scheduler.services.agenda import Agenda
from scheduler.services.announcing import Announcer, resumed, told_of, told_of_replaced, withdrawn
from scheduler.services.leader import Tenure
from scheduler.services.rows import StatusRows, row_of
from scheduler.services.schedules import Known, ScheduleCache

ROWS_MAX = 100  # read and written at once


class Notes:
    """The leader's hand in the status bucket and the events stream. Every write is preceded by `tenure.check()`."""

    def __init__(self, rows: StatusRows, announcer: Announcer, schedules: ScheduleCache, clock: Clock) -> None:
        self._rows, self._announcer, self._schedules, self._clock = rows, announcer, schedules, clock
        self._turns, self._turned = Agenda(), EPOCH

    async def states(self, schedules: Sequence[Known]) -> dict[str, ScheduleState]:
        """The states in the rows there are, deleted schedules left out. Raises Unsure, Unavailable."""
        ids = [known.id for known in schedules if not known.deleted]
        entries = await self._rows.bucket.get_many(ids)
        found = ((schedule_id, entry) for schedule_id, entry in zip(ids, entries, strict=True) if entry is not None)
        return {schedule_id: row_of(entry).state for schedule_id, entry in found if not entry.deleted}

    async def applied(
        self,
        edits: Sequence[Known],
        plans: Sequence[Arming],
        before: Mapping[str, ScheduleState],
        tenure: Tenure,
        *,
        applied_until: Callable[[Known], int],
        not_before: datetime = EPOCH,
    ) -> dict[str, StatusRow]:
        """Tell of these edits, `before` being what `states` gave; the rows of those that are not deleted.

        `applied_until`: up to which generation a schedule may have been on the timeline before. `not_before`: the first
        start of schedd, before which no chain begins. Raises Deposed, Unsure, Unavailable.
        """
        now, mark = self._clock.now(), tenure.office.watermark
        planned = list(zip(edits, plans, strict=True))
        passed_over = {known.id: range(applied_until(known) + 1, known.revision) for known in edits}
        facts = told_of_replaced(self._schedules.replaced(passed_over), edits, mark, applied_until)
        for known in edits:
            state = state_of(known.in_force, now)
            facts += told_of(known, before.get(known.id), state, mark, applied_until(known))
        tenure.check()
        await self._announcer.store(facts)
        edit = {
            known.id: _edit(known, _next(plan), now, tenure, not_before) for known, plan in planned if not known.deleted
        }
        rows = await self._rows.change(edit)
        for known in edits:
            if known.deleted:
                await self._rows.change({known.id: lambda row: with_chain(row, None)}, create=False)
                await self._rows.forget(known.id, tenure.check)
        return rows

    async def withdrawn(self, edits: Sequence[Known], plans: Sequence[Arming], tenure: Tenure) -> None:
        """Tell what becomes of occurrences whose time had come when these edits disarm them, before they do. Raises
        Deposed, Unsure, Unavailable."""
        facts = [fact for known, plan in zip(edits, plans, strict=True) for fact in withdrawn(known, plan.disarms)]
        tenure.check()
        await self._announcer.store(facts)

    async def passed_over(self, edited: Sequence[Known], after: datetime, until: datetime, tenure: Tenure) -> None:
        """Tell what becomes of nominal times in (after, until] that were up to the definition before each of these, and
        are not planned any more because the edit is known already, to this leader or to the one before it. Raises
        Deposed, Unsure, Unavailable.

        Also behind the edit: another one may take its place before it is applied, and then nobody tells of it, and
        evidence has the one before in force up to that other one.
        """
        facts: list[Fact] = []
        for known in edited:
            facts += await self._announcer.passed_over(known, after, until)
        tenure.check()
        await self._announcer.store(facts)

    async def overtaken(self, edited: Sequence[Known], newest: int, tenure: Tenure) -> None:
        """Tell what becomes of the definitions before these, which R passes over on its way to `newest`. Raises
        Deposed, Unsure, Unavailable."""
        facts: list[Fact] = []
        for known in edited:
            facts += await self._announcer.overtaken(known, tenure.office.watermark, newest)
        tenure.check()
        await self._announcer.store(facts)

    async def invalid_keys(self, keys: Sequence[tuple[str, int]], tenure: Tenure) -> None:
        """Keys that can be no schedule id have nothing to plan, and no row to show an error in."""
        for key, revision in keys:
            tenure.check()
            await self._announcer.invalid_key(key, revision)

    # --- what changes by itself

    async def spent(self, schedules: Sequence[Known], tenure: Tenure) -> None:
        """These have fired as often as they may: their rows say so. Raises Deposed, Unsure, Unavailable."""
        now = self._clock.now()
        await self._rows.change({known.id: _edit(known, None, now, tenure, now) for known in schedules}, create=False)

    def begin(self, since: datetime) -> None:
        """Forget all turns, they are entered anew; the rows are right as of `since`, or were repeated since then."""
        self._turns, self._turned = Agenda(), since

    def expect_turn(self, known: Known, following: datetime | None) -> None:
        """Remember when the state of a schedule changes next by itself. See `core.arming.turns_at`."""
        at = None if known.in_force is None else turns_at(known.in_force, self._turned, following)
        self._turns.put(at, known.id, known.revision)

    async def turned(self, tenure: Tenure) -> None:
        """Rewrite the rows whose state has changed by itself. Raises Deposed, Unsure, Unavailable."""
        self._turned = now = self._clock.now()
        found = [(self._schedules.get(each), revision) for _, each, revision in self._turns.take_until(now)]
        turning = [known for known, revision in found if known is not None and known.revision == revision]
        for start in range(0, len(turning), ROWS_MAX):
            await self._turn(turning[start : start + ROWS_MAX], now, tenure)

    async def _turn(self, turning: Sequence[Known], now: datetime, tenure: Tenure) -> None:
        before = await self.states(turning)
        over = [known for known in turning if known.in_force and before.get(known.id) is ScheduleState.PAUSED]
        tenure.check()
        await self._announcer.store([resumed(known) for known in over])
        edits = {}
        for known in turning:
            if known.in_force is None:
                continue
            edits[known.id] = _edit(known, next_wanted(known.in_force, now), now, tenure, now)
            self.expect_turn(known, next_wanted(known.in_force, tenure.office.watermark.until))
        await self._rows.change(edits)


def _edit(
    known: Known, next_nominal: datetime | None, now: datetime, tenure: Tenure, since: datetime
) -> Callable[[StatusRow], StatusRow]:
    def edit(row: StatusRow) -> StatusRow:
        tenure.check()
        row = structs.replace(
            row, state=state_of(known.in_force, now, row.fires), error=known.error, next_nominal=next_nominal
        )
        return with_chain(row, applied(row.chain, known.in_force, since), known.in_force)

    return edit


def _next(plan: Arming) -> datetime | None:
    return plan.arms[0].nominal_at if plan.arms else plan.next_nominal
