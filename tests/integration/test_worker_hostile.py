"""Tasks that do what no task should do: the worker goes on, each execution comes to its end, nothing is stuck."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.core.errors import PayloadTooLarge
from scheduler.testing import LocalSchedd, run_task
from scheduler.worker import Worker
from scheduler.worker.context import LINES_MAX
from tests.integration.worker_stage import ACK_WAIT_S, NAMES, Stage

TEN_MB = 10 * 1024 * 1024


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


async def test_one_bad_task_spoils_no_other(stage: Stage) -> None:
    """Odd errors, odd results, deaf and endless functions in one worker beside good ones: all come to their end."""
    worker, over = Worker("Q", concurrency=4, nats=stage.url, stop_grace="1s"), asyncio.Event()

    @worker.task("speechless", max_tries=1)
    async def speechless(payload: Any) -> None:
        raise Unspeakable

    @worker.task("exits", max_tries=1)
    def exits(payload: Any) -> None:
        raise SystemExit(3)

    @worker.task("group", max_tries=1)
    async def group(payload: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0))
            raise ValueError("in a group")

    @worker.task("odd-result")
    def odd(payload: Any) -> Any:
        return {1, object()}

    @worker.task("endless-result")
    def endless(payload: Any) -> Any:
        found: list[Any] = []
        found.append(found)
        return found

    @worker.task("generator", max_tries=1)
    async def generator(payload: Any) -> Any:
        return (number for number in range(3))

    @worker.task("deaf", max_tries=1, timeout="200ms", grace="100ms")
    async def deaf(payload: Any) -> None:
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        over.set()

    @worker.task("good")
    async def good(payload: Any) -> str:
        return "well"

    expected = {
        "speechless": "failed", "exits": "failed", "group": "failed", "odd-result": "succeeded",
        "endless-result": "succeeded", "generator": "succeeded", "deaf": "timed_out", "good": "succeeded",
    }  # fmt: skip
    ids = {name: await stage.put(name) for name in expected}
    async with stage.serving(worker):
        ends = {name: await stage.final(id_) for name, id_ in ids.items()}
        last = await stage.final(await stage.put("good"))
    assert {name: end["outcome"] for name, end in ends.items()} == expected
    assert ends["speechless"]["error"]["type"].endswith("Unspeakable")
    assert "in a group" in ends["group"]["error"]["traceback"]
    assert "dropped" in ends["endless-result"]["note"]
    assert last["result"] == "well"
    await over.wait()


async def test_a_hundred_thousand_lines(stage: Stage) -> None:
    """A task that logs without end is not slowed down by it, and neither is its queue: the stream gets the first
    thousand and a word about the rest."""
    worker = Worker("Q", nats=stage.url)

    @worker.task("loud")
    async def loud(payload: Any, ctx: Any) -> str:
        for number in range(100_000):
            ctx.log.debug("line %d", number, text="x" * 50)
            ctx.progress(number / 100_000)
        return "said"

    async with stage.serving(worker):
        execution = await stage.put("loud")
        assert (await stage.final(execution, within_s=40))["result"] == "said"
    info = await stage.js.stream_info(NAMES.logs, subjects_filter=NAMES.log(execution))
    assert info.state.subjects == {NAMES.log(execution): LINES_MAX + 1}
    assert len(await stage.reports(execution, "progress")) < 60


async def test_a_task_that_blocks_the_loop(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Blocked for longer than an ack wait, a worker cannot say that it lives: the next attempt runs elsewhere, the
    end of the first is dropped, and the log of the blocked one tells what to change."""
    program = (
        "import sys, time, asyncio, logging\n"
        "from scheduler.worker import Worker\n"
        "worker = Worker('Q')\n"
        "@worker.task('t')\n"
        "async def blocks(payload, ctx):\n"
        f"    time.sleep({4 * ACK_WAIT_S})\n"
        "    return 'first'\n"
        "worker.run()\n"
    )
    worker = Worker("Q", nats=stage.url)

    @worker.task("t")
    async def second(payload: Any, ctx: Any) -> int:
        return int(ctx.attempt)

    with stage.process(program):
        execution = await stage.put("t")
        async with asyncio.timeout(15):
            while not await stage.reports(execution, "started"):
                await asyncio.sleep(0.05)
        async with stage.serving(worker):
            assert (await stage.final(execution))["result"] == 2
        log = stage.folder / "worker.log"
        async with asyncio.timeout(15):
            while "blocked" not in log.read_text() or "taken for lost" not in log.read_text():
                await asyncio.sleep(0.1)
    assert [body["outcome"] for *_, body in await stage.reports(execution, "finished")] == ["succeeded"]
    assert "without `async`" in log.read_text()


async def test_a_payload_of_ten_megabytes() -> None:
    """Refused with a sentence where it is put; a function that gets one all the same takes it."""
    async with LocalSchedd() as local, Client.connect(local.nats_url) as client:
        with pytest.raises(PayloadTooLarge) as caught:
            await client.schedules.put("big", {"every": "1m", "queue": "Q", "type": "t", "payload": "x" * TEN_MB})
        assert "bytes" in str(caught.value)
        assert [item.id async for item in client.schedules.list()] == []
    worker = Worker("Q")
    worker.task("t")(len)
    assert (await run_task(worker, "t", "x" * TEN_MB)).result == TEN_MB


@dataclass
class Old:
    n: int


@dataclass
class New:
    n: int
    extra: str = "none"


async def test_two_versions_of_one_type(stage: Stage) -> None:
    """While a new version is rolled out both work on the same queue: each task ends once, by either of them."""
    workers, ran = [Worker("Q", nats=stage.url, concurrency=3) for _ in range(2)], Counter[str]()

    @workers[0].task("t", max_tries=2, backoff={"initial": "20ms"})
    async def old(payload: Old, ctx: Any) -> str:
        ran[ctx.execution_id] += 1
        if ctx.attempt == 1:
            raise ValueError("an old mistake")
        return "old"

    @workers[1].task("t", max_tries=5, concurrency=2)
    def new(payload: New, ctx: Any) -> str:
        ran[ctx.execution_id] += 1
        return f"new {payload.extra}"

    ids = [await stage.put("t", b'{"n": 1, "extra": "more"}' if n % 2 else b'{"n": 1}') for n in range(30)]
    async with stage.serving(workers[0]), stage.serving(workers[1]):
        ends = [await stage.final(id_) for id_ in ids]
    assert {end["outcome"] for end in ends} == {"succeeded"}
    assert {end["result"] for end in ends} <= {"old", "new none", "new more"}
    assert all(1 <= ran[id_] <= 2 for id_ in ids)
    starts = [(id_, attempt) for id_ in ids for attempt, kind, _ in await stage.reports(id_, "started")]
    assert len(starts) == sum(ran.values())
