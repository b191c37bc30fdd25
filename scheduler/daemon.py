"""The one place that wires: settings in, a running replica out.

`Replica` connects, provisions, proves the fence, fills its caches and then runs the services side by side. A service
that breaks starts again by itself; a replica only ends when it is told to, or when NATS closes the connection for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from scheduler import __version__
from scheduler.config import Settings
from scheduler.core.errors import ScheddError, Unavailable
from scheduler.core.leadership import LeaseTimings
from scheduler.jetstream.adapters import Adapters, open_adapters
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.jetstream.service import ApiService
from scheduler.ports.timeline import Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.api import Api
from scheduler.services.applied import AppliedWatermark
from scheduler.services.dispatcher import Dispatcher
from scheduler.services.executions import ExecutionIndex
from scheduler.services.housekeeping import Housekeeper
from scheduler.services.launch import Launcher
from scheduler.services.leader import Leader, Tenure
from scheduler.services.planner import Planner
from scheduler.services.reconcile import REPAIR_KINDS, Reconciler
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.together import kept_running, run_together
from scheduler.services.tracker import Tracker
from scheduler.services.watching import Census, QueueWatch
from scheduler.system.checkpoints import checkpoints_from
from scheduler.system.clock import SystemClock
from scheduler.system.pulse import LoopWatch
from scheduler.telemetry.logging import configure_logging
from scheduler.telemetry.metrics import PrometheusTelemetry
from scheduler.web.monitor import Health, monitor_app
from scheduler.web.serving import Serving, serve
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.names import WATERMARK_KEY, Names
from scheduler.wire.schedule import ScheduleLimits

log = logging.getLogger(__name__)


class Replica:
    """One replica of schedd. `start`, then `wait` until it ends, then `stop`."""

    def __init__(self, settings: Settings, connection: ConnectionSettings, env: Mapping[str, str]) -> None:
        self.settings = settings
        self.connection = connection
        self.names = Names(settings.namespace)
        self.clock = SystemClock()
        self.telemetry = PrometheusTelemetry(
            version=__version__, replica=settings.replica, namespace=settings.namespace, repairs=REPAIR_KINDS
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
        leading, *others = tasks  # the leader's task is the first: it ends by itself and releases the lease
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
        client = await connect(
            self.connection,
            name=f"schedd {self.settings.replica}",
            on_reconnect=self.telemetry.reconnected,
            on_closed=self._on_closed,
        )
        self._closers.append(client.close)
        adapters = await open_adapters(client, self.names, self.clock, self.settings, self._checkpoints)
        self._closers.append(adapters.close)
        return adapters

    def _on_closed(self) -> None:
        if not self._ended.done() and self._ready:
            self._ended.set_result("NATS closed the connection for good")

    # --- wiring

    async def _wire(self, adapters: Adapters) -> None:
        settings, clock, telemetry = self.settings, self.clock, self.telemetry
        limits = ScheduleLimits(
            payload_bytes_max=settings.payload_max, minimum_interval=timedelta(seconds=settings.minimum_interval_s)
        )
        schedules = ScheduleCache(adapters.schedules, clock, limits)
        self._closers.append(schedules.stop)
        index = ExecutionIndex(adapters.executions, clock, telemetry, recent_max=settings.recent_executions)
        self._closers.append(index.stop)
        await asyncio.gather(schedules.start(), index.start())

        rows = StatusRows(adapters.status)
        slots = SlotKeeper(rows)
        records = Records(adapters.executions, telemetry, claim_floor_s=settings.claim_floor_s)
        settlement = Settlement(rows, slots, adapters.events, clock, schedules.holds_slot)
        queue_watch = QueueWatch(adapters.queues, clock, telemetry, max_pending=settings.max_pending)
        launcher = Launcher(
            records=records,
            slots=slots,
            queues=adapters.queues,
            settlement=settlement,
            clock=clock,
            telemetry=telemetry,
            claim_floor_s=settings.claim_floor_s,
            is_full=queue_watch.is_full,
            checkpoints=self._checkpoints,
        )
        tracker = Tracker(
            reports=adapters.reports,
            signals=adapters.signals,
            queues=adapters.queues,
            workers=adapters.workers,
            records=records,
            rows=rows,
            slots=slots,
            settlement=settlement,
            index=index,
            clock=clock,
            telemetry=telemetry,
            batch=settings.batch,
        )
        slots.inspect = tracker.inspector.inspect
        dispatcher = Dispatcher(
            timeline=adapters.timeline,
            schedules=schedules,
            records=records,
            launcher=launcher,
            settlement=settlement,
            clock=clock,
            telemetry=telemetry,
            batch=settings.batch,
            checkpoints=self._checkpoints,
        )
        announcer = Announcer(adapters.events)
        planner = Planner(
            timeline=adapters.timeline,
            schedules=schedules,
            rows=rows,
            queues=adapters.queues,
            announcer=announcer,
            clock=clock,
            telemetry=telemetry,
            horizon=timedelta(seconds=settings.horizon_s),
            checkpoints=self._checkpoints,
        )
        reconciler = Reconciler(
            timeline=adapters.timeline,
            schedules=schedules,
            records=records,
            rows=rows,
            queues=adapters.queues,
            tracker=tracker,
            launcher=launcher,
            index=index,
            rearm=planner.rearm,
            ensure=adapters.ensure,
            clock=clock,
            telemetry=telemetry,
            every_s=settings.reconcile_every_s,
            grace_s=settings.reconcile_grace_s,
            claim_floor_s=settings.claim_floor_s,
        )
        housekeeper = Housekeeper(
            control=adapters.control,
            schedules=schedules,
            bucket=adapters.schedules,
            clock=clock,
            every_s=settings.watermark_copy_s,
        )

        async def duty(tenure: Tenure) -> None:
            await run_together(planner.run(tenure), reconciler.run(tenure), housekeeper.run(tenure))

        async def first_watermark() -> Watermark:
            return await self._first_watermark(adapters, planner)

        self.leader = Leader(
            control=adapters.control,
            timeline=adapters.timeline,
            clock=clock,
            telemetry=telemetry,
            replica=settings.replica,
            version=__version__,
            timings=LeaseTimings(settings.lease_s, settings.lease_renew_deadline_s, settings.lease_retry_s),
            duty=duty,
            first_watermark=first_watermark,
        )
        api = Api(
            schedules=schedules,
            bucket=adapters.schedules,
            control=adapters.control,
            timeline=adapters.timeline,
            rows=rows,
            records=records,
            index=index,
            launcher=launcher,
            applied=AppliedWatermark(adapters.timeline, clock, timeout_s=settings.apply_wait_s),
            clock=clock,
            telemetry=telemetry,
            limits=limits,
            ack_wait_s=settings.ack_wait_s,
            claim_floor_s=settings.claim_floor_s,
            server=adapters.server_version,
        )
        service = ApiService(adapters.client, self.names, api, self._metadata())
        api.discover_replicas = service.discover_replicas
        await service.start()
        self._closers.append(service.stop)
        self._tasks.append(asyncio.create_task(self.leader.run(), name="leader"))
        for name, run in {
            "dispatcher": dispatcher.run,
            "reports": tracker.reports.run,
            "signals": tracker.signals.run,
            "settlement": settlement.run,
            "queues": queue_watch.run,
            "census": Census(schedules, clock, telemetry).run,
            "pulse": self.pulse.run,
            "skew": self._watch_skew,
        }.items():
            self._tasks.append(asyncio.create_task(kept_running(name, clock, run), name=name))

    def _metadata(self) -> dict[str, str]:
        return {
            "replica": self.settings.replica,
            "version": __version__,
            "started_at": format_instant(self.clock.now()),
        }

    async def _first_watermark(self, adapters: Adapters, planner: Planner) -> Watermark:
        """Without a watermark on the timeline: the copy, but no later than it was written; without either: now.

        What the lost timeline still held may not have fired, so the copy's own age bounds what counts as planned;
        planning it again is harmless. On a first start nothing before now is planned, whatever was put earlier.
        """
        entry = await adapters.control.get(WATERMARK_KEY)
        now = self.clock.now()
        with contextlib.suppress(msgspec.DecodeError, ScheddError, KeyError, TypeError):
            if entry is not None and not entry.deleted:
                body: dict[str, Any] = msgspec.json.decode(entry.value)
                until = min(parse_instant(body["until"]), entry.at)
                return Watermark(until, int(body["applied"]), int(body.get("calendars", 0)))
        planner.not_before = now
        return Watermark(now)

    # --- health

    async def _watch_skew(self) -> None:
        while True:
            self.telemetry.clock_skew(self.clock.offset_s())
            await self.clock.sleep(5.0)

    def _health(self) -> Health:
        return Health({"loop": self.pulse.problem()})

    def _readiness(self) -> Health:
        connected = self._adapters is not None and self._adapters.client.is_connected
        skew_s = abs(self.clock.offset_s())
        sane = skew_s <= self.settings.clock_skew_max_s
        return Health(
            {
                "connected": None if connected else "not connected to NATS",
                "provisioned": None if self._ready else "not provisioned yet",
                "clock": None if sane else f"the wall clock is {skew_s:.1f} s off the server's",
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
