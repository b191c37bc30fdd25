"""An event loop whose time jumps: when nothing is ready, it is as late as the next timer wants it to be.

Everything that waits for the loop (sleeps, time-outs, the clock of the memory twins) waits for this one time, and what
is ready at one instant runs in the order in which it became so. A run therefore depends on its seed alone.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from scheduler.memory.clock import START, VirtualClock


class _NothingOutside(selectors.SelectSelector):
    """Instead of waiting for files it lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for ever")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time."""

    def __init__(self) -> None:
        self._virtual = _NothingOutside()
        super().__init__(self._virtual)
        self.broken: list[Mapping[str, Any]] = []
        """What was told to the exception handler: errors that nobody retrieved."""
        self.set_exception_handler(lambda _, context: self.broken.append(context))

    def time(self) -> float:
        return self._virtual.now_s


class SimulatedClock(VirtualClock):
    """The clock of the memory twins on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def now(self) -> datetime:
        """Rounded to the millisecond, so that a timer finds the very time that it was set for."""
        return START + timedelta(milliseconds=round(self._loop.time() * 1000))

    def boottime_s(self) -> float:
        return 1000.0 + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_at(self, at: datetime, callback: Callable[[], object]) -> None:
        self._loop.call_at((at - START).total_seconds(), callback)

    async def settle(self) -> None:
        """Nobody needs it here: time only passes when all have settled."""
