"""A stage for housekeeping: a replica's housekeeper on the memory twins, and what is left in the bucket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.timeline import Watermark
from scheduler.services.calendars import CalendarCache
from scheduler.services.housekeeping import Housekeeper
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.one_shots import OneShots
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.watermarks import WatermarkCopy
from scheduler.wire.names import WATERMARK_KEY
from scheduler.wire.schedule import ScheduleLimits
from tests.unit.services.planning_world import PlanningReplica, World
from tests.unit.services.processes import Process

HOUR = 3600.0


class House:
    """A replica's housekeeper; `lead` and `follow` run it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process(world.clock)
        around = self.process.around
        self.control = world.control.replica()
        self.copy = WatermarkCopy(around(self.control), self.process.clock)
        calendars = world.calendars or MemoryBucket(world.server, world.names.calendars)
        self.calendars = CalendarCache(around(calendars.replica()), self.process.clock)
        self.schedules = ScheduleCache(
            around(world.schedules.replica()), self.process.clock, ScheduleLimits(), self.calendars
        )
        self.executions = MemoryBucket(world.server, world.names.executions)
        bucket, rows = around(world.schedules), StatusRows(around(world.status))
        self.telemetry = RecordingTelemetry()
        self.keeper = Housekeeper(
            copy=self.copy,
            schedules=self.schedules,
            bucket=bucket,
            rows=rows,
            one_shots=OneShots(
                schedules=self.schedules,
                bucket=bucket,
                executions=around(self.executions.replica()),
                rows=rows,
                clock=self.process.clock,
                telemetry=self.telemetry,
                claim_floor_s=1800,
            ),
            clock=self.process.clock,
            every_s=10.0,
        )

    @contextlib.asynccontextmanager
    async def lead(self, mark: Watermark | None = None) -> AsyncIterator[Tenure]:
        await self.schedules.start()
        tenure = await PlanningReplica(self.world).take_office(first=mark)
        tenure.office = msgspec.structs.replace(tenure.office, watermark=mark or tenure.office.watermark)
        task = asyncio.create_task(self.keeper.run(tenure))
        try:
            yield tenure
        finally:
            task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            await self.schedules.stop()
        assert isinstance(end, asyncio.CancelledError | Deposed), end

    async def copied(self) -> dict[str, Any]:
        entry = await self.world.control.get(WATERMARK_KEY)
        assert entry is not None
        found: dict[str, Any] = msgspec.json.decode(entry.value)
        return found


def markers(world: World) -> set[str]:
    """Keys of the schedules bucket that hold a delete marker."""
    prefix = f"$KV.{world.names.schedules}."
    stored = world.schedules.stream.messages.values()
    return {each.subject.removeprefix(prefix) for each in stored if each.headers.get("KV-Operation")}
