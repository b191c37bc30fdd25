"""Workers against a real server: what functions get, and what comes to be on record."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from scheduler.core.errors import Conflict
from scheduler.wire.reports import RESULT_MAX
from scheduler.worker import TaskContext, Worker
from tests.integration.worker_stage import ACK_WAIT_S, NAMES, NOON, QUICK, Stage, eventually


async def test_a_result_is_on_record_and_the_task_gone(stage: Stage, worker: Worker) -> None:
    """An async function gets payload and context; its result is reported and its task acknowledged."""
    seen: list[TaskContext] = []

    @worker.task("t")
    async def run(payload: Any, ctx: TaskContext) -> Any:
        seen.append(ctx)
        return {"double": payload["n"] * 2}

    async with stage.serving(worker):
        execution = await stage.put("t", b'{"n":21}', headers={"X-Mine": "1"}, timeout_s=9.5)
        final = await stage.final(execution)
    assert (final["outcome"], final["result"]) == ("succeeded", {"double": 42})
    started, finished = await stage.reports(execution)
    assert started[:2] == (1, "started")
    assert started[2]["worker"] == worker.id
    assert finished[:2] == (1, "finished")
    ctx = seen[0]
    assert (ctx.execution_id, ctx.schedule_id, ctx.queue, ctx.type, ctx.kind) == (
        execution, "some.schedule", "Q", "t", "auto",
    )  # fmt: skip
    assert (ctx.nominal_at, ctx.fire_at) == (NOON, NOON)
    assert ctx.previous_at == NOON - timedelta(minutes=1)
    assert ctx.next_at == NOON + timedelta(minutes=1)
    assert (ctx.deadline, ctx.timeout_s, ctx.attempt, ctx.max_tries) == (None, 9.5, 1, 3)
    assert ctx.headers == {"X-Mine": "1"}
    assert ctx.cancelled is False
    info = await stage.js.consumer_info(NAMES.tasks, "Q")
    assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_a_sync_function_runs_in_a_thread_and_sees_the_context(stage: Stage, worker: Worker) -> None:
    """Sync functions run off the loop, with context variables, and may use ctx from there."""
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="unset")

    @worker.task("t")
    def run(payload: Any, ctx: TaskContext) -> Any:
        ctx.log.info("hello %s", "there", n=1)
        ctx.progress(0.5, "half")
        ctx.heartbeat()
        return [threading.current_thread() is threading.main_thread(), word.get()]

    word.set("kept")
    async with stage.serving(worker):
        execution = await stage.put("t")
        final = await stage.final(execution)
    assert final["result"] == [False, "kept"]
    kinds = [kind for _, kind, _ in await stage.reports(execution)]
    assert kinds == ["started", "progress", "finished"]
    line = msgspec.json.decode((await stage.js.get_last_msg(NAMES.logs, NAMES.log(execution))).data)
    assert (line["level"], line["message"], line["values"], line["attempt"]) == ("info", "hello there", {"n": 1}, 1)


async def test_payloads_come_as_the_contract_says(stage: Stage, worker: Worker) -> None:
    """Null is None, an absent payload too, JSON is decoded, and a parameter annotated bytes gets the bytes."""
    got: list[Any] = []

    @worker.task("json")
    async def of_json(payload: Any) -> None:
        got.append(payload)

    @worker.task("raw")
    async def of_bytes(payload: bytes) -> None:
        got.append(payload)

    async with stage.serving(worker):
        for type_, payload in (("json", b"null"), ("json", None), ("json", b"[1.5]"), ("raw", b"\xff\x00")):
            await stage.final(await stage.put(type_, payload))
    assert got == [None, None, [1.5], b"\xff\x00"]


async def test_a_payload_that_is_not_json_fails_for_good(stage: Stage, worker: Worker) -> None:
    """Bad JSON is no retry: one attempt, failed, with a sentence; the function is never called."""

    @worker.task("t", max_tries=3)
    async def run(payload: Any) -> None:
        pytest.fail("called")

    async with stage.serving(worker):
        execution = await stage.put("t", b"{oops")
        final = await stage.final(execution)
    assert final["outcome"] == "failed"
    assert "not JSON" in final["error"]["message"]
    assert await stage.outcomes(execution) == [(1, "failed")]


async def test_a_failure_is_retried_after_its_pause(stage: Stage, worker: Worker) -> None:
    """Raise, then succeed: a retry report with error and delay, then the success, as attempts 1 and 2."""
    starts: list[float] = []

    @worker.task("t", backoff={"initial": "400ms", "jitter": 0})
    async def run(payload: Any, ctx: TaskContext) -> int:
        starts.append(time.monotonic())
        if ctx.attempt == 1:
            raise LookupError("not yet")
        return ctx.attempt

    async with stage.serving(worker):
        execution = await stage.put("t")
        final = await stage.final(execution)
    assert final["result"] == 2
    retry = (await stage.reports(execution))[1][2]
    assert (retry["outcome"], retry["retry_in_s"]) == ("retry", 0.4)
    assert (retry["error"]["type"], retry["error"]["message"]) == ("LookupError", "not yet")
    assert "in run" in retry["error"]["traceback"]
    assert "calling.py" not in retry["error"]["traceback"]
    assert 0.4 <= starts[1] - starts[0] < 1.0


async def test_tries_end_in_failed(stage: Stage, worker: Worker) -> None:
    """The smaller max_tries, here the decorator's, ends it: retry, failed, and not a third start."""

    @worker.task("t", max_tries=2, backoff=QUICK)
    def run(payload: Any) -> None:
        raise ValueError("always")

    async with stage.serving(worker):
        execution = await stage.put("t", max_tries=5)
        final = await stage.final(execution)
    assert final["error"]["type"] == "ValueError"
    assert await stage.outcomes(execution) == [(1, "retry"), (2, "failed")]


