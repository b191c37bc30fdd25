"""What `ctx.log` says arrives, whatever happens to the connection meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.worker import Worker
from tests.integration.worker_stage import NAMES, Stage, eventually, staged
from tests.nats_servers import Server


@pytest.fixture
async def stage(nats_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("NATS_URL", nats_server.url)
    async with staged(nats_server, tmp_path) as stage:
        yield stage


async def messages(stage: Stage, execution_id: str) -> list[str]:
    found: list[str] = []
    seq = 1
    while True:
        request = msgspec.json.encode({"seq": seq, "next_by_subj": NAMES.log(execution_id)})
        reply = await stage.client.request(f"$JS.API.STREAM.MSG.GET.{NAMES.logs}", request, timeout=5)
        message = msgspec.json.decode(reply.data).get("message")
        if message is None:
            return found
        found.append(msgspec.json.decode(msgspec.convert(message["data"], bytes))["message"])
        seq = message["seq"] + 1


async def test_lines_survive_an_outage(stage: Stage) -> None:
    """Lines logged while the server is dead, by async and sync functions, arrive when it is back: in order, once."""
    worker = Worker("Q")
    down, back = asyncio.Event(), asyncio.Event()

    @worker.task("t")
    async def task(payload: Any, ctx: Any) -> None:
        ctx.log.info("before")
        await down.wait()
        for number in range(500):
            ctx.log.info("line %d", number)
        await back.wait()
        ctx.log.info("after")

    async with stage.serving(worker):
        execution_id = await stage.put("t")
        await eventually(lambda: messages(stage, execution_id))
        await stage.server.kill()
        down.set()
        await asyncio.sleep(0.3)
        await stage.server.start()
        await eventually(stage.answers)
        back.set()
        await stage.final(execution_id)
        wanted = ["before", *(f"line {number}" for number in range(500)), "after"]
        assert await eventually(lambda: _are(stage, execution_id, wanted))
    assert await messages(stage, execution_id) == wanted


async def _are(stage: Stage, execution_id: str, wanted: list[str]) -> bool:
    return len(await messages(stage, execution_id)) >= len(wanted)


async def test_lines_are_there_before_the_end(stage: Stage) -> None:
    """Whoever sees the final report finds every line, of a thread, too; also of a worker that is told to stop."""
    worker = Worker("Q", stop_grace="100ms")

    @worker.task("sync")
    def sync(payload: Any, ctx: Any) -> None:
        for number in range(900):
            ctx.log.info("line %d", number)

    @worker.task("long")
    async def long(payload: Any, ctx: Any) -> None:
        ctx.log.info("begun")
        try:
            await asyncio.sleep(60)
        finally:
            ctx.log.warning("interrupted")

    async with stage.serving(worker):
        execution_id = await stage.put("sync")
        await stage.final(execution_id)
        assert await messages(stage, execution_id) == [f"line {number}" for number in range(900)]
        other = await stage.put("long")
        await eventually(lambda: messages(stage, other))
        await worker.stop()
    assert await messages(stage, other) == ["begun", "interrupted"]
