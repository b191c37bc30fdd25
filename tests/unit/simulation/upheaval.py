"""What goes wrong with the server itself and with the clocks of machines: restarts, stuck fires, steps, drift."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from tests.unit.simulation.clocks import Wall
from tests.unit.simulation.site import Site

EVERY_S = 5.0
DOWN_S = (0.3, 2.0, 12.0)
STUCK_S = (1.0, 5.0)
STEPS_S = (-3600.0, -40.0, -2.0, -0.3, 0.3, 2.0, 40.0, 3600.0)
DRIFT_MAX = 5e-5
RIGHT_AGAIN = 0.3


class Upheaval:
    """His dice are his own: a history without him stays what it was."""

    def __init__(self, site: Site, labels: list[str]) -> None:
        self.site, self.rng = site, random.Random(f"upheaval {site.seed}")
        self.walls = {label: Wall(drift=self.rng.uniform(-DRIFT_MAX, DRIFT_MAX)) for label in labels}
        site.walls = self.walls
        self._is_over = False
        self._pending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / EVERY_S))
            act: Callable[[], Coroutine[Any, Any, None]] = self.rng.choice([self._restart, self._stick, self._step])
            task = asyncio.ensure_future(act())
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def end(self) -> None:
        """Clocks are right, and the server is there; what is stuck stays so until somebody finds it."""
        self._is_over = True
        await asyncio.gather(*self._pending)
        for wall in self.walls.values():
            wall.ahead_s = 0.0

    async def _restart(self) -> None:
        server = self.site.server
        if server.timeline.holds_fires:
            return
        self.site.trouble.note("server restart")
        server.stop()
        await self._sleep(self.rng.choice(DOWN_S))
        if server.start():
            self.site.trouble.note("delivered as if for the first time")

    async def _stick(self) -> None:
        """Timers of the server are lost: what comes due now stays armed."""
        timeline = self.site.server.timeline
        if timeline.holds_fires:
            return
        timeline.holds_fires = True
        await self._sleep(self.rng.choice(STUCK_S))
        timeline.holds_fires = False
        if timeline.held:
            self.site.trouble.note("stuck fire")

    async def _step(self) -> None:
        self.site.trouble.note("clock step")
        wall = self.walls[self.rng.choice([*self.walls])]
        wall.ahead_s = 0.0 if self.rng.random() < RIGHT_AGAIN else wall.ahead_s + self.rng.choice(STEPS_S)

    async def _sleep(self, seconds: float) -> None:
        while seconds > 0 and not self._is_over:
            await asyncio.sleep(min(0.5, seconds))
            seconds -= 0.5
