"""Virtual time, and the faults of the memory server."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from scheduler.core.errors import Fenced, Unavailable, Unsure
from scheduler.core.model.occurrence import Occurrence
from scheduler.memory.clock import START, VirtualClock
from scheduler.memory.messages import matches
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.server import MemoryServer
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.queues import Pair, Queued
from scheduler.ports.timeline import Due, Office, Watermark

PAIR = Pair("x.20261121T080000000Z", 0, "Q", b"", {}, 60)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server(clock: VirtualClock) -> MemoryServer:
    return MemoryServer(clock)


async def office_of(timeline: MemoryTimeline) -> Office:
    watermark = Watermark(START)
    return await timeline.take_office(
        holder="me", lease_rev=1, at=START, expect_epoch=0, watermark=watermark, expect_watermark=0
    )


async def test_sleepers_wake_in_order(clock: VirtualClock) -> None:
    """Whoever sleeps wakes at its own instant, in order, and sees that instant; nobody wakes before time moves."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, (clock.now() - START).total_seconds()))

    tasks = [asyncio.create_task(sleeper("a", 2, 2)), asyncio.create_task(sleeper("b", 3, 0.5))]
    await clock.settle()
    assert woken == []
    await clock.advance(10)
    assert woken == [("a", 2.0), ("b", 3.0), ("b", 3.5), ("a", 4.0)]
    assert clock.now() == START + timedelta(seconds=10)
    assert clock.boottime_s() == VirtualClock().boottime_s() + 10
    await asyncio.gather(*tasks)


async def test_a_cancelled_sleeper(clock: VirtualClock) -> None:
    """A sleeper that was cancelled does not disturb the advance of time."""
    task = asyncio.create_task(clock.sleep(1))
    await clock.settle()
    task.cancel()
    await clock.advance(2)
    assert task.cancelled()


async def test_occurrences_of_minutes_take_no_time(clock: VirtualClock, server: MemoryServer) -> None:
    """What is armed over an hour comes due in order, each at its own virtual instant."""
    timeline = MemoryTimeline(server)
    arms = [
        Occurrence("x", START + timedelta(minutes=minute), START + timedelta(minutes=minute), 1)
        for minute in range(1, 61)
    ]
    await timeline.commit(await office_of(timeline), arms=arms, disarms=[], watermark=Watermark(START))
    seen: list[Due] = []

    async def dispatch() -> None:
        while len(seen) < 60:
            for due in await timeline.pull_due(10, 2.0):
                assert isinstance(due, Due)
                seen.append(due)
                await timeline.ack([due.ack])

    task = asyncio.create_task(dispatch())
    await clock.advance(3601)
    await task
    assert [due.at for due in seen] == [arm.fire_at for arm in arms]


async def test_refused_in_flight(server: MemoryServer) -> None:
    """A write refused for now is not stored, and the next one is."""
    timeline = MemoryTimeline(server)
    office = await office_of(timeline)
    server.refuse_in_flight_next()
    with pytest.raises(Unavailable):
        await timeline.commit(office, arms=[], disarms=[], watermark=Watermark(START))
    await timeline.commit(office, arms=[], disarms=[], watermark=Watermark(START))


async def test_lost_on_the_way(clock: VirtualClock, server: MemoryServer) -> None:
    """A write that never arrives is Unsure, and never lands."""
    queues = MemoryTaskQueues(server)
    server.lose_next()
    (result,) = await queues.publish([PAIR])
    assert isinstance(result, Unsure)
    await clock.advance(3600)
    assert await queues.claimed_seq(PAIR.execution_id, 0) is None


async def test_late_and_too_late(clock: VirtualClock, server: MemoryServer) -> None:
    """A late write lands if its expectations still hold then, and is refused if not."""
    timeline, queues = MemoryTimeline(server), MemoryTaskQueues(server)
    office = await office_of(timeline)
    server.land_late(2, after_s=5)
    (result,) = await queues.publish([PAIR])
    assert isinstance(result, Unsure)
    with pytest.raises(Unsure):
        await timeline.commit(office, arms=[], disarms=[], watermark=Watermark(START, 9))
    newer = await timeline.commit(office, arms=[], disarms=[], watermark=Watermark(START, 10))
    await clock.advance(5)
    stored = await timeline.watermark()
    assert stored is not None
    assert stored.seq == newer.watermark_seq
    assert await queues.claimed_seq(PAIR.execution_id, 0) is not None
    with pytest.raises(Fenced):
        await timeline.commit(office, arms=[], disarms=[], watermark=Watermark(START))


