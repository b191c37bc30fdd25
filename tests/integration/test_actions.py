"""Custom actions, from the decorator to the command line, on a whole schedd."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.schedctl import app
from scheduler.client import Client
from scheduler.core.errors import Conflict, InvalidArgument, NotFound, Unavailable, Unsure
from scheduler.testing import LocalSchedd
from scheduler.worker import Worker
from tests.integration.test_worker_schedules import serving, until

HELLO = {"manual": True, "queue": "Q", "type": "t"}


@pytest.fixture
async def local() -> AsyncIterator[LocalSchedd]:
    async with LocalSchedd() as local:
        yield local


@pytest.fixture
async def client(local: LocalSchedd) -> AsyncIterator[Client]:
    async with Client.connect(local.nats_url) as client:
        yield client


def make_worker(local: LocalSchedd, gate: asyncio.Event | None = None) -> Worker:
    worker = Worker("Q", nats=local.nats_url, stop_grace="5s")

    @worker.action("search.index", "Rebuild index")
    async def rebuild(payload: Any, ctx: Any) -> Any:
        ctx.log.info("rebuilding %s", ctx.schedule_id, full=True)
        return {"rows": 3, "payload": payload, "by": ctx.action}

    @worker.action("search.index", "Zähler zurücksetzen")
    def reset() -> str:
        return threading.current_thread().name

    @worker.action("search.index", "fails")
    async def fails(payload: dict[str, int]) -> None:
        raise KeyError("x")

    @worker.action("search.index", "hangs", timeout="300ms")
    async def hangs() -> None:
        await asyncio.sleep(30)

    @worker.action("search.index", "blocks", timeout="300ms")
    def blocks(payload: Any, ctx: Any) -> None:
        while not ctx.cancelled:
            time.sleep(0.01)

    @worker.action("search.index", "odd result")
    async def odd() -> object:
        return "x" * 70_000

    @worker.action("search.index", "busy")
    async def busy() -> None:
        if gate is not None:
            await gate.wait()

    return worker


async def offered(client: Client) -> list[tuple[str, str]]:
    return [(item.action, item.title) async for item in client.actions.list("search.index")]


async def test_actions_are_listed_and_carried_out(local: LocalSchedd, client: Client) -> None:
    """Names come of the titles; results, failures and time-outs come back as such, each within its time."""
    async with serving(make_worker(local)):
        listed = await until(lambda: offered(client))
        assert ("rebuild-index", "Rebuild index") in listed
        assert ("zahler-zurucksetzen", "Zähler zurücksetzen") in listed
        reply = await client.actions.invoke("search.index", "rebuild-index", {"full": True})
        assert json.loads(bytes(reply.result)) == {"rows": 3, "payload": {"full": True}, "by": "rebuild-index"}
        assert (reply.outcome, reply.error, reply.duration_s < 1) == ("succeeded", None, True)
        reply = await client.actions.invoke("search.index", "zahler-zurucksetzen")
        assert json.loads(bytes(reply.result)) == "schedd task"
        reply = await client.actions.invoke("search.index", "fails", {})
        assert (reply.outcome, reply.error and reply.error.type) == ("failed", "KeyError")
        reply = await client.actions.invoke("search.index", "fails", ["no", "object"])
        assert reply.error is not None
        assert (reply.outcome, reply.error.type) == ("failed", "InvalidPayload")
        for name in ("hangs", "blocks"):
            reply = await client.actions.invoke("search.index", name)
            assert (reply.outcome, reply.error and reply.error.type) == ("timed_out", "TimeoutError")
        reply = await client.actions.invoke("search.index", "hangs", timeout=0.1)
        assert reply.error is not None
        assert "0.1 s" in reply.error.message
        reply = await client.actions.invoke("search.index", "odd-result")
        assert (reply.outcome, reply.error and reply.error.type) == ("succeeded", "ResultDropped")
        assert bytes(reply.result) == b"null"


async def test_no_worker_is_told_with_what_to_start(local: LocalSchedd, client: Client) -> None:
    """Before one runs and after it has gone; an unknown schedule is another matter."""
    with pytest.raises(NotFound, match=r"search\.index"):
        await client.actions.invoke("search.index", "rebuild-index")
    await client.schedules.put("search.index", HELLO)
    with pytest.raises(Unavailable, match=r"start the one whose code has @worker\.action"):
        await client.actions.invoke("search.index", "rebuild-index")
    async with serving(make_worker(local)):
        await until(lambda: offered(client))
        with pytest.raises(Unavailable, match="there are: blocks, busy"):
            await client.actions.invoke("search.index", "unknown")
    assert await offered(client) == []
    with pytest.raises(Unavailable, match="no running worker offers"):
        await client.actions.invoke("search.index", "rebuild-index")


async def test_two_workers_share_and_each_call_is_one(local: LocalSchedd, client: Client) -> None:
    """Of several that offer it one is asked; beyond four at once it says that it is busy."""
    first, second, calls = Worker("Q", nats=local.nats_url), Worker("Q", nats=local.nats_url), []
    for worker in (first, second):

        @worker.action("s", "go")
        async def go(payload: Any, name: str = worker.id) -> None:
            calls.append((payload, name))

    async with serving(first), serving(second):

        async def both() -> bool:
            return [item.workers async for item in client.actions.list()] == [2]

        await until(both)
        for n in range(20):
            await client.actions.invoke("s", "go", n)
    assert sorted(n for n, _ in calls) == list(range(20))
    assert {name for _, name in calls} == {first.id, second.id}
    gate = asyncio.Event()
    async with serving(make_worker(local, gate)):
        await until(lambda: offered(client))
        asked = [asyncio.create_task(client.actions.invoke("search.index", "busy")) for _ in range(6)]

        async def two_are_over() -> bool:
            return sum(each.done() for each in asked) == 2

        await until(two_are_over)
        gate.set()
        replies = await asyncio.gather(*asked, return_exceptions=True)
    refused = [reply for reply in replies if isinstance(reply, Unavailable)]
    assert len(refused) == 2
    assert all("try again" in str(each) and not isinstance(each, Unsure) for each in refused)


async def test_a_worker_that_stops_lets_an_action_end(local: LocalSchedd, client: Client) -> None:
    """What runs may end within the grace, and its caller gets the result."""
    gate = asyncio.Event()
    worker = make_worker(local, gate)
    task = asyncio.create_task(worker.serve())
    await until(lambda: offered(client))
    invoked = asyncio.create_task(client.actions.invoke("search.index", "busy"))
    await asyncio.sleep(0.5)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.5)
    assert not invoked.done()
    gate.set()
    await asyncio.gather(stopping, task)
    assert (await invoked).outcome == "succeeded"


async def test_the_command_line(
    local: LocalSchedd, client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`schedctl action list | invoke`: empty state, names, JSON as the API has it, exit codes."""
    monkeypatch.setenv("NATS_URL", local.nats_url)

    async def schedctl(*arguments: str) -> tuple[int, str, str]:
        from cli.running import run

        code = await asyncio.to_thread(run, app, "schedctl", arguments)
        out, err = capfd.readouterr()
        return code, out, err

    code, out, err = await schedctl("action", "list")
    assert (code, out) == (0, "") or "@worker.action" in out + err
    assert "@worker.action" in out + err
    async with serving(make_worker(local)):
        await until(lambda: offered(client))
        code, out, _ = await schedctl("action", "list", "--schedule", "search.index")
        assert "Rebuild index" in out
        code, out, _ = await schedctl("action", "list", "--json")
        assert {"schedule": "search.index", "action": "hangs", "title": "hangs", "workers": 1} in json.loads(out)
        code, out, _ = await schedctl("action", "list", "--names")
        assert "search.index rebuild-index" in out.splitlines()
        code, out, _ = await schedctl("action", "invoke", "search.index", "rebuild-index", "--payload", '{"n": 1}')
        assert (code, '"rows"' in out) == (0, True)
        code, out, _ = await schedctl("action", "invoke", "search.index", "fails", "--payload", "{}", "--json")
        assert (code, json.loads(out)["error"]) == (1, {"type": "KeyError", "message": "'x'"})
    code, _, err = await schedctl("action", "invoke", "search.index", "rebuild-index")
    assert (code, "no schedule" in err) == (3, True)


def test_a_mistake_shows_where_it_is_made() -> None:
    """Ids, titles, names and time-outs are checked by the decorator; a name is there once."""
    worker = Worker("Q")
    worker.action("s", "Rebuild index")(lambda payload: None)
    with pytest.raises(Conflict, match="rebuild-index"):
        worker.action("s", "rebuild INDEX!")(lambda payload: None)
    for schedule_id, title, options in (
        ("a..b", "x", {}), ("a", "", {}), ("a", "x" * 200, {}), ("a", "日本", {}), ("a", "x", {"name": "A B"}),
        ("a", "x", {"timeout": "1h"}), ("a", "two\nlines", {}),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            worker.action(schedule_id, title, **options)(lambda payload: None)  # type: ignore[arg-type]

    def named(payload: Any) -> None: ...

    worker.action("s", "日本")(named)
    assert worker.actions[-1].offer.action == "named"
