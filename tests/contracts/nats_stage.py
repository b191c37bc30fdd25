"""Where a contract suite plays on a real nats-server, in a namespace of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

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
from tests.contracts.stages import T, Task, Worker

TIMEOUT_S = 0.6  # after which a request on the NATS stage is Unsure


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
