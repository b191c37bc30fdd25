"""What follows a terminal record: the slot is freed, the row remembers the outcome, an event tells the world.

Schedules that take no slot (`allow` without a limit) have nothing to free; their rows follow lazily, at most once a
second per schedule, because 200 fires a second must not mean 200 writes to one row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import Struct, structs

from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import NEVER_QUEUED
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import StatusRow
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events
from scheduler.services.rows import StatusRows
from scheduler.services.slots import SlotKeeper
from scheduler.wire.instants import format_instant

log = logging.getLogger(__name__)
FLUSH_EVERY_S = 1.0
PENDING_MAX = 100_000


class _Lazy(Struct):
    last_outcome: str | None = None
    previous_at: datetime | None = None
    fires: int = 0


class Settlement:
    """`holds_slot(schedule id)` tells whether runs of a schedule take slots now (unknown counts as yes)."""

    def __init__(
        self, rows: StatusRows, slots: SlotKeeper, events: Events, clock: Clock, holds_slot: Callable[[str], bool]
    ) -> None:
        self._rows, self._slots, self._events, self._clock = rows, slots, events, clock
        self._holds_slot = holds_slot
        self._lazy: dict[str, _Lazy] = {}

    async def settle(self, ended: Sequence[Execution]) -> None:
        """Called after the write that made these terminal. Raises nothing: what fails is the reconciler's to repair."""
        if not ended:
            return
        holding = [each for each in ended if each.state not in NEVER_QUEUED and self._holds_slot(each.schedule)]
        try:
            await self._slots.release(holding)
        except ScheddError as problem:
            log.warning("slots not freed yet", extra={"event": "slot_release_failed", "error": problem.message})
        for execution in ended:
            if execution.state not in NEVER_QUEUED:  # a skip says nothing about how the work goes
                self._lazy_of(execution.schedule).last_outcome = execution.state.value
            await self._events.publish("finished", execution.schedule, _finished_data(execution))

    def fired(self, executions: Sequence[Execution]) -> None:
        """Remember, for the rows, that these were queued."""
        for execution in executions:
            lazy = self._lazy_of(execution.schedule)
            lazy.fires += 1
            lazy.previous_at = max(execution.nominal_at, lazy.previous_at or execution.nominal_at)

    def _lazy_of(self, schedule_id: str) -> _Lazy:
        if len(self._lazy) >= PENDING_MAX and schedule_id not in self._lazy:
            return _Lazy()
        return self._lazy.setdefault(schedule_id, _Lazy())

    async def run(self) -> None:
        """Write what is lazy once a second, and once more at the end."""
        try:
            while True:
                await self._clock.sleep(FLUSH_EVERY_S)
                await self.flush()
        except asyncio.CancelledError:
            await self.flush()
            raise

    async def flush(self) -> None:
        lazy, self._lazy = self._lazy, {}
        try:
            await self._rows.change({schedule_id: _edit_of(each) for schedule_id, each in lazy.items()})
        except ScheddError as problem:
            log.warning("status rows not written", extra={"event": "rows_not_written", "error": problem.message})


def _edit_of(lazy: _Lazy) -> Callable[[StatusRow], StatusRow]:
    def edit(row: StatusRow) -> StatusRow:
        previous = [at for at in (row.previous_at, lazy.previous_at) if at is not None]
        return structs.replace(
            row,
            last_outcome=lazy.last_outcome or row.last_outcome,
            previous_at=max(previous, default=None),
            fires=row.fires + lazy.fires,
        )

    return edit


def _finished_data(execution: Execution) -> dict[str, object]:
    return {
        "execution_id": execution.id,
        "state": execution.state.value,
        "reason": execution.reason,
        "attempt": execution.attempt,
        "queue": execution.queue,
        "nominal_at": format_instant(execution.nominal_at),
    }
