"""Calling a task function through the middleware around it.

Layers, outermost first; the function is the last. An async layer runs in the loop, a sync one in a thread, and sync
layers that follow each other in the same thread, so that a sync middleware and a sync function share what belongs to a
thread (a database connection). A thread each, not a pool: a thread cannot be stopped, and one that hangs must neither
take a pool's place for good nor keep the process from ending (they are daemon threads); there are no more of them than
places in the worker. Context variables that an outer layer sets are seen by the inner ones, in the loop and in threads.

Cancelling a call cancels the async layers. A thread can only be asked (`ctx.cancelled`): the layer that waits for one
passes the cancellation on to what the thread itself waits for, and goes on waiting, so that nothing is rolled back
under a function that still runs. A further one, with nothing to pass it on to, ends that patience: the loop is closing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import inspect
import threading
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from scheduler.core.model.execution import Failure
from scheduler.worker.handlers import Handler, Layer
from scheduler.worker.raising import Ask


class Returned(Struct, frozen=True):
    value: Any


class Raised(Struct, frozen=True):
    """`asked`: the function said by it how its attempt shall end."""

    failure: Failure
    asked: Ask | None = None


Verdict = Returned | Raised
THREAD_NAME = "schedd task"


def start_call(
    handler: Handler, payload: Any, context: Any, middleware: Sequence[Layer] = (), *, name: str = "run"
) -> asyncio.Task[Verdict]:
    """Start it. The task never raises, except that cancelling async layers ends in CancelledError."""
    chain = _Chain([*middleware, _innermost(handler)])
    return asyncio.create_task(_verdict(chain.call(0, payload, context)), name=name)


def _innermost(handler: Handler) -> Layer:
    """The function itself, as a layer that has nothing to call next."""

    def call(_: object, payload: Any, context: Any) -> Any:
        return handler.function(*((payload, context) if handler.wants_context else (payload,)))

    return Layer(call, handler.is_async)


async def _verdict(call: Coroutine[Any, Any, Any]) -> Verdict:
    asked = asyncio.current_task()
    try:
        return Returned(await call)
    except asyncio.CancelledError as problem:
        if asked is not None and asked.cancelling():
            raise
        return _raised(problem)  # the function's own, not ours
    except BaseException as problem:  # SystemExit too: a task must not end the worker
        return _raised(problem)


class _Chain:
    """The layers of one call. Each is entered once: an attempt that ran its function twice would be two."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._entered = -1
        self._loop = asyncio.get_running_loop()

    def _enter(self, index: int) -> Layer:
        if index <= self._entered:
            raise RuntimeError("call_next may be called once: to try again, raise Retry")
        self._entered = index
        return self._layers[index]

    async def call(self, index: int, payload: Any, context: Any) -> Any:
        """Call a layer from the loop."""
        if not self._layers[index].is_async:
            return await _Thread(self._loop, lambda thread: self._in_thread(thread, index, payload, context)).ended()

        async def call_next(payload: Any = payload, ctx: Any = context) -> Any:
            return await self.call(index + 1, payload, ctx)

        return await self._enter(index).function(call_next, payload, context)

    def _in_thread(self, thread: _Thread, index: int, payload: Any, context: Any) -> Any:
        """Call a sync layer, and those behind it as far as they are sync, where we are."""

        def call_next(payload: Any = payload, ctx: Any = context) -> Any:
            if self._layers[index + 1].is_async:
                return thread.wait_for(self.call(index + 1, payload, ctx))
            return self._in_thread(thread, index + 1, payload, ctx)

        value = self._enter(index).function(call_next, payload, context)
        return thread.wait_for(_awaited(value)) if inspect.isawaitable(value) else value


class _Thread:
    """A function in a thread of its own, waited for in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[_Thread], Any]) -> None:
        self._loop, self._function = loop, function
        self._outcome: asyncio.Future[Callable[[], Any]] = loop.create_future()
        self._inner: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    async def ended(self) -> Any:
        """Start it and wait for its end, cancelled or not; what it returned or raised."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name=THREAD_NAME, daemon=True).start()
        while True:
            try:
                outcome = await asyncio.shield(self._outcome)
                break
            except asyncio.CancelledError:
                if self._is_cancelled and self._inner is None:
                    raise
                self._pass_on()
        return outcome()

    def wait_for(self, call: Coroutine[Any, Any, Any]) -> Any:
        """From the thread: run it in the loop and wait for it."""
        try:
            return asyncio.run_coroutine_threadsafe(self._inside(call), self._loop).result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None

    async def _inside(self, call: Coroutine[Any, Any, Any]) -> Any:
        self._inner = asyncio.current_task()
        if self._is_cancelled and self._inner is not None:
            self._inner.cancel()
        try:
            return await call
        finally:
            self._inner = None

    def _pass_on(self) -> None:
        self._is_cancelled = True
        if self._inner is not None:
            self._inner.cancel()

    def _run(self) -> None:
        outcome: Callable[[], Any]
        try:
            value = self._function(self)
            outcome = lambda: value  # noqa: E731 - what to do about it, in the loop
        except BaseException as problem:
            outcome = _Raiser(problem)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Callable[[], Any]) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)


class _Raiser:
    """Raises, in the loop, what was raised in the thread: a future would refuse some of it (StopIteration)."""

    def __init__(self, problem: BaseException) -> None:
        self._problem = problem

    def __call__(self) -> Any:
        if isinstance(self._problem, StopIteration):
            raise RuntimeError("the function raised StopIteration") from self._problem
        raise self._problem


async def _awaited(value: Any) -> Any:
    return await value


def _raised(problem: BaseException) -> Raised:
    return Raised(failure_of(problem), problem if isinstance(problem, Ask) else None)


def failure_of(problem: BaseException) -> Failure:
    """Type, message and traceback of an exception; the frames of this module are left out of the traceback.

    An exception that has `details`, a text, is recorded with these in its place.
    """
    try:
        shown = traceback.TracebackException.from_exception(problem)
        shown.stack = traceback.StackSummary.from_list([each for each in shown.stack if each.filename != __file__])
        lines, message = list(shown.format()), str(problem)
    except Exception:  # an exception whose own text raises
        lines, message = [], "(its message cannot be shown)"
    details = getattr(problem, "details", None)
    kind = type(problem)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Failure(name, message, details if isinstance(details, str) else "".join(lines) or None)
