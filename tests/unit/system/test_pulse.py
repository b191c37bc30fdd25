"""The heartbeat of the event loop: ill while starved, well after one long pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.system.pulse import LoopWatch


class StepClock:
    """A clock whose time passes only when the test says so; sleepers wake when they are due."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def boottime_s(self) -> float:
        return self._now_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._now_s, UTC)

    def offset_s(self) -> float:
        return 0.0

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        raise AssertionError("the heartbeat asks no server")

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_s + seconds, future))
        await future

    def stuck(self, seconds: float) -> None:
        """Time passes and nobody is woken."""
        self._now_s += seconds

    async def step(self, seconds: float) -> None:
        self._now_s += seconds
        for due_s, future in self._sleepers:
            if due_s <= self._now_s and not future.done():
                future.set_result(None)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def telemetry() -> RecordingTelemetry:
    return RecordingTelemetry()


@pytest.fixture
async def watch(clock: StepClock, telemetry: RecordingTelemetry) -> AsyncIterator[LoopWatch]:
    watch = LoopWatch(clock, telemetry, beat_s=1.0, lag_max_s=10.0)
    task = asyncio.create_task(watch.run())
    await clock.step(0.0)
    yield watch
    task.cancel()
    await asyncio.wait({task})


async def test_a_punctual_loop_is_well(clock: StepClock, watch: LoopWatch, telemetry: RecordingTelemetry) -> None:
    """Every beat on time: no problem, and the lag is reported as 0."""
    for _ in range(3):
        await clock.step(1.0)
    assert watch.problem() is None
    assert telemetry.of("loop_lag") == [{"seconds": 0.0}] * 3


async def test_an_overdue_beat_is_a_problem_at_once(clock: StepClock, watch: LoopWatch) -> None:
    """While the heartbeat has not been woken for eleven seconds beyond its time, the loop is ill."""
    clock.stuck(10.9)
    assert watch.problem() is None
    clock.stuck(1.0)
    assert watch.problem() == "the event loop is 10.9 s behind"


async def test_a_starved_loop_stays_ill_between_its_beats(clock: StepClock, watch: LoopWatch) -> None:
    """A loop whose every beat is late answers a probe right after a beat, and is ill all the same."""
    await clock.step(15.0)
    assert watch.problem() is not None
    await clock.step(15.0)
    assert watch.problem() is not None


async def test_one_long_pause_is_over_with_the_next_punctual_beat(clock: StepClock, watch: LoopWatch) -> None:
    """A process stopped for 40 s and continued is not to be killed for it."""
    await clock.step(40.0)
    await clock.step(1.0)
    assert watch.problem() is None
