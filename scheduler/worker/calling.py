"""Calling a task function: an async one as a task of the loop, a sync one in a thread of its own.

A thread each, not a pool: a thread cannot be stopped, and one that hangs must neither take a pool's place for good nor
keep the process from ending (they are daemon threads). Context variables of the caller are seen in both.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
import traceback
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from scheduler.core.model.execution import Failure
from scheduler.worker.context import TaskContext
from scheduler.worker.handlers import Handler
from scheduler.worker.raising import Ask


class Returned(Struct, frozen=True):
    value: Any


class Raised(Struct, frozen=True):
    """`asked`: the function said by it how its attempt shall end."""

    failure: Failure
    asked: Ask | None = None


Verdict = Returned | Raised


def start_call(handler: Handler, payload: Any, context: TaskContext) -> asyncio.Task[Verdict]:
    """Start it. The task never raises, except that cancelling an async function ends in CancelledError."""
    arguments = (payload, context) if handler.wants_context else (payload,)
    call = _in_loop if handler.is_async else _in_thread
    return asyncio.create_task(call(handler.function, arguments), name=f"run {context.execution_id}")


async def _in_loop(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Verdict:
    asked = asyncio.current_task()
    try:
        return Returned(await function(*arguments))
    except asyncio.CancelledError as problem:
        if asked is not None and asked.cancelling():
            raise
        return _raised(problem)  # the function's own, not ours
    except BaseException as problem:  # SystemExit too: a task must not end the worker
        return _raised(problem)


async def _in_thread(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Verdict:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Verdict] = loop.create_future()

    def settle(verdict: Verdict) -> None:
        if not ended.done():
            ended.set_result(verdict)

    def run() -> None:
        try:
            verdict: Verdict = Returned(function(*arguments))
        except BaseException as problem:
            verdict = _raised(problem)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, verdict)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="schedd task", daemon=True).start()
    verdict = await ended
    if isinstance(verdict, Returned) and inspect.isawaitable(verdict.value):
        return await _in_loop(_awaited, (verdict.value,))  # a sync wrapper around an async function
    return verdict


async def _awaited(value: Any) -> Any:
    return await value


def _raised(problem: BaseException) -> Raised:
    return Raised(failure_of(problem), problem if isinstance(problem, Ask) else None)


def failure_of(problem: BaseException) -> Failure:
    """Type, message and traceback of an exception; the frames of this module are left out of the traceback.

    An exception that has `details`, a text, is recorded with these in its place.
    """
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        lines = traceback.format_exception(type(problem), problem, trace)
        message = str(problem)
    except Exception:  # an exception whose own text raises
        lines, message = [], "(its message cannot be shown)"
    details = getattr(problem, "details", None)
    kind = type(problem)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Failure(name, message, details if isinstance(details, str) else "".join(lines) or None)
