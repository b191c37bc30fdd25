"""What every replica looks at: full queues, and the census of schedules; and running things together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.errors import Unavailable, Unsure
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.memory.clock import START, VirtualClock
from scheduler.memory.messages import Write
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.storage import MemoryStorage
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.queues import QueueState
from scheduler.ports.storage import Room, StoreState
from scheduler.services.schedules import OUT_OF_TOUCH_S, ScheduleCache
from scheduler.services.together import RESTART_MAX_S, kept_running, run_together, sleep_unless, within
from scheduler.services.watching import EVERY_S, STORAGE_EVERY_S, Census, QueueWatch, StorageWatch
from scheduler.wire.instants import format_instant
from scheduler.wire.schedule import ScheduleLimits
from tests.unit.services.planning_world import World

# --- queues


async def test_a_queue_is_full_at_its_limit() -> None:
    """As of a few seconds ago; below the limit again it is not; what is unknown is not full."""
    world, telemetry = World(), RecordingTelemetry()
    watch = QueueWatch(MemoryTaskQueues(world.server), world.clock, telemetry, max_pending=3)
    consumer = world.server.queue("Q")
    world.server.queue("empty")
    running = asyncio.create_task(watch.run())
    for number in range(3):
        await world.clock.advance(EVERY_S + 0.1)
        assert not watch.is_full("Q")
        world.server.tasks.store([Write(f"schedd.task.Q.{number}")])
    await world.clock.advance(EVERY_S)
    assert (watch.is_full("Q"), watch.is_full("empty"), watch.is_full("unknown")) == (True, False, False)
    (delivery,) = consumer.take(1)
    consumer.ack(delivery.token)
    await world.clock.advance(EVERY_S)
    assert not watch.is_full("Q")
    assert telemetry.of("queue", queue="Q")[-1] == {
        "queue": "Q", "pending": 2, "ack_pending": 0, "paused": False, "oldest_s": pytest.approx(9.8, abs=5.1)
    }  # fmt: skip
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_how_full_streams_are_is_told() -> None:
    """By the tighter of two limits, not at all without one; the account's share; an outage ends nothing."""
    world, telemetry = World(), RecordingTelemetry()
    storage = MemoryStorage(world.server)
    storage.told = [
        StoreState(name="A", messages=9, size=50, bytes_max=100, messages_max=10),
        StoreState(name="B", messages=1, size=30),
    ]
    running = asyncio.create_task(StorageWatch(storage, world.clock, telemetry).run())
    await world.clock.settle()
    assert telemetry.of("stream") == [
        {"stream": "A", "size": 50, "fill": 0.9},
        {"stream": "B", "size": 30, "fill": None},
    ]
    assert telemetry.of("storage") == [{"fill": 0.0}]
    world.server.down = True
    await world.clock.advance(STORAGE_EVERY_S)
    world.server.down, storage.limit = False, 100
    await world.clock.advance(STORAGE_EVERY_S)
    assert telemetry.of("storage") == [{"fill": 0.0}, {"fill": 0.8}]
    assert Room(5, None).fill == 0.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_queue_has_a_limit_of_its_own() -> None:
    """`max_pending` of the queue goes before the default, and holds while it is paused; at 70 % the log warns, once."""
    world, telemetry = World(), RecordingTelemetry()
    queues = MemoryTaskQueues(world.server)
    watch = QueueWatch(queues, world.clock, telemetry, max_pending=2)
    await queues.ensure("Q", QueueEdit(QueueSettings(max_pending=10, pause=Pause())))
    for number in range(9):
        world.server.tasks.store([Write(f"schedd.task.Q.{number}")])
        await watch.look()
        assert not watch.is_full("Q")
    world.server.tasks.store([Write("schedd.task.Q.x")])
    await watch.look()
    assert watch.is_full("Q")
    assert telemetry.of("queue")[-1]["paused"] is True
    assert (watch.ack_wait_s("Q"), watch.ack_wait_s("NONE")) == (30.0, None)


