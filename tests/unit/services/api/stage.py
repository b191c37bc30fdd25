"""The API over the memory twins, in virtual time. No leader: a test says what is applied."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from scheduler.core.model.execution import Execution, Kind, State
from scheduler.core.model.queue import QueueSettings
from scheduler.memory.acting import MemoryActions
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.cancelling import MemoryCancels
from scheduler.memory.clock import START, VirtualClock
from scheduler.memory.events import MemoryEvents
from scheduler.memory.logs import MemoryLogs
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.reports import MemoryReports
from scheduler.memory.server import MemoryServer
from scheduler.memory.storage import MemoryStorage
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.api import Api, Backing
from scheduler.services.applied import AppliedWatermark
from scheduler.services.cancelling import Canceller
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.purging import Purger
from scheduler.services.queues import QueueKeeper
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.tracker.folding import Folder
from scheduler.wire import api
from scheduler.wire.ids import execution_id
from scheduler.wire.record import encode_execution
from scheduler.wire.schedule import ScheduleLimits

HELLO = {"every": "10s", "queue": "default", "type": "hello", "payload": {"n": 1}}
EVERYTHING = 10**9
CLAIM_FLOOR_S = 1800.0
T = TypeVar("T")


class Stage:
    """`schedules`, `executions` ... are the buckets of this replica; `api` is what is tested."""

    def __init__(self, **index: int) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.telemetry = RecordingTelemetry()
        self.schedules = MemoryBucket(self.server, "schedd-schedules")
        self.executions = MemoryBucket(self.server, "schedd-executions")
        self.status = MemoryBucket(self.server, "schedd-status")
        self.control = MemoryBucket(self.server, "schedd-control")
        self.workers = MemoryBucket(self.server, "schedd-workers")
        self.logs = MemoryLogs(self.server)
        self.actions = MemoryActions(self.server)
        self.timeline = MemoryTimeline(self.server)
        self.queues = MemoryTaskQueues(self.server)
        self.storage = MemoryStorage(self.server)
        self.cache = ScheduleCache(self.schedules, self.clock, ScheduleLimits())
        self.index = ExecutionIndex(self.executions, self.clock, self.telemetry, **index)
        self.rows = StatusRows(self.status)
        self.applied = AppliedWatermark(self.timeline, self.clock)
        self.full: set[str] = set()
        self.keeper = QueueKeeper(
            queues=self.queues, control=self.control, clock=self.clock, telemetry=self.telemetry,
            defaults=QueueSettings(), max_pending=100_000,
        )  # fmt: skip
        self.api = self._api()
        self._office: Office | None = None

    def _api(self) -> Api:
        slots = SlotKeeper(self.rows)
        records = Records(self.executions, self.telemetry, claim_floor_s=CLAIM_FLOOR_S)
        events = MemoryEvents(self.server)
        self.events = events
        settlement = Settlement(slots, events, self.clock, lambda _: True, self.telemetry)
        launcher = Launcher(
            records=records, slots=slots, queues=self.queues, settlement=settlement, clock=self.clock,
            claim_floor_s=CLAIM_FLOOR_S, is_full=lambda queue: queue in self.full,
        )  # fmt: skip
        reports = MemoryReports(self.server)
        canceller = Canceller(
            records=records, reports=reports, queues=self.queues,
            cancels=MemoryCancels(self.server), launcher=launcher,
            folder=Folder(records=records, settlement=settlement, slots=slots, rows=self.rows),
            clock=self.clock, telemetry=self.telemetry,
        )  # fmt: skip
        launcher.ousters = canceller
        self.purger = Purger(
            queues=self.queues, records=records, reports=reports, canceller=canceller, clock=self.clock
        )
        backing = Backing(
            schedules=self.cache, bucket=self.schedules, control=self.control, timeline=self.timeline,
            rows=self.rows, records=records, index=self.index, launcher=launcher, canceller=canceller,
            applied=self.applied, events=events, logs=self.logs, workers=self.workers, actions=self.actions,
            reports=MemoryReports(self.server), queues=self.queues,
            keeper=self.keeper, purger=self.purger,
            clock=self.clock, telemetry=self.telemetry, limits=ScheduleLimits(), ack_wait_s=30.0,
            claim_floor_s=CLAIM_FLOOR_S, server="2.15.1", storage=self.storage,
        )  # fmt: skip
        return Api(backing)

    def noun(self, kind: type[T]) -> T:
        """The use cases of one kind."""
        return next(noun for noun in self.api.nouns if isinstance(noun, kind))

    async def start(self, *, applied: int = EVERYTHING) -> None:
        await self.set_applied(applied)
        await self.cache.start()
        await self.index.start()

    async def stop(self) -> None:
        await self.applied.stop()
        await self.cache.stop()
        await self.index.stop()

    async def set_applied(self, revision: int) -> None:
        """What a leader's batch would do to the watermark."""
        mark = Watermark(self.clock.now() + timedelta(seconds=60), applied=revision)
        if self._office is None:
            self._office = await self.timeline.take_office(
                holder="leader", lease_rev=1, at=START, expect_epoch=0, watermark=mark, expect_watermark=0
            )
        else:
            self._office = await self.timeline.commit(self._office, arms=(), disarms=(), watermark=mark)

    async def run(self, work: Awaitable[T], *, within_s: float = 30.0) -> T:
        """The result of the work, letting time pass in steps of 10 ms as long as it waits."""
        task = asyncio.ensure_future(work)
        until_s = self.clock.boottime_s() + within_s
        await self.clock.settle()
        while not task.done():
            assert self.clock.boottime_s() < until_s, "it takes too long"
            await self.clock.advance(0.01)
        return task.result()

    async def ask(self, endpoint: str, **body: Any) -> Any:
        """The decoded answer. An error comes out as the exception that it stands for."""
        answer = await self.run(self.api.answer(endpoint, json.dumps(body).encode()))
        if answer.error is not None:
            raise answer.error
        return json.loads(answer.body)

    async def put(self, schedule_id: str, schedule: dict[str, Any] | None = None, **more: Any) -> Any:
        return await self.ask("schedule.put", id=schedule_id, schedule=schedule or HELLO, **more)

    async def record(self, schedule: str, number: int, state: State = State.SUCCEEDED, queue: str = "default") -> str:
        """Store a record whose nominal time is that many seconds after the start."""
        at = START + timedelta(seconds=number)
        made = Execution(
            id=execution_id(schedule, at), schedule=schedule, generation=1, epoch=1, kind=Kind.AUTO, nominal_at=at,
            fire_at=at, queue=queue, type="t", state=state,
        )  # fmt: skip
        await self.executions.put(made.id, encode_execution(made))
        return made.id


def error_body(body: bytes) -> api.ErrorBody:
    return api.decode_reply(body, api.ErrorBody)
