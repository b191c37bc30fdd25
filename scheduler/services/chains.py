"""Chains in their status rows: the occurrence that is to come is started, and followed by the next. On every replica.

Each step is one compare-and-set of the row (core/chain). A step that could not be written is kept and tried again with
the lazy part of the rows; what a crash left undone, the reconciler finds.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from scheduler.core.chain import followed, given_up, is_chained, started, with_chain
from scheduler.core.dispatching import InForce
from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Execution, Kind
from scheduler.core.model.status import Chain, StatusRow
from scheduler.ports.clock import Clock
from scheduler.ports.telemetry import Telemetry
from scheduler.services.rows import Edit, StatusRows
from scheduler.services.schedules import ScheduleCache

log = logging.getLogger(__name__)
BEHIND_MAX = 10_000  # ends whose rows could not be written yet

Move = Callable[[Chain | None], Chain | None]


class Chains:
    """Moves chains on, whoever leads."""

    def __init__(self, rows: StatusRows, schedules: ScheduleCache, clock: Clock, telemetry: Telemetry) -> None:
        self._rows, self._schedules, self._clock, self._telemetry = rows, schedules, clock, telemetry
        self._behind: dict[str, Execution] = {}

    def may_hold(self, schedule_id: str) -> bool:
        """Whether the schedule is a chain; of one that is deleted or invalid now it may have been."""
        known = self._schedules.get(schedule_id)
        return known is None or known.in_force is None or is_chained(known.in_force)

    async def start(self, executions: Sequence[Execution]) -> dict[str, bool | ScheddError]:
        """By execution id, whether it is the one that its chain waits for; it is marked as started then."""
        found: dict[str, bool | ScheddError] = {}
        now = self._clock.now()

        def edit_for(mine: Sequence[Execution]) -> Edit:
            def edit(row: StatusRow) -> StatusRow:
                for each in mine:
                    chain = started(row.chain, each.nominal_at, now)
                    found[each.id] = chain is not None
                    row = row if chain is None else with_chain(row, chain)
                return row

            return edit

        by_schedule = _by_schedule(executions)
        edits = {schedule_id: edit_for(mine) for schedule_id, mine in by_schedule.items()}
        for schedule_id, row in (await self._rows.try_change(edits, create=False)).items():
            if isinstance(row, ScheddError):
                found |= {each.id: row for each in by_schedule[schedule_id]}
        return found

    async def follow(self, ended: Iterable[Execution]) -> None:
        """Called with executions that are terminal, more than once if need be. Raises nothing: see `flush`."""
        mine = [each for each in ended if each.kind is Kind.AUTO and self.may_hold(each.schedule)]
        if not mine:
            return
        by_schedule = _by_schedule(mine)
        moves = {schedule_id: self._following(schedule_id, group) for schedule_id, group in by_schedule.items()}
        for schedule_id, row in (await self._move(moves)).items():
            if isinstance(row, ScheddError):
                self._keep(by_schedule[schedule_id], row)

    def _following(self, schedule_id: str, ended: Sequence[Execution]) -> Move:
        def move(chain: Chain | None) -> Chain | None:
            for each in ended:
                chain = followed(chain, each, self._in_force(schedule_id))
            return chain

        return move

    async def give_up(self, schedule_id: str, nominal: datetime) -> None:
        """The run that the chain waits for has no record any more. Raises Unsure, Unavailable."""
        now = self._clock.now()
        move: Move = lambda chain: given_up(chain, nominal, now, self._in_force(schedule_id))  # noqa: E731
        for row in (await self._move({schedule_id: move})).values():
            if isinstance(row, ScheddError):
                raise row

    async def flush(self) -> None:
        """Try again what could not be written."""
        behind, self._behind = self._behind, {}
        await self.follow(behind.values())

    async def _move(self, moves: dict[str, Move]) -> dict[str, StatusRow | ScheddError]:
        def edit_for(schedule_id: str, move: Move) -> Edit:
            return lambda row: with_chain(row, move(row.chain), self._in_force(schedule_id))

        edits = {schedule_id: edit_for(schedule_id, move) for schedule_id, move in moves.items()}
        return await self._rows.try_change(edits, create=False)

    def _in_force(self, schedule_id: str) -> InForce | None:
        known = self._schedules.get(schedule_id)
        return None if known is None else known.in_force

    def _keep(self, ended: Sequence[Execution], problem: ScheddError) -> None:
        log.warning("a chain cannot go on yet", extra={"event": "chain_waits", "error": problem.message})
        for each in ended:
            if len(self._behind) < BEHIND_MAX:
                self._behind[each.id] = each
            else:
                self._telemetry.dropped(what="chain", reason="behind_full")


def _by_schedule(executions: Iterable[Execution]) -> dict[str, list[Execution]]:
    by_schedule: dict[str, list[Execution]] = defaultdict(list)
    for each in sorted(executions, key=lambda each: each.nominal_at):
        by_schedule[each.schedule].append(each)
    return by_schedule