async def test_a_queue_that_fills_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """At 70 %, again after it was below; the same for storage."""
    world, telemetry = World(), RecordingTelemetry()
    watch = QueueWatch(MemoryTaskQueues(world.server), world.clock, telemetry, max_pending=10)
    consumer = world.server.queue("Q")

    def told(event: str) -> int:
        return sum(getattr(record, "event", "") == event for record in caplog.records)

    for number in range(8):
        world.server.tasks.store([Write(f"schedd.task.Q.{number}")])
        await watch.look()
        assert told("queue_filling") == (number >= 6)
    consumer.take(5)
    await watch.look()
    for number in range(5):
        world.server.tasks.store([Write(f"schedd.task.Q.more{number}")])
    await watch.look()
    assert told("queue_filling") == 2
    storage = MemoryStorage(world.server)
    storage_watch = StorageWatch(storage, world.clock, telemetry)
    for size, times in ((69, 0), (70, 1), (90, 1), (10, 1), (71, 2)):
        storage.told = [StoreState(name="A", messages=9, size=size, bytes_max=100)]
        await storage_watch.look()
        assert told("storage_filling") == times


async def test_a_queue_that_is_gone() -> None:
    """Its gauges go, and whoever believes in its consumer is told."""
    world, telemetry = World(), RecordingTelemetry()
    queues = MemoryTaskQueues(world.server)
    watch = QueueWatch(queues, world.clock, telemetry, max_pending=10)
    gone: list[bool] = []
    watch.on_gone = lambda: gone.append(True)
    await queues.ensure("Q")
    await queues.ensure("R")
    await watch.look()
    assert not gone
    await queues.drop("Q")
    await watch.look()
    assert gone == [True]
    assert telemetry.of("queue_gone") == [{"queue": "Q"}]


async def test_an_outage_leaves_what_was_known() -> None:
    """Queues that were full stay full until we know better, and the watch goes on."""

    class Away(MemoryTaskQueues):
        away = False

        async def queues(self) -> list[QueueState]:
            if self.away:
                raise Unavailable("electing")
            return await super().queues()

    world, telemetry = World(), RecordingTelemetry()
    queues = Away(world.server)
    watch = QueueWatch(queues, world.clock, telemetry, max_pending=1)
    world.server.queue("Q")
    world.server.tasks.store([Write("schedd.task.Q.1")])
    running = asyncio.create_task(watch.run())
    await world.clock.advance(1)
    assert watch.is_full("Q")
    queues.away = True
    await world.clock.advance(EVERY_S * 3)
    assert watch.is_full("Q")
    queues.away = False
    world.server.queue("Q").take(1)
    await world.clock.advance(EVERY_S)
    assert not watch.is_full("Q")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- census


async def test_the_census_counts_every_state() -> None:
    """Deleted ones not, invalid keys as invalid, pauses, one-shots and windows by the time it is."""
    world, telemetry = World(), RecordingTelemetry()
    schedules = ScheduleCache(world.schedules, world.clock, ScheduleLimits())
    soon = format_instant(START + timedelta(seconds=20))
    world.put("every", every="1s")
    world.put("manual", manual=True)
    world.put("paused", every="1s", paused=True)
    world.put("until", every="1s", paused=True, paused_until=soon)
    world.put("once", at=soon)
    world.put("window", every="1s", ends_at=soon)
    world.put("manual-window", manual=True, ends_at=soon)
    world.put_raw("bad", b"{")
    world.schedules.put_raw("-bad", b"{}")
    world.put("gone", every="1s")
    world.delete("gone")
    await schedules.start()
    running = asyncio.create_task(Census(schedules, world.clock, telemetry).run())
    await world.clock.advance(1)
    assert telemetry.of("schedules")[-1]["counts"] == {"active": 5, "paused": 2, "invalid": 2, "exhausted": 0}
    await world.clock.advance(25)
    assert telemetry.of("schedules")[-1]["counts"] == {"active": 4, "paused": 1, "invalid": 2, "exhausted": 2}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await schedules.stop()


