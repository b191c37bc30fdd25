"""Who is asked to end or has a deadline, and when to look at it: the leader looks, every replica keeps the agenda.

The agenda is fed from the index of executions, so a new leader has it already. It costs what is due, not what exists.
An execution that does not end is looked at again, in growing steps, until its record is terminal: a worker may have
missed a message, a take may have met an outage.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from itertools import islice

from scheduler.core.ending import SENDS_MAX, look_again_after, looked_at, wish_of
from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import TERMINAL, is_terminal
from scheduler.core.model.execution import Execution, State
from scheduler.ports.clock import Clock
from scheduler.ports.telemetry import Telemetry
from scheduler.services.agenda import Agenda
from scheduler.services.cancelling import Canceller
from scheduler.services.executions import ExecutionIndex, Seen
from scheduler.services.leader import Tenure
from scheduler.services.records import Records
from scheduler.services.together import sleep_unless
from scheduler.wire.instants import parse_instant

log = logging.getLogger(__name__)
BATCH = 256
LATER = timedelta(days=1)
LOOK_S = 0.5  # at the longest, so that a clock that was set is noticed


class Deadlines:
    """`note` on every replica; `run` is a duty of the leader."""

    def __init__(
        self, *, index: ExecutionIndex, records: Records, canceller: Canceller, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._index, self._records, self._canceller = index, records, canceller
        self._clock, self._telemetry = clock, telemetry
        self._agenda = Agenda()
        self._looks: dict[str, int] = {}
        self._entered = asyncio.Event()
        index.on_seen = self._note

    def _note(self, seen: Seen) -> None:
        """Of every execution as it was last written."""
        if seen.state in TERMINAL:
            self._agenda.put(None, seen.id, seen.revision)
            self._looks.pop(seen.id, None)
        elif seen.id not in self._looks or seen.state is State.QUEUED:  # else it is looked at again in any case
            self._agenda.put(_first_look(seen), seen.id, seen.revision)
            self._entered.set()

    async def run(self, tenure: Tenure) -> None:
        """Look until the term ends (Deposed) or the task is cancelled. What an earlier term left in its hands is
        entered anew."""
        self._looks.clear()
        for seen in self._index.open_before(self._clock.now() + LATER):
            self._note(seen)
        while True:
            self._entered.clear()
            await self.turn(tenure)
            first = self._agenda.first
            wait_s = LOOK_S if first is None else (first - self._clock.now()).total_seconds()
            await sleep_unless(self._entered, self._clock, min(LOOK_S, max(0.01, wait_s)))

    async def turn(self, tenure: Tenure) -> None:
        """Look at all that is due. Raises Deposed."""
        now = self._clock.now()
        tenure.check()
        while ids := [each for _, each, _ in islice(self._agenda.take_until(now), BATCH)]:
            try:
                await self._look_at(ids, now)
            except ScheddError as problem:
                extra = {"event": "deadlines_delayed", "count": len(ids), "error": problem.message}
                log.warning("executions are looked at a little later", extra=extra)
                for each in ids:
                    self._again(each, now)
            tenure.check()

    async def _look_at(self, ids: list[str], now: datetime) -> None:
        stored = await self._records.get_many(ids)
        for execution_id, each in zip(ids, stored, strict=True):
            if each is None or is_terminal(each.execution):
                self._looks.pop(execution_id, None)
                continue
            if wish_of(each.execution, now) is None:  # it was in time, and may have another deadline
                self._looks.pop(execution_id, None)
                self._enter(each.execution, each.revision)
                continue
            self._again(execution_id, now)
            try:
                await self._canceller.see_to(each.execution)
            except ScheddError as problem:
                extra = {"event": "end_delayed", "execution": execution_id, "error": problem.message}
                log.warning("an execution is ended a little later", extra=extra)

    def _enter(self, execution: Execution, revision: int) -> None:
        asked_at = None if execution.asked is None else execution.asked.at
        at = looked_at(execution.state, start_by=execution.start_by, end_by=execution.end_by, asked_at=asked_at)
        self._agenda.put(at, execution.id, revision)

    def _again(self, execution_id: str, now: datetime) -> None:
        looks = self._looks.get(execution_id, 0)
        self._looks[execution_id] = looks + 1
        if looks >= SENDS_MAX:
            log.error("an execution does not end", extra={"event": "cancel_given_up", "execution": execution_id})
            self._telemetry.dropped(what="cancel", reason="given_up")
            return
        self._agenda.put(now + look_again_after(looks), execution_id, 0)


def _first_look(seen: Seen) -> datetime | None:
    """Of one that runs, its worker is given a little time to see to its own deadline."""
    summary = seen.summary
    return looked_at(
        seen.state,
        start_by=_instant(summary.start_by),
        end_by=_instant(summary.end_by),
        asked_at=None if summary.asked is None else _instant(summary.asked.at),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)
