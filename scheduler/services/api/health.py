"""Use case: is all well? The facts of a whole schedd, gathered at once, and what core makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from msgspec import Struct

from scheduler.core.errors import ScheddError
from scheduler.core.health import Facts, QueueFacts, ReplicaFacts, StoreFacts, Unknown, judge, worst
from scheduler.core.model.execution import State
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueState, TaskQueues
from scheduler.ports.storage import Room, Storage, StoreState
from scheduler.services.api.endpoint import answers
from scheduler.services.api.status import Status
from scheduler.services.executions import ExecutionIndex
from scheduler.wire import api
from scheduler.wire.instants import parse_instant

LATENESS_S = 600.0  # fires that the lateness is told of; no more of them than the index keeps
WAITING = frozenset({State.QUEUED, State.RETRYING})

T = TypeVar("T")


class HealthLimits(Struct, frozen=True):
    """Settings that a replica is judged by."""

    horizon_s: float = 120.0
    clock_skew_max_s: float = 30.0
    max_pending: int = 100_000


class Health:
    """`index` knows the recent executions of all replicas, so any of them may be asked."""

    def __init__(
        self, *, status: Status, index: ExecutionIndex, queues: TaskQueues, storage: Storage, clock: Clock,
        limits: HealthLimits,
    ) -> None:  # fmt: skip
        self._status, self._index, self._queues, self._storage = status, index, queues, storage
        self._clock, self._limits = clock, limits

    @answers("status.health", api.Nothing)
    async def get(self, request: api.Nothing) -> api.HealthReply:
        """Raises Unavailable if not even the status is known; what else is not known is a check of its own."""
        status, queues, stores, room = await asyncio.gather(
            self._status.get(request),
            _known(self._queues.queues()),
            _known(self._storage.stores()),
            _known(self._storage.room()),
        )
        checks = judge(self._facts(status, queues, stores, room))
        told = [
            api.HealthCheck(name=each.name, of=each.of, level=each.level.value, told=each.told, advice=each.advice)
            for each in checks
        ]
        return api.HealthReply(level=worst(checks).value, checks=told)

    def _facts(
        self, status: api.StatusReply, queues: list[QueueState] | Unknown, stores: Sequence[StoreState] | Unknown,
        room: Room | Unknown,
    ) -> Facts:  # fmt: skip
        until, now = status.planned_until, self._clock.now()
        return Facts(
            leader=None if status.leader is None else f"{status.leader.replica}, epoch {status.leader.epoch}",
            replicas=[ReplicaFacts(each.replica, each.version) for each in status.replicas],
            ahead_s=None if until is None else (parse_instant(until) - now).total_seconds(),
            horizon_s=self._limits.horizon_s,
            lateness_s=list(self._lateness()),
            lateness_window_s=LATENESS_S,
            active=status.schedules.active,
            paused=status.schedules.paused,
            invalid=status.schedules.invalid,
            skew_s=status.clock_skew_s,
            skew_max_s=self._limits.clock_skew_max_s,
            queues=queues if isinstance(queues, Unknown) else self._queue_facts(queues),
            stores=stores if isinstance(stores, Unknown) else [_store(each) for each in stores],
            room=room if isinstance(room, Unknown) else (room.used, room.limit),
        )

    def _lateness(self) -> Iterator[float]:
        since = self._clock.now() - timedelta(seconds=LATENESS_S)
        for seen in self._index.recent():  # newest write first
            if seen.at < since:
                return
            if seen.summary.lateness_s is not None:
                yield seen.summary.lateness_s

    def _queue_facts(self, queues: list[QueueState]) -> list[QueueFacts]:
        """The oldest waiting task is the record that has been queued longest; a hint, as the index is."""
        now = self._clock.now()
        oldest: dict[str, float] = {}
        for seen in self._index.open_before(now):  # longest untouched first
            if seen.state in WAITING:
                oldest.setdefault(seen.summary.queue, (now - seen.at).total_seconds())
        return [
            QueueFacts(
                queue=each.queue,
                pending=each.pending,
                ack_pending=each.ack_pending,
                pending_max=each.settings.max_pending or self._limits.max_pending,
                oldest_s=oldest.get(each.queue),
                paused=each.settings.pause is not None and not each.settings.pause.is_over(now),
            )
            for each in sorted(queues, key=lambda each: each.queue)
        ]


def _store(state: StoreState) -> StoreFacts:
    return StoreFacts(
        name=state.name,
        messages=state.messages,
        size=state.size,
        fill=state.fill,
        copies=state.copies,
        copies_wanted=state.copies_wanted,
    )


async def _known(asked: Awaitable[T]) -> T | Unknown:
    try:
        return await asked
    except ScheddError as problem:
        return Unknown(problem.message)
