"""One replica's API on a real server, with a real leader and planner, and without what comes after the queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from msgspec import Struct
from nats.aio.client import Client as NatsClient

from scheduler.client import Client
from scheduler.config import Settings
from scheduler.core.leadership import LeaseTimings
from scheduler.core.model.queue import QueueSettings
from scheduler.jetstream.adapters import Adapters, open_adapters
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.jetstream.service import ApiService
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.checkpoints import NoCheckpoints
from scheduler.ports.timeline import Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.api import Api, Backing
from scheduler.services.applied import AppliedWatermark
from scheduler.services.cancelling import Canceller
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.leader import Leader
from scheduler.services.planner import Planner
from scheduler.services.purging import Purger
from scheduler.services.queues import QueueKeeper
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.tracker.folding import Folder
from scheduler.system.clock import SystemClock
from scheduler.wire.instants import format_instant
from scheduler.wire.names import Names
from scheduler.wire.schedule import ScheduleLimits

TIMINGS = LeaseTimings(1.5, 1.0, 0.2)
VERSION = "0.1.0"


class Replica(Struct):
    """What a test gets. `clients` are connections of users."""

    url: str
    names: Names
    adapters: Adapters
    api: Api
    service: ApiService
    cache: ScheduleCache
    index: ExecutionIndex
    records: Records
    telemetry: RecordingTelemetry
    leader: Leader


@contextlib.asynccontextmanager
async def replica(
    url: str, label: str = "a", *, leads: bool = True, apply_wait_s: float = 5.0, concurrent_max: int = 256
) -> AsyncIterator[Replica]:
    """Provision, and serve until the end of the block. A replica that does not lead plans nothing."""
    names, clock, telemetry = Names(), SystemClock(), RecordingTelemetry()
    limits = ScheduleLimits()
    async with contextlib.AsyncExitStack() as stack:
        client = await connect(ConnectionSettings.from_environment(url, env={}), name=label)
        stack.push_async_callback(client.close)
        adapters = await open_adapters(client, names, clock, Settings(), NoCheckpoints())
        stack.push_async_callback(adapters.close)
        schedules = ScheduleCache(adapters.schedules, clock, limits)
        index = ExecutionIndex(adapters.executions, clock, telemetry)
        stack.push_async_callback(schedules.stop)
        stack.push_async_callback(index.stop)
        await asyncio.gather(schedules.start(), index.start())
        rows = StatusRows(adapters.status)
        slots = SlotKeeper(rows)
        records = Records(adapters.executions, telemetry, claim_floor_s=1800)
        settlement = Settlement(slots, adapters.events, clock, lambda _: True, telemetry)
        launcher = Launcher(
            records=records, slots=slots, queues=adapters.queues, settlement=settlement, clock=clock,
            claim_floor_s=1800, is_full=lambda _: False,
        )  # fmt: skip
        canceller = Canceller(
            records=records, reports=adapters.reports, queues=adapters.queues, cancels=adapters.cancels,
            launcher=launcher, folder=Folder(records=records, settlement=settlement, slots=slots, rows=rows),
            clock=clock, telemetry=telemetry,
        )  # fmt: skip
        keeper = QueueKeeper(
            queues=adapters.queues, control=adapters.control, clock=clock, telemetry=telemetry,
            defaults=QueueSettings(), max_pending=100_000,
        )  # fmt: skip
        purger = Purger(
            queues=adapters.queues, records=records, reports=adapters.reports, canceller=canceller, clock=clock
        )
        planner = Planner(
            timeline=adapters.timeline, schedules=schedules, rows=rows, queues=keeper,
            announcer=Announcer(adapters.events), clock=clock, telemetry=telemetry, horizon=timedelta(seconds=20),
        )  # fmt: skip

        async def first_watermark() -> Watermark:
            return Watermark(clock.now())

        leader = Leader(
            control=adapters.control, timeline=adapters.timeline, clock=clock, telemetry=telemetry, replica=label,
            version=VERSION, timings=TIMINGS, duty=planner.run, first_watermark=first_watermark,
        )  # fmt: skip
        backing = Backing(
            schedules=schedules, bucket=adapters.schedules, control=adapters.control, timeline=adapters.timeline,
            rows=rows, records=records, index=index, launcher=launcher, canceller=canceller, keeper=keeper,
            purger=purger,
            applied=AppliedWatermark(adapters.timeline, clock, timeout_s=apply_wait_s), events=adapters.events,
            logs=adapters.logs, workers=adapters.workers, clock=clock,
            telemetry=telemetry, limits=limits, ack_wait_s=30.0, claim_floor_s=1800, server=adapters.server_version,
            queues=adapters.queues, reports=adapters.reports, storage=adapters.storage, actions=adapters.actions,
        )  # fmt: skip
        api = Api(backing)
        metadata = {"replica": label, "version": VERSION, "started_at": format_instant(clock.now())}
        service = ApiService(client, names, api, metadata, concurrent_max=concurrent_max)
        api.discover_replicas = service.discover_replicas
        await service.start()
        stack.push_async_callback(service.stop)
        if leads:
            leading = asyncio.create_task(leader.run())
            stack.push_async_callback(_end, leader, leading)
        yield Replica(url, names, adapters, api, service, schedules, index, records, telemetry, leader)


async def _end(leader: Leader, leading: asyncio.Task[None]) -> None:
    leader.stop()
    await asyncio.gather(leading, return_exceptions=True)


@contextlib.asynccontextmanager
async def user(url: str) -> AsyncIterator[tuple[Client, NatsClient]]:
    """A client of the API and the connection below it."""
    async with Client.connect(url) as client:
        yield client, client.connection
