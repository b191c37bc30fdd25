"""Reports: what a worker in any language may send beyond the ack (contract, part 4)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.acceptance.harness import Site, eventually
from tests.acceptance.plain_queue import HAND, put, queue_of, record_of


async def last_on(site: Site, stream: str, subject: str) -> dict[str, Any] | None:
    """The JSON of the last message on a subject, if there is one."""
    try:
        message = (await site.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
    except KeyError:
        return None
    found: dict[str, Any] = json.loads(base64.b64decode(message["data"]))
    return found


async def test_reports_of_a_worker_in_any_language(contract: Site) -> None:
    """Started claims the attempt once, progress tells, finished decides; result and duration are on record."""
    async with queue_of(contract, "reports") as queue:
        await put(contract, "reports", {**HAND, "queue": "reports"})
        execution = await queue.trigger("reports")
        message = await queue.next()
        subject = f"schedd.report.reports.{execution}.1"
        claim = {"Nats-Expected-Last-Subject-Sequence": "0"}
        started = json.dumps({"worker": "w1", "at": "2026-11-21T08:00:00Z"}).encode()
        await contract.js.publish(f"{subject}.started", started, headers=claim)
        with pytest.raises(Exception, match="wrong last sequence"):
            await contract.js.publish(f"{subject}.started", started, headers=claim)
        running = await record_of(contract, execution, "running")
        assert (running["attempt"], running["worker"]) == (1, "w1")
        assert running["started_at"] is not None
        await contract.js.publish(f"{subject}.progress", b'{"fraction": 0.5, "note": "half"}')
        await contract.js.publish(f"{subject}.finished", b'{"outcome": "succeeded", "result": {"rows": 7}}')
        await message.ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["result"], record["attempt"]) == ("succeeded", {"rows": 7}, 1)
    assert record["duration_s"] >= 0
    states = [entry["state"] for entry in record["history"]]
    assert states == ["claimed", "queued", "running", "succeeded"]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("failed", "failed"), ("cancelled", "cancelled"), ("timed_out", "timed_out")],
)
async def test_a_finished_report_decides_whatever_the_ack_says(contract: Site, outcome: str, state: str) -> None:
    """The outcome and its error are on record although the task is acknowledged."""
    name = f"out-{outcome}"
    async with queue_of(contract, name) as queue:
        await put(contract, name, {**HAND, "queue": name})
        execution = await queue.trigger(name)
        message = await queue.next()
        subject = f"schedd.report.{name}.{execution}.1"
        error = {"type": "ValueError", "message": "bad", "traceback": "line 1"}
        body = {"outcome": outcome, "at": "2026-11-21T08:00:00.5Z", "error": error}
        claim = {"Nats-Expected-Last-Subject-Sequence": "0"}
        await contract.js.publish(f"{subject}.started", b'{"worker": "w"}', headers=claim)
        await contract.js.publish(f"{subject}.finished", json.dumps(body).encode())
        await message.ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["error"]) == (state, error)


async def test_a_retry_report_goes_on_with_the_next_attempt(contract: Site) -> None:
    """`retry` is no end: retrying, then running again as attempt 2, which decides."""
    claim = {"Nats-Expected-Last-Subject-Sequence": "0"}
    async with queue_of(contract, "again") as queue:
        await put(contract, "again", {**HAND, "queue": "again"})
        execution = await queue.trigger("again")
        message = await queue.next()
        subject = f"schedd.report.again.{execution}"
        await contract.js.publish(f"{subject}.1.started", b'{"worker": "w"}', headers=claim)
        body = b'{"outcome": "retry", "retry_in_s": 0.1, "error": {"type": "E", "message": "m", "traceback": null}}'
        await contract.js.publish(f"{subject}.1.finished", body)
        await message.nak(delay=0.1)
        await record_of(contract, execution, "retrying")
        message = await queue.next()
        await contract.js.publish(f"{subject}.2.started", b'{"worker": "w"}', headers=claim)
        await contract.js.publish(f"{subject}.2.finished", b'{"outcome": "succeeded"}')
        await message.ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["attempt"], record["error"]) == ("succeeded", 2, None)
    states = [entry["state"] for entry in record["history"]]
    assert states == ["claimed", "queued", "running", "retrying", "running", "succeeded"]


TELLING = """
from scheduler.worker import Worker
worker = Worker('tells')
@worker.task('tell')
async def tell(payload, ctx):
    ctx.log.info('half way %s', 'there', extra={'rows': 7})
    await ctx.progress(0.5, 'half')
    return {'got': payload}
worker.run()
"""


async def test_what_the_sdk_reports_is_what_anybody_may_report(contract: Site) -> None:
    """Subjects and bodies of started, progress, finished and a log line, as the contract has them."""
    await put(contract, "tells", {**HAND, "queue": "tells", "type": "tell", "payload": 1})
    execution = (await contract.request("schedule.trigger", {"id": "tells"}))["execution_id"]
    contract.sdk_worker(TELLING)
    record = await record_of(contract, execution, within_s=20)
    assert (record["state"], record["result"]) == ("succeeded", {"got": 1})
    bodies = {}
    for kind in ("started", "progress", "finished"):
        subject = f"schedd.report.tells.{execution}.1.{kind}"
        bodies[kind] = await last_on(contract, "SCHEDD_REPORTS", subject) or {}
    assert set(bodies["started"]) == {"worker", "at"}
    assert bodies["started"]["worker"] == record["worker"]
    assert (bodies["progress"]["fraction"], bodies["progress"]["note"]) == (0.5, "half")
    assert (bodies["finished"]["outcome"], bodies["finished"]["result"]) == ("succeeded", {"got": 1})

    async def logged() -> dict[str, Any] | None:
        return await last_on(contract, "SCHEDD_LOGS", f"schedd.log.{execution}")

    line = await eventually(logged, what="the log line")
    assert set(line) == {"at", "level", "message", "values", "attempt", "worker"}
    assert (line["message"], line["attempt"], line["worker"]) == ("half way there", 1, record["worker"])
