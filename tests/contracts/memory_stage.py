"""Where a contract suite plays on the memory twins, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any

from scheduler.memory.acting import MemoryActions
from scheduler.memory.cancelling import MemoryCancels
from scheduler.memory.clock import VirtualClock
from scheduler.memory.consumers import MemoryConsumer
from scheduler.memory.event_feed import MemoryEventFeed
from scheduler.memory.events import MemoryEvents
from scheduler.memory.logs import MemoryLogs
from scheduler.memory.messages import Limits, Write
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.reports import MemoryReports
from scheduler.memory.server import MemoryServer
from scheduler.memory.signals import MemorySignals
from scheduler.memory.storage import MemoryStorage
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.actions import Actions
from scheduler.ports.feeds import EventFeed
from scheduler.ports.logs import Logs
from scheduler.ports.queues import Cancels, Events, Reports, Signals, TaskQueues
from scheduler.ports.storage import Storage
from scheduler.ports.timeline import Timeline
from scheduler.wire.reports import Cancel, encode
from tests.contracts.stages import T, Task, Worker

_STEP_S = 0.05


class MemoryStage:
    """Virtual time: a suite of minutes takes milliseconds."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.names = self.server.names
        self.dropped: list[str] = []
        self.timeline: Timeline = MemoryTimeline(self.server)
        self.queues: TaskQueues = MemoryTaskQueues(self.server)
        self.reports: Reports = MemoryReports(self.server)
        self.signals: Signals = MemorySignals(self.server)
        self.cancels: Cancels = MemoryCancels(self.server)
        self._actions = MemoryActions(self.server)
        self.actions: Actions = self._actions
        self.events: Events = MemoryEvents(self.server, dropped=self.dropped.append)
        self.logs: Logs = MemoryLogs(self.server)
        self.storage: Storage = MemoryStorage(self.server)
        self.feed: EventFeed = MemoryEventFeed(self.server)

    def now(self) -> datetime:
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        await self.clock.settle()
        while not task.done():
            await self.clock.advance(_STEP_S)
        return task.result()

    async def put(self, subject: str, body: bytes) -> None:
        word = subject.split(".")[1]
        streams = {"due": self.server.timeline, "report": self.server.reports, "event": self.server.events,
                   "log": self.server.logs}  # fmt: skip
        streams.get(word, self.server.advisories).store([Write(subject, body)])

    async def listen(self, queue: str) -> list[tuple[str, bytes]]:
        heard: list[tuple[str, bytes]] = []

        def hear(of: str, execution_id: str, cancel: Cancel) -> None:
            if of == queue:
                heard.append((self.names.cancel(of, execution_id), encode(cancel)))

        self.server.on_cancel = hear
        return heard

    async def offer(self, schedule_id: str, action: str, listener: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._actions.listeners[schedule_id, action] = listener

    async def stored(self, subject: str) -> list[bytes]:
        return [message.data for message in self.server.events.messages.values() if message.subject == subject]

    async def lose_readers(self) -> None:
        """The twin reads without one."""

    async def worker(self, queue: str) -> Worker:
        return MemoryWorker(self.server.queue(queue))

    async def set_limits(self, queue: str | None, *, ack_wait_s: float, max_deliver: int = 0) -> None:
        consumer = self.server.due if queue is None else self.server.queue(queue)
        consumer.limits = Limits(ack_wait_s=ack_wait_s, max_deliver=max_deliver)

    def lose_ack_next(self) -> None:
        self.server.lose_ack_next()

    def land_late(self) -> None:
        self.server.land_late()

    async def land(self) -> None:
        await self.clock.advance(1.0)

    async def cut_off(self) -> None:
        self.server.down = True


class MemoryWorker:
    """Works on a queue of the memory server."""

    def __init__(self, consumer: MemoryConsumer) -> None:
        self._consumer = consumer

    async def pull(self, batch: int, expires_s: float) -> list[Task]:
        found = await self._consumer.pull(batch, expires_s)
        return [
            Task(each.message.subject, each.message.data, each.message.headers, each.message.seq, each.delivered, token)
            for each in found
            for token in (each.token,)
        ]

    async def ack(self, token: str) -> None:
        self._consumer.ack(token)

    async def nak(self, token: str, delay_s: float) -> None:
        self._consumer.nak(token, delay_s)

    async def term(self, token: str, reason: str) -> None:
        self._consumer.term(token, reason)
