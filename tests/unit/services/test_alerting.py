"""Alerts from the events of runs: told once each, over restarts and faults, and nothing kept of who is well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.leadership import Term
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import START, VirtualClock
from scheduler.memory.event_feed import MemoryEventFeed
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Write
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.queues import Fact
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.alerting import Alerting
from scheduler.services.executions import ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.records import Records
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.alerts import finished_data
from scheduler.wire.events import Event, decode_event
from scheduler.wire.ids import execution_id
from scheduler.wire.record import encode_execution
from scheduler.wire.schedule import ScheduleLimits

DAILY = {"every": "1m", "queue": "q", "type": "t", "labels": {"team": "crm"}}
WORDS = {"s": State.SUCCEEDED, "f": State.FAILED}


class World:
    """One server and a leader that can be changed."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.control = MemoryBucket(self.server, "schedd-control")
        self.schedules = MemoryBucket(self.server, "schedd-schedules")
        self.executions = MemoryBucket(self.server, "schedd-executions")
        self.events = MemoryEvents(self.server)
        self.telemetry = RecordingTelemetry()
        self.index = ExecutionIndex(self.executions, self.clock, self.telemetry)
        self.cache = ScheduleCache(self.schedules, self.clock, ScheduleLimits())
        self.runs = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.schedules.put_raw("daily", json.dumps(DAILY).encode())
        await asyncio.gather(self.index.start(), self.cache.start())
        await self.lead()

    async def lead(self) -> None:
        """A new leader instead of the one before."""
        await self.end()
        duty = Alerting(
            feed=MemoryEventFeed(self.server),
            events=self.events,
            control=self.control.replica(),
            schedules=self.cache,
            index=self.index,
            records=Records(self.executions, self.telemetry, claim_floor_s=1800),
            queues=MemoryTaskQueues(self.server),
            clock=self.clock,
            telemetry=self.telemetry,
            late_after=timedelta(seconds=60),
        )
        tenure = Tenure(self.clock, Term(1, 1e9), Office(1, 1, Watermark(START)))
        self._task = asyncio.create_task(duty.run(tenure))
        await self.clock.advance(1)

    async def end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        await self.end()
        await asyncio.gather(self.index.stop(), self.cache.stop())

    def execution(self, **more: Any) -> Execution:
        self.runs += 1
        at: datetime = START + timedelta(minutes=self.runs)
        values = {"state": State.SUCCEEDED, "fire_at": at, "kind": Kind.AUTO, **more}
        return Execution(
            id=execution_id("daily", at), schedule="daily", generation=1, epoch=1, nominal_at=at, queue="q", type="t",
            **values,
        )  # fmt: skip

    async def finish(self, outcomes: str, **more: Any) -> None:
        for letter in outcomes:
            execution = self.execution(state=WORDS[letter], **more)
            await self.events.publish("finished", "daily", finished_data(execution))
        await self.clock.advance(3)

    def told(self, *kinds: str) -> list[Event]:
        found = [decode_event(each.data) for each in self.server.events.messages.values()]
        return [event for event in found if event.kind in kinds]

    def health(self) -> list[str]:
        prefix = "$KV.schedd-control.health."
        found = (self.control.stream.last_of(subject) for subject in self.control.stream.subjects(f"{prefix}>"))
        return [each.subject.removeprefix("$KV.schedd-control.") for each in found if each is not None and each.data]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    yield made
    await made.close()


async def test_failed_and_recovered(world: World) -> None:
    """Told with what is known of the run, its labels included; an id that follows from the event it comes from."""
    await world.finish("sffs")
    one, two = world.told("failed")
    (recovered,) = world.told("recovered")
    assert one.data["execution_id"] == "daily.20261121T080200000Z"
    assert (one.data["state"], one.data["labels"], one.data["failures"]) == ("failed", {"team": "crm"}, 1)
    assert (two.data["failures"], recovered.data["failures"]) == (2, 2)
    assert recovered.data["failing_since"] == one.data["failing_since"]
    assert one.id == "failed-" + world.told("finished")[1].id
    assert one.schedule_id == "daily"


async def test_nothing_is_kept_of_who_is_well(world: World) -> None:
    """A schedule that fails is remembered, one that is well again for ten runs, or is deleted, is forgotten."""
    await world.finish("sss")
    assert world.health() == []
    await world.finish("f")
    assert world.health() == ["health.daily"]
    await world.finish("s" * 10)
    assert world.health() == []
    await world.finish("f")
    await world.events.publish("deleted", "daily", {"generation": 2})
    await world.clock.advance(3)
    assert world.health() == []


@pytest.mark.parametrize("outcomes", ["ffffs", "fsfsfsfsssssssss"])
async def test_a_change_of_leader_at_any_event_tells_the_same(world: World, outcomes: str) -> None:
    """What was kept of a schedule is enough to go on; nothing is told twice under another id."""
    for letter in outcomes:
        await world.finish(letter)
        await world.lead()
    alerts = world.told("failed", "recovered", "flapping")
    kinds = [event.kind for event in alerts]
    assert kinds.count("failed") == outcomes.count("f")
    assert kinds.count("recovered") == outcomes.count("fs")
    assert [event.data["state"] for event in alerts if event.kind == "flapping"] == (
        ["started", "stopped"] if "fsfs" in outcomes else []
    )
    assert len({event.id for event in alerts}) == len(alerts)


