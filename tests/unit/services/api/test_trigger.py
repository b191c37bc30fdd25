"""Manual runs: one execution per nonce, whatever is repeated, and the way of every other occurrence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from scheduler.core.errors import Internal, InvalidArgument, NotFound, PayloadTooLarge, Unavailable, Unsure
from scheduler.memory.messages import Message, Write
from scheduler.memory.streams import MemoryStream
from tests.unit.services.api.stage import CLAIM_FLOOR_S, HELLO, Stage


def tasks(stage: Stage) -> list[Message]:
    return [each for each in stage.server.tasks.messages.values() if each.subject.startswith("schedd.task.")]


async def record(stage: Stage, execution_id: str) -> Any:
    return await stage.ask("execution.get", id=execution_id)


async def test_a_run_now(stage: Stage) -> None:
    """Queued at the server's time of the request, kind manual, with the payload of the schedule."""
    await stage.put("hello")
    reply = await stage.ask("schedule.trigger", id="hello", nonce="n1")
    assert reply == {"execution_id": "hello.20261121T080000000Z-mn1", "state": "queued"}
    (task,) = tasks(stage)
    assert task.data == b'{"n": 1}'
    assert task.headers["Schedd-Kind"] == "manual"
    shown = await record(stage, reply["execution_id"])
    assert (shown["kind"], shown["state"], shown["nominal_at"]) == ("manual", "queued", "2026-11-21T08:00:00.000Z")


async def test_without_a_nonce_each_request_is_a_run(stage: Stage) -> None:
    """Nobody can repeat it, so nothing is remembered."""
    await stage.put("hello", {**HELLO, "overlap": "allow"})
    one, two = [await stage.ask("schedule.trigger", id="hello") for _ in range(2)]
    assert one["execution_id"] != two["execution_id"]
    assert await stage.executions.keys("_nonce.>") == []
    assert len(tasks(stage)) == 2


async def test_a_repeated_nonce_answers_as_before(stage: Stage) -> None:
    """Later, with another payload, from another replica: the same execution in the state it has reached."""
    await stage.put("hello")
    first = await stage.ask("schedule.trigger", id="hello", nonce="n1")
    await stage.clock.advance(60)
    again = await stage.ask("schedule.trigger", id="hello", nonce="n1", payload={"other": True})
    assert again == first
    assert len(tasks(stage)) == 1
    other = await stage.ask("schedule.trigger", id="hello", nonce="n2")
    assert other["state"] == "skipped", "overlap is obeyed: the first one runs"


async def test_a_nonce_belongs_to_its_schedule(stage: Stage) -> None:
    """The same nonce for another schedule is another run."""
    for name in ("a", "a.b"):
        await stage.put(name)
        assert (await stage.ask("schedule.trigger", id=name, nonce="n"))["state"] == "queued"
    assert len(tasks(stage)) == 2


async def test_a_nonce_is_forgotten_after_the_claim_floor(stage: Stage) -> None:
    """Then it makes a new execution, also over a marker that the old key left."""
    await stage.put("hello", {**HELLO, "overlap": "allow"})
    ids = {(await stage.ask("schedule.trigger", id="hello", nonce="n1"))["execution_id"]}
    await stage.clock.advance(CLAIM_FLOOR_S + 2)
    ids.add((await stage.ask("schedule.trigger", id="hello", nonce="n1"))["execution_id"])
    await stage.executions.delete("_nonce.hello.n1")
    await stage.clock.advance(1)
    ids.add((await stage.ask("schedule.trigger", id="hello", nonce="n1"))["execution_id"])
    assert len(ids) == 3


async def test_many_repeats_at_once_make_one_task(stage: Stage) -> None:
    """Ten clients with one nonce: one execution, one task, one answer."""
    await stage.put("hello")
    replies = await asyncio.gather(*(stage.ask("schedule.trigger", id="hello", nonce="n") for _ in range(10)))
    assert len({reply["execution_id"] for reply in replies}) == 1
    assert len(tasks(stage)) == 1


