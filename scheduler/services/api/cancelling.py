"""The use case `execution.cancel`: asked for on the record, seen to at once, and again until it is over."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Raw

from scheduler.core.ending import REQUESTED
from scheduler.core.errors import Conflict
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import Action, Asked, State
from scheduler.ports.clock import Clock
from scheduler.services.api.endpoint import answers
from scheduler.services.api.executions import Executions
from scheduler.services.cancelling import Canceller
from scheduler.wire import api
from scheduler.wire.instants import parse_duration
from scheduler.wire.record import summary_of


class Cancellations:
    """Cancels executions that people name."""

    def __init__(self, *, canceller: Canceller, executions: Executions, clock: Clock) -> None:
        self._canceller, self._executions, self._clock = canceller, executions, clock

    @answers("execution.cancel", api.CancelExecution)
    async def cancel(self, request: api.CancelExecution) -> Raw:
        """The record as it is then: `cancelled`, or still in its worker's hands.

        Raises InvalidArgument, NotFound, Conflict (it has ended otherwise), Unsure, Unavailable.
        """
        asked = self._asked(request.grace)
        self._check_open(await self._get(request.id), request.id)
        await self._canceller.ask([request.id], asked)
        record = await self._get(request.id)
        self._check_open(record, request.id)
        return record

    async def _get(self, execution_id: str) -> Raw:
        return await self._executions.get(api.Id(id=execution_id))

    def _asked(self, grace: str | None) -> Asked:
        now = self._clock.now()
        if grace is None:
            return Asked(Action.CANCEL, now, REQUESTED)
        span = parse_duration(grace, field="grace")
        action = Action.CANCEL if span > timedelta(0) else Action.TERMINATE
        return Asked(action, now, REQUESTED, span.total_seconds())

    def _check_open(self, record: Raw, execution_id: str) -> None:
        summary = summary_of(bytes(record))
        if summary is not None and summary.state in TERMINAL and summary.state is not State.CANCELLED:
            raise Conflict(f"execution {execution_id!r} has ended already: {summary.state}", field="id")
