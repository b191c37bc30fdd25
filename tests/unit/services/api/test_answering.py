"""From bytes to an answer: strict, counted, bounded, and silent about the inside."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.wire import api
from tests.unit.services.api.stage import Stage, error_body

CONTRACT = {
    *(
        f"schedule.{verb}"
        for verb in ("put", "get", "list", "delete", "pause", "resume", "trigger", "preview", "audit")
    ),
    *("schedule.backfill", "backfill.get", "backfill.list", "backfill.cancel"),
    *(
        "execution.list",
        "execution.get",
        "execution.cancel",
        "execution.retry",
        "execution.logs",
        "worker.list",
        "action.list",
        "action.invoke",
        "status.get",
        "status.health",
    ),
    *(f"queue.{verb}" for verb in ("put", "get", "list", "delete", "purge")),
}


async def test_every_endpoint_of_the_contract_is_there(stage: Stage) -> None:
    """Those of this version, no more and no fewer."""
    assert set(stage.api.endpoints) == CONTRACT


@pytest.mark.parametrize("endpoint", sorted(CONTRACT - {"status.get"}))
@pytest.mark.parametrize(
    "body", [b"\xff", b"{", b"[]", b'"x"', b'{"id":"a","limit":2,"nope":1}', b'{"id":7,"cursor":7}']
)
async def test_garbage_is_an_invalid_argument(stage: Stage, endpoint: str, body: bytes) -> None:
    """Whatever comes in: an error body, never an exception; unknown fields are refused."""
    answer = await stage.run(stage.api.answer(endpoint, body))
    assert answer.error is not None
    assert error_body(answer.body).code == "invalid_argument"
    assert stage.telemetry.count("api_request", endpoint=endpoint, code="invalid_argument") == 1


async def test_an_unknown_endpoint(stage: Stage) -> None:
    """It is not found, and cannot fill the metrics with names."""
    answer = await stage.run(stage.api.answer("schedule.explode", b"{}"))
    assert error_body(answer.body).code == "not_found"
    assert stage.telemetry.of("api_request") == [{"endpoint": "_unknown", "code": "not_found"}]


async def test_the_unforeseen_stays_inside(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is `internal` in one sentence; the traceback is in the log, not in the answer."""

    async def broken(*_: Any) -> None:
        raise KeyError("a secret of the inside")

    monkeypatch.setattr(stage.cache, "fresh", broken)
    with caplog.at_level(logging.ERROR):
        answer = await stage.run(stage.api.answer("schedule.get", b'{"id":"a"}'))
    body = error_body(answer.body)
    assert body.code == "internal"
    assert "secret" not in body.message
    assert "KeyError" in caplog.text
    assert stage.telemetry.count("api_request", endpoint="schedule.get", code="internal") == 1


async def test_an_answer_comes_in_bounded_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs for ever makes the answer unavailable."""

    async def hanging(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.cache, "fresh", hanging)
    monkeypatch.setattr(stage.api, "_answer_s", 0.01)
    answer = await stage.api.answer("schedule.get", b'{"id":"a"}')
    assert error_body(answer.body).code == "unavailable"


async def test_success_is_counted(stage: Stage) -> None:
    """By endpoint, with code `ok`."""
    await stage.put("a")
    assert stage.telemetry.of("api_request") == [{"endpoint": "schedule.put", "code": "ok"}]


async def test_a_refusal_is_an_answer(stage: Stage) -> None:
    """What a transport refuses by itself is counted and shaped like the rest."""
    answer = stage.api.refuse("schedule.get", Unavailable("busy"))
    assert error_body(answer.body) == api.ErrorBody(code="unavailable", message="busy")
    assert stage.telemetry.of("api_request") == [{"endpoint": "schedule.get", "code": "unavailable"}]
