"""An event loop whose time jumps to the next timer when nothing else is left to do: a minute's sleep takes no time.

While a sync function runs in a thread, time passes as it does on the clock: nobody can tell what a thread waits for.
Real input and output is not waited for either; code that does more than compute and sleep wants real time.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from scheduler.worker.calling import THREAD_NAME

STUCK_S = 60.0
TIDY_S = 10.0
Result = TypeVar("Result")
_Ts = TypeVarTuple("_Ts")


class _Jumping(selectors.DefaultSelector):
    """Looks without waiting; then lets time jump, or pass where threads are at work."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        super().__init__()
        self.now_s = 0.0
        self._busy = busy

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            return self._wait_for_others()
        if not self._busy():
            self.now_s += max(0.0, timeout or 0.0)
            return []
        began_s = time.perf_counter()
        found = super().select(min(timeout, 0.02))
        self.now_s += min(timeout, time.perf_counter() - began_s)
        return found

    def _wait_for_others(self) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(STUCK_S)
        if not found:
            raise RuntimeError(f"nothing happened for {STUCK_S:g} s, and no timer is set: it waits for ever")
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time, which begins at 0."""

    def __init__(self) -> None:
        self._at_work = 0
        self._jumping = _Jumping(self._is_busy)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], Result], *args: *_Ts
    ) -> asyncio.Future[Result]:
        """As ever; time passes as it does on the clock until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self._at_work -= 1

    def _is_busy(self) -> bool:
        return self._at_work > 0 or any(thread.name == THREAD_NAME for thread in threading.enumerate())


def run_in_virtual_time(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run it in a loop of its own, which no other loop of this thread may be inside; leave nothing behind."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(main())
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=TIDY_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()
