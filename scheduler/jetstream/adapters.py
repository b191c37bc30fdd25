"""Everything a replica needs from NATS, opened at once: provisioned, its fence proven, each port with its adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Protocol

from msgspec import Struct
from nats.aio.client import Client as NatsClient

from scheduler.core.model.queue import QueueSettings
from scheduler.jetstream.acting import NatsActions
from scheduler.jetstream.buckets import NatsBucket
from scheduler.jetstream.cancelling import NatsCancels
from scheduler.jetstream.event_feed import NatsEventFeed
from scheduler.jetstream.events import NatsEvents
from scheduler.jetstream.logs import NatsLogs
from scheduler.jetstream.provisioning import births, provision, restore
from scheduler.jetstream.queues import NatsTaskQueues
from scheduler.jetstream.raising import raise_above
from scheduler.jetstream.reports import NatsReports
from scheduler.jetstream.requests import Requests
from scheduler.jetstream.signals import NatsSignals
from scheduler.jetstream.storage import NatsStorage
from scheduler.jetstream.timeline import NatsTimeline
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.stores import StreamSeen
from scheduler.wire.names import Names


class ProvisionSettings(Protocol):
    """The part of a replica's settings that shapes streams and consumers."""

    @property
    def stream_replicas(self) -> int: ...
    @property
    def due_ack_wait_s(self) -> float: ...
    @property
    def start_timeout_s(self) -> float: ...
    @property
    def ack_wait_s(self) -> float: ...
    @property
    def max_deliver(self) -> int: ...
    @property
    def max_ack_pending(self) -> int: ...


class Adapters(Struct, frozen=True, kw_only=True):
    """One replica's ports on NATS. `ensure` restores missing consumers and drifted configuration; `lease` is `control`
    on a connection of its own; `received` counts the messages that came over `client`."""

    client: NatsClient
    schedules: NatsBucket
    executions: NatsBucket
    status: NatsBucket
    control: NatsBucket
    lease: NatsBucket
    calendars: NatsBucket
    workers: NatsBucket
    timeline: NatsTimeline
    queues: NatsTaskQueues
    reports: NatsReports
    signals: NatsSignals
    cancels: NatsCancels
    actions: NatsActions
    events: NatsEvents
    logs: NatsLogs
    storage: NatsStorage
    feed: Callable[[], NatsEventFeed]
    ensure: Callable[[], Awaitable[list[str]]]
    births: Callable[[], Awaitable[dict[str, StreamSeen | None]]]
    raise_above: Callable[[str, int], Awaitable[int]]
    reconnects: Callable[[], int]
    received: Callable[[], int]
    server_version: str
    closers: tuple[Callable[[], Awaitable[object]], ...]

    async def close(self) -> None:
        for close in reversed(self.closers):
            with contextlib.suppress(Exception):
                await close()


def _queue_defaults(settings: ProvisionSettings) -> QueueSettings:
    return QueueSettings(
        ack_wait=timedelta(seconds=settings.ack_wait_s),
        max_deliver=settings.max_deliver,
        max_ack_pending=settings.max_ack_pending,
    )


async def open_adapters(
    client: NatsClient,
    names: Names,
    clock: Clock,
    settings: ProvisionSettings,
    checkpoints: Checkpoints,
    dropped: Callable[[str], None] = lambda reason: None,
    *,
    lease_client: NatsClient | None = None,
) -> Adapters:
    """Provision, prove the fence, open every adapter. Raises Unavailable, InvalidArgument, Internal.

    `lease_client`: another connection, for the lease alone; without one it shares `client`.
    """
    requests, bulk, lease = await _asking(client, lease_client or client, checkpoints)
    await provision(
        requests,
        names,
        replicas=settings.stream_replicas,
        due_ack_wait_s=settings.due_ack_wait_s,
        total_s=settings.start_timeout_s,
    )
    timeline = NatsTimeline(requests, client, names)
    await timeline.prove_fence()
    reports, signals = NatsReports(bulk, client, names), NatsSignals(client, names)
    events = NatsEvents(bulk, names, clock, dropped=dropped)
    for opened in (timeline, reports, signals, events):
        await opened.open()
    return Adapters(
        client=client,
        schedules=NatsBucket(requests, names.schedules, clock=clock),
        executions=NatsBucket(bulk, names.executions, clock=clock),
        status=NatsBucket(bulk, names.status, clock=clock),
        control=NatsBucket(requests, names.control, clock=clock),
        lease=NatsBucket(lease, names.control, clock=clock),
        calendars=NatsBucket(requests, names.calendars, clock=clock),
        workers=NatsBucket(requests, names.workers, clock=clock),
        timeline=timeline,
        queues=NatsTaskQueues(bulk, names, clock, defaults=_queue_defaults(settings)),
        reports=reports,
        signals=signals,
        cancels=NatsCancels(client, names),
        actions=NatsActions(client, names),
        events=events,
        logs=NatsLogs(bulk, names),
        storage=NatsStorage(requests, names),
        feed=partial(NatsEventFeed, bulk, names),
        ensure=_restoring(requests, names, settings, clock),
        births=partial(births, requests, names),
        raise_above=partial(raise_above, bulk, names),
        reconnects=lambda: int(client.stats["reconnects"]),
        received=lambda: client.stats["in_msgs"],
        server_version=_version(client),
        closers=(requests.close, bulk.close, lease.close, timeline.close, reports.close, signals.close, events.close),
    )


async def _asking(
    client: NatsClient, lease_client: NatsClient, checkpoints: Checkpoints
) -> tuple[Requests, Requests, Requests]:
    """Who asks NATS: for plan and definitions; for tasks and records, whose batches have stop points of their own; for
    the lease."""
    requests, bulk, lease = Requests(client), Requests(client), Requests(lease_client)
    if not isinstance(checkpoints, NoCheckpoints):  # it costs a flush per planning batch
        requests.before_commit = partial(checkpoints.reached, "timeline.staged")
    for each in (requests, bulk, lease):
        await each.open()
    return requests, bulk, lease


def _restoring(
    requests: Requests, names: Names, settings: ProvisionSettings, clock: Clock
) -> Callable[[], Awaitable[list[str]]]:
    return partial(
        restore,
        requests,
        names,
        replicas=settings.stream_replicas,
        due_ack_wait_s=settings.due_ack_wait_s,
        clock=clock,
    )


def _version(client: NatsClient) -> str:
    version = client.connected_server_version
    return f"{version.major}.{version.minor}.{version.patch}"
