"""The client over one NATS connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Self, TypeVar

from nats.aio.client import Client as NatsClient

from scheduler.client import following
from scheduler.client.acting import Actions
from scheduler.client.calls import Calls
from scheduler.client.events import NOW, Since, Watch
from scheduler.client.listening import Listener, Listeners
from scheduler.client.nouns import Backfills, Calendars, Executions, Schedules, Workers
from scheduler.client.queueing import Queues
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.wire import api
from scheduler.wire.names import DEFAULT_NAMESPACE
from scheduler.wire.record import Record

TIMEOUT_S = 20.0

T_co = TypeVar("T_co", covariant=True)


class Client:
    """The API over one NATS connection, which may be shared; `namespace` as the daemon's."""

    def __init__(
        self,
        connection: NatsClient,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        timeout_s: float = TIMEOUT_S,
        name: str | None = None,
    ) -> None:
        """`name`: as which events name this client (`admin`, `by`); default: the name of the connection."""
        name = name if name is not None else str(connection.options.get("name") or "")
        self.connection = connection
        self.calls = Calls(connection, namespace, timeout_s, name)
        self._listeners = Listeners(connection, self.calls.names)
        self.schedules = Schedules(self.calls)
        self.backfills = Backfills(self.calls)
        self.executions = Executions(self.calls, connection)
        self.calendars = Calendars(self.calls)
        self.actions = Actions(self.calls)
        self.workers = Workers(self.calls)
        self.queues = Queues(self.calls)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        nats: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        *,
        name: str = "schedd-client",
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncIterator[Self]:
        """Connect as the commands do: what is given, then NATS_URL, NATS_CONTEXT, SCHEDD_NAMESPACE, then defaults.

        Raises Unavailable if no server answers within about five seconds.
        """
        settings = ConnectionSettings.from_environment(nats, context, namespace)
        connection = await connect(settings, name=name)
        client = cls(connection, namespace=settings.namespace, timeout_s=timeout_s, name=name)
        try:
            yield client
        finally:
            await client.stop_listening()
            await connection.close()

    async def wait(self, execution_id: str, timeout: float | timedelta | None = None) -> Record:
        """The record of an execution once it is over; at once for one that is over already.

        One that is still to come is waited for. `timeout` in seconds; then StillRunning, which is a TimeoutError.
        Raises NotFound for one that should be on record and is not, InvalidArgument for what can be no id, Unavailable
        when the connection is closed.
        """
        timeout_s = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        return await following.wait(self.connection, self.calls, execution_id, timeout_s)

    def watch(self, kinds: Iterable[str] | None = None, *, schedule: str | None = None, since: Since = NOW) -> Watch:
        """Events as they come, for ever; see `Watch`. Without `kinds`: all of them.

        `since`: "now", an instant, or the `seq` of an event, behind which it goes on; 0 is the oldest that is kept.
        """
        names = self.calls.names
        return Watch(self.connection, names, kinds=kinds, schedule=schedule, since=since)

    def events(self, kinds: Iterable[str] | None = None, *, schedule: str | None = None, since: Since = 0) -> Watch:
        """Events of the past, oldest first, up to now; the same arguments as `watch`."""
        names = self.calls.names
        return Watch(self.connection, names, kinds=kinds, schedule=schedule, since=since, is_finite=True)

    def on(self, *kinds: str, schedule: str | None = None, since: Since = NOW) -> Callable[[Listener], Listener]:
        """A decorator: the function, async or not, is called with each event of these kinds (none given: of all).

            @client.on("finished", schedule="report")
            async def told(event):
                print(event.details.state)

        In order and one at a time per function, from `since` on, as long as the client is open; what it raises is
        logged. `await client.listening()` before what must not be missed. Raises InvalidArgument for an unknown kind.
        """
        return self._listeners.add(kinds or None, schedule, since)

    async def listening(self) -> None:
        """Returns when every listener hears, however long that takes. Raises PermissionDenied for one that may not."""
        await self._listeners.ready()

    async def stop_listening(self) -> None:
        """End all listeners; leaving `Client.connect` does so."""
        await self._listeners.close()

    async def status(self) -> api.StatusReply:
        """Leader, replicas, watermark, counts."""
        return await self.calls.call("status.get", api.Nothing(), api.StatusReply)

    async def health(self) -> api.HealthReply:
        """Whether all is well: every check with its level and what to do."""
        return await self.calls.call("status.health", api.Nothing(), api.HealthReply)


async def first(items: AsyncIterator[T_co], count: int | None) -> AsyncIterator[T_co]:
    """At most `count` of the items; None: all."""
    async for item in items:
        if count is not None:
            count -= 1
        yield item
        if count == 0:
            return
