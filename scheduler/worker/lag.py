"""Telling when the event loop stood still: a function that waits without `await` stops every task of the worker.

Blocked for longer than an ack wait, a worker cannot say that it lives, and what it runs is taken for lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from scheduler.worker.link import log

BEAT_S = 0.5
LAG_MAX_S = 1.0
NAMED = 5


class LagWatch:
    """`suspects` names the async functions that run at a moment: one of them did not let go of the loop."""

    def __init__(self, suspects: Callable[[], Sequence[str]]) -> None:
        self._suspects = suspects

    async def run(self) -> None:
        """Watch until cancelled. Told afterwards: while it lasts nothing can be told."""
        loop = asyncio.get_running_loop()
        while True:
            before, began_s = set(self._suspects()), loop.time()
            await asyncio.sleep(BEAT_S)
            lag_s = loop.time() - began_s - BEAT_S
            if lag_s > LAG_MAX_S:
                self._tell(lag_s, sorted(before | set(self._suspects())))

    def _tell(self, lag_s: float, names: Sequence[str]) -> None:
        extra = {"event": "worker.blocked", "lag_s": round(lag_s, 3), "types": list(names)}
        told = ", ".join(names[:NAMED]) or "none"
        text = "the event loop was blocked for %.1f s, or the process was stopped (async functions at work: %s)"
        fix = "; a function that waits without `await` is to be written without `async`, it then has a thread"
        log.warning(text + fix if names else text, lag_s, told, extra=extra)
