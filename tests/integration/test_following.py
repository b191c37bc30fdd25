"""What an execution logs, read while it runs; who waits for its end; who works: against a whole schedd."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import nats
import pytest

from scheduler.client import Client, StillRunning, following
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.model.execution import State
from scheduler.testing import LocalSchedd
from scheduler.wire.lines import Line
from scheduler.worker import Worker
from tests.acceptance.processes import clean_environment

ROOT = Path(__file__).parents[2]
MANUAL = {"manual": True, "queue": "Q", "type": "t"}
T = TypeVar("T")


@pytest.fixture
async def local() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd() as local:
        yield local


@pytest.fixture
async def client(local: LocalSchedd) -> AsyncIterator[Client]:
    async with Client.connect(local.nats_url) as client:
        yield client


class Gate:
    """A task that logs what a test says, and ends when it says so."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str | None] = asyncio.Queue()

    async def task(self, payload: Any, ctx: Any) -> str:
        while (text := await self.said.get()) is not None:
            ctx.log.info(text, attempt_seen=ctx.attempt)
        if ctx.attempt == 1:
            ctx.log.warning("once more")
            raise ConnectionError("busy")
        ctx.log.error("the end")
        return "done"


@asynccontextmanager
async def serving(local: LocalSchedd, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("NATS_URL", local.nats_url)
    worker = Worker("Q")
    worker.task("t", backoff={"initial": "10ms", "jitter": 0})(gate.task)
    task = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        await worker.stop()
        await asyncio.gather(task, return_exceptions=True)


async def within(seconds: float, work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, seconds)


async def collected(lines: AsyncIterator[Line], into: list[Line]) -> None:
    async for line in lines:
        into.append(line)  # noqa: PERF401 - it is looked at meanwhile


async def until(condition: Any, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_followed_to_the_last_line(local: LocalSchedd, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are seen while it runs, over attempts, each once; it ends by itself; so does who waits for the record."""
    gate, seen = Gate(), []
    await client.schedules.put("m", MANUAL)
    async with serving(local, gate, monkeypatch):
        execution_id = (await client.schedules.trigger("m")).execution_id
        following_it = asyncio.create_task(collected(client.executions.logs(execution_id, follow=True), seen))
        waiting = asyncio.create_task(client.wait(execution_id, timeout=20))
        await gate.said.put("one")
        await until(lambda: [line.message for line in seen] == ["one"])
        assert not following_it.done()
        with pytest.raises(StillRunning) as caught:
            await client.wait(execution_id, timeout=0.2)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.record is not None
        assert caught.value.record.state is State.RUNNING
        for text in (None, "two", None):
            await gate.said.put(text)
        await within(8, following_it)
        assert [(line.message, line.level, line.attempt) for line in seen] == [
            ("one", "info", 1), ("once more", "warning", 1), ("two", "info", 2), ("the end", "error", 2),
        ]  # fmt: skip
        assert seen[2].values == {"attempt_seen": 2}
        record = await within(5, waiting)
        assert (record.state, record.attempt, bytes(record.result)) == (State.SUCCEEDED, 2, b'"done"')
        assert (await client.wait(execution_id, timeout=5)).state is State.SUCCEEDED
    errors = [line.message async for line in client.executions.logs(execution_id, level="error")]
    first = [line.message async for line in client.executions.logs(execution_id, attempt=1)]
    assert (errors, first) == (["the end"], ["one", "once more"])


async def test_followed_without_hints(client: Client, local: LocalSchedd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hints do not come, looking now and then finds the same; a follower survives a daemon that is away."""
    monkeypatch.setattr(following, "Hints", Deaf)
    seen: list[Line] = []
    await client.schedules.put("m", MANUAL)
    execution_id = (await client.schedules.trigger("m")).execution_id
    plain = await nats.connect(local.nats_url)
    try:
        await plain.publish(f"schedd.log.{execution_id}", b'{"msg": "from afar"}')
        following_it = asyncio.create_task(collected(client.executions.logs(execution_id, follow=True), seen))
        await until(lambda: len(seen) == 1)
        tasks = await plain.jetstream().pull_subscribe_bind("Q", "SCHEDD_TASKS")
        (task,) = await tasks.fetch(1, timeout=5)
        await local.replica.stop()
        await plain.publish(f"schedd.log.{execution_id}", b"not even JSON \x1b[2J")
        await task.ack()
        await asyncio.sleep(0.5)
        await local.replica.start()
        await within(30, following_it)
        assert [line.message for line in seen] == ["from afar", "not even JSON \x1b[2J"]
        assert (await client.wait(execution_id, timeout=5)).state is State.SUCCEEDED
    finally:
        await plain.close()


class Deaf:
    """Hints of a user who may not subscribe."""

    def __init__(self, *_: Any) -> None:
        self.pause_s = 0.1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def wait(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)


async def test_unknown_ones(client: Client) -> None:
    """What should be on record and is not is not found; what is still to come is waited for; nonsense is refused."""
    with pytest.raises(NotFound):
        await client.wait("m.20200101T000000000Z", timeout=5)
    with pytest.raises(StillRunning, match="not on record"):
        await client.wait("m.20991231T000000000Z", timeout=0.3)
    with pytest.raises(InvalidArgument):
        await client.wait("nonsense")
    for follow in (False, True):
        with pytest.raises(NotFound):
            await within(5, collected(client.executions.logs("nonsense", follow=follow), []))


async def test_the_commands(local: LocalSchedd, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """`executions logs [-f] [--json]` and `worker list`: what people and scripts see."""
    gate = Gate()
    await client.schedules.put("m", MANUAL)
    code, out, err = await schedctl(local, "worker", "list")
    assert (code, out) == (0, "")
    assert "schedctl worker run" in err
    async with serving(local, gate, monkeypatch):
        execution_id = (await client.schedules.trigger("m")).execution_id
        for text in ("\x1b[31mred\nand more", None, None):
            await gate.said.put(text)
        code, out, _ = await schedctl(local, "executions", "logs", execution_id, "-f")
        assert code == 0
        assert "\x1b" not in out
        assert "#1  \\x1b[31mred  attempt_seen=1\n    and more\n" in out
        assert out.splitlines()[-1].endswith("Z  error     #2  the end")
        [worker] = [each async for each in client.workers.list(queue="Q")]
        assert (list(worker.queues), list(worker.types), worker.concurrency) == (["Q"], ["t"], 10)
        logs = ("executions", "logs", execution_id)
        followed, listed, none, unknown, loud, names, table = await asyncio.gather(
            schedctl(local, *logs, "-f", "--json", "--level", "warning"),
            schedctl(local, *logs, "--json", "--attempt", "2"),
            schedctl(local, *logs, "--attempt", "9"),
            schedctl(local, "executions", "logs", "nope", "-f"),
            schedctl(local, *logs, "--level", "loud"),
            schedctl(local, "worker", "list", "--names"),
            schedctl(local, "worker", "list"),
        )
    assert [json.loads(line)["message"] for line in followed[1].splitlines()] == ["once more", "the end"]
    assert [line["message"] for line in json.loads(listed[1])] == ["the end"]
    assert none == (0, "", "No line matches.\n")
    assert (unknown[0], "no execution 'nope'" in unknown[2]) == (3, True)
    assert (loud[0], "debug, info, warning" in loud[2]) == (2, True)
    assert names[:2] == (0, f"{worker.worker}\n")
    assert worker.worker in table[1]
    assert "0/10" in table[1]


async def schedctl(local: LocalSchedd, *words: str) -> tuple[int, str, str]:
    env = {**clean_environment(), "NATS_URL": local.nats_url, "COLUMNS": "140"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedctl", *words, cwd=ROOT, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