async def test_the_smaller_max_tries_of_the_schedule_wins(stage: Stage, worker: Worker) -> None:
    """A schedule's max_tries 1 beats a decorator's 5; SystemExit in a function ends the attempt, not the worker."""

    @worker.task("t", max_tries=5, backoff=QUICK)
    async def run(payload: Any) -> None:
        raise SystemExit(3)

    async with stage.serving(worker):
        execution = await stage.put("t", max_tries=1)
        final = await stage.final(execution)
        assert (await stage.final(await stage.put("t", max_tries=1)))["outcome"] == "failed"
    assert final["error"]["type"] == "SystemExit"
    assert await stage.outcomes(execution) == [(1, "failed")]


async def test_a_second_drive_counts_its_tries_anew(stage: Stage, worker: Worker) -> None:
    """With attempts_before 2, attempts go on at 3, and max_tries counts from there."""

    @worker.task("t", backoff=QUICK)
    async def run(payload: Any) -> None:
        raise ValueError("always")

    async with stage.serving(worker):
        execution = await stage.put("t", max_tries=2, attempts_before=2, drive=1)
        await stage.final(execution)
    assert await stage.outcomes(execution) == [(3, "retry"), (4, "failed")]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_hanging_function_times_out(stage: Stage, worker: Worker, is_async: bool) -> None:
    """The shorter timeout ends an attempt: retry naming the timeout while tries are left, then timed_out."""
    let_go = threading.Event()

    @worker.task("async", timeout="10s", backoff=QUICK)
    async def hang(payload: Any) -> None:
        await asyncio.sleep(60)

    @worker.task("sync", timeout="300ms", backoff=QUICK)
    def block(payload: Any) -> None:
        let_go.wait(60)

    try:
        async with stage.serving(worker):
            execution = await stage.put("async" if is_async else "sync", max_tries=2, timeout_s=0.3)
            final = await stage.final(execution)
            let_go.set()
    finally:
        let_go.set()
    assert "0.3 s" in final["error"]["message"]
    assert await stage.outcomes(execution) == [(1, "retry"), (2, "timed_out")]


async def test_a_thread_that_hangs_keeps_its_place(stage: Stage) -> None:
    """A sync function left behind holds its slot until it ends, so that concurrency stays true."""
    worker = Worker("Q", nats=stage.url, concurrency=1, stop_grace="1s")
    let_go = threading.Event()

    @worker.task("block", timeout="100ms", max_tries=1)
    def block(payload: Any) -> None:
        let_go.wait(60)

    @worker.task("next")
    async def next_(payload: Any) -> bool:
        return let_go.is_set()

    try:
        async with stage.serving(worker):
            assert (await stage.final(await stage.put("block")))["outcome"] == "timed_out"
            second = await stage.put("next")
            await asyncio.sleep(0.5)
            assert await stage.is_queued(second)
            let_go.set()
            assert (await stage.final(second))["result"] is True
    finally:
        let_go.set()


