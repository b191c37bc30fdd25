"""Where a contract suite plays: one stage on the memory twins, one on a real nats-server, the same words on both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg

from scheduler.core.model.occurrence import Occurrence
from scheduler.jetstream.acting import NatsActions
from scheduler.jetstream.cancelling import NatsCancels
from scheduler.jetstream.delivery import answer, read_reply
from scheduler.jetstream.event_feed import NatsEventFeed
from scheduler.jetstream.events import NatsEvents
from scheduler.jetstream.logs import NatsLogs
from scheduler.jetstream.provisioning import provision
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.queues import NatsTaskQueues
from scheduler.jetstream.reports import NatsReports
from scheduler.jetstream.requests import Message, Requests
from scheduler.jetstream.signals import NatsSignals
from scheduler.jetstream.storage import NatsStorage
from scheduler.jetstream.timeline import NatsTimeline, nak_body
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
from scheduler.system.clock import SystemClock
from scheduler.wire import headers as h
from scheduler.wire.instants import cut
from scheduler.wire.names import DISPATCHER, Names
from scheduler.wire.reports import Cancel, encode

T = TypeVar("T")
TIMEOUT_S = 0.6  # after which a request on the NATS stage is Unsure
_STEP_S = 0.05


class Task(NamedTuple):
    """What a worker pulled."""

    subject: str
    body: bytes
    headers: dict[str, str]
    seq: int
    delivered: int
    token: str


class Worker(Protocol):
    """A plain worker on one queue."""

    async def pull(self, batch: int, expires_s: float) -> list[Task]: ...
    async def ack(self, token: str) -> None: ...
    async def nak(self, token: str, delay_s: float) -> None: ...
    async def term(self, token: str, reason: str) -> None: ...


class Stage(Protocol):
    """The ports under test and what a suite needs around them."""

    names: Names
    timeline: Timeline
    queues: TaskQueues
    reports: Reports
    signals: Signals
    cancels: Cancels
    actions: Actions
    events: Events
    logs: Logs
    storage: Storage
    feed: EventFeed
    dropped: list[str]

    def now(self) -> datetime: ...
    async def sleep(self, seconds: float) -> None: ...
    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that waits for time to pass."""

    async def put(self, subject: str, body: bytes) -> None:
        """Publish as anybody might."""

    async def listen(self, queue: str) -> list[tuple[str, bytes]]:
        """From now on (subject, body) of every cancel message for a queue, as its workers get them."""

    async def offer(self, schedule_id: str, action: str, listener: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Listen for an action as a worker does."""

    async def stored(self, subject: str) -> list[bytes]:
        """Bodies of the events stream under a subject."""

    async def lose_readers(self) -> None:
        """Somebody deletes every consumer of the events stream."""

    async def worker(self, queue: str) -> Worker: ...
    async def set_limits(self, queue: str | None, *, ack_wait_s: float, max_deliver: int = 0) -> None:
        """Of a task queue's consumer; None: of the due consumer."""

    def lose_ack_next(self) -> None: ...
    def land_late(self) -> None: ...
    async def land(self) -> None:
        """What was to land late arrives."""

    async def cut_off(self) -> None:
        """From here on nothing reaches the server."""


# --- memory


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


# --- NATS


class FaultyRequests(Requests):
    """Loses the acknowledgement of the next commit (or claim of an attempt), or holds it back."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, timeout_s=TIMEOUT_S)
        self.faults: list[str] = []
        self._held: list[tuple[str, bytes, dict[str, str]]] = []

    async def send(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> asyncio.Future[Msg]:
        is_meant = headers is not None and (h.BATCH_COMMIT in headers or subject.endswith(".started"))
        if headers is None or not is_meant or not self.faults:
            return await super().send(subject, payload, headers)
        if self.faults.pop(0) == "late":
            self._held.append((subject, payload, headers))
        else:
            await self.client.publish(subject, payload, reply="_INBOX.nobody", headers=headers)
        return asyncio.get_running_loop().create_future()

    async def land(self) -> None:
        for subject, payload, headers in self._held:
            await super().call(subject, payload, headers)
        self._held.clear()


class NatsStage:
    """A namespace of its own on a real server."""

    def __init__(self, client: Client, names: Names) -> None:
        self.client = client
        self.names = names
        self.clock = SystemClock()
        self.requests = FaultyRequests(client)
        self.dropped: list[str] = []
        self._timeline = NatsTimeline(self.requests, client, names)
        self._reports = NatsReports(self.requests, client, names)
        self._signals = NatsSignals(client, names)
        self._events = NatsEvents(self.requests, names, self.clock, dropped=self.dropped.append)
        self.timeline: Timeline = self._timeline
        self.queues: TaskQueues = NatsTaskQueues(self.requests, names, self.clock)
        self.reports: Reports = self._reports
        self.signals: Signals = self._signals
        self.cancels: Cancels = NatsCancels(client, names)
        self.actions: Actions = NatsActions(client, names)
        self.events: Events = self._events
        self.logs: Logs = NatsLogs(self.requests, names)
        self.storage: Storage = NatsStorage(self.requests, names)
        self.feed: EventFeed = NatsEventFeed(self.requests, names)
        self._pullers: list[Puller] = []

    async def open(self) -> None:
        await self.requests.open()
        await provision(self.requests, self.names)
        for part in (self._timeline, self._reports, self._signals, self._events):
            await part.open()

    async def close(self) -> None:
        for part in (self._timeline, self._reports, self._signals):
            await part.close()
        await self._events.close(0.0)
        await self.feed.close()
        for puller in self._pullers:
            await puller.close()
        await self.requests.close()

    def now(self) -> datetime:
        return cut(datetime.now(UTC))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    async def put(self, subject: str, body: bytes) -> None:
        await self.requests.publish(Message(subject, body))

    async def listen(self, queue: str) -> list[tuple[str, bytes]]:
        heard: list[tuple[str, bytes]] = []

        async def hear(message: Msg) -> None:
            heard.append((message.subject, message.data))

        await self.client.subscribe(self.names.cancel(queue, ">"), cb=hear)
        await self.client.flush()
        return heard

    async def offer(self, schedule_id: str, action: str, listener: Callable[[bytes], Awaitable[bytes]]) -> None:
        async def hear(message: Msg) -> None:
            await self.client.publish(message.reply, await listener(message.data))

        await self.client.subscribe(self.names.action(action, schedule_id), queue="actions", cb=hear)
        await self.client.flush()

    async def stored(self, subject: str) -> list[bytes]:
        bodies: list[bytes] = []
        seq = 1
        while found := await self.requests.stored(self.names.events, {"seq": seq, "next_by_subj": subject}):
            bodies.append(found.data)
            seq = found.seq + 1
        return bodies

    async def lose_readers(self) -> None:
        names = (await self.requests.api(f"CONSUMER.NAMES.{self.names.events}"))["consumers"]
        assert names, "nobody reads"
        for name in names:
            await self.requests.api(f"CONSUMER.DELETE.{self.names.events}.{name}")

    async def worker(self, queue: str) -> Worker:
        puller = Puller(self.client, self.names.tasks, queue)
        await puller.open()
        self._pullers.append(puller)
        return NatsWorker(self.client, puller)

    async def set_limits(self, queue: str | None, *, ack_wait_s: float, max_deliver: int = 0) -> None:
        stream, name = (self.names.timeline, DISPATCHER) if queue is None else (self.names.tasks, queue)
        config = (await self.requests.api(f"CONSUMER.INFO.{stream}.{name}"))["config"]
        config |= {"ack_wait": int(ack_wait_s * 1e9), "max_deliver": max_deliver or -1}
        subject = f"CONSUMER.CREATE.{stream}.{name}.{config['filter_subject']}"
        await self.requests.api(subject, {"stream_name": stream, "config": config})

    def lose_ack_next(self) -> None:
        self.requests.faults.append("lose_ack")

    def land_late(self) -> None:
        self.requests.faults.append("late")

    async def land(self) -> None:
        await self.requests.land()

    async def cut_off(self) -> None:
        await self.client.close()


class NatsWorker:
    """Works on a queue by plain pulls and acks."""

    def __init__(self, client: Client, puller: Puller) -> None:
        self._client = client
        self._puller = puller

    async def pull(self, batch: int, expires_s: float) -> list[Task]:
        return [_task(message) for message in await self._puller.pull(batch, expires_s)]

    async def ack(self, token: str) -> None:
        await answer(self._client, [token], b"")

    async def nak(self, token: str, delay_s: float) -> None:
        await answer(self._client, [token], nak_body(delay_s))

    async def term(self, token: str, reason: str) -> None:
        await answer(self._client, [token], b"+TERM " + reason.encode())


def _task(message: Msg) -> Task:
    delivery = read_reply(message.reply)
    headers = {name: value for name, value in (message.headers or {}).items() if not name.startswith("Nats-")}
    return Task(message.subject, message.data, headers, delivery.seq, delivery.delivered, message.reply)


# --- words that suites share


async def collected(stage: Stage, pull: Callable[[int, float], Awaitable[Sequence[T]]], count: int) -> list[T]:
    """Pull until there are that many, or nothing more comes for a second and a half."""

    async def work() -> list[T]:
        found: list[T] = []
        while len(found) < count:
            more = await pull(256, 1.5)
            if not more:
                break
            found += more
        return found

    return await stage.run(work())


async def nothing_more(stage: Stage, pull: Callable[[int, float], Awaitable[Sequence[T]]], seconds: float) -> bool:
    """Whether nothing arrives for that long."""

    async def work() -> bool:
        return not await pull(256, seconds)

    return await stage.run(work())


def occurrence(schedule_id: str, nominal_at: datetime, *, delay_s: float = 0.0, generation: int = 1) -> Occurrence:
    return Occurrence(schedule_id, nominal_at, nominal_at + timedelta(seconds=delay_s), generation)
