"""One replica, from settings to the last write: connect, provision, prove the fence, fill the caches, run, hand over.

A service that breaks starts again by itself; a replica only ends when it is told to, when NATS closes the connection
for good, or when a newer release has migrated what is stored. What runs, and on what, is wired in `scheduler.wiring`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping

from nats.aio.client import Client as NatsClient

from scheduler import __version__
from scheduler.config import Settings
from scheduler.core.errors import Unavailable
from scheduler.jetstream.adapters import Adapters, open_adapters
from scheduler.jetstream.connection import ConnectionSettings, connect, why_away
from scheduler.jetstream.service import ApiService
from scheduler.services.leader import Leader
from scheduler.services.reconcile import REPAIR_KINDS
from scheduler.services.schema import SCHEMA, Schema
from scheduler.services.together import kept_running
from scheduler.system.checkpoints import checkpoints_from
from scheduler.system.clock import SystemClock
from scheduler.system.pulse import LoopWatch
from scheduler.system.webhook_file import load_webhooks
from scheduler.telemetry.logging import configure_logging
from scheduler.telemetry.metrics import PrometheusTelemetry
from scheduler.web.monitor import Health, monitor_app
from scheduler.web.serving import Serving, serve
from scheduler.wire.instants import format_instant
from scheduler.wire.names import Names
from scheduler.wiring import Wiring

log = logging.getLogger(__name__)


class Replica:
    """One replica of schedd. `start`, then `wait` until it ends, then `stop`."""

    def __init__(self, settings: Settings, connection: ConnectionSettings, env: Mapping[str, str]) -> None:
        self.settings = settings
        self.connection = connection
        self.names = Names(settings.namespace)
        self.webhooks = load_webhooks(settings.webhooks, env)
        self.clock = SystemClock()
        self.telemetry = PrometheusTelemetry(
            version=__version__,
            replica=settings.replica,
            namespace=settings.namespace,
            repairs=REPAIR_KINDS,
            horizon_s=settings.horizon_s,
        )
        self.pulse = LoopWatch(self.clock, self.telemetry)
        self.monitor: Serving | None = None
        self.leader: Leader | None = None
        self._checkpoints = checkpoints_from(env)
        self._adapters: Adapters | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closers: list[Callable[[], Awaitable[object]]] = []
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ready = False

    # --- life

    async def start(self) -> None:
        """Raises Unavailable, PermissionDenied with one clear sentence; nothing is left running then."""
        try:
            await self._start_monitor()
            self._adapters = await self._open()
            await self._wire(self._adapters)
            self._ready = True
            log.info("replica ready", extra={"event": "ready", "replica": self.settings.replica})
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> str:
        """Wait until the replica cannot go on; the reason."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Hand over first (the lease), then finish what is under way, within the shutdown time. Idempotent."""
        self._ready = False
        if self.leader is not None:
            self.leader.stop()
        tasks, self._tasks = self._tasks, []
        if tasks:
            await self._end(tasks)
        closers, self._closers = self._closers, []
        for close in reversed(closers):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(close(), 3.0)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        leading = tasks[0]  # the leader's task is the first: it ends by itself and releases the lease
        await asyncio.wait([leading], timeout=2.0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=self.settings.shutdown_s)
        await asyncio.gather(*(task for task in tasks if task.done()), return_exceptions=True)

    # --- opening

    async def _start_monitor(self) -> None:
        if self.settings.monitor is None:
            return
        app = monitor_app(render_metrics=self.telemetry.render, health=self._health, readiness=self._readiness)
        self.monitor = await serve(app, self.settings.monitor, name="monitor")
        self._closers.append(self.monitor.stop)

    async def _open(self) -> Adapters:
        name = f"schedd {self.settings.replica}"
        client = await self._connect(name, self.telemetry.reconnected)
        lease = await self._connect(f"{name} lease")
        adapters = await open_adapters(
            client, self.names, self.clock, self.settings, self._checkpoints, lease_client=lease
        )
        self._closers.append(adapters.close)
        return adapters

    async def _connect(self, name: str, on_reconnect: Callable[[], None] | None = None) -> NatsClient:
        client = await connect(
            self.connection,
            name=name,
            on_reconnect=on_reconnect,
            on_closed=self._on_closed,
            timeout_s=self.settings.connect_timeout_s,
        )
        self._closers.append(client.close)
        return client

    def _on_closed(self) -> None:
        if not self._ended.done() and self._ready:
            self._ended.set_result("NATS closed the connection for good")

    async def _end_when_outlived(self, schema: Schema) -> None:
        reason = await schema.outlived()
        if not self._ended.done():
            self._ended.set_result(reason)

    # --- wiring

    async def _wire(self, adapters: Adapters) -> None:
        wiring = Wiring(self.settings, adapters, self.clock, self.telemetry, self._checkpoints, self.webhooks)
        await wiring.schema.check()
        self._closers += [wiring.schedules.stop, wiring.index.stop, wiring.settlement.flush]
        await wiring.schedules.start()
        await wiring.watermark_copy.begin(adapters.timeline)
        service = ApiService(adapters.client, self.names, wiring.api, self._metadata())
        wiring.api.discover_replicas = service.discover_replicas
        wiring.schema.live = service.discover_replicas.lowest_schema
        await service.start()
        self._closers.append(service.stop)
        self.leader = wiring.leader
        self._tasks.append(asyncio.create_task(self.leader.run(), name="leader"))
        self._tasks.append(asyncio.create_task(self._end_when_outlived(wiring.schema), name="schema"))
        for name, run in {**wiring.services(), "pulse": self.pulse.run, "skew": self._watch_skew}.items():
            self._tasks.append(asyncio.create_task(kept_running(name, self.clock, run), name=name))

    def _metadata(self) -> dict[str, str]:
        return {
            "replica": self.settings.replica,
            "version": __version__,
            "started_at": format_instant(self.clock.now()),
            "schema": str(SCHEMA),
        }

    # --- health

    async def _watch_skew(self) -> None:
        while True:
            self.telemetry.clock_skew(self.clock.offset_s())
            await self.clock.sleep(5.0)

    def _health(self) -> Health:
        return Health({"loop": self.pulse.problem()})

    def _why_away(self) -> str | None:
        if self._adapters is None:
            return "not connected to NATS"
        client = self._adapters.client
        return None if client.is_connected else why_away(client)

    def _readiness(self) -> Health:
        skew_s = abs(self.clock.offset_s())
        sane = skew_s <= self.settings.clock_skew_max_s
        return Health(
            {
                "connected": self._why_away(),
                "provisioned": None if self._ready else "not provisioned yet",
                "clock": None if sane else f"the wall clock is {skew_s:.1f} s off the server's",
                "storage": None if self.leader is None else self.leader.problem,
            }
        )


def run(settings: Settings, env: Mapping[str, str] | None = None) -> int:
    """Run one replica until SIGTERM or SIGINT; the exit code. Raises ScheddError when it cannot start."""
    env = os.environ if env is None else env
    configure_logging(settings.log_format, settings.log_level)
    for warning in settings.warnings(env):
        log.warning("%s", warning, extra={"event": "settings"})
    connection = ConnectionSettings.from_environment(settings.nats, settings.context, settings.namespace, env)
    return asyncio.run(_run(settings, connection, env))


async def _run(settings: Settings, connection: ConnectionSettings, env: Mapping[str, str]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    replica = Replica(settings, connection, env)
    starting = asyncio.create_task(replica.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    stopping.cancel()
    starting.result()
    ended = asyncio.create_task(replica.wait())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise Unavailable(ended.result())
        log.info("stopping", extra={"event": "stopping"})
        return 0
    finally:
        for task in (ended, stopping):
            task.cancel()
        await asyncio.gather(ended, stopping, return_exceptions=True)
        await replica.stop()


__all__ = ["Replica", "run"]
