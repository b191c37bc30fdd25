"""`execution.logs` and `worker.list`."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.memory.clock import START
from scheduler.services.api import logs
from scheduler.wire.instants import format_instant
from tests.unit.services.api.stage import Stage


def line(number: int, **fields: Any) -> dict[str, Any]:
    at = format_instant(START + timedelta(seconds=number))
    return {"at": at, "level": "info", "message": f"m{number}", "values": {}, "attempt": 1, "worker": "w", **fields}


def log(stage: Stage, execution_id: str, *lines: Any) -> None:
    for each in lines:
        stage.logs.put(execution_id, each if isinstance(each, bytes) else json.dumps(each).encode())


async def messages(stage: Stage, execution_id: str, **more: Any) -> list[str]:
    """Of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = await stage.ask("execution.logs", id=execution_id, cursor=cursor, **more)
        found += [each["message"] for each in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            return found


async def test_lines_are_those_of_the_contract(stage: Stage) -> None:
    """A line of the SDK comes out as it went in, field for field."""
    execution_id = await stage.record("a", 0)
    sent = [line(0, values={"n": 1}), line(1, level="error", attempt=2)]
    log(stage, execution_id, *sent)
    log(stage, await stage.record("a", 1), line(9))
    assert await stage.ask("execution.logs", id=execution_id) == {"items": sent, "cursor": None}


async def test_pages(stage: Stage) -> None:
    """Page after page, by any limit, each line once and in order."""
    execution_id = await stage.record("a", 0)
    log(stage, execution_id, *(line(number) for number in range(23)))
    for limit in (1, 7, 23, 1000):
        assert await messages(stage, execution_id, limit=limit) == [f"m{number}" for number in range(23)]


async def test_filters(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By attempt, and by the least level; a line that tells neither is in each. A page of misses has a cursor."""
    monkeypatch.setattr(logs, "READ_CHUNK", 2)
    monkeypatch.setattr(logs, "READS_MAX", 4)
    execution_id = await stage.record("a", 0)
    told = [line(0, level="debug"), line(1), line(2, level="warn", attempt=2), line(3, level="fatal"), line(4)]
    log(stage, execution_id, *told, {"message": "odd"}, {"message": "own", "level": "green"}, line(7, attempt=2))
    assert await messages(stage, execution_id, level="warning") == ["m2", "m3", "own"]
    assert await messages(stage, execution_id, level="WARN") == ["m2", "m3", "own"]
    assert await messages(stage, execution_id, attempt=2) == ["m2", "odd", "own", "m7"]
    assert await messages(stage, execution_id, attempt=2, level="info") == ["m2", "odd", "own", "m7"]
    assert await messages(stage, execution_id, attempt=9, level="error") == ["own"]


async def test_follow(stage: Stage) -> None:
    """Who follows gets a cursor each time, from before the first line on, and with it only what came later."""
    execution_id = await stage.record("a", 0)
    page = await stage.ask("execution.logs", id=execution_id, follow=True)
    assert page == {"items": [], "cursor": "0"}
    log(stage, execution_id, line(0), line(1, level="debug"))
    page = await stage.ask("execution.logs", id=execution_id, follow=True, cursor=page["cursor"], level="info")
    assert [each["message"] for each in page["items"]] == ["m0"]
    assert (await stage.ask("execution.logs", id=execution_id, follow=True, cursor=page["cursor"]))["items"] == []
    log(stage, execution_id, line(2))
    page = await stage.ask("execution.logs", id=execution_id, follow=True, cursor=page["cursor"], limit=1)
    assert [each["message"] for each in page["items"]] == ["m2"]


async def test_unknown_executions(stage: Stage) -> None:
    """No record and no line: not found, also for what can be no id. Lines that outlived their record are shown."""
    for unknown in ("a.20261121T080000000Z", "nonsense", "a.>", "*"):
        with pytest.raises(NotFound):
            await stage.ask("execution.logs", id=unknown)
    log(stage, "a.20261121T080000000Z", line(0))
    assert await messages(stage, "a.20261121T080000000Z") == ["m0"]


async def test_refused(stage: Stage) -> None:
    """What makes no sense is named."""
    execution_id = await stage.record("a", 0)
    for field, wrong in {"level": "loud", "cursor": "x", "attempt": 0, "limit": 0}.items():
        with pytest.raises(InvalidArgument) as caught:
            await stage.ask("execution.logs", id=execution_id, **{field: wrong})
        assert caught.value.field == field
    with pytest.raises(InvalidArgument, match="cursor"):
        await stage.ask("execution.logs", id=execution_id, cursor="9" * 30)


async def test_a_large_line_ends_no_list(stage: Stage) -> None:
    """Lines of a megabyte, which only a foreign worker can send, are cut, and what follows them is reached."""
    execution_id = await stage.record("a", 0)
    log(stage, execution_id, b"x" * 1_000_000, {"message": "y" * 900_000, "values": {"z": "z" * 90_000}}, line(2))
    found = await messages(stage, execution_id)
    assert [len(each) for each in found] == [4096, 4096, 2]


# --- workers


ROW = {
    "worker": "w1", "host": "h", "pid": 7, "version": "0.1.0", "queues": ["EMAIL"], "types": ["a:b"], "actions": [],
    "concurrency": 10, "running": [{"id": "a.20261121T080000000Z", "attempt": 1}],
    "started_at": "2026-11-21T08:00:00.000Z", "at": "2026-11-21T08:00:10.000Z",
}  # fmt: skip


async def test_workers(stage: Stage) -> None:
    """Rows as their workers wrote them, by key; without those that left; by queue."""
    assert await stage.ask("worker.list") == {"items": [], "cursor": None}
    await stage.workers.put("w1", json.dumps(ROW).encode())
    await stage.workers.put("w2", json.dumps({**ROW, "worker": "w2", "queues": ["SMS"]}).encode())
    await stage.workers.put("w3", json.dumps({**ROW, "worker": "w3"}).encode())
    await stage.workers.delete("w3")
    page = await stage.ask("worker.list")
    assert page == {"items": [ROW, {**ROW, "worker": "w2", "queues": ["SMS"]}], "cursor": None}
    assert [each["worker"] for each in (await stage.ask("worker.list", queue="SMS"))["items"]] == ["w2"]
    with pytest.raises(InvalidArgument):
        await stage.ask("worker.list", queue="a b")


async def test_workers_in_pages(stage: Stage) -> None:
    """One item a page comes to the same."""
    for number in range(5):
        await stage.workers.put(f"w{number}", json.dumps({**ROW, "worker": f"w{number}"}).encode())
    found, cursor = [], None
    while True:
        page = await stage.ask("worker.list", limit=1, cursor=cursor)
        found += [each["worker"] for each in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == [f"w{number}" for number in range(5)]


async def test_odd_workers(stage: Stage) -> None:
    """A row of few words is shown with what it has; one that makes no sense by its key."""
    await stage.workers.put("bad", b"\xff{")
    await stage.workers.put("js", b'{"worker": "js", "running": []}')
    bad, js = (await stage.ask("worker.list"))["items"]
    assert (bad["worker"], js["worker"], js["queues"], js["started_at"]) == ("bad", "js", [], None)
    assert js["at"] is not None
