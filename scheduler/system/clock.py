"""The real clock: server time on top of CLOCK_BOOTTIME.

`now` does not follow the wall clock of this machine once a server has answered: it is CLOCK_BOOTTIME (clock_gettime(2):
never set, counts suspend) plus the measured difference to the server. So somebody who sets the wall clock of a replica
shifts `offset_s`, which makes the replica not ready, and shifts nothing that is decided.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from scheduler.system.offset import Sample, ServerTime
from scheduler.wire.instants import cut

HELD_BACK_S = 1.0
"""A correction that would turn `now` back by less than this is waited out; a larger one is applied at once."""


def read_boottime_s() -> float:
    """CLOCK_BOOTTIME where the system has it (Linux), else the monotonic clock."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class SystemClock:
    """Implements `ports.clock.Clock`. The two readings are arguments for tests only."""

    def __init__(
        self, *, wall_s: Callable[[], float] = time.time, boottime_s: Callable[[], float] = read_boottime_s
    ) -> None:
        self._wall_s = wall_s
        self._boottime_s = boottime_s
        self._server = ServerTime()
        self._latest_s = 0.0

    def now(self) -> datetime:
        now_s = self._server_s()
        if 0.0 < self._latest_s - now_s < HELD_BACK_S:
            now_s = self._latest_s
        self._latest_s = now_s
        return cut(datetime.fromtimestamp(now_s, UTC))

    def boottime_s(self) -> float:
        return self._boottime_s()

    def offset_s(self) -> float:
        return 0.0 if self._server.base_s is None else self._server_s() - self._wall_s()

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        self._server.add(Sample(server_at.timestamp(), sent_s, received_s))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _server_s(self) -> float:
        base_s = self._server.base_s
        return self._wall_s() if base_s is None else base_s + self._boottime_s()
