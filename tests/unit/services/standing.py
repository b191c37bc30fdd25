"""A stage for leaders: candidates that stand for office, and can be stopped, skewed, cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

from scheduler.core.errors import Unavailable
from scheduler.core.leadership import LeaseTimings
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Watermark
from scheduler.services.hearing import Hearing
from scheduler.services.leader import Leader, Tenure
from tests.unit.services.planning_world import (
    TIMINGS,
    World,
)
from tests.unit.services.processes import Process

DEAF_AFTER_S = 20.0
TAKEN_OVER_S = TIMINGS.lease_s + 2.2 * TIMINGS.retry_s


class Candidate:
    """One replica that stands for office. Its duty notes its writes: every 0.5 s a fenced batch that says so."""

    def __init__(self, world: World, label: str, *, timings: LeaseTimings = TIMINGS, duty: Any = None) -> None:
        self.world, self.label = world, label
        self.process = Process(world.clock)
        self.control = world.control.replica()
        self.timeline = self.process.around(MemoryTimeline(world.server))
        self.telemetry = RecordingTelemetry()
        self.tenures: list[Tenure] = []
        self.writes: list[tuple[float, int]] = []
        """(boottime, epoch) of every fenced write that the storage took."""
        self.refused = 0
        self.duty_survives = False
        """Whether the duty waits out a storage that is away, as the planner does."""
        self.hears = True
        """Whether messages come over the connection that the duty uses."""
        self._received = 0
        self.timeline_fault: Callable[[], Awaitable[None]] | None = None
        self.leader = Leader(
            control=self.process.around(self.control),
            timeline=self.timeline,
            clock=self.process.clock,
            telemetry=self.telemetry,
            replica=label,
            version="1",
            timings=timings,
            duty=duty or self._write_on,
            first_watermark=self._first_watermark,
            hearing=Hearing(self.process.clock, self._count_received, DEAF_AFTER_S),
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.leader.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.cont()
        self.process.hanging.clear()
        self.leader.stop()
        assert self._task is not None
        while not self._task.done():
            await self.world.clock.advance(1.0)
        if not self._task.cancelled():
            self._task.result()

    @property
    def leads(self) -> bool:
        """Whether it believes so, and its term still holds."""
        tenure = self.leader.tenure
        return tenure is not None and tenure.remaining_s > 0

    @property
    def epochs(self) -> list[int]:
        return [tenure.office.epoch for tenure in self.tenures]

    @property
    def has_ended(self) -> bool:
        return self._task is not None and self._task.done()

    def _count_received(self) -> int:
        self._received += self.hears
        return self._received

    async def _first_watermark(self) -> Watermark:
        if self.timeline_fault is not None:
            await self.timeline_fault()
        return Watermark(self.world.clock.now())

    async def _write_on(self, tenure: Tenure) -> None:
        self.tenures.append(tenure)
        while True:
            try:
                await self.write(tenure)
            except Unavailable:
                if not self.duty_survives:
                    raise
            await self.process.clock.sleep(0.5)

    async def write(self, tenure: Tenure, *, checked: bool = True) -> None:
        if checked:
            tenure.check()
        try:
            mark = Watermark(self.world.clock.now())
            tenure.office = await self.timeline.commit(tenure.office, arms=(), disarms=(), watermark=mark)
        except BaseException:
            self.refused += 1
            raise
        self.writes.append((self.world.clock.boottime_s(), tenure.office.epoch))


@contextlib.asynccontextmanager
async def standing(world: World, *labels: str) -> AsyncIterator[list[Candidate]]:
    """Candidates, started one after the other, so that the first leads."""
    async with contextlib.AsyncExitStack() as stack:
        candidates = []
        for label in labels:
            candidates.append(await stack.enter_async_context(Candidate(world, label)))
            await world.clock.advance(0.3)
        assert [each.leads for each in candidates] == [True] + [False] * (len(labels) - 1)
        yield candidates


def leaders(candidates: list[Candidate]) -> list[str]:
    return [each.label for each in candidates if each.leads]


async def idle(tenure: Tenure) -> None:
    """A duty that writes nothing."""
    await asyncio.Event().wait()


def once(process: Process, name: str, do: Callable[[], object]) -> None:
    """Do it right before the next call of that name."""

    def on_call(called: str) -> None:
        if called == name:
            process.on_call = lambda _: None
            do()

    process.on_call = on_call
