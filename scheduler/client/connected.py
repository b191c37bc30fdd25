"""The client over one NATS connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self, TypeVar

from nats.aio.client import Client as NatsClient

from scheduler.client import following
from scheduler.client.acting import Actions
from scheduler.client.calls import Calls
from scheduler.client.nouns import Backfills, Calendars, Executions, Schedules, Workers
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.wire import api
from scheduler.wire.names import DEFAULT_NAMESPACE
from scheduler.wire.record import Record

TIMEOUT_S = 20.0

T_co = TypeVar("T_co", covariant=True)


class Client:
    """The API over one NATS connection, which may be shared; `namespace` as the daemon's."""

    def __init__(
        self, connection: NatsClient, *, namespace: str = DEFAULT_NAMESPACE, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.connection = connection
        self.calls = Calls(connection, namespace, timeout_s)
        self.schedules = Schedules(self.calls)
        self.backfills = Backfills(self.calls)
        self.executions = Executions(self.calls, connection)
        self.calendars = Calendars(self.calls)
        self.actions = Actions(self.calls)
        self.workers = Workers(self.calls)

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
        try:
            yield cls(connection, namespace=settings.namespace, timeout_s=timeout_s)
        finally:
            await connection.close()

    async def wait(self, execution_id: str, timeout: float | None = None) -> Record:
        """The record of an execution once it is over; at once for one that is over already.

        One that is still to come is waited for. `timeout` in seconds; then StillRunning, which is a TimeoutError.
        Raises NotFound for one that should be on record and is not.
        """
        return await following.wait(self.connection, self.calls, execution_id, timeout)

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
