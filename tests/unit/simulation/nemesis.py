"""What goes wrong in a history: with replicas, with the network, with the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from tests.unit.simulation.site import Replica, Site

TRAPS = ("commit", "commit", "commit", "publish", "put_many", "take_office", "withhold")


class Nemesis:
    """What goes wrong with replicas, with the network, with the server. `evil` 0: nothing."""

    def __init__(self, site: Site, replicas: int, evil: float, *, traps: bool = False) -> None:
        self.site, self.rng, self.evil = site, random.Random(site.rng.random()), evil
        self._traps = random.Random(f"traps {site.seed}") if traps else None
        self.labels = [f"r{number}" for number in range(replicas)]
        self.is_over = False
        self._pending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        for label in self.labels:
            self.site.start(label)
        if self._traps is not None:
            self._spawn(self._trap(self._traps))
        while self.evil:
            await asyncio.sleep(self.rng.expovariate(0.25 * self.evil))
            act = self.rng.choice(
                [self._kill, self._kill, self._stop, self._freeze, self._watches, self._net, self._down]
            )
            self._spawn(act())

    async def end(self) -> None:
        """Peace: everything runs, and every label has a replica again."""
        self.is_over = True
        await asyncio.gather(*self._pending)
        self.site.trouble.share = 0.0
        self.site.server.down = False
        for each in self.site.replicas:
            each.network.thaw()
        missing = set(self.labels) - {each.label for each in self.site.alive}
        for label in sorted(missing):
            self.site.start(label)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _sleep(self, seconds: float) -> None:
        while seconds > 0 and not self.is_over:
            await asyncio.sleep(min(1.0, seconds))
            seconds -= 1.0

    def _victim(self) -> Replica | None:
        return self.rng.choice(self.site.alive) if self.site.alive else None

    async def _kill(self) -> None:
        await self._end_one("kill", lambda victim: victim.kill())

    async def _stop(self) -> None:
        await self._end_one("stop", lambda victim: victim.stop())

    async def _end_one(self, kind: str, end: Callable[[Replica], Coroutine[Any, Any, None]]) -> None:
        victim = self._victim()
        if victim is None:
            return
        self.site.trouble.note(kind)
        victim.is_over = True
        victim.network.thaw()
        await end(victim)
        await self._sleep(self.rng.choice([0.2, 2.0, 10.0]))
        self.site.start(victim.label)

    async def _freeze(self) -> None:
        victim = self._victim()
        if victim is None or victim.network.is_frozen:
            return
        self.site.trouble.note("freeze")
        victim.network.freeze()
        await self._sleep(self.rng.choice([1.0, 6.0, 12.0, 75.0]))
        victim.network.thaw()

    async def _trap(self, rng: random.Random) -> None:
        """One replica after the other stops right before a write takes effect, and goes on when all has changed."""
        trouble = self.site.trouble
        while not self.is_over:
            await self._sleep(rng.uniform(1, 6))
            trouble.trap, trouble.trapped = rng.choice(TRAPS), None
            until = self.site.later(5)
            while trouble.trapped is None and self.site.now() < until and not self.is_over:
                await asyncio.sleep(0.05)
            await self._sleep(rng.choice([2.0, 8.0, 15.0]))
            if trouble.trapped is not None:
                trouble.trapped.thaw()
        trouble.trap = None

    async def _watches(self) -> None:
        self.site.trouble.note("stalled watches")
        for bucket in self.site.buckets.values():
            for consumer in bucket.stream.consumers.values():
                if self.rng.random() < 0.3:
                    consumer.stalled = True  # type: ignore[attr-defined]

    async def _net(self) -> None:
        self.site.trouble.share = self.rng.choice([0.01, 0.05, 0.3])
        await self._sleep(self.rng.uniform(1, 10))
        self.site.trouble.share = 0.0

    async def _down(self) -> None:
        self.site.trouble.note("down")
        self.site.server.down = True
        await self._sleep(self.rng.choice([1.0, 4.0]))
        self.site.server.down = False
