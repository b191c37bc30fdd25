"""Is the event loop alive? A heartbeat that measures how late it is woken.

A loop that is stuck for good answers no request, so that a probe of /healthz times out. A loop that is merely starved
answers now and then, and would look well: therefore health also asks `problem`. One long pause (a suspended machine, a
stopped process) is over with the next punctual beat and is no illness.
"""

from __future__ import annotations

from scheduler.ports.clock import Clock
from scheduler.ports.telemetry import Telemetry

BEAT_S = 1.0
LAG_MAX_S = 10.0


class LoopWatch:
    """Run `run` as a task of the loop to be watched; ask `problem` from the same loop."""

    def __init__(
        self, clock: Clock, telemetry: Telemetry, *, beat_s: float = BEAT_S, lag_max_s: float = LAG_MAX_S
    ) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._beat_s = beat_s
        self._lag_max_s = lag_max_s
        self._beat_at_s = clock.boottime_s()
        self._lag_s = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beat_at_s = self._clock.boottime_s()
        while True:
            await self._clock.sleep(self._beat_s)
            self._lag_s, self._beat_at_s = self.lag_s(), self._clock.boottime_s()
            self._telemetry.loop_lag(self._lag_s)

    def lag_s(self) -> float:
        """Seconds by which the next heartbeat is overdue already; 0.0 while it is not."""
        return max(0.0, self._clock.boottime_s() - self._beat_at_s - self._beat_s)

    def problem(self) -> str | None:
        """What is wrong with the loop, as a sentence; None while it is well."""
        lag_s = max(self._lag_s, self.lag_s())
        return None if lag_s <= self._lag_max_s else f"the event loop is {lag_s:.1f} s behind"
