"""The loop of a tracker: turn after turn, through every error, without spinning."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from scheduler.core.errors import Conflict, PermissionDenied, ScheddError, Unavailable
from scheduler.ports.clock import Clock

log = logging.getLogger(__name__)
PULL_S = 2.0  # how long a pull waits for its first message
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 5.0
PASSING = (Unavailable, Conflict, PermissionDenied)  # what may be over the next time; anything else is a bug of ours
IDLE_S = 0.05  # after an empty pull that did not wait: no answer may make us spin


async def run_turns(name: str, clock: Clock, turn: Callable[[], Awaitable[int]]) -> None:
    """Call `turn` for ever; it returns how many messages it had. Ends by being cancelled only."""
    backoff_s = BACKOFF_MIN_S
    while True:
        try:
            started_s = clock.boottime_s()
            count = await turn()
            backoff_s = BACKOFF_MIN_S
            if not count and clock.boottime_s() - started_s < IDLE_S:
                await clock.sleep(IDLE_S)
            else:
                await asyncio.sleep(0)
        except Exception as problem:
            _tell(name, problem)
            await clock.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311  # spreads repeats, guards nothing
            backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)


def _tell(name: str, problem: Exception) -> None:
    if isinstance(problem, ScheddError):
        log.warning("%s: will be repeated", name, extra={"event": f"{name}_delayed", "error": problem.message})
    else:
        log.error("%s: a turn broke", name, exc_info=problem, extra={"event": f"{name}_broke"})
