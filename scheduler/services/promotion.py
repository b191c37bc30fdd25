"""Who waited and whose turn has come: launched from the stored record, by the launcher's own steps.

The slot is theirs already, by the write that freed it (`services.slots`). What cannot be launched now is left to the
reconciler, which finds a record that waits beside a row that says that it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from scheduler.core.errors import Conflict, ScheddError
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Manual, Schedule
from scheduler.core.triggers import compile_trigger
from scheduler.ports.telemetry import Telemetry
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate
from scheduler.services.records import Records
from scheduler.services.schedules import ScheduleCache

log = logging.getLogger(__name__)
BATCH = 256
ROUNDS_MAX = 3  # who put it into the buffer may be about to write that into its record
PENDING_MAX = 10_000


class Promoter:
    """Launches what comes out of buffers. While it is at it, what comes meanwhile is appended: the end of one that was
    promoted may promote another."""

    def __init__(self, records: Records, schedules: ScheduleCache, launcher: Launcher, telemetry: Telemetry) -> None:
        self._records, self._schedules = records, schedules
        self._launcher, self._telemetry = launcher, telemetry
        self._pending: dict[str, None] = {}
        self._is_busy = False

    async def promote(self, execution_ids: Sequence[str]) -> None:
        """Launch these. Raises nothing."""
        for each in execution_ids:
            if len(self._pending) < PENDING_MAX:
                self._pending[each] = None
            else:
                self._telemetry.dropped(what="promotion", reason="pending_full")
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._pending:
                ids = list(self._pending)[:BATCH]
                for each in ids:
                    del self._pending[each]
                await self._launch_soon(ids)
        finally:
            self._is_busy = False

    async def _launch_soon(self, ids: list[str]) -> None:
        problem: ScheddError | None = None
        for _ in range(ROUNDS_MAX):
            try:
                failed = await self.launch(ids)
            except ScheddError as error:
                problem = error
                break
            ids, problem = list(failed), next(iter(failed.values()), None)
            if not ids:
                return
        for _ in ids:
            self._telemetry.dropped(what="promotion", reason="delayed")
        extra = {"event": "promotion_delayed", "ids": ids[:10], "error": problem and problem.message}
        log.warning("whose turn has come is launched by the next round of repairs", extra=extra)

    async def launch(self, execution_ids: Sequence[str]) -> dict[str, ScheddError]:
        """Launch these, which are claimed or wait; those that it did not work for, and why. What waits of a schedule
        that is gone is not launched any more. Raises Unsure, Unavailable."""
        stored = await self._records.get_many(execution_ids)
        found = [each.execution for each in stored if each is not None]
        gone = [each for each in found if each.state is State.WAITING and self._is_gone(each)]
        for each in gone:
            await self._launcher.withdraw([each.id], State.CANCELLED, self._absent_reason(each))
        left = [each for each in found if each not in gone or each.promoted_at is not None]
        results = await self._launcher.launch([candidate_of(self._schedules, each) for each in left])
        return {
            each.id: result
            for each, result in zip(left, results, strict=True)
            if isinstance(result, ScheddError) and not isinstance(result, Conflict)
        }

    def _is_gone(self, execution: Execution) -> bool:
        if execution.drive:  # retried: somebody wants it, schedule or no schedule
            return False
        known = self._schedules.get(execution.schedule)
        return known is None or known.in_force is None

    def _absent_reason(self, execution: Execution) -> str:
        known = self._schedules.get(execution.schedule)
        return "deleted" if known is None else known.absent_reason


def candidate_of(schedules: ScheduleCache, execution: Execution) -> Candidate:
    """A candidate from a stored record, with the definition in force. Where there is none any more the record alone
    says what to run: it was claimed while the schedule was there, and a repair never takes a claim back."""
    has_waited = execution.state is State.WAITING
    known = schedules.get(execution.schedule)
    if known is not None and known.in_force is not None:
        return Candidate(execution, known.in_force.definition.schedule, known.in_force.trigger, has_waited)
    schedule = Schedule(id=execution.schedule, queue=execution.queue, type=execution.type, trigger=Manual())
    return Candidate(execution, schedule, compile_trigger(schedule), has_waited)
