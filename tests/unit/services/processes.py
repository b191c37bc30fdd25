"""One replica's process, as a test may treat it: SIGSTOP, kill -9 at any call, lost answers, a wrong wall clock."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any

from scheduler.core.errors import ScheddError, Unsure
from scheduler.memory.clock import VirtualClock

TIMEOUT_S = 5.0  # of a request, as the adapter has it


class Process:
    """What happens to a replica from outside. `kill_at` counts its calls; `late`: the deadly one still takes effect."""

    def __init__(self, clock: VirtualClock, *, kill_at: int = 0, late: bool = False) -> None:
        self.clock = ProcessClock(clock, self)
        self.calls = 0
        self.hanging: set[str] = set()
        """Names of methods whose answers get lost; what they ask for happens all the same."""
        self.way_s = 0.0
        """How long a call is on its way to the server, and its answer back."""
        self.on_call: Callable[[str], object] = lambda name: None
        self.problem: ScheddError | None = None
        """Instead of killing: what the call with that number raises."""
        self._kill_at, self._late = kill_at, late
        self._runs = asyncio.Event()
        self._runs.set()

    @property
    def is_dead(self) -> bool:
        return self.problem is None and 0 < self._kill_at <= self.calls

    def stop(self) -> None:
        self._runs.clear()

    def cont(self) -> None:
        self._runs.set()

    @property
    def is_stopped(self) -> bool:
        return not self._runs.is_set()

    async def awake(self) -> None:
        await self._runs.wait()

    def around(self, port: Any) -> Any:
        return _Port(port, self)

    async def call(self, name: str, method: Any, *args: Any, **kwargs: Any) -> Any:
        await self.awake()
        if self.is_dead:
            raise asyncio.CancelledError
        self.calls += 1
        self.on_call(name)
        await self.awake()
        is_hit = self.calls == self._kill_at
        if is_hit and not self._late:
            raise self.problem or asyncio.CancelledError
        await self._travel()
        result = await method(*args, **kwargs)
        await self._travel()
        if is_hit:
            raise self.problem or asyncio.CancelledError
        if name in self.hanging:
            await self.clock.sleep(TIMEOUT_S)
            raise Unsure("no answer from NATS in time")
        await self.awake()
        return result

    async def _travel(self) -> None:
        if self.way_s:
            await self.clock.sleep(self.way_s)


class _Port:
    def __init__(self, port: Any, process: Process) -> None:
        self._port, self._process = port, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return functools.partial(self._process.call, name, found) if inspect.iscoroutinefunction(found) else found


class ProcessClock:
    """The world's time, as a process sees it: with a skewed wall clock, and asleep while stopped."""

    def __init__(self, clock: VirtualClock, process: Process) -> None:
        self._clock, self._process = clock, process
        self.skew_s = 0.0

    def now(self) -> datetime:
        return self._clock.now()

    def boottime_s(self) -> float:
        return self._clock.boottime_s()

    def offset_s(self) -> float:
        return self.skew_s

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        """The offset is what the test says."""

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._process.awake()
