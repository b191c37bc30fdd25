"""Schedules in code, against a real daemon: registered at the start, never silently overwritten or dropped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.client import Client
from scheduler.core.errors import Conflict, NotFound
from scheduler.testing import LocalSchedd
from scheduler.worker import Worker
from scheduler.worker.declaring import OWNER_LABEL
from tests.acceptance.processes import clean_environment

PROGRAM = """
from scheduler.worker import Worker

worker = Worker("Q", name="crm")


@worker.schedule("kept", every="1h")
async def kept(payload): ...
"""


@pytest.fixture
async def local() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd() as local:
        yield local


@pytest.fixture
async def client(local: LocalSchedd) -> AsyncIterator[Client]:
    async with Client.connect(local.nats_url) as client:
        yield client


@asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.serve())
    try:
        yield task
    finally:
        await worker.stop()
        await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(10):
        while not (found := await look()):
            await asyncio.sleep(0.02)
        return found


def declaring(local: LocalSchedd, on_conflict: str, every: str, calls: list[Any]) -> Worker:
    worker = Worker("Q", nats=local.nats_url, name="crm")

    @worker.schedule("report", every=every, payload={"n": 1}, on_conflict=on_conflict)
    async def report(payload: Any) -> None:
        calls.append(payload)

    return worker


async def stored_every(client: Client) -> str | None:
    try:
        found = await client.schedules.get("report")
    except NotFound:
        return None
    return str(msgspec.json.decode(found.schedule)["every"])


async def test_declared_stored_and_run(local: LocalSchedd, client: Client) -> None:
    """What code declares is stored when the worker starts, marked as its own, and carried out by it."""
    calls: list[Any] = []
    async with serving(declaring(local, "keep", "1s", calls)):
        await until(lambda: _true(len(calls) >= 2))
    assert calls[0] == {"n": 1}
    [item] = [item async for item in client.schedules.list(labels={OWNER_LABEL: "crm"})]
    assert item.id == "report"


async def test_a_difference(local: LocalSchedd, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept, updated, or the end of the worker, as the code says; the environment may force the code's."""
    async with serving(declaring(local, "keep", "1h", [])):
        await until(lambda: stored_every(client))
    async with serving(declaring(local, "keep", "2h", [])):
        await asyncio.sleep(0.5)
    assert await stored_every(client) == "1h"
    async with serving(declaring(local, "update", "3h", [])):
        await until(lambda: _is(client, "3h"))
    async with serving(declaring(local, "fail", "4h", [])) as task:
        with pytest.raises(Conflict, match="every"):
            await asyncio.wait_for(asyncio.shield(task), 10)
    assert await stored_every(client) == "3h"
    monkeypatch.setenv("SCHEDULER_FORCE_UPDATE", "true")
    async with serving(declaring(local, "fail", "5h", [])):
        await until(lambda: _is(client, "5h"))


async def test_prune_exports_before_it_deletes(local: LocalSchedd, client: Client, tmp_path: Path) -> None:
    """`worker prune` deletes what the code declares no more, and only that, and keeps its definitions in a file."""
    (tmp_path / "tasks.py").write_text(PROGRAM)
    for name, labels in (
        ("gone", {OWNER_LABEL: "crm"}),
        ("other", {OWNER_LABEL: "hr"}),
        ("kept", {OWNER_LABEL: "crm"}),
    ):
        await client.schedules.put(name, {"every": "1h", "queue": "Q", "type": "t", "labels": labels})
    assert await schedctl(local, tmp_path, "worker", "prune", "tasks:worker", "--dry-run") == (0, "gone\n")
    (tmp_path / "old.yaml").write_text("mine")
    code, _ = await schedctl(local, tmp_path, "worker", "prune", "tasks:worker", "--export", "old.yaml")
    assert code == 2
    assert {item.id async for item in client.schedules.list()} == {"gone", "other", "kept"}
    code, told = await schedctl(local, tmp_path, "worker", "prune", "tasks:worker", "--export", "new.yaml", "--yes")
    assert (code, told.splitlines()[0]) == (0, "gone")
    assert {item.id async for item in client.schedules.list()} == {"other", "kept"}
    code, _ = await schedctl(local, tmp_path, "add", "-f", "new.yaml")
    assert code == 0
    assert {item.id async for item in client.schedules.list()} == {"gone", "other", "kept"}


async def schedctl(local: LocalSchedd, folder: Path, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedctl", "--nats", local.nats_url, *words, cwd=folder,
        env=clean_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def _true(found: bool) -> bool:
    return found


async def _is(client: Client, every: str) -> bool:
    return await stored_every(client) == every
