"""An embedded NATS and one replica, in this process, gone when the block ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from scheduler.config import Settings
from scheduler.daemon import Replica
from scheduler.embedded import EmbeddedServer
from scheduler.jetstream.connection import ConnectionSettings
from scheduler.wire.names import DEFAULT_NAMESPACE
from scheduler.worker import Worker


class LocalSchedd:
    """`data`: a folder to keep (else a temporary one); `env`: settings as `SCHEDD_…`; no port is opened unless asked.

    Entering raises Unavailable when there is no nats-server binary or it does not start.
    """

    def __init__(
        self,
        *,
        data: Path | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        env: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> None:
        self._server = EmbeddedServer(data=data)
        self._flags = {"namespace": namespace, "monitor": "off", "admin": "off", **(flags or {})}
        self._env = dict(env or {})
        self._namespace = namespace
        self._replica: Replica | None = None

    @property
    def nats_url(self) -> str:
        """Where any NATS client reaches it."""
        return self._server.url

    @property
    def replica(self) -> Replica:
        if self._replica is None:
            raise RuntimeError("LocalSchedd is not running: use it in an `async with` block")
        return self._replica

    @asynccontextmanager
    async def serving(self, worker: Worker) -> AsyncIterator[Worker]:
        """Have a worker serve its queues here, wherever it would connect otherwise, until the block ends."""
        task = asyncio.create_task(worker.serve(nats=self.nats_url, namespace=self._namespace), name="worker")
        await asyncio.sleep(0)  # it has begun: from now on it can be stopped
        try:
            yield worker
        finally:
            await worker.stop()
            await task

    async def wait(self) -> str:
        """Wait until one of the two has ended by itself, and say which and why."""
        server = asyncio.create_task(self._server.wait(), name="embedded-nats")
        replica = asyncio.create_task(self.replica.wait(), name="replica")
        try:
            await asyncio.wait({server, replica}, return_when=asyncio.FIRST_COMPLETED)
            return f"the NATS server has ended, exit code {server.result()}" if server.done() else replica.result()
        finally:
            for task in (server, replica):
                task.cancel()
            await asyncio.gather(server, replica, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self._server.start()
        try:
            settings = Settings.load({**self._flags, "nats": self._server.url}, self._env)
            connection = ConnectionSettings(servers=(self._server.url,), namespace=settings.namespace)
            replica = Replica(settings, connection, self._env)
            await replica.start()
            self._replica = replica
        except BaseException:
            await self._server.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.replica.stop()
        finally:
            await self._server.stop()
