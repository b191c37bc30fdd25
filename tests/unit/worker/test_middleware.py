"""Middleware: order, payload, errors, threads, cancelling; no server."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.worker import Worker
from scheduler.worker.calling import Raised, Returned, start_call
from scheduler.worker.handlers import make_handler, make_layer
from scheduler.worker.raising import Fail
from tests.unit.worker.test_calling import Sent, make_context

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def around(order: list[str], name: str, *, sync: bool) -> Callable[..., Any]:
    """A middleware that notes when it begins and ends."""

    async def of_loop(call_next: Any, payload: Any, ctx: Any) -> Any:
        order.append(f"{name}>")
        try:
            return await call_next(payload, ctx)
        finally:
            order.append(f"<{name}")

    def of_thread(call_next: Any, payload: Any, ctx: Any) -> Any:
        order.append(f"{name}>")
        try:
            return call_next(payload, ctx)
        finally:
            order.append(f"<{name}")

    return of_thread if sync else of_loop


async def call(function: Any, *middleware: Any, payload: Any = None) -> Any:
    layers = [make_layer(each) for each in middleware]
    return await start_call(make_handler("t", function), payload, make_context(Sent()), layers)


@pytest.mark.parametrize("kinds", ["aaa", "sss", "asa", "sas", "ssa", "aas", "sa", "a", "s"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_the_first_registered_is_the_outermost(kinds: str, is_async: bool) -> None:
    """Whatever is async and what is not: layers nest in their order, and the result comes through."""
    order: list[str] = []

    async def of_loop(payload: Any) -> Any:
        order.append("f")
        return payload

    def of_thread(payload: Any) -> Any:
        order.append("f")
        return payload

    layers = [around(order, str(n), sync=kind == "s") for n, kind in enumerate(kinds)]
    assert await call(of_loop if is_async else of_thread, *layers, payload=7) == Returned(7)
    names = [str(n) for n in range(len(kinds))]
    assert order == [f"{n}>" for n in names] + ["f"] + [f"<{n}" for n in reversed(names)]


async def test_payload_and_result_may_be_replaced() -> None:
    """What a middleware hands on is what the function gets, what it returns is the result."""

    async def doubled(call_next: Any, payload: Any, ctx: Any) -> Any:
        return [await call_next(payload * 2, ctx)]

    assert await call(lambda payload: payload + 1, doubled, payload=3) == Returned([7])


@pytest.mark.parametrize("sync", [True, False])
async def test_errors_pass_through_and_may_be_turned(sync: bool) -> None:
    """What the function raises reaches the middleware; what that raises decides, `Fail` included."""

    def turned(call_next: Any, payload: Any, ctx: Any) -> Any:
        try:
            return call_next(payload, ctx)
        except KeyError as problem:
            raise Fail("no such customer") from problem

    async def turned_in_loop(call_next: Any, payload: Any, ctx: Any) -> Any:
        try:
            return await call_next()
        except KeyError as problem:
            raise Fail("no such customer") from problem

    async def fails(payload: Any) -> None:
        raise KeyError("x")

    verdict = await call(fails, turned if sync else turned_in_loop)
    assert isinstance(verdict, Raised)
    assert isinstance(verdict.asked, Fail)
    trace = verdict.failure.traceback or ""
    assert "calling.py" not in trace.rpartition("direct cause")[2]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_runs_once(is_async: bool) -> None:
    """call_next a second time is refused: an attempt is one run."""
    runs = []

    async def twice(call_next: Any, payload: Any, ctx: Any) -> Any:
        await call_next()
        return await call_next()

    def twice_in_thread(call_next: Any, payload: Any, ctx: Any) -> Any:
        call_next()
        return call_next()

    verdict = await call(runs.append, twice if is_async else twice_in_thread)
    assert isinstance(verdict, Raised)
    assert "once" in verdict.failure.message
    assert runs == [None]


async def test_without_call_next_nothing_runs() -> None:
    """A middleware may answer in the function's place."""

    async def instead(call_next: Any, payload: Any, ctx: Any) -> str:
        return "cached"

    assert await call(lambda payload: pytest.fail("called"), instead) == Returned("cached")


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_context_variables_are_seen_inside(sync: bool, is_async: bool) -> None:
    """A tenant that a middleware sets is the function's, in the loop and in a thread."""

    async def set_in_loop(call_next: Any, payload: Any, ctx: Any) -> Any:
        TENANT.set("crm")
        return await call_next()

    def set_in_thread(call_next: Any, payload: Any, ctx: Any) -> Any:
        TENANT.set("crm")
        return call_next()

    async def of_loop(payload: Any) -> str:
        return TENANT.get()

    def of_thread(payload: Any) -> str:
        return TENANT.get()

    verdict = await call(of_loop if is_async else of_thread, set_in_thread if sync else set_in_loop)
    assert verdict == Returned("crm")
    assert TENANT.get() == "nobody"


async def test_sync_middleware_and_function_share_a_thread() -> None:
    """What belongs to a thread, a connection say, is the same for both."""
    threads = []

    def note(call_next: Any, payload: Any, ctx: Any) -> Any:
        threads.append(threading.get_ident())
        return call_next()

    def function(payload: Any) -> None:
        threads.append(threading.get_ident())

    await call(function, note)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_nothing_is_rolled_back_under_a_running_thread() -> None:
    """Cancelled, a transaction around a sync function waits for its thread; async code inside hears of it at once."""
    order: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def slow(payload: Any) -> str:
        begun.set()
        may_end.wait(10)
        order.append("function")
        return "done"

    layers = [make_layer(around(order, "transaction", sync=False))]
    running = start_call(make_handler("t", slow), None, make_context(Sent()), layers)
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    await asyncio.sleep(0.05)
    assert order == ["transaction>"]
    may_end.set()
    assert await running == Returned("done")
    assert order == ["transaction>", "function", "<transaction"]


async def test_cancelling_reaches_async_code_under_a_sync_middleware() -> None:
    """The thread in between is not left waiting."""
    order: list[str] = []
    begun = asyncio.Event()

    async def endless(payload: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            order.append("tidied")

    layers = [make_layer(around(order, "sync", sync=True))]
    running = start_call(make_handler("t", endless), None, make_context(Sent()), layers)
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert order == ["sync>", "tidied", "<sync"]


async def test_a_second_cancellation_leaves_a_thread_behind() -> None:
    """A loop that closes does not wait for a thread that hangs."""
    may_end = threading.Event()
    running = start_call(make_handler("t", lambda payload: may_end.wait(30)), None, make_context(Sent()))
    for _ in range(2):
        await asyncio.sleep(0.05)
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    may_end.set()


def test_what_is_no_middleware_is_refused_where_it_is_written() -> None:
    """It must take three arguments."""
    worker = Worker("Q")
    with pytest.raises(InvalidArgument, match=r"call_next, payload, ctx"):
        worker.middleware(lambda payload: None)