async def test_down(clock: VirtualClock, server: MemoryServer) -> None:
    """While the server is down everything is Unavailable; what came due meanwhile is there when it is back."""
    timeline, queues = MemoryTimeline(server), MemoryTaskQueues(server)
    at = START + timedelta(seconds=10)
    office = await office_of(timeline)
    await timeline.commit(office, arms=[Occurrence("x", at, at, 1)], disarms=[], watermark=Watermark(at))
    server.down = True
    await clock.advance(60)
    for refused in (timeline.epoch(), timeline.pull_due(1, 1.0), timeline.armed("x"), queues.queues()):
        with pytest.raises(Unavailable):
            await refused
    server.down = False
    (due,) = await timeline.pull_due(1, 1.0)
    assert isinstance(due, Due)
    assert due.at == at


async def test_max_ack_pending(server: MemoryServer, clock: VirtualClock) -> None:
    """A consumer gives out no more than may be unacknowledged; an ack makes room."""
    queues = MemoryTaskQueues(server)
    await queues.ensure("Q")
    pairs = [Pair(f"x{number}.20261121T080000000Z", 0, "Q", b"", {}, 60) for number in range(1001)]
    assert all(isinstance(result, Queued) for result in await queues.publish(pairs))
    consumer = server.queue("Q")
    taken = consumer.take(2000)
    assert len(taken) == 1000
    waiting = asyncio.create_task(consumer.pull(10, 5.0))
    await clock.settle()
    assert not waiting.done()
    consumer.ack(taken[0].token)
    assert [delivery.message.subject for delivery in await waiting] == ["schedd.task.Q.x1000.20261121T080000000Z"]


@pytest.mark.parametrize(
    ("subject", "pattern", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.*", True),
        ("a.b.c", "a.*", False),
        ("a.b.c", "a.>", True),
        ("a", "a.>", False),
        ("a.b.c.d", "a.*.c.>", True),
        ("ab", "a*", False),
        ("a", ">", True),
    ],
)
def test_patterns(subject: str, pattern: str, expected: bool) -> None:
    """Patterns match as NATS matches them."""
    assert matches(subject, pattern) is expected


async def test_restarted(clock: VirtualClock, server: MemoryServer) -> None:
    """A server that is gone answers nobody and fires nothing; back again it does both, and counts deliveries anew."""
    timeline = MemoryTimeline(server)
    office = await office_of(timeline)
    arms = [Occurrence("a", START + timedelta(seconds=each), START + timedelta(seconds=each), 1) for each in (1, 3)]
    await timeline.commit(office, arms=arms, disarms=[], watermark=Watermark(START))
    await clock.advance(2)
    (first,) = await timeline.pull_due(10, 0.0)
    waiting = asyncio.ensure_future(timeline.pull_due(10, 60.0))
    await clock.settle()
    server.stop()
    await clock.advance(2)
    with pytest.raises(Unavailable):
        await waiting
    assert server.timeline.held == 1
    assert server.start() == 1
    again = await timeline.pull_due(10, 0.0)
    assert isinstance(first, Due)
    assert [(each.nominal_at, each.delivered) for each in again if isinstance(each, Due)] == [
        (arms[0].nominal_at, 1),
        (arms[1].nominal_at, 1),
    ]


async def test_stuck_fires(clock: VirtualClock, server: MemoryServer) -> None:
    """What came due while the timers were lost stays armed for good; armed anew it fires."""
    timeline = MemoryTimeline(server)
    office = await office_of(timeline)
    at = START + timedelta(seconds=1)
    arm = Occurrence("a", at, at, 1)
    office = await timeline.commit(office, arms=[arm], disarms=[], watermark=Watermark(START))
    server.timeline.holds_fires = True
    await clock.advance(2)
    server.timeline.holds_fires = False
    await clock.advance(60)
    assert await timeline.pull_due(10, 0.0) == []
    assert await timeline.armed("a") == [at]
    await timeline.commit(office, arms=[arm], disarms=[], watermark=Watermark(START))
    await clock.advance(1)
    (due,) = await timeline.pull_due(10, 0.0)
    assert isinstance(due, Due)
    assert server.timeline.held == 0
