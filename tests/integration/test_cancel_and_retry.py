"""Cancelled wherever it is, and run again after that: a real server, a real daemon, workers of both kinds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.core.errors import Conflict, NotFound
from scheduler.testing import LocalSchedd
from scheduler.wire.record import Record
from scheduler.worker import TaskContext, Worker
from tests.acceptance.processes import clean_environment

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"SCHEDD_ACK_WAIT": "1500ms", "SCHEDD_RECONCILE_EVERY": "500ms", "SCHEDD_RECONCILE_GRACE": "500ms"}
OVER = ("succeeded", "failed", "cancelled", "timed_out", "lost", "expired")
PROGRAM = """
import asyncio
from scheduler.worker import Worker

worker = Worker("Q")

@worker.task("t", max_tries=3)
async def tidy(payload):
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(60)

worker.run()
"""


@pytest.fixture
async def local() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd(env=SHORT) as local:
        yield local


@pytest.fixture
async def client(local: LocalSchedd) -> AsyncIterator[Client]:
    async with Client.connect(local.nats_url) as client:
        await client.schedules.put("a", {"manual": True, "queue": "Q", "type": "t", "overlap": "allow"})
        yield client


@asynccontextmanager
async def serving(local: LocalSchedd, function: Callable[..., Any], **limits: Any) -> AsyncIterator[Worker]:
    worker = Worker("Q", nats=local.nats_url, stop_grace="1s")
    worker.task("t", **limits)(function)
    task = asyncio.create_task(worker.serve())
    try:
        yield worker
    finally:
        await worker.stop()
        await asyncio.gather(task, return_exceptions=True)


async def run(client: Client) -> str:
    return (await client.schedules.trigger("a")).execution_id


async def until(client: Client, execution_id: str, *states: str) -> Record:
    async def look() -> Record | None:
        record = await client.executions.get(execution_id)
        return record if record.state in states else None

    return await eventually(look)


async def eventually(look: Callable[[], Awaitable[Any]], within_s: float = 20) -> Any:
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.02)
        return found


async def no_task_is_left(client: Client) -> None:
    async def look() -> bool:
        info = await client.connection.jetstream().stream_info("SCHEDD_TASKS", subjects_filter="schedd.task.>")
        return not info.state.subjects

    await eventually(look)


async def test_in_its_queue_twice_and_again(local: LocalSchedd, client: Client) -> None:
    """Cancelled once, told twice, its task gone; retried it is worked off by whoever comes, plain ack or not."""
    execution = await run(client)
    for _ in range(2):
        record = await client.executions.cancel(execution)
        assert (record.state, record.reason) == ("cancelled", "requested")
    await no_task_is_left(client)
    again = await client.executions.retry(execution)
    assert (again.state, again.drive) == ("queued", 1)
    subscription = await client.connection.jetstream().pull_subscribe_bind("Q", "SCHEDD_TASKS")
    [task] = await subscription.fetch(1, timeout=5)
    assert task.headers is not None
    assert task.headers["Schedd-Drive"] == "1"
    await task.ack()
    done = await until(client, execution, *OVER)
    assert (done.state, done.attempt) == ("succeeded", done.attempts_before + 1)
    with pytest.raises(Conflict, match="has ended already"):
        await client.executions.cancel(execution)


async def test_in_the_hands_of_a_plain_worker(client: Client) -> None:
    """It hears nothing: what it does afterwards counts for nothing, and it is not delivered again."""
    execution = await run(client)
    subscription = await client.connection.jetstream().pull_subscribe_bind("Q", "SCHEDD_TASKS")
    [task] = await subscription.fetch(1, timeout=5)
    assert (await client.executions.cancel(execution)).state == "cancelled"
    await task.nak()
    with pytest.raises(TimeoutError):
        await subscription.fetch(1, timeout=2)
    await client.connection.publish(task.reply, b"+ACK")
    await asyncio.sleep(0.5)
    assert (await client.executions.get(execution)).state == "cancelled"
    await no_task_is_left(client)


async def test_a_function_that_tidies_up(local: LocalSchedd, client: Client) -> None:
    """asyncio cancels it, it has its grace, its attempt ends as cancelled; retried it succeeds with all its tries."""
    tidied = asyncio.Event()

    async def work(payload: Any, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)
                tidied.set()
        return ctx.attempt

    async with serving(local, work, max_tries=1):
        execution = await run(client)
        await until(client, execution, "running")
        for _ in range(2):
            await client.executions.cancel(execution, grace="5s")
        record = await until(client, execution, *OVER)
        assert (record.state, record.reason, tidied.is_set()) == ("cancelled", "requested", True)
        await client.executions.retry(execution)
        done = await until(client, execution, "succeeded", "failed", "lost")
        assert (done.state, bytes(done.result), done.drive, done.attempts_before) == ("succeeded", b"2", 1, 1)
    await no_task_is_left(client)


async def test_a_thread_that_does_not_stop(local: LocalSchedd, client: Client) -> None:
    """`ctx.cancelled` is all that it gets; after the grace the attempt is over without it, its place is not; a retry
    runs beside it, in another place, and what the thread returns in the end changes nothing."""
    let_go, seen = threading.Event(), threading.Event()

    def work(payload: Any, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            while not let_go.wait(0.01):
                if ctx.cancelled:
                    seen.set()
        return ctx.attempt

    async with serving(local, work):
        execution = await run(client)
        await until(client, execution, "running")
        await client.executions.cancel(execution, grace="300ms")
        assert (await until(client, execution, *OVER)).state == "cancelled"
        assert seen.is_set()
        await client.executions.retry(execution)
        done = await until(client, execution, "succeeded", "failed", "lost")
        let_go.set()
        await asyncio.sleep(0.3)
        after = await client.executions.get(execution)
        assert (after.state, after.attempt, after.history) == (done.state, 2, done.history)


async def test_killed_during_the_grace(local: LocalSchedd, client: Client, tmp_path: Path) -> None:
    """kill -9 while it tidies up: cancelled after an ack wait of silence, though it has tries left."""
    program = tmp_path / "work.py"
    program.write_text(PROGRAM)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), cwd=ROOT, env={**clean_environment(), "NATS_URL": local.nats_url},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        execution = await run(client)
        await until(client, execution, "running")
        assert (await client.executions.cancel(execution, grace="30s")).state == "running"
        await asyncio.sleep(0.3)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    record = await until(client, execution, *OVER)
    assert (record.state, record.reason, record.attempt) == ("cancelled", "requested", 1)
    await no_task_is_left(client)
    await client.executions.retry(execution)
    assert (await client.executions.get(execution)).attempts_before >= 1


async def test_between_two_attempts(local: LocalSchedd, client: Client) -> None:
    """One that would be tried again in an hour is over at once; a retry tries it at once."""

    async def work(payload: Any, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("busy")
        return ctx.attempt

    async with serving(local, work, backoff={"initial": "1h", "max": "1h"}):
        execution = await run(client)
        await until(client, execution, "retrying")
        cancelled = await client.executions.cancel(execution)
        assert (cancelled.state, cancelled.error and cancelled.error.type) == ("cancelled", "ConnectionError")
        await client.executions.retry(execution)
        done = await until(client, execution, "succeeded", "failed")
        assert (done.state, done.attempt) == ("succeeded", done.attempts_before + 1)


async def test_at_the_very_moment_of_success(local: LocalSchedd, client: Client) -> None:
    """Many are cancelled about when they end: each has one end, that of its worker or ours, and no task is left."""

    async def work(payload: Any) -> str:
        await asyncio.sleep(0.05)
        return "done"

    async def cancel(execution: str, after_s: float) -> str:
        await asyncio.sleep(after_s)
        try:
            return (await client.executions.cancel(execution)).state
        except (Conflict, NotFound):
            return "over"

    async with serving(local, work):
        ids = [await run(client) for _ in range(20)]
        await asyncio.gather(*(cancel(each, 0.01 * number) for number, each in enumerate(ids)))
        records = [await until(client, each, *OVER) for each in ids]
        assert {each.state for each in records} <= {"succeeded", "cancelled"}
        ends = [[entry for entry in each.history if entry.state in OVER] for each in records]
        assert [len(each) for each in ends] == [1] * len(ids)
    await no_task_is_left(client)


async def test_a_dead_letter_at_once(local: LocalSchedd, client: Client) -> None:
    """Failed, retried within the same second by ten clients who saw it fail: it runs once, with another payload."""
    runs: list[Any] = []

    async def work(payload: Any, ctx: TaskContext) -> Any:
        runs.append(payload)
        if len(runs) == 1:
            raise ValueError("no")
        return payload

    async with serving(local, work, max_tries=1):
        execution = await run(client)
        failed = await until(client, execution, "failed")
        began_s = time.monotonic()
        asked = [client.executions.retry(execution, payload={"n": 2}, expected_drive=failed.drive) for _ in range(10)]
        assert {each.drive for each in await asyncio.gather(*asked)} == {1}
        done = await until(client, execution, "succeeded", "lost")
        assert time.monotonic() - began_s < 10
        assert (done.state, runs, bytes(done.result)) == ("succeeded", [None, {"n": 2}], b'{"n":2}')
        found = [each.id async for each in client.executions.list(state="failed,succeeded", type_="t")]
        assert found == [execution]
