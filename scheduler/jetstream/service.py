"""The API on NATS: the micro service `schedd`, served by every replica, one subject per endpoint.

A request is handed to a task of its own at once, so that a put that waits to be applied holds up nobody; there are at
most `CONCURRENT_MAX` of them, with `BYTES_MAX` of bodies, and what comes beyond is told to try again. Stopping takes no
new requests and finishes those that are there. After a reconnect the client library subscribes again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from scheduler.core.errors import PayloadTooLarge, Unavailable
from scheduler.jetstream.micro import PREFIX, QUEUE_GROUP, EndpointStats, Identity, Monitoring, semantic_version
from scheduler.ports.api import Answer, Api
from scheduler.wire import api
from scheduler.wire import headers as h
from scheduler.wire.names import Names

log = logging.getLogger(__name__)
CONCURRENT_MAX: Final = 4096  # a script that puts all its schedules at once is served
BYTES_MAX: Final = 64 * 1024 * 1024
HEADERS_MAX: Final = 1024
STOP_S: Final = 1.5  # a put waits for a successor to apply it; longer than that its client asks again
DRAIN_S: Final = 1.0  # a server that is away has nothing in flight for us
DISCOVER_S: Final = 0.3
REPLICAS_MAX: Final = 1000
DESCRIPTION: Final = "schedd, a distributed scheduler: schedules, executions, status"


class ApiService:
    """Serves an `Api` under `<namespace>.api.v1.<noun>.<verb>`.

    `metadata` is what others discover: replica, version, started_at (an instant).
    """

    def __init__(
        self,
        client: NatsClient,
        names: Names,
        served: Api,
        metadata: Mapping[str, str],
        *,
        concurrent_max: int = CONCURRENT_MAX,
    ) -> None:
        self._client, self._served = client, served
        self._concurrent_max = concurrent_max
        self._stats = {
            endpoint: EndpointStats(endpoint.replace(".", "-"), names.api(endpoint)) for endpoint in served.endpoints
        }
        version = semantic_version(metadata.get("version", ""))
        identity = Identity(names.service, secrets.token_hex(11), version, dict(metadata), DESCRIPTION)
        started_at = metadata.get("started_at", "1970-01-01T00:00:00.000Z")
        self._monitoring = Monitoring(client, identity, list(self._stats.values()), started_at=started_at)
        self.discover_replicas = ReplicaDiscovery(client, names)
        self._subscriptions: list[Subscription] = []
        self._running: dict[asyncio.Task[None], int] = {}
        self._bytes = 0

    async def start(self) -> None:
        """Serve; returns when the server knows of every subscription. Raises Unavailable."""
        try:
            await self._subscribe()
        except NatsError as problem:
            raise Unavailable(f"cannot serve the API: {problem}") from None

    async def _subscribe(self) -> None:
        for endpoint, stats in self._stats.items():

            async def hand_over(message: Msg, endpoint: str = endpoint) -> None:
                await self._hand_over(endpoint, message)

            subscription = await self._client.subscribe(stats.subject, queue=QUEUE_GROUP, cb=hand_over)
            self._subscriptions.append(subscription)
        await self._monitoring.start()
        await self._client.flush()

    async def stop(self, grace_s: float = STOP_S) -> None:
        """Take no more requests, finish those under way within the grace, tell the others to ask again."""
        with contextlib.suppress(NatsError, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._monitoring.stop()
                await asyncio.gather(*(_drain(each) for each in self._subscriptions))
        self._subscriptions.clear()
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=grace_s)
        finally:
            left = list(self._running)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.discover_replicas.stop()

    # --- requests

    async def _hand_over(self, endpoint: str, message: Msg) -> None:
        size = len(message.data)
        if len(self._running) >= self._concurrent_max or self._bytes + size > BYTES_MAX:
            await self._refuse(endpoint, message)
            return
        task = asyncio.create_task(self._answer(endpoint, message), name=f"api-{endpoint}")
        self._running[task] = size
        self._bytes += size
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._bytes -= self._running.pop(task)

    async def _refuse(self, endpoint: str, message: Msg) -> None:
        busy = Unavailable(f"this replica is answering {len(self._running)} requests already: try again")
        self._stats[endpoint].count(0.0, busy.message)
        await self._reply(endpoint, message, self._served.refuse(endpoint, busy))

    async def _answer(self, endpoint: str, message: Msg) -> None:
        clock = asyncio.get_running_loop().time
        started_s = clock()
        try:
            answer = await self._served.answer(endpoint, message.data, (message.headers or {}).get(h.CLIENT))
        except asyncio.CancelledError:
            answer = self._served.refuse(endpoint, Unavailable("this replica stops: ask again, another one answers"))
        await self._reply(endpoint, message, answer)
        self._stats[endpoint].count(clock() - started_s, None if answer.error is None else answer.error.message)

    async def _reply(self, endpoint: str, message: Msg, answer: Answer) -> None:
        if not message.reply:
            return
        answer = self._fitting(answer)
        headers = None if answer.error is None else api.error_headers(answer.error)
        try:
            await self._client.publish(message.reply, answer.body, headers=headers)
        except (NatsError, OSError) as problem:
            self._served.unsent(endpoint)
            log.info("an answer could not be sent", extra={"event": "api_reply_lost", "error": str(problem)})

    def _fitting(self, answer: Answer) -> Answer:
        """What the server would not carry would be no answer at all."""
        size, most = len(answer.body), self._client.max_payload - HEADERS_MAX
        if size <= most:
            return answer
        error = PayloadTooLarge(f"the answer has {size} bytes, the server carries {most}: ask for less, see limit")
        return Answer(api.encode_error(error), error)


async def _drain(subscription: Subscription) -> None:
    await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py left it unannotated


class _Metadata(Struct):
    replica: str = ""
    version: str = ""
    started_at: str = ""
    schema: str = "1"


class _Ping(Struct):
    id: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_PING = msgspec.json.Decoder(_Ping)


class ReplicaDiscovery:
    """Asks who serves the API; whoever answers in time is there. Callers at one moment share one round."""

    def __init__(self, client: NatsClient, names: Names, *, wait_s: float = DISCOVER_S) -> None:
        self._client, self._names, self._wait_s = client, names, wait_s
        self._round: asyncio.Task[Sequence[api.ReplicaStatus]] | None = None
        self._schemas: list[int] = []

    async def __call__(self) -> Sequence[api.ReplicaStatus]:
        """The replicas, by label; raises Unavailable when not connected."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._ask(), name="discover-replicas")
        return await asyncio.shield(self._round)

    async def lowest_schema(self) -> int:
        """The newest schema that all of them know; 0 if nobody answers. Raises Unavailable."""
        await self()
        return min(self._schemas, default=0)

    async def stop(self) -> None:
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    async def _ask(self) -> Sequence[api.ReplicaStatus]:
        found: dict[str, _Metadata] = {}

        async def note(message: Msg) -> None:
            with contextlib.suppress(ValueError):
                ping = _PING.decode(message.data)
                if ping.id and ping.metadata.replica and len(found) < REPLICAS_MAX:
                    found[ping.id] = ping.metadata

        try:
            inbox = self._client.new_inbox()
            subscription = await self._client.subscribe(inbox, cb=note)
            try:
                await self._client.publish(f"{PREFIX}.PING.{self._names.service}", reply=inbox)
                await asyncio.sleep(self._wait_s)
            finally:
                await subscription.unsubscribe()
        except (NatsError, OSError) as problem:
            raise Unavailable(f"cannot ask for the replicas: {problem}") from None
        self._schemas = [int(each.schema) if each.schema.isdecimal() else 1 for each in found.values()]
        replicas = sorted((each.replica, each.started_at, each.version) for each in found.values())
        return [api.ReplicaStatus(replica=name, version=version, started_at=at) for name, at, version in replicas]
