"""What a worker does while its queue, or NATS itself, is not there, comes, goes or is made anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scheduler.worker import TaskContext, Worker
from tests.integration.worker_stage import ACK_WAIT_S, NAMES, QUICK, Stage, eventually


async def test_a_worker_waits_for_its_queue(stage: Stage) -> None:
    """Started before its queue exists, a worker waits and begins when it is there, another queue untouched."""
    worker = Worker("Q", "LATER", nats=stage.url)

    @worker.task("t")
    async def run(payload: Any) -> None: ...

    async with stage.serving(worker):
        await stage.final(await stage.put("t"))
        early = await stage.put("t", queue="LATER")
        await asyncio.sleep(0.5)
        await stage.add_queue("LATER")
        await stage.final(early, queue="LATER", within_s=4)


async def test_a_queue_that_comes_at_once_is_no_warning(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A worker whose first start makes its queue begins as soon as it is there; one that stays away is told of."""
    worker = Worker("SOON", nats=stage.url)

    @worker.task("t")
    async def run(payload: Any) -> None: ...

    def warnings() -> list[str]:
        return [each.getMessage() for each in caplog.records if getattr(each, "event", "") == "worker.waiting"]

    early = await stage.put("t", queue="SOON")
    async with stage.serving(worker):
        await asyncio.sleep(0.1)
        await stage.add_queue("SOON")
        await stage.final(early, queue="SOON", within_s=1)
        assert warnings() == []
    away = Worker("NEVER", nats=stage.url)
    away.task("t")(run)
    async with stage.serving(away):
        async with asyncio.timeout(5):
            while not warnings():
                await asyncio.sleep(0.05)
    assert len(warnings()) == 1


async def test_a_restart_of_nats_is_survived(stage: Stage, worker: Worker) -> None:
    """A run that ends while the server is away is reported later; new tasks are pulled; nothing runs twice."""
    starts: list[str] = []
    running = asyncio.Event()

    @worker.task("t")
    async def run(payload: Any, ctx: TaskContext) -> str:
        starts.append(ctx.execution_id)
        running.set()
        await asyncio.sleep(0.4)
        return "done"

    async with stage.serving(worker):
        first = await stage.put("t")
        await running.wait()
        await stage.server.kill()
        await asyncio.sleep(0.6)
        await stage.server.start()
        await eventually(stage.answers)
        assert (await stage.final(first, within_s=15))["result"] == "done"
        second = await stage.put("t")
        assert (await stage.final(second, within_s=10))["result"] == "done"
    assert starts == [first, second]


async def test_a_consumer_made_anew_starts_nothing_twice(stage: Stage, worker: Worker) -> None:
    """Re-creating the consumer delivers a running task again as its first delivery: it is not started a second time."""
    others = Worker("Q", nats=stage.url)
    starts = 0
    running = asyncio.Event()

    async def run(payload: Any) -> None:
        nonlocal starts
        starts += 1
        running.set()
        await asyncio.sleep(2 * ACK_WAIT_S)

    worker.task("t")(run)
    others.task("t")(run)
    async with stage.serving(worker), stage.serving(others):
        execution = await stage.put("t")
        await running.wait()
        await stage.js.delete_consumer(NAMES.tasks, "Q")
        await stage.add_queue("Q")
        assert (await stage.final(execution))["outcome"] == "succeeded"
        assert (await stage.final(await stage.put("t")))["outcome"] == "succeeded"
    assert starts == 2
    assert await stage.outcomes(execution) == [(1, "succeeded")]


async def test_a_queue_that_delivers_no_more_makes_a_retry_final(stage: Stage, worker: Worker) -> None:
    """With the consumer's max_deliver used up a retry would never come: the failure is final and says so."""
    await stage.add_queue("SHORT", max_deliver=2)
    worker = Worker("SHORT", nats=stage.url)

    @worker.task("t", backoff=QUICK)
    async def run(payload: Any) -> None:
        raise ValueError("always")

    async with stage.serving(worker):
        execution = await stage.put("t", queue="SHORT", max_tries=9)
        final = await stage.final(execution, queue="SHORT")
    assert "max_deliver 2" in final["note"]
    assert await stage.outcomes(execution, "SHORT") == [(1, "retry"), (2, "failed")]
