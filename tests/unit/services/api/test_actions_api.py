"""action.list and action.invoke over the twins: rows say what there is, a worker answers or does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scheduler.wire.actions import Answer, Fault, Offer
from scheduler.wire.reports import WorkerRow, encode
from tests.unit.services.api.stage import HELLO, Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.start()
    yield stage
    await stage.stop()


async def ask(stage: Stage, endpoint: str, **body: Any) -> Any:
    answer = await stage.run(stage.api.answer(endpoint, json.dumps(body).encode()))
    return json.loads(answer.body)


async def offer(stage: Stage, worker: str, *offers: tuple[str, str]) -> None:
    row = WorkerRow(worker=worker, actions=tuple(Offer(schedule=s, action=a, title=a.title()) for s, a in offers))
    await stage.workers.put(worker, encode(row))


async def test_what_workers_offer_is_listed(stage: Stage) -> None:
    """By schedule and action, with how many offer it; page by page; a row that nobody can read is left out."""
    await offer(stage, "w1", ("b", "x"), ("a", "y"), ("a", "x"))
    await offer(stage, "w2", ("a", "x"), ("a", "x"))
    await stage.workers.put("w3", b"{")
    reply = await ask(stage, "action.list")
    assert [(each["schedule"], each["action"], each["workers"]) for each in reply["items"]] == [
        ("a", "x", 2), ("a", "y", 1), ("b", "x", 1),
    ]  # fmt: skip
    assert reply["items"][0]["title"] == "X"
    assert len((await ask(stage, "action.list", schedule="a"))["items"]) == 2
    seen, cursor = [], None
    while True:
        page = await ask(stage, "action.list", limit=1, cursor=cursor)
        seen += [each["action"] for each in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == ["x", "y", "x"]
    await stage.workers.delete("w1")
    assert [each["workers"] for each in (await ask(stage, "action.list"))["items"]] == [1]


async def test_an_action_is_carried_out_by_who_offers_it(stage: Stage) -> None:
    """Payload and time go there, the end comes back."""
    await offer(stage, "w", ("a", "x"))
    calls = []

    async def listen(body: bytes) -> bytes:
        calls.append(json.loads(body))
        return encode(Answer(outcome="failed", worker="w", duration_s=0.12345, error=Fault("KeyError", "no")))

    stage.actions.listeners["a", "x"] = listen
    reply = await ask(stage, "action.invoke", schedule="a", action="x", payload={"n": 1}, timeout_s=7)
    assert reply == {
        "outcome": "failed", "result": None, "error": {"type": "KeyError", "message": "no"}, "worker": "w",
        "duration_s": 0.123,
    }  # fmt: skip
    assert (calls[0]["payload"], calls[0]["timeout_s"]) == ({"n": 1}, 7)
    await ask(stage, "action.invoke", schedule="a", action="x")
    assert "payload" not in calls[1]


async def test_who_cannot_be_asked(stage: Stage) -> None:
    """No schedule: not_found. Nobody offers it, or nobody listens any more: unavailable, with what to start."""
    reply = await ask(stage, "action.invoke", schedule="nope", action="x")
    assert (reply["code"], reply["field"]) == ("not_found", "schedule")
    await stage.run(stage.api.answer("schedule.put", json.dumps({"id": "a", "schedule": HELLO}).encode()))
    reply = await ask(stage, "action.invoke", schedule="a", action="x")
    assert reply["code"] == "unavailable"
    assert '@worker.action("a"' in reply["message"]
    await offer(stage, "w", ("a", "y"))
    assert "there are: y" in (await ask(stage, "action.invoke", schedule="a", action="x"))["message"]
    reply = await ask(stage, "action.invoke", schedule="a", action="y")
    assert reply["code"] == "unavailable"
    assert "no worker listens" in reply["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"schedule": "a..b", "action": "x"}, "schedule"),
        ({"schedule": "a", "action": "X Y"}, "action"),
        ({"schedule": "a", "action": "x", "timeout_s": 0}, "timeout_s"),
        ({"schedule": "a", "action": "x", "timeout_s": 1000}, "timeout_s"),
        ({"schedule": "a", "action": "x", "payload": "x" * 70_000}, "payload"),
        ({"schedule": "a"}, "action"),
    ],
)
async def test_bad_calls_name_their_field(stage: Stage, body: dict[str, Any], field: str) -> None:
    """Refused before any worker is asked."""
    assert (await ask(stage, "action.invoke", **body))["field"] == field


async def test_a_payload_that_is_no_text(stage: Stage) -> None:
    """JSON is UTF-8; refused before any worker is asked."""
    answer = await stage.run(stage.api.answer("action.invoke", b'{"schedule":"a","action":"x","payload":"\xff"}'))
    assert json.loads(answer.body)["code"] == "invalid_argument"


async def test_a_worker_that_has_no_place_says_so(stage: Stage) -> None:
    """Not begun is unavailable: it can be asked again."""
    await offer(stage, "w", ("a", "x"))

    async def listen(body: bytes) -> bytes:
        return encode(Answer(outcome="refused", worker="w", error=Fault("Busy", "it is busy")))

    stage.actions.listeners["a", "x"] = listen
    reply = await ask(stage, "action.invoke", schedule="a", action="x")
    assert reply["code"] == "unavailable"
    assert "did not begin it: it is busy" in reply["message"]


async def test_no_answer_is_told_as_unknown(stage: Stage) -> None:
    """A replica that stops, or a worker that dies: it may have been carried out."""
    await offer(stage, "w", ("a", "x"))

    async def listen(body: bytes) -> bytes:
        await asyncio.sleep(3600)
        return b""

    stage.actions.listeners["a", "x"] = listen
    body = json.dumps({"schedule": "a", "action": "x"}).encode()
    asked = asyncio.create_task(stage.api.answer("action.invoke", body))
    for _ in range(50):
        await stage.clock.settle()
        await asyncio.sleep(0)
    asked.cancel()
    reply = json.loads((await asked).body)
    assert reply["code"] == "unavailable"
    assert "may have been carried out" in reply["message"]
