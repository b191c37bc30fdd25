"""The clock of one simulated machine: the real one of `system.clock`, over a wall clock that steps and a boot time that
drifts.

It knows the server's time from answers only, as the daemon does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from scheduler.memory.clock import START
from scheduler.system.clock import SystemClock

if TYPE_CHECKING:
    from tests.unit.simulation.network import Network
    from tests.unit.simulation.virtual_time import SimulatedClock

BOOT_S = 5000.0


class Wall(Struct):
    """What a machine's clocks do: how far the wall clock is ahead, and how much too fast both are (1e-5: 10 ppm)."""

    ahead_s: float = 0.0
    drift: float = 0.0


class OwnClock(SystemClock):
    """Implements `ports.clock.Clock` for one replica."""

    def __init__(self, clock: SimulatedClock, wall: Wall, network: Network) -> None:
        start_s = START.timestamp()
        super().__init__(
            wall_s=lambda: start_s + clock.passed_s() * (1 + wall.drift) + wall.ahead_s,
            boottime_s=lambda: BOOT_S + clock.passed_s() * (1 + wall.drift),
        )
        self._network = network

    async def sleep(self, seconds: float) -> None:
        await self._network.pause(seconds)
