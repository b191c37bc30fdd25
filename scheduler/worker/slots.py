"""The places in which a worker runs tasks. A task is pulled only into a free place: nothing waits in a worker.

The one exception are tasks of a type whose own places are taken, see `turns`.
"""

from __future__ import annotations

import asyncio


class Slots:
    """First come, first served: each puller reserves places before it asks its queue for as many tasks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def reserve(self, at_most: int) -> int:
        """Wait for a free place and take those that are free, at most so many."""
        async with self._turn:
            while self.free < 1:
                self._freed.clear()
                await self._freed.wait()
            taken = min(self.free, at_most)
            self.free -= taken
            return taken

    def try_reserve(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self.free < 1 or self._turn.locked():
            return False
        self.free -= 1
        return True

    def take_back(self) -> None:
        """Take a place that was lent, free or not: its owner gives it up in a moment."""
        self.free -= 1

    def release(self, count: int = 1) -> None:
        self.free += count
        self._freed.set()
