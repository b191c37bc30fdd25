"""The clock: what services rely on, in virtual time and in real time alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

import pytest

from scheduler.memory.clock import VirtualClock
from scheduler.ports.clock import Clock
from scheduler.system.clock import SystemClock


class Place(NamedTuple):
    """A clock, and how time passes for it."""

    clock: Clock
    wait: Callable[[float], Awaitable[None]]


@pytest.fixture(params=["memory", "system"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "system":
        return Place(SystemClock(), asyncio.sleep)
    clock = VirtualClock()
    return Place(clock, clock.advance)


async def test_now(place: Place) -> None:
    """Aware, UTC, cut to milliseconds, and it goes on as time does."""
    before = place.clock.now()
    assert before.utcoffset() == timedelta(0)
    assert before.microsecond % 1000 == 0
    await place.wait(0.05)
    assert timedelta(seconds=0.05) <= place.clock.now() - before + timedelta(milliseconds=1)


async def test_boottime_counts_seconds(place: Place) -> None:
    """Seconds that never turn back, whatever `now` is told to be."""
    before = place.clock.boottime_s()
    await place.wait(0.05)
    assert before + 0.05 <= place.clock.boottime_s() + 0.001


async def test_sleepers_wake_in_order_and_not_early(place: Place) -> None:
    """Each at its own instant or later; nothing and less than nothing is a turn for others; who is cancelled sleeps no
    more."""
    woken: list[float] = []
    started = place.clock.boottime_s()

    async def sleep(seconds: float) -> None:
        await place.clock.sleep(seconds)
        assert place.clock.boottime_s() - started >= seconds - 0.001
        woken.append(seconds)

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (0.09, -1, 0.03, 0, 0.06)]
    tasks[-1].cancel()
    await place.wait(0.01)
    assert woken == [-1, 0]
    await place.wait(0.2)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert woken == [-1, 0, 0.03, 0.09]


async def test_a_server_that_agrees_changes_nothing(place: Place) -> None:
    """Told the time that it has already, the offset is (nearly) none; before it was told anything it is none."""
    assert place.clock.offset_s() == 0.0
    for _ in range(5):
        at = place.clock.boottime_s()
        place.clock.observe_server(place.clock.now(), at - 0.001, at)
    assert abs(place.clock.offset_s()) < 0.05
