"""Virtual time: it stands still until a test advances it, and then everything that is due happens in order.

clock = VirtualClock()
task = asyncio.create_task(clock.sleep(60))
await clock.advance(60)
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from scheduler.wire.instants import cut

START = datetime(2026, 11, 21, 8, tzinfo=UTC)
SETTLE_TURNS = 50  # turns of the event loop that tasks get to do all they can at one instant
_BOOT_S = 1000.0


class VirtualClock:
    """Implements `ports.clock.Clock`; also the timer of the memory twins."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._now = start
        self._timers: list[tuple[datetime, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return cut(self._now)

    def boottime_s(self) -> float:
        return _BOOT_S + (self._now - self._start).total_seconds()

    def offset_s(self) -> float:
        return 0.0

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        """The server's time is this clock's."""

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_at(self._now + timedelta(seconds=seconds), lambda: wake(woken))
        await woken

    def call_at(self, at: datetime, callback: Callable[[], object]) -> None:
        """Call back when time gets there (an instant that has passed: when time next moves). Never cancelled."""
        heapq.heappush(self._timers, (at, next(self._numbers), callback))

    async def advance(self, seconds: float) -> None:
        """Move on, stopping at every timer on the way and letting the tasks it wakes do all they can."""
        until = self._now + timedelta(seconds=seconds)
        await self.settle()
        while self._timers and self._timers[0][0] <= until:
            at = self._timers[0][0]
            self._now = max(self._now, at)
            while self._timers and self._timers[0][0] <= at:
                heapq.heappop(self._timers)[2]()
            await self.settle()
        self._now = until

    async def advance_to(self, at: datetime) -> None:
        await self.advance((at - self._now).total_seconds())

    async def settle(self) -> None:
        """Let every task run until it waits for time to move, or for something from outside."""
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)


def wake(woken: asyncio.Future[None]) -> None:
    """Resolve it, unless that was done (or given up) before."""
    if not woken.done():
        woken.set_result(None)
