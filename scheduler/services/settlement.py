"""What follows a terminal record: the slot is freed, the row remembers the outcome, an event tells the world.

A run of a schedule that takes slots frees its own at once. The rest of the row follows lazily, at most once a second
per schedule, because 200 fires a second must not mean 200 writes to one row. What could not be written is kept and
written later; the slots of a schedule that takes none any more (edited, or one manual run did) are freed that way too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from msgspec import Struct, structs

from scheduler.core.errors import ScheddError
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.core.model.status import StatusRow
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events
from scheduler.ports.telemetry import Telemetry
from scheduler.services.chains import Chains
from scheduler.services.rows import Edit
from scheduler.services.slots import SlotKeeper, outcome_of
from scheduler.wire.alerts import FINISHED, finished_data, finished_id

log = logging.getLogger(__name__)
FLUSH_EVERY_S = 1.0
FLUSH_BATCH = 1000  # rows
PENDING_MAX = 100_000  # schedules whose rows have to follow
ENDED_MAX = 1000  # runs per schedule, as many as may hold slots


class _Lazy(Struct):
    """What a row does not know yet."""

    last_outcome: str | None = None
    previous_at: datetime | None = None
    fires: int = 0
    ended: dict[str, int] = {}
    """By id, up to which drive."""

    def add(self, other: _Lazy) -> None:
        """Take in what happened after this."""
        previous = [at for at in (self.previous_at, other.previous_at) if at is not None]
        self.last_outcome = other.last_outcome or self.last_outcome
        self.previous_at = max(previous, default=None)
        self.fires += other.fires
        self.ended.update(islice(other.ended.items(), max(0, ENDED_MAX - len(self.ended))))


Following = Callable[[str, datetime], datetime | None]


class Settlement:
    """`holds_slot(schedule id)` tells whether runs of a schedule take slots now (unknown counts as yes);
    `next_nominal(schedule id, after)` what comes next, for the row of one that has fired."""

    def __init__(
        self,
        slots: SlotKeeper,
        events: Events,
        clock: Clock,
        holds_slot: Callable[[str], bool],
        telemetry: Telemetry,
        next_nominal: Following | None = None,
        chains: Chains | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._slots, self._events, self._clock = slots, events, clock
        self._holds_slot, self._telemetry, self._next_nominal = holds_slot, telemetry, next_nominal
        self._chains, self._checkpoints = chains, checkpoints or NoCheckpoints()
        self._lazy: dict[str, _Lazy] = {}

    async def settle(self, ended: Sequence[Execution]) -> None:
        """Called after the write that made these terminal. Raises nothing: what fails is the reconciler's to repair, as
        is an event that dies with this process."""
        if ended:
            await self._checkpoints.reached("settle.recorded")
        holding = [each for each in ended if _may_hold_slot(each)]
        try:
            await self._slots.release([each for each in holding if self._holds_slot(each.schedule)])
        except ScheddError as problem:
            log.warning("slots not freed yet", extra={"event": "slot_release_failed", "error": problem.message})
        for execution in holding:
            self._note(
                execution.schedule, _Lazy(last_outcome=outcome_of(execution), ended={execution.id: execution.drive})
            )
        await self.follow(ended)
        for execution in ended:
            data, event_id = finished_data(execution), finished_id(execution.id, execution.drive)
            await self._events.publish(FINISHED, execution.schedule, data, event_id=event_id)

    async def follow(self, ended: Sequence[Execution]) -> None:
        """Chains go on from these ends; harmless for those that have. Raises nothing."""
        if self._chains is not None:
            await self._chains.follow(ended)

    def fired(self, executions: Sequence[Execution]) -> None:
        """Remember, for the rows, that these were queued. `fires` counts what fired by itself (where there is a
        `max_fires`, that is counted with the slot); a backfill is no news of when the schedule fired last."""
        for each in executions:
            if each.kind is not Kind.BACKFILL:
                counts = each.kind is Kind.AUTO and self._slots.terms_of(each.schedule).max_fires is None
                self._note(each.schedule, _Lazy(previous_at=each.nominal_at, fires=int(counts)))

    def _note(self, schedule_id: str, news: _Lazy) -> None:
        if schedule_id in self._lazy or len(self._lazy) < PENDING_MAX:
            self._lazy.setdefault(schedule_id, _Lazy()).add(news)
        else:
            self._telemetry.dropped(what="status_row", reason="pending_full")

    async def run(self) -> None:
        """Write what is lazy once a second; cancelled, end what is being written and write the rest."""
        try:
            while True:
                await self._clock.sleep(FLUSH_EVERY_S)
                await _finished(self.flush())
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what the rows do not know yet; what cannot be written now stays. Raises nothing."""
        if self._chains is not None:
            await self._chains.flush()
        lazy, self._lazy = self._lazy, {}
        ids = list(lazy)
        for start in range(0, len(ids), FLUSH_BATCH):
            batch = {schedule_id: lazy[schedule_id] for schedule_id in ids[start : start + FLUSH_BATCH]}
            await self._write(batch)

    async def _write(self, batch: dict[str, _Lazy]) -> None:
        edits = {schedule_id: self._edit_of(schedule_id, each) for schedule_id, each in batch.items()}
        ended = {schedule_id: each.ended for schedule_id, each in batch.items()}
        results = await self._slots.free(ended, edits, create=False)
        failed = {schedule_id: result for schedule_id, result in results.items() if isinstance(result, ScheddError)}
        for schedule_id in failed:
            since, self._lazy[schedule_id] = self._lazy.get(schedule_id, _Lazy()), batch[schedule_id]
            batch[schedule_id].add(since)
        for problem in list(failed.values())[:1]:
            extra = {"event": "rows_not_written", "rows": len(failed), "error": problem.message}
            log.warning("status rows not written yet", extra=extra)

    def _edit_of(self, schedule_id: str, lazy: _Lazy) -> Edit:
        def edit(row: StatusRow) -> StatusRow:
            previous = max((at for at in (row.previous_at, lazy.previous_at) if at is not None), default=None)
            following = row.next_nominal
            if (
                row.chain is None
                and lazy.previous_at is not None
                and previous is not None
                and self._next_nominal is not None
            ):
                following = self._next_nominal(schedule_id, previous)
            return structs.replace(
                row,
                last_outcome=lazy.last_outcome or row.last_outcome,
                previous_at=previous,
                next_nominal=following,
                fires=row.fires + lazy.fires,
            )

        return edit


async def _finished(coroutine: Coroutine[Any, Any, None]) -> None:
    """Wait until it is done, even when cancelled meanwhile."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.shield(task)
    finally:
        await task


def _may_hold_slot(execution: Execution) -> bool:
    has_waited = any(each.state is State.WAITING for each in execution.history)
    return has_waited or outcome_of(execution) is not None