async def test_a_long_run_is_kept_alive(stage: Stage, worker: Worker) -> None:
    """A run of three ack waits is delivered once: in-progress and the row tell that it lives."""

    @worker.task("t")
    async def run(payload: Any) -> str:
        await asyncio.sleep(3 * ACK_WAIT_S)
        return "done"

    async with stage.serving(worker):
        execution = await stage.put("t")
        row = await eventually(lambda: _row_with(stage, execution))
        assert row["worker"] == worker.id
        assert (row["queues"], row["types"], row["concurrency"]) == (["Q"], ["t"], 10)
        assert row["running"] == [{"id": execution, "attempt": 1}]
        assert (await stage.final(execution))["result"] == "done"
        assert (await stage.js.consumer_info(NAMES.tasks, "Q")).num_redelivered == 0
        await eventually(lambda: _is_idle(stage))
    assert await stage.outcomes(execution) == [(1, "succeeded")]
    assert await stage.rows() == []


async def test_an_unknown_type_is_no_attempt(stage: Stage, worker: Worker) -> None:
    """A type without a function is handed back for five seconds: nothing is reported, and others go on."""

    @worker.task("known")
    async def run(payload: Any) -> None: ...

    async with stage.serving(worker):
        strange = await stage.put("strange")
        await stage.final(await stage.put("known"))
        await asyncio.sleep(1.5 * ACK_WAIT_S)
        info = await stage.js.consumer_info(NAMES.tasks, "Q")
        assert info.delivered.consumer_seq == 2
    assert await stage.is_queued(strange)
    assert await stage.reports(strange) == []


async def test_a_message_that_is_no_task_is_refused(stage: Stage, worker: Worker) -> None:
    """A message without our headers is ended for good and disturbs nobody."""

    @worker.task("t")
    async def run(payload: Any) -> None: ...

    async with stage.serving(worker):
        await stage.js.publish(NAMES.task("Q", "junk"), b"?")
        await stage.final(await stage.put("t"))
        await eventually(lambda: _is_gone(stage, "junk"))


async def test_concurrency_is_a_limit_over_all_queues(stage: Stage) -> None:
    """With two places and two queues never more than two functions run, and both queues are served."""
    await stage.add_queue("R")
    worker = Worker("Q", "R", nats=stage.url, concurrency=2)
    now, most = 0, 0

    @worker.task("t")
    async def run(payload: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1

    executions = [(await stage.put("t", queue=queue), queue) for queue in "QR" * 15]
    async with stage.serving(worker):
        for execution, queue in executions:
            assert (await stage.final(execution, queue=queue))["outcome"] == "succeeded"
    assert most == 2


async def test_one_place_for_two_queues_serves_both(stage: Stage) -> None:
    """With fewer places than queues an idle queue does not starve the other."""
    await stage.add_queue("R")
    worker = Worker("R", "Q", nats=stage.url, concurrency=1)

    @worker.task("t")
    async def run(payload: Any) -> None: ...

    async with stage.serving(worker):
        for _ in range(2):
            await stage.final(await stage.put("t", queue="Q"), within_s=5)


async def test_a_result_too_large_is_dropped_with_a_note(stage: Stage, worker: Worker) -> None:
    """The work is done: succeeded without the result, and a note that says why; the same for what is no JSON."""

    @worker.task("large")
    async def large(payload: Any) -> str:
        return "x" * RESULT_MAX

    @worker.task("odd")
    async def odd(payload: Any) -> object:
        return object()

    async with stage.serving(worker):
        for type_, word in (("large", "more than"), ("odd", "not JSON")):
            final = await stage.final(await stage.put(type_))
            assert final["outcome"] == "succeeded"
            assert "result" not in final
            assert word in final["note"]


async def test_a_worker_serves_once(stage: Stage, worker: Worker) -> None:
    """serve() while serving is refused; stop() while not serving does nothing; serving again is fine."""
    await worker.stop()
    for _ in range(2):
        async with stage.serving(worker):
            await eventually(stage.rows)
            with pytest.raises(Conflict):
                await worker.serve()


async def _row_with(stage: Stage, execution: str) -> dict[str, Any] | None:
    rows = [row for row in await stage.rows() if any(run["id"] == execution for run in row["running"])]
    return rows[0] if rows else None


async def _is_idle(stage: Stage) -> bool:
    return [row["running"] for row in await stage.rows()] == [[]]


async def _is_gone(stage: Stage, execution: str) -> bool:
    return not await stage.is_queued(execution)
