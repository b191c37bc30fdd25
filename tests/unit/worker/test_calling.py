"""Calling functions, and what a function's context does; no server."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.worker.calling import Raised, Returned, start_call
from scheduler.worker.context import LINES_MAX, TaskContext
from scheduler.worker.handlers import make_handler
from scheduler.worker.raising import Cancel, Fail, Retry
from scheduler.worker.reporting import encode_result
from scheduler.worker.task import Task

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Sent:
    """What a context sent: (last token or subject, body)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []
        self.touches = 0

    def emit(self, subject: str, body: bytes) -> None:
        self.lines.append((subject, msgspec.json.decode(body)))

    def touch(self) -> None:
        self.touches += 1


def make_context(sent: Sent) -> TaskContext:
    task = Task(
        execution_id=execution_id("a", NOON), schedule_id="a", queue="Q", type="t", kind="auto", nominal_at=NOON,
        fire_at=NOON,
    )  # fmt: skip
    return TaskContext(
        task, attempt=2, max_tries=3, timeout_s=None, worker="w", names=Names(), now=lambda: NOON, emit=sent.emit,
        touch=sent.touch,
    )  # fmt: skip


async def call(function: Any, payload: Any = None) -> Any:
    return await start_call(make_handler("t", function), payload, make_context(Sent()))


async def test_functions_return() -> None:
    """Async and sync functions, and a sync one that returns an awaitable, give their value."""

    async def inner(payload: Any) -> Any:
        return payload + 1

    def wrapper(payload: Any) -> Any:
        return inner(payload)

    assert await call(inner, 1) == Returned(2)
    assert await call(lambda payload: payload + 1, 1) == Returned(2)
    assert await call(wrapper, 1) == Returned(2)


async def test_failures_name_their_type_and_place() -> None:
    """Type with module, message, and a traceback that begins at the function."""

    def fails(payload: Any) -> None:
        raise msgspec.ValidationError("why")

    verdict = await call(fails)
    assert isinstance(verdict, Raised)
    assert (verdict.failure.type, verdict.failure.message) == ("msgspec.ValidationError", "why")
    assert verdict.failure.traceback is not None
    assert verdict.failure.traceback.count("File ") == 1


@pytest.mark.parametrize("problem", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("is_async", [True, False])
async def test_nothing_a_function_raises_ends_the_worker(problem: BaseException, is_async: bool) -> None:
    """What would end a loop or a process is a failure of the attempt."""

    async def in_loop(payload: Any) -> None:
        raise problem

    def in_thread(payload: Any) -> None:
        raise problem

    verdict = await call(in_loop if is_async else in_thread)
    assert isinstance(verdict, Raised)
    assert verdict.failure.type.endswith(type(problem).__name__)


async def test_an_exception_that_cannot_be_shown_is_a_failure() -> None:
    """A message that itself raises is replaced."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("odd")

    def fails(payload: Any) -> None:
        raise Odd

    verdict = await call(fails)
    assert isinstance(verdict, Raised)
    assert "cannot be shown" in verdict.failure.message


async def test_context_variables_reach_the_thread() -> None:
    """A sync function sees the caller's context variables, in another thread."""
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word")
    word.set("kept")
    verdict = await call(lambda payload: (word.get(), threading.current_thread() is threading.main_thread()))
    assert verdict == Returned(("kept", False))


async def test_progress_is_thinned_and_its_last_word_is_sent() -> None:
    """Of many progress calls the first goes out at once, the newest at the end; a bad fraction is refused."""
    sent = Sent()
    context = make_context(sent)
    for step in range(100):
        await context.progress(step / 100, f"step {step}")
    context.close()
    assert [body["fraction"] for _, body in sent.lines] == [0.0, 0.99]
    assert sent.lines[0][0].endswith(".2.progress")
    with pytest.raises(ValueError, match="fraction"):
        context.progress(7)


async def test_log_lines_are_bounded() -> None:
    """Values are JSON, large ones are dropped with a word, and lines above the limit with one."""
    sent = Sent()
    context = make_context(sent)
    context.log.info("%d of %d", 1, 2, obj=object, message="a value named message")
    bad = "bad format %d %d"
    context.log.error(bad, "x")
    context.log.warning("large", value="x" * 10_000)
    for _ in range(LINES_MAX + 5):
        context.log.debug("more")
    first, second, third, *_, last = [body for _, body in sent.lines]
    assert (first["message"], first["level"], first["worker"]) == ("1 of 2", "info", "w")
    assert first["values"]["message"] == "a value named message"
    assert "bad format" in second["message"]
    assert "dropped" in third["values"]
    assert len(sent.lines) == LINES_MAX + 1
    assert "more than" in last["message"]


async def test_a_context_works_from_a_thread() -> None:
    """heartbeat, progress and log from another thread arrive in the loop, in order."""
    sent = Sent()
    context = make_context(sent)

    def talk() -> None:
        context.heartbeat()
        context.log.info("one")
        context.progress(1)

    await asyncio.to_thread(talk)
    await asyncio.sleep(0)
    assert sent.touches == 1
    assert [subject.rsplit(".", 1)[-1] == "progress" for subject, _ in sent.lines] == [False, True]


def test_results_become_json_or_a_note() -> None:
    """JSON as far as it goes; what does not is dropped with a note, since the work is done."""
    assert encode_result({"at": NOON}) == (msgspec.Raw(b'{"at":"2026-11-21T12:00:00Z"}'), None)
    assert encode_result(None) == (msgspec.Raw(b"null"), None)
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), {"x" * 70_000: 1}, {(1, 2): 3}, endless):
        raw, note = encode_result(value)
        assert bytes(raw) == b""
        assert note is not None
        assert "dropped" in note


@pytest.mark.parametrize("ask", [Retry("busy", after="5m"), Fail("no such customer"), Cancel()])
async def test_what_a_function_asks_for(ask: Retry | Fail | Cancel) -> None:
    """Raised in the loop or in a thread, it comes out as what was asked for, with its message."""

    def sync(payload: Any) -> None:
        raise ask

    async def of_loop(payload: Any) -> None:
        raise ask

    for function in (sync, of_loop):
        verdict = await call(function)
        assert isinstance(verdict, Raised)
        assert verdict.asked is ask
        assert verdict.failure.message == str(ask)


def test_a_pause_that_is_none() -> None:
    """Retry takes what every other duration of the SDK takes."""
    assert Retry(after=timedelta(minutes=1)).after_s == 60
    with pytest.raises(InvalidArgument, match="after"):
        Retry(after="soon")
