"""An event loop whose time jumps: when nothing is ready, it is as late as the next timer wants it to be.

Everything that waits for the loop (sleeps, time-outs, the clock of the memory twins) waits for this one time, and what
is ready at one instant runs in the order in which it became so. A run therefore depends on its seed alone.

It does what `asyncio.base_events` does, in the same order to the last step (timers of one instant come in the order of
its heap, given-up ones are cleared away when it would), without what only files, threads and debuggers need: thousands
of histories are mostly this loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from typing import Any

from scheduler.memory.clock import START, VirtualClock

RESOLUTION_S = 1e-9
MANY, MOST = 100, 0.5  # of so many timers, the share of given-up ones from which on they are cleared away


class _Turn:
    """What is to be called in the next turn of the loop; asyncio's Handle without its debugging."""

    __slots__ = ("args", "callback", "context", "is_given_up")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.callback, self.args, self.context = callback, args, context
        self.is_given_up = False

    def cancel(self) -> None:
        self.is_given_up = True

    def cancelled(self) -> bool:
        return self.is_given_up


class _Timer(float):
    """The same at an instant. It is that instant: so a heap compares timers without a line of Python."""

    __slots__ = ("args", "callback", "context", "is_given_up", "waits_in")
    args: tuple[Any, ...]
    callback: Callable[..., object]
    context: Context
    is_given_up: bool
    waits_in: VirtualLoop | None

    def when(self) -> float:
        return float(self)

    def cancel(self) -> None:
        if not self.is_given_up:
            self.is_given_up = True
            if self.waits_in is not None:
                self.waits_in.given_up += 1

    def cancelled(self) -> bool:
        return self.is_given_up


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._turns: deque[_Turn | _Timer] = deque()
        self._timers: list[_Timer] = []
        self.given_up = 0
        """Timers that nobody waits for any more, and that are there still."""
        self.broken: list[Mapping[str, Any]] = []
        """What was told to the exception handler: errors that nobody retrieved."""
        self.set_exception_handler(lambda _, context: self.broken.append(context))

    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        turn = _Turn(callback, args, context or copy_context())
        self._turns.append(turn)
        return turn

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self._set_timer(_Timer(self._now_s + delay), callback, args, context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        return self._set_timer(_Timer(when), callback, args, context)

    def _set_timer(
        self, timer: _Timer, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> _Timer:
        timer.callback, timer.args, timer.context = callback, args, context or copy_context()
        timer.is_given_up, timer.waits_in = False, self
        heapq.heappush(self._timers, timer)
        return timer

    # --- what `run_forever` asks for

    def _run_once(self) -> None:
        """Turn after turn, until somebody stops the loop."""
        turns, timers = self._turns, self._timers
        while True:
            if timers:
                self._drop_given_up()
            if turns or self._stopping:  # type: ignore[attr-defined]
                end_s = self._now_s + RESOLUTION_S
            elif timers:
                self._now_s += max(0.0, timers[0] - self._now_s)
                end_s = self._now_s + RESOLUTION_S
            else:
                raise RuntimeError("every task waits for ever")
            while timers and timers[0] < end_s:
                timer = heapq.heappop(timers)
                timer.waits_in = None
                turns.append(timer)
            for _ in range(len(turns)):
                turn = turns.popleft()
                if not turn.is_given_up:
                    self._call(turn)
            if self._stopping:  # type: ignore[attr-defined]
                return

    def _call(self, turn: _Turn | _Timer) -> None:
        try:
            turn.context.run(turn.callback, *turn.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as problem:
            self.call_exception_handler({"message": f"{turn.callback} broke", "exception": problem})

    def _drop_given_up(self) -> None:
        timers = self._timers
        if len(timers) > MANY and self.given_up / len(timers) > MOST:
            kept = [timer for timer in timers if not timer.is_given_up]
            timers[:] = kept
            heapq.heapify(timers)
            self.given_up = 0
        while timers and timers[0].is_given_up:
            self.given_up -= 1
            heapq.heappop(timers).waits_in = None

    def _write_to_self(self) -> None:
        """Nothing comes from other threads but an interrupt, and that raises in the main one."""


class SimulatedClock(VirtualClock):
    """The clock of the memory twins on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._read = (0.0, START)

    def now(self) -> datetime:
        """Rounded to the millisecond, so that a timer finds the very time that it was set for."""
        now_s = self._loop.time()
        if now_s != self._read[0]:
            self._read = now_s, START + timedelta(milliseconds=round(now_s * 1000))
        return self._read[1]

    def passed_s(self) -> float:
        """Since the beginning, uncut."""
        return self._loop.time()

    def boottime_s(self) -> float:
        return 1000.0 + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_at(self, at: datetime, callback: Callable[[], object]) -> None:
        self._loop.call_at((at - START).total_seconds(), callback)

    async def settle(self) -> None:
        """Nobody needs it here: time only passes when all have settled."""
