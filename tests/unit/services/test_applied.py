"""Waiting for the watermark: one poller, honest time-outs, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.memory.clock import START, VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Stored, Watermark
from scheduler.services.applied import AppliedWatermark


class CountingTimeline(MemoryTimeline):
    reads = 0

    async def watermark(self) -> Stored | None:
        self.reads += 1
        return await super().watermark()


class Stage:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.timeline = CountingTimeline(self.server)
        self.applied = AppliedWatermark(self.timeline, self.clock, timeout_s=5.0)
        self._office: Any = None

    async def set(self, revision: int) -> None:
        mark = Watermark(START, applied=revision)
        if self._office is None:
            self._office = await self.timeline.take_office(
                holder="a", lease_rev=1, at=START, expect_epoch=0, watermark=mark, expect_watermark=0
            )
        else:
            self._office = await self.timeline.commit(self._office, arms=(), disarms=(), watermark=mark)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    found = Stage()
    yield found
    await found.applied.stop()


async def test_it_returns_when_the_watermark_gets_there(stage: Stage) -> None:
    """A waiter goes on within a poll of the commit, and not before."""
    await stage.set(4)
    waiting = asyncio.create_task(stage.applied.wait(5))
    await stage.clock.advance(1.0)
    assert not waiting.done()
    await stage.set(5)
    await stage.clock.advance(0.05)
    assert waiting.done()
    await waiting


async def test_what_is_known_to_be_applied_costs_nothing(stage: Stage) -> None:
    """A revision below the last one seen is answered without a read."""
    await stage.set(9)
    await stage.applied.wait(9)
    reads = stage.timeline.reads
    await stage.applied.wait(3)
    assert stage.timeline.reads == reads == 1


async def test_all_waiters_share_one_poller(stage: Stage) -> None:
    """A hundred waiters cost as many reads as one, and nobody reads while nobody waits."""
    waiting = [asyncio.create_task(stage.applied.wait(number)) for number in range(1, 101)]
    await stage.clock.advance(1.0)
    assert stage.timeline.reads <= 0.5 / 0.01 + 0.5 / 0.05 + 2
    await stage.set(50)
    await stage.clock.advance(0.1)
    assert [task.done() for task in waiting] == [True] * 50 + [False] * 50
    await stage.set(100)
    await stage.clock.advance(0.1)
    await asyncio.gather(*waiting)
    reads = stage.timeline.reads
    await stage.clock.advance(10)
    assert stage.timeline.reads == reads


async def test_the_time_is_over(stage: Stage) -> None:
    """After the time-out the waiter is told what is true: stored, not yet applied; others go on waiting."""
    impatient = asyncio.create_task(stage.applied.wait(7, timeout_s=1.0))
    patient = asyncio.create_task(stage.applied.wait(7))
    await stage.clock.advance(1.1)
    with pytest.raises(Unavailable, match="stored as revision 7, not yet applied"):
        await impatient
    assert not patient.done()
    await stage.set(7)
    await stage.clock.advance(0.1)
    await patient


async def test_an_outage_of_the_timeline_is_waited_out(stage: Stage) -> None:
    """Reads that fail do not fail the waiter before its time is over."""
    stage.server.down = True
    waiting = asyncio.create_task(stage.applied.wait(1))
    await stage.clock.advance(2)
    assert not waiting.done()
    stage.server.down = False
    await stage.set(1)
    await stage.clock.advance(0.1)
    await waiting


async def test_a_waiter_that_is_cancelled_takes_the_poller_with_it(stage: Stage) -> None:
    """The last waiter's end is the poller's, and a new waiter starts another one."""
    waiting = asyncio.create_task(stage.applied.wait(1))
    await stage.clock.advance(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert [task for task in asyncio.all_tasks() if task.get_name() == "applied-watermark"] == []
    again = asyncio.create_task(stage.applied.wait(1))
    await stage.set(1)
    await stage.clock.advance(0.1)
    await again


async def test_stopping_tells_those_who_wait(stage: Stage) -> None:
    """A replica that stops does not leave its callers hanging."""
    waiting = asyncio.create_task(stage.applied.wait(1))
    await stage.clock.advance(0.1)
    await stage.applied.stop()
    with pytest.raises(Unavailable, match="this replica stops"):
        await waiting
