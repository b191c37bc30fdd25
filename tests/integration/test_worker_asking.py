"""What a function may say about its own end, and typed payloads: what comes to be on record, on a real server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from scheduler.worker import Cancel, Fail, Retry, TaskContext, Worker
from tests.integration.worker_stage import Stage


@dataclass
class Mail:
    to: str
    copies: int = 1


async def reports_of(stage: Stage, worker: Worker, body: bytes = b"") -> list[tuple[int, dict[str, Any]]]:
    """(attempt, body) of every end that was reported until the execution was over."""
    async with stage.serving(worker):
        execution = await stage.put("t", body)
        await stage.final(execution)
        return [(attempt, told) for attempt, kind, told in await stage.reports(execution) if kind == "finished"]


async def test_retry_chooses_its_pause(stage: Stage) -> None:
    """The pause asked for replaces the backoff, and the next try comes after it."""
    worker = Worker("Q", nats=stage.url, stop_grace="5s")

    @worker.task("t", backoff={"initial": "1h", "max": "1h"})
    def run(payload: Any, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise Retry("busy", after="300ms")
        return "done"

    first, second = await reports_of(stage, worker)
    assert (first[0], first[1]["outcome"], first[1]["retry_in_s"]) == (1, "retry", 0.3)
    assert first[1]["error"]["message"] == "busy"
    assert (second[0], second[1]["outcome"], second[1]["result"]) == (2, "succeeded", "done")


@pytest.mark.parametrize(("ask", "outcome"), [(Fail("no such customer"), "failed"), (Cancel("over"), "cancelled")])
async def test_an_end_without_further_tries(stage: Stage, ask: Exception, outcome: str) -> None:
    """Fail and Cancel end the execution in their first attempt, with their message on record."""
    worker = Worker("Q", nats=stage.url, stop_grace="5s")

    @worker.task("t", max_tries=3)
    async def run(payload: Any) -> None:
        raise ask

    [(attempt, told)] = await reports_of(stage, worker)
    assert (attempt, told["outcome"], told["error"]["message"]) == (1, outcome, str(ask))


async def test_typed_payloads(stage: Stage) -> None:
    """A payload comes as the type of its parameter; one that does not fit is failed once and for all."""
    worker = Worker("Q", nats=stage.url, stop_grace="5s")
    calls: list[Mail] = []

    @worker.task("t", max_tries=3)
    async def run(payload: Mail) -> int:
        calls.append(payload)
        return payload.copies

    [(_, fine)] = await reports_of(stage, worker, b'{"to": "ann", "copies": 2}')
    assert (fine["outcome"], fine["result"], calls) == ("succeeded", 2, [Mail("ann", 2)])
    [(_, wrong)] = await reports_of(stage, worker, b'{"to": 7}')
    assert (wrong["outcome"], wrong["error"]["type"], len(calls)) == ("failed", "InvalidPayload", 1)
    assert "Expected `str`, got `int` - at `$.to`" in wrong["error"]["message"]
