"""Calls of custom actions."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec import Raw

from scheduler.core.errors import Internal, Unavailable, Unsure
from scheduler.wire.actions import Answer, Call, Fault
from scheduler.wire.reports import encode
from tests.contracts.stages import Stage


async def test_who_listens_answers(stage: Stage) -> None:
    """The call comes as it was sent, the answer too; schedule ids have dots."""
    heard = []

    async def listen(body: bytes) -> bytes:
        heard.append(msgspec.json.decode(body))
        return encode(Answer(outcome="failed", worker="w", duration_s=0.5, error=Fault("E", "why")))

    await stage.offer("a.b", "rebuild", listen)
    call = Call(payload=Raw(b'{"n": 1}'), timeout_s=2.5, until=stage.now())
    answer = await stage.actions.call("a.b", "rebuild", call, 5)
    assert (answer.outcome, answer.worker, answer.duration_s) == ("failed", "w", 0.5)
    assert (answer.error, bytes(answer.result)) == (Fault("E", "why"), b"null")
    (body,) = heard
    assert (body["payload"], body["timeout_s"]) == ({"n": 1}, 2.5)
    assert body["until"].endswith("Z")


async def test_nobody_listens(stage: Stage) -> None:
    """Told at once, and nothing has happened."""
    with pytest.raises(Unavailable, match="no worker listens") as caught:
        await stage.actions.call("a", "rebuild", Call(), 30)
    assert not isinstance(caught.value, Unsure)


async def test_no_answer_in_time(stage: Stage) -> None:
    """Nobody knows whether it was carried out."""

    async def listen(body: bytes) -> bytes:
        await asyncio.sleep(0.4)
        return encode(Answer(outcome="succeeded", worker="w"))

    await stage.offer("a", "slow", listen)
    with pytest.raises(Unsure):
        await stage.actions.call("a", "slow", Call(), 0.1)
    await asyncio.sleep(0.4)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"[1]"])
async def test_an_answer_that_is_none(stage: Stage, body: bytes) -> None:
    """Workers come in every language."""

    async def listen(_: bytes) -> bytes:
        return body

    await stage.offer("a", "odd", listen)
    with pytest.raises(Internal, match="makes no sense"):
        await stage.actions.call("a", "odd", Call(), 5)


async def test_cut_off(stage: Stage) -> None:
    """Without a server it is Unavailable."""
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.actions.call("a", "rebuild", Call(), 0.5)
