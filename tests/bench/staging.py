"""A stage for benches: an embedded server, provisioned, and the adapters on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nats

from scheduler.config import Settings
from scheduler.embedded import EmbeddedServer
from scheduler.jetstream.adapters import Adapters, open_adapters
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.jetstream.requests import Requests
from scheduler.ports.checkpoints import NoCheckpoints
from scheduler.system.clock import SystemClock
from scheduler.wire.names import Names


@dataclass
class Stage:
    """`bare` are pipelined requests on an untouched nats-py client: what the raw sides write with."""

    adapters: Adapters
    names: Names
    clock: SystemClock
    bare: Requests

    async def pending_due(self) -> int:
        """Fired messages that nobody has acknowledged yet."""
        requests = self.adapters.timeline._requests
        info = await requests.api(f"CONSUMER.INFO.{self.names.timeline}.dispatcher")
        return int(info["num_pending"]) + int(info["num_ack_pending"])


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    async with EmbeddedServer() as server:
        client = await connect(ConnectionSettings(servers=(server.url,)), name="bench")
        clock, names = SystemClock(), Names()
        adapters = await open_adapters(client, names, clock, Settings(monitor=None), NoCheckpoints())
        plain = await nats.connect(server.url)
        bare = Requests(plain)
        await bare.open()
        try:
            yield Stage(adapters, names, clock, bare)
        finally:
            await adapters.close()
            await client.close()
            await plain.close()
