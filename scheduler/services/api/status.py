"""Use case of the whole: who leads, which replicas there are, how far is planned, how the schedules stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from scheduler.core.zones import tzdata_version
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.timeline import Stored, Timeline
from scheduler.services.api.endpoint import answers
from scheduler.services.schedules import ScheduleCache
from scheduler.services.watching import Census
from scheduler.wire import api
from scheduler.wire.instants import format_instant
from scheduler.wire.names import LEADER_KEY
from scheduler.wire.status import decode_lease

COUNTS_S = 1.0  # how long counts stand if no schedule changed: a pause may end by itself

Discover = Callable[[], Awaitable[Sequence[api.ReplicaStatus]]]


class Status:
    """`discover` finds the replicas that answer now; `server` is the version of the NATS server."""

    def __init__(
        self,
        *,
        control: Bucket,
        timeline: Timeline,
        schedules: ScheduleCache,
        clock: Clock,
        census: Census,
        server: str,
        discover: Discover,
    ) -> None:
        self._control, self._timeline, self._schedules, self._clock = control, timeline, schedules, clock
        self._census, self._server, self._discover = census, server, discover
        self._counts: tuple[int, float, Mapping[str, int]] = (-1, 0.0, {})

    @answers("status.get", api.Nothing)
    async def get(self, _: api.Nothing) -> api.StatusReply:
        """Raises Unavailable."""
        lease, epoch, mark, replicas, _applied = await asyncio.gather(
            self._control.get(LEADER_KEY),
            self._timeline.epoch(),
            self._timeline.watermark(),
            self._discover(),
            self._schedules.fresh(),
        )
        watermark = None if mark is None else mark.watermark
        counts = self._current_counts()
        return api.StatusReply(
            leader=self._leader(lease, epoch),
            replicas=list(replicas),
            planned_until=None if watermark is None else format_instant(watermark.until),
            schedules=api.ScheduleCounts(
                active=counts.get("active", 0), paused=counts.get("paused", 0), invalid=counts.get("invalid", 0)
            ),
            tzdata=tzdata_version(),
            server=self._server,
            clock_skew_s=round(self._clock.offset_s(), 3),
        )

    def _leader(self, lease: Entry | None, epoch: Stored | None) -> api.LeaderStatus | None:
        """The holder of a lease that is not overdue, once it has taken office."""
        if lease is None or lease.deleted or epoch is None:
            return None
        record = decode_lease(lease.value)
        overdue = (self._clock.now() - lease.at).total_seconds() > record.lease_s
        if not record.holder or overdue or epoch.epoch_holder != record.holder:
            return None
        return api.LeaderStatus(replica=record.replica, epoch=epoch.seq, since=format_instant(record.since))

    def _current_counts(self) -> Mapping[str, int]:
        applied, now_s = self._schedules.mirror.applied, self._clock.boottime_s()
        if self._counts[0] != applied or now_s - self._counts[1] > COUNTS_S:
            self._counts = (applied, now_s, self._census.counts())
        return self._counts[2]
