"""What every replica looks at now and then: how full queues and streams are, and how the schedules stand."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from scheduler.core.arming import state_of
from scheduler.core.errors import ScheddError
from scheduler.core.model.schedule import At, Schedule
from scheduler.core.model.status import ScheduleState
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueState, TaskQueues
from scheduler.ports.storage import Storage
from scheduler.ports.telemetry import Telemetry
from scheduler.services.schedules import Known, ScheduleCache

log = logging.getLogger(__name__)
EVERY_S = 5.0
STORAGE_EVERY_S = 30.0  # a dozen requests each time
ALARM_SHARE = 0.7


class QueueWatch:
    """Knows, as of a few seconds ago, how the queues stand. `max_pending`: of queues that have none of their own.

    `on_gone` is told when a queue that was there is not any more: whoever believes in its consumer looks again.
    """

    def __init__(self, queues: TaskQueues, clock: Clock, telemetry: Telemetry, *, max_pending: int) -> None:
        self._queues, self._clock, self._telemetry = queues, clock, telemetry
        self._max_pending = max_pending
        self._states: dict[str, QueueState] = {}
        self._alarmed: set[str] = set()
        self.on_gone: Callable[[], None] = lambda: None  # set where everything is wired

    def is_full(self, queue: str) -> bool:
        """Whether it holds `max_pending` tasks that nobody was given, or more; a paused one fills up like any other."""
        state = self._states.get(queue)
        return state is not None and state.pending >= self._limit(state)

    def ack_wait_s(self, queue: str) -> float | None:
        """None where there is no such queue yet."""
        state = self._states.get(queue)
        return None if state is None else state.ack_wait_s

    def _limit(self, state: QueueState) -> int:
        return state.settings.max_pending or self._max_pending

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except ScheddError as problem:
                log.debug("queues unknown", extra={"event": "queues_unknown", "error": problem.message})
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        states = await self._queues.queues()
        before, self._states = self._states, {each.queue: each for each in states}
        for queue in before.keys() - self._states.keys():
            self._telemetry.queue_gone(queue=queue)
        if before.keys() - self._states.keys():
            self.on_gone()
        self._alarm(states)
        for each, since in zip(states, await self._queues.waiting_since(states), strict=True):
            self._telemetry.queue(
                queue=each.queue,
                pending=each.pending,
                ack_pending=each.ack_pending,
                paused=each.settings.pause is not None,
                oldest_s=0.0 if since is None else max(0.0, (self._clock.now() - since).total_seconds()),
            )

    def _alarm(self, states: Sequence[QueueState]) -> None:
        """Once when a queue comes near its limit, and again after it was below."""
        near = {each.queue: each for each in states if each.pending >= ALARM_SHARE * self._limit(each)}
        for queue in sorted(near.keys() - self._alarmed):
            state = near[queue]
            extra = {"event": "queue_filling", "queue": queue, "pending": state.pending, "max": self._limit(state)}
            log.warning("a queue is filling up: at max_pending occurrences are skipped", extra=extra)
        self._alarmed = set(near)


class StorageWatch:
    """Tells the metrics how full the streams and the account's storage are, and the log when that becomes dangerous.

    A full stream refuses writes: records and tasks first (`discard: new`), and everything where the account is full.
    """

    def __init__(self, storage: Storage, clock: Clock, telemetry: Telemetry) -> None:
        self._storage, self._clock, self._telemetry = storage, clock, telemetry
        self._alarmed: set[str] = set()

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except ScheddError as problem:
                log.debug("storage unknown", extra={"event": "storage_unknown", "error": problem.message})
            await self._clock.sleep(STORAGE_EVERY_S)

    async def look(self) -> None:
        stores, room = await self._storage.stores(), await self._storage.room()
        for each in stores:
            self._telemetry.stream(stream=each.name, size=each.size, fill=each.fill)
        self._telemetry.storage(fill=room.fill)
        self._alarm({"the account's storage": room.fill, **{each.name: each.fill or 0.0 for each in stores}})

    def _alarm(self, fills: Mapping[str, float]) -> None:
        """Once when something is filled to 70 %, and again after it was below."""
        near = {name for name, fill in fills.items() if fill >= ALARM_SHARE}
        for name in sorted(near - self._alarmed):
            extra = {"event": "storage_filling", "what": name, "percent": round(fills[name] * 100)}
            log.warning("storage is filling up: what is full refuses writes", extra=extra)
        self._alarmed = near


class Census:
    """Counts the schedules by state for the metrics; asking keeps an idle replica's cache in touch with the bucket."""

    def __init__(self, schedules: ScheduleCache, clock: Clock, telemetry: Telemetry) -> None:
        self._schedules, self._clock, self._telemetry = schedules, clock, telemetry

    async def run(self) -> None:
        while True:
            with contextlib.suppress(ScheddError):  # what was known before counts then
                await self._schedules.fresh()
            self._telemetry.schedules(self.counts())
            await self._clock.sleep(EVERY_S)

    def counts(self) -> dict[str, int]:
        """Number of schedules per state; keys that are no schedule ids count as invalid."""
        now = self._clock.now()
        counts = dict.fromkeys((state.value for state in ScheduleState), 0)
        counts[ScheduleState.INVALID] += len(self._schedules.invalid_keys)
        for known in self._schedules:
            if not known.deleted:
                counts[_state_of(known, now)] += 1
        return counts


def _state_of(known: Known, now: datetime) -> ScheduleState:
    """As `state_of`, but a cron or interval counts as going on until its `ends_at`: asking each trigger would take
    seconds, and each row (`max_fires`) longer."""
    if known.in_force is not None and not _may_be_over(known.in_force.definition.schedule, now):
        return ScheduleState.PAUSED if known.in_force.definition.schedule.is_paused_at(now) else ScheduleState.ACTIVE
    return state_of(known.in_force, now)


def _may_be_over(schedule: Schedule, now: datetime) -> bool:
    return isinstance(schedule.trigger, At) or (schedule.ends_at is not None and schedule.ends_at <= now)
