"""Several things at once: endless coroutines that end together, a pause that may be cut, an answer in time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from scheduler.core.catch_up import Counting
from scheduler.core.errors import Unsure
from scheduler.ports.clock import Clock

T = TypeVar("T")
log = logging.getLogger(__name__)
RESTART_MIN_S, RESTART_MAX_S = 0.2, 10.0


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them side by side; when one returns or raises, cancel the others, wait for them, and do the same."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(tasks)
    for task in done:
        task.result()


async def sleep_unless(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Sleep that long, or until the event is set."""
    tasks = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(tasks)


async def within(seconds: float, clock: Clock, answer: Awaitable[T]) -> T:
    """The answer, if it comes in time. Raises Unsure otherwise: what was asked may still happen."""
    asking, sleeping = asyncio.ensure_future(answer), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({asking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise Unsure(f"no answer within {seconds:g} s")
        return asking.result()
    finally:
        await _cancel([asking, sleeping])


async def all_of(answers: Iterable[Awaitable[T]]) -> list[T]:
    """Their results, in order; when one raises, the others are cancelled and waited for, and it is raised."""
    tasks = [asyncio.ensure_future(each) for each in answers]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def kept_running(name: str, clock: Clock, serve: Callable[[], Awaitable[None]]) -> None:
    """Run a service that must not end: whatever it raises is logged and it starts again, slower each time."""
    delay_s = RESTART_MIN_S
    while True:
        started_s = clock.boottime_s()
        try:
            await serve()
            log.error("a service ended by itself", extra={"event": "service_ended", "service": name})
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            log.exception("a service waited for what was cancelled", extra={"event": "service_broke", "service": name})
        except Exception:
            log.exception("a service broke and starts again", extra={"event": "service_broke", "service": name})
        if clock.boottime_s() - started_s > RESTART_MAX_S:
            delay_s = RESTART_MIN_S
        await clock.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311  # spreads restarts, guards nothing
        delay_s = min(RESTART_MAX_S, delay_s * 2)


def _is_cancelled() -> bool:
    """Whether it is this task that is to end, and not something it waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def in_turns(counting: Counting[T]) -> T:
    """What it returns; between its steps other tasks have their turn."""
    while True:
        try:
            next(counting)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