async def test_events_of_a_time_without_a_leader(world: World) -> None:
    """What ended while nobody led is told by the next one."""
    await world.end()
    await world.finish("f")
    assert world.told("failed") == []
    await world.lead()
    assert len(world.told("failed")) == 1


async def test_faults(world: World) -> None:
    """Whatever fails, each failure is told in the end, repeats under the same id, and the sums are right."""
    for fault in (
        lambda: world.control.fail_next(Unavailable("electing")),
        lambda: world.server.lose_ack_next(1),
        lambda: world.server.lose_next(1),
        lambda: setattr(world.server, "down", True),
    ):
        execution = world.execution(state=State.FAILED)
        await world.events.publish("finished", "daily", finished_data(execution))
        fault()
        await world.clock.advance(6)
        world.server.down = False
        await world.clock.advance(10)
    await world.lead()
    await world.finish("f")
    by_id = {event.id: event.data["failures"] for event in world.told("failed")}
    assert sorted(by_id.values()) == [1, 2, 3, 4, 5]


async def test_missed(world: World) -> None:
    """A range that was missed is one event; other verdicts are none."""
    data: dict[str, object] = {
        "from": "2026-11-21T08:00:00.000Z", "to": "2026-11-21T08:10:00.000Z", "count": 11, "reason": "cap",
        "generation": 1,
    }  # fmt: skip
    await world.events.store([Fact("v1", "verdicts", "daily", {**data, "verdict": "missed"})])
    await world.events.store([Fact("v2", "verdicts", "daily", {**data, "verdict": "paused"})])
    await world.events.store([Fact("v3", "verdicts", "daily", {"what": "ever"})])
    await world.clock.advance(3)
    (missed,) = world.told("missed")
    assert (missed.id, missed.data["count"], missed.data["failures"]) == ("missed-v1", 11, 11)
    assert world.telemetry.count("dropped", what="alert", reason="unreadable") == 1


async def test_late_at_its_end(world: World) -> None:
    """A run that was dispatched more than the limit after its fire time."""
    at = START + timedelta(hours=1)
    await world.finish("s", fire_at=at, queued_at=at + timedelta(seconds=59))
    await world.finish("s", fire_at=at, queued_at=at + timedelta(seconds=61))
    await world.finish("s", fire_at=at, queued_at=at + timedelta(days=61), kind=Kind.BACKFILL)
    (late,) = world.told("late")
    assert late.data["lateness_s"] == 61


async def test_late_while_it_waits(world: World) -> None:
    """A run that nobody has begun is told once, not again at its end; one that was delivered, or waits less, is not."""
    now = world.clock.now()
    waiting = world.execution(state=State.QUEUED, fire_at=now, queued_at=now, task_seq=7)
    slot = world.execution(state=State.WAITING, fire_at=now)
    backfill = world.execution(state=State.QUEUED, fire_at=now, queued_at=now, task_seq=8, kind=Kind.BACKFILL)
    running = world.execution(state=State.RUNNING, fire_at=now, attempt=1)
    for each in (waiting, slot, backfill, running):
        world.executions.put_raw(each.id, encode_execution(each))
    await world.clock.advance(58)
    assert world.told("late") == []
    await world.clock.advance(20)
    assert {event.data["execution_id"] for event in world.told("late")} == {waiting.id, slot.id}
    await world.clock.advance(60)
    at_end = {**finished_data(waiting), "state": "succeeded", "lateness_s": 75.0}
    await world.events.publish("finished", "daily", at_end)
    await world.clock.advance(60)
    assert len(world.told("late")) == 2
    await world.lead()
    await world.clock.advance(20)
    assert len({event.id for event in world.told("late")}) == 2


async def test_a_retry_is_late_by_its_own_time(world: World) -> None:
    """Its fire time is long past: it waits since somebody asked for it; and how late its first drive was is told."""
    now = world.clock.now()
    week = now - timedelta(days=7)
    again = world.execution(state=State.QUEUED, fire_at=week, queued_at=week, claimed_at=now, task_seq=7, drive=1)
    world.executions.put_raw(again.id, encode_execution(again))
    ended = world.execution(fire_at=week, queued_at=week + timedelta(hours=1), drive=1)
    await world.events.publish("finished", "daily", finished_data(ended))
    await world.clock.advance(58)
    assert world.told("late") == []
    await world.clock.advance(20)
    (late,) = world.told("late")
    assert late.data["execution_id"] == again.id
    assert 60 <= late.data["waited_s"] < 80


async def test_what_a_worker_has_is_not_late(world: World) -> None:
    """A plain worker tells nothing before it is done: what was delivered to it has begun."""
    now = world.clock.now()
    busy = world.execution(state=State.QUEUED, fire_at=now, queued_at=now, task_seq=1)
    world.executions.put_raw(busy.id, encode_execution(busy))
    queue = world.server.queue("q")
    world.server.tasks.store([Write(world.server.names.task("q", busy.id))])
    assert queue.take(1)
    await world.clock.advance(100)
    assert world.told("late") == []