@pytest.mark.parametrize("lost", range(5))
async def test_silence_anywhere_is_repaired_by_a_repeat(stage: Stage, lost: int) -> None:
    """Whichever of the writes is not answered, a repeat seconds later comes to the same execution and one task."""
    await stage.put("hello")
    original, count = stage.server.write, 0

    def losing(stream: MemoryStream, batch: Sequence[Write]) -> int:
        nonlocal count
        count += 1
        seq = original(stream, batch)
        if count == lost + 1:
            raise Unsure("no answer in time")
        return seq

    stage.server.write = losing  # type: ignore[method-assign]  # a fault at a chosen write
    try:
        first = await stage.ask("schedule.trigger", id="hello", nonce="n")
    except Unsure:
        first = None
    await stage.clock.advance(2)  # an id tells its instant
    again = await stage.ask("schedule.trigger", id="hello", nonce="n")
    assert first is None or first == again
    assert again["state"] == "queued"
    assert len(tasks(stage)) == 1


async def test_a_pause_is_ignored_and_overlap_can_be_chosen(stage: Stage) -> None:
    """Paused and manual schedules run; `overlap` of the request wins."""
    await stage.put("hello", {**HELLO, "paused": True})
    states = [
        (await stage.ask("schedule.trigger", id="hello", **more))["state"]
        for more in ({}, {}, {"overlap": "allow"}, {"overlap": "skip"})
    ]
    assert states == ["queued", "skipped", "queued", "skipped"]


@pytest.mark.parametrize(("payload", "body"), [(None, b"null"), ({"a": [1.50]}, b'{"a": [1.5]}'), ("x", b'"x"')])
async def test_a_payload_of_its_own(stage: Stage, payload: Any, body: bytes) -> None:
    """It replaces the schedule's, `null` included; base64 of the schedule gives way to JSON."""
    await stage.put("hello", {"manual": True, "queue": "q", "type": "t", "payload_base64": "AAECAw=="})
    await stage.ask("schedule.trigger", id="hello", payload=payload)
    await stage.ask("schedule.trigger", id="hello", overlap="allow")
    assert [task.data for task in tasks(stage)] == [body, b"\x00\x01\x02\x03"]
    shown = (await stage.ask("execution.list"))["items"]
    assert [item["payload"] for item in shown if "payload" in item] == [payload]


async def test_a_full_queue_skips(stage: Stage) -> None:
    """A skip is an answer, not an error."""
    await stage.put("hello")
    stage.full.add("default")
    reply = await stage.ask("schedule.trigger", id="hello")
    assert reply["state"] == "skipped"
    assert (await record(stage, reply["execution_id"]))["reason"] == "queue_full"


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ({"id": "nobody"}, NotFound, "id"),
        ({"id": "broken"}, InvalidArgument, "id"),
        ({"id": "a", "nonce": "with space"}, InvalidArgument, "nonce"),
        ({"id": "a", "nonce": ""}, InvalidArgument, "nonce"),
        ({"id": "a", "overlap": "maybe"}, InvalidArgument, "overlap"),
        ({"id": "a", "payload": "x" * 70_000}, PayloadTooLarge, "payload"),
    ],
)
async def test_trigger_refuses(stage: Stage, body: dict[str, Any], kind: type[Exception], field: str) -> None:
    """Nothing is recorded, the field is named."""
    await stage.put("a")
    stage.schedules.put_raw("broken", b"{}")
    with pytest.raises(kind) as caught:
        await stage.ask("schedule.trigger", **body)
    assert getattr(caught.value, "field", None) == field
    assert await stage.executions.last_revision() == 0


async def test_an_outage_on_the_way_is_told(stage: Stage) -> None:
    """The store goes away after the nonce: unavailable, and the repeat goes on from there."""
    await stage.put("hello")
    await stage.run(stage.cache.fresh())
    stage.executions.fail_next(Unavailable("electing"))
    with pytest.raises(Unavailable):
        await stage.ask("schedule.trigger", id="hello", nonce="n")
    assert (await stage.ask("schedule.trigger", id="hello", nonce="n"))["state"] == "queued"


async def test_a_nonce_key_that_somebody_spoiled(stage: Stage) -> None:
    """What no daemon wrote is an internal error, not a run."""
    await stage.put("hello")
    stage.executions.put_raw("_nonce.hello.n", b"\xff")
    with pytest.raises(Internal):
        await stage.ask("schedule.trigger", id="hello", nonce="n")
    assert json.loads((await stage.run(stage.api.answer("execution.list", b""))).body)["items"] == []
