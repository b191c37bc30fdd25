"""Running several endless coroutines as one: the first to end ends all, and its error is the one that is raised."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from scheduler.ports.clock import Clock

log = logging.getLogger(__name__)
RESTART_MIN_S, RESTART_MAX_S = 0.2, 10.0


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them side by side; when one returns or raises, cancel the others, wait for them, and do the same."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def kept_running(name: str, clock: Clock, serve: Callable[[], Awaitable[None]]) -> None:
    """Run a service that must not end: whatever it raises is logged and it starts again, slower each time."""
    delay_s = RESTART_MIN_S
    while True:
        started_s = clock.boottime_s()
        try:
            await serve()
            log.error("a service ended by itself", extra={"event": "service_ended", "service": name})
        except Exception:
            log.exception("a service broke and starts again", extra={"event": "service_broke", "service": name})
        if clock.boottime_s() - started_s > RESTART_MAX_S:
            delay_s = RESTART_MIN_S
        await clock.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311  # spreads restarts, guards nothing
        delay_s = min(RESTART_MAX_S, delay_s * 2)