async def test_an_idle_replica_stays_in_touch() -> None:
    """Nobody asks it anything for hours: a silent watch or an outage costs it no deletion."""
    world, telemetry = World(), RecordingTelemetry()
    own = world.schedules.replica()
    schedules = ScheduleCache(own, world.clock, ScheduleLimits())
    world.put("a", every="1s")
    world.put("b", every="1s")
    await schedules.start()
    running = asyncio.create_task(Census(schedules, world.clock, telemetry).run())
    own.stall_watches()
    world.delete("a")
    await world.clock.advance(EVERY_S + 1)
    assert schedules.live_ids() == ["b"]
    world.server.down = True
    marker = world.delete("b")
    await world.clock.advance(2 * OUT_OF_TOUCH_S)
    assert telemetry.of("schedules")[-1]["counts"] == {"active": 1, "paused": 0, "invalid": 0, "exhausted": 0}
    world.server.down = False
    await world.schedules.expire(marker)
    await world.clock.advance(2 * EVERY_S)
    assert schedules.live_ids() == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await schedules.stop()


# --- together


async def forever() -> None:
    await asyncio.Event().wait()


async def failing(problem: Exception) -> None:
    raise problem


async def test_together_they_end_with_the_first() -> None:
    """Its error is raised; a return is a return; whoever else runs is cancelled and waited for."""
    ended: list[str] = []

    async def noted() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append("noted")

    with pytest.raises(Unsure):
        await run_together(noted(), failing(Unsure("why")))
    await run_together(noted(), asyncio.sleep(0))
    task = asyncio.create_task(run_together(noted(), noted()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended == ["noted"] * 4


async def test_a_pause_is_cut_by_its_event() -> None:
    """By the event, by the time, or at once if it was set before; nothing is left behind."""
    clock, event = VirtualClock(), asyncio.Event()
    pause = asyncio.create_task(sleep_unless(event, clock, 10))
    await clock.advance(9)
    assert not pause.done()
    event.set()
    await clock.settle()
    assert pause.done()
    pause = asyncio.create_task(sleep_unless(asyncio.Event(), clock, 10))
    await clock.advance(10)
    assert pause.done()
    await sleep_unless(event, clock, 10)


async def test_an_answer_in_time() -> None:
    """The answer, its error, or Unsure; whoever is cancelled cancels what was asked."""
    clock = VirtualClock()

    async def answer() -> int:
        await clock.sleep(1)
        return 7

    async def asked(answer: Coroutine[Any, Any, object], seconds: float) -> asyncio.Task[object]:
        task = asyncio.create_task(within(seconds, clock, answer))
        await clock.advance(3)
        return task

    assert await (await asked(answer(), 2)) == 7
    with pytest.raises(Unsure, match="no answer within"):
        await (await asked(answer(), 0.5))
    with pytest.raises(Unavailable):
        await (await asked(failing(Unavailable("no")), 2))
    task = asyncio.create_task(within(10, clock, forever()))
    await clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_service_starts_again_whatever_ends_it() -> None:
    """A return, an error, a cancellation that was not meant for it; slower each time, and quick again after a while."""
    clock = VirtualClock()
    starts: list[float] = []

    async def serve() -> None:
        starts.append(clock.boottime_s())
        if len(starts) == 8:
            await clock.sleep(RESTART_MAX_S + 1)
        if len(starts) == 2:
            raise RuntimeError("a bug")
        if len(starts) == 3:
            raise asyncio.CancelledError
        if len(starts) == 9:
            await forever()

    task = asyncio.create_task(kept_running("it", clock, serve))
    await clock.advance(120)
    assert len(starts) == 9
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[0] < 0.4
    assert gaps[6] > 4
    assert gaps[7] < RESTART_MAX_S + 1.4
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
