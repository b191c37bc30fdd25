"""A run that is cancelled, and a worker that is stopped, on a real server."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import msgspec
import pytest

from scheduler.worker import TaskContext, Worker
from tests.integration.worker_stage import NAMES, Stage


@pytest.mark.parametrize("action", ["cancel", "terminate"])
async def test_a_cancel_message_ends_a_run(stage: Stage, worker: Worker, action: str) -> None:
    """A running async function is cancelled, may tidy up, and its attempt is reported cancelled, once."""
    tidied = asyncio.Event()
    running = asyncio.Event()

    @worker.task("t")
    async def run(payload: Any, ctx: TaskContext) -> None:
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            assert ctx.cancelled
            tidied.set()

    async with stage.serving(worker):
        execution = await stage.put("t")
        await running.wait()
        body = msgspec.json.encode({"action": action, "grace_s": 2})
        await stage.client.publish(NAMES.cancel("Q", execution), body)
        final = await stage.final(execution, within_s=5)
    assert final["outcome"] == "cancelled"
    assert tidied.is_set()


async def test_a_sync_function_learns_that_it_is_cancelled(stage: Stage, worker: Worker) -> None:
    """ctx.cancelled turns true in the thread; what the function returns then is kept beside the cancel."""
    running = threading.Event()

    @worker.task("t")
    def run(payload: Any, ctx: TaskContext) -> str:
        running.set()
        while not ctx.cancelled:
            time.sleep(0.02)
        return "partial"

    async with stage.serving(worker):
        execution = await stage.put("t")
        await asyncio.to_thread(running.wait, 5)
        await stage.client.publish(NAMES.cancel("Q", execution), b'{"action":"cancel","grace_s":3}')
        final = await stage.final(execution, within_s=5)
    assert (final["outcome"], final["result"]) == ("cancelled", "partial")


@pytest.mark.parametrize("impatience", ["terminate", "stop"])
async def test_a_long_grace_is_cut_short(stage: Stage, impatience: str) -> None:
    """A cancelled run that uses its grace is ended by a terminate, and by a stop of its worker: as cancelled."""
    worker = Worker("Q", nats=stage.url, stop_grace="200ms")
    let_go = threading.Event()
    running = threading.Event()

    @worker.task("t")
    def run(payload: Any) -> None:
        running.set()
        let_go.wait(60)

    try:
        async with stage.serving(worker):
            execution = await stage.put("t")
            await asyncio.to_thread(running.wait, 5)
            await stage.client.publish(NAMES.cancel("Q", execution), b'{"action":"cancel","grace_s":60}')
            await asyncio.sleep(0.2)
            assert await stage.outcomes(execution) == []
            if impatience == "terminate":
                await stage.client.publish(NAMES.cancel("Q", execution), b'{"action":"terminate"}')
            else:
                await worker.stop()
            assert (await stage.final(execution, within_s=3))["outcome"] == "cancelled"
            let_go.set()
    finally:
        let_go.set()


async def test_stop_lets_runs_end(stage: Stage, worker: Worker) -> None:
    """stop() waits for what runs; what is queued then stays queued, without an attempt."""
    running = asyncio.Event()

    @worker.task("t")
    async def run(payload: Any) -> str:
        running.set()
        await asyncio.sleep(0.5)
        return "done"

    async with stage.serving(worker) as serving:
        execution = await stage.put("t")
        await running.wait()
        await worker.stop()
        assert serving.done()
    assert (await stage.final(execution))["result"] == "done"
    after = await stage.put("t")
    await asyncio.sleep(0.3)
    assert await stage.reports(after) == []


@pytest.mark.parametrize(("max_tries", "outcome"), [(2, "retry"), (1, "failed")])
async def test_stop_hands_back_what_does_not_end(stage: Stage, max_tries: int, outcome: str) -> None:
    """After the grace a run is interrupted: a retry at once where a try is left, else failed, never silence."""
    worker = Worker("Q", nats=stage.url, stop_grace="200ms")
    running = asyncio.Event()

    @worker.task("t")
    async def run(payload: Any) -> None:
        running.set()
        await asyncio.sleep(60)

    async with stage.serving(worker):
        execution = await stage.put("t", max_tries=max_tries)
        await running.wait()
    (report,) = await stage.reports(execution, "finished")
    assert report[2]["outcome"] == outcome
    assert report[2]["error"]["type"] == "WorkerStopped"
    assert await stage.is_queued(execution) == (outcome == "retry")
    if outcome == "retry":
        second = Worker("Q", nats=stage.url)
        second.task("t")(_returns_attempt)
        async with stage.serving(second):
            assert (await stage.final(execution, within_s=3))["result"] == 2


async def _returns_attempt(payload: Any, ctx: TaskContext) -> int:
    return ctx.attempt
