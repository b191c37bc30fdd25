"""The test kit: a task function alone, as a worker would run it. No server; time is virtual where any passes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.testing import run_task
from scheduler.testing.virtual_time import run_in_virtual_time
from scheduler.worker import ANY, Cancel, Fail, Retry, Worker

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Mail:
    to: str
    copies: int = 1


@pytest.fixture
def worker() -> Worker:
    return Worker("EMAIL", "OTHER")


async def test_a_result_with_all_that_was_said(worker: Worker) -> None:
    """Payload by annotation, context as given, result as JSON; log lines, progress and heartbeats are kept."""

    @worker.task("mail", timeout="30s", max_tries=5)
    async def mail(payload: Mail, ctx: Any) -> Any:
        ctx.log.info("to %s", payload.to, copies=payload.copies)
        await ctx.progress(0.5, "half")
        await ctx.heartbeat()
        times = [each.isoformat() for each in (ctx.nominal_at, ctx.fire_at, ctx.previous_at, ctx.next_at)]
        facts = (ctx.schedule_id, ctx.queue, ctx.kind, ctx.attempt, ctx.max_tries, ctx.timeout_s, ctx.headers)
        return {"times": times, "facts": facts, "id": ctx.execution_id}

    hour = timedelta(hours=1)
    ended = await run_task(
        worker, "mail", {"to": "ann"}, attempt=2, nominal_at=NOON, previous_at=NOON - hour, next_at=NOON + hour,
        schedule="crm.mails", kind="manual", headers={"X-Mine": "1"}, timeout="10s",
    )  # fmt: skip
    assert ended.outcome == "succeeded"
    assert ended.result["id"] == "crm.mails.20261121T120000000Z"
    assert ended.result["facts"] == ["crm.mails", "EMAIL", "manual", 2, 3, 10.0, {"X-Mine": "1"}]
    assert [text[11:13] for text in ended.result["times"]] == ["12", "12", "11", "13"]
    assert ended.messages == ["to ann"]
    assert (ended.logs[0].level, ended.logs[0].values, ended.logs[0].attempt) == ("info", {"copies": 1}, 2)
    assert [(each.fraction, each.note) for each in ended.progress] == [(0.5, "half")]
    assert ended.heartbeats == 1


@pytest.mark.parametrize(
    ("problem", "attempt", "outcome", "retry_in_s"),
    [
        (ValueError("x"), 1, "retry", 10.0),
        (ValueError("x"), 2, "retry", 20.0),
        (ValueError("x"), 3, "failed", None),
        (Retry("busy", after="5m"), 1, "retry", 300.0),
        (Retry("busy", after="5m"), 3, "failed", None),
        (Fail("no such customer"), 1, "failed", None),
        (Cancel("over"), 1, "cancelled", None),
        (SystemExit(3), 1, "retry", 10.0),
    ],
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_a_function_raises(
    worker: Worker, problem: BaseException, attempt: int, outcome: str, retry_in_s: float | None, is_async: bool
) -> None:
    """As in a worker: retried with the pause of the backoff, or the one asked for, while a try is left."""

    async def of_loop(payload: Any) -> None:
        raise problem

    def of_thread(payload: Any) -> None:
        raise problem

    worker.task("t", backoff={"initial": "10s"})(of_loop if is_async else of_thread)
    ended = await run_task(worker, "t", attempt=attempt)
    assert (ended.outcome, ended.retry_in_s) == (outcome, retry_in_s)
    assert ended.error is not None
    assert ended.error.message == str(problem)


async def test_the_middleware_is_that_of_the_worker(worker: Worker) -> None:
    """Each attempt goes through it."""

    @worker.middleware
    async def louder(call_next: Any, payload: Any, ctx: Any) -> Any:
        return (await call_next({**payload, "by": "middleware"}, ctx)).upper()

    worker.task("t")(lambda payload: payload["by"])
    assert (await run_task(worker, "t", {})).result == "MIDDLEWARE"


async def test_payloads_as_a_queue_brings_them(worker: Worker) -> None:
    """One that does not fit fails for good; left out is an empty body; bytes are the body as it is."""
    worker.task("mail")(_mail)
    worker.task("raw")(_raw)
    worker.task("plain")(lambda payload: payload)
    ended = await run_task(worker, "mail", {"to": 7})
    assert (ended.outcome, ended.error and ended.error.type) == ("failed", "InvalidPayload")
    assert (await run_task(worker, "plain")).result is None
    assert (await run_task(worker, "raw", b"\xff")).result == [255]
    assert (await run_task(worker, "mail", b"{")).outcome == "failed"
    with pytest.raises(InvalidArgument, match="payload"):
        await run_task(worker, "plain", object())


def _mail(payload: Mail) -> str:
    return payload.to


def _raw(payload: bytes) -> list[int]:
    return list(payload)


async def test_a_result_that_is_none_is_told(worker: Worker) -> None:
    """What is no JSON, or too large, is dropped with a note, as on record."""
    worker.task("odd")(lambda payload: object())
    worker.task("large")(lambda payload: "x" * 70_000)
    for name in ("odd", "large"):
        ended = await run_task(worker, name)
        assert (ended.outcome, ended.result, "dropped" in (ended.note or "")) == ("succeeded", None, True)


async def test_an_hour_takes_no_time(worker: Worker) -> None:
    """Virtual time: timeouts, deadlines and pauses of any length; the times that a function sees move along."""
    seen = []

    @worker.task("slow", timeout="1h")
    async def slow(payload: Any, ctx: Any) -> None:
        try:
            await asyncio.sleep(payload * 60)
            seen.append(ctx.now() - ctx.fire_at)
        finally:
            seen.append(ctx.cancelled)

    began_s = time.perf_counter()
    ended = await run_task(worker, "slow", 59, virtual_time=True)
    assert (ended.outcome, ended.took_s, seen) == ("succeeded", 3540.0, [timedelta(minutes=59), False])
    ended = await run_task(worker, "slow", 61, virtual_time=True)
    assert (ended.outcome, ended.took_s, seen[2:]) == ("retry", 3600.0, [True])
    assert ended.error is not None
    assert ended.error.type == "TimeoutError"
    ended = await run_task(worker, "slow", 61, attempt=3, virtual_time=True)
    assert ended.outcome == "timed_out"
    ended = await run_task(
        worker, "slow", 30, nominal_at=NOON, deadline=NOON + timedelta(minutes=10), virtual_time=True
    )
    assert (ended.outcome, ended.took_s, ended.note) == ("timed_out", 600.0, "deadline")
    ended = await run_task(worker, "slow", 30, nominal_at=NOON, deadline=NOON)
    assert (ended.error and ended.error.type, ended.took_s < 1) == ("DeadlineExceeded", True)
    assert time.perf_counter() - began_s < 5


async def test_cancelling(worker: Worker) -> None:
    """`ctx.cancelled` is set, the function may tidy up, and the end is cancelled."""
    tidied = []

    @worker.task("t")
    async def endless(payload: Any, ctx: Any) -> None:
        try:
            await asyncio.sleep(10**6)
        finally:
            await asyncio.sleep(5)
            tidied.append(ctx.cancelled)

    ended = await run_task(worker, "t", cancel_after="10m", virtual_time=True)
    assert (ended.outcome, ended.took_s, tidied) == ("cancelled", 605.0, [True])


async def test_who_does_not_listen_is_left_behind(worker: Worker) -> None:
    """A function that swallows its cancellation: the attempt ends all the same, and the kit says so and goes on."""

    @worker.task("deaf", timeout="10s")
    async def deaf(payload: Any) -> None:
        until_s = asyncio.get_running_loop().time() + 60
        while asyncio.get_running_loop().time() < until_s:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    ended = await run_task(worker, "deaf", virtual_time=True)
    assert (ended.outcome, ended.left_behind) == ("retry", True)


async def test_threads_keep_real_time(worker: Worker) -> None:
    """While a sync function runs, virtual time goes no faster than the clock: it is not timed out for nothing."""

    @worker.task("t", timeout="30s")
    def waits(payload: Any, ctx: Any) -> str:
        time.sleep(0.1)
        ctx.log.info("done")
        return "ok"

    @worker.task("offloaded", timeout="30s")
    async def offloaded(payload: Any) -> str:
        await asyncio.to_thread(time.sleep, 0.1)
        await asyncio.sleep(20)
        return "ok"

    ended = await run_task(worker, "t", virtual_time=True)
    assert (ended.result, ended.messages, ended.took_s < 5) == ("ok", ["done"], True)
    ended = await run_task(worker, "offloaded", virtual_time=True)
    assert (ended.result, 20 <= ended.took_s < 25) == ("ok", True)


async def test_which_function_runs(worker: Worker) -> None:
    """By type and queue, as in a worker: schedules in code and `*` included; an unknown one names those there are."""
    worker.task("t", queue="OTHER")(lambda payload: "other")
    worker.schedule("nightly", every="1d")(lambda payload: "nightly")
    assert (await run_task(worker, "t")).result == "other"
    assert (await run_task(worker, "nightly")).result == "nightly"
    with pytest.raises(NotFound, match="in queue 'EMAIL'; it has: nightly, t"):
        await run_task(worker, "t", queue="EMAIL")
    with pytest.raises(NotFound, match="'typo'"):
        await run_task(worker, "typo")
    worker.task(ANY)(lambda payload, ctx: ctx.type)
    assert (await run_task(worker, "typo")).result == "typo"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"attempt": 4}, "attempt"),
        ({"attempt": 0}, "attempt"),
        ({"nominal_at": NOON.replace(tzinfo=None)}, "nominal_at"),
        ({"schedule": "a..b"}, "schedule"),
        ({"timeout": "soon"}, "timeout"),
        ({"cancel_after": -1}, "cancel_after"),
    ],
)
async def test_what_no_task_could_have(worker: Worker, given: dict[str, Any], field: str) -> None:
    """Told with the argument's name."""
    worker.task("t")(lambda payload: None)
    with pytest.raises(InvalidArgument) as caught:
        await run_task(worker, "t", **given)
    assert caught.value.field == field


def test_what_waits_for_ever_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that could happen any more: no test hangs."""
    monkeypatch.setattr("scheduler.testing.virtual_time.STUCK_S", 0.05)

    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="waits for ever"):
        run_in_virtual_time(stuck)
