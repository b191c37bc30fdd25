"""What a worker pulls and what becomes of it (contract, part 4, and the states of part 5): by plain nats-py."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from tests.acceptance.harness import TERMINAL, Site, eventually, utc_now

SECOND = timedelta(seconds=1)
HAND: dict[str, Any] = {"manual": True, "type": "t", "overlap": "allow"}
ALWAYS = {
    "Schedd-Execution-Id", "Schedd-Schedule-Id", "Schedd-Type", "Schedd-Kind", "Schedd-Nominal-At", "Schedd-Fire-At",
    "Schedd-Max-Tries", "Schedd-Generation", "Schedd-Drive", "Schedd-Attempts-Before",
}  # fmt: skip


class Queue:
    """A queue bound by plain nats-py."""

    def __init__(self, site: Site, subscription: Any) -> None:
        self.site, self._subscription = site, subscription

    async def next(self, wait_s: float = 5) -> Any:
        """The next delivery."""
        [message] = await self._subscription.fetch(1, timeout=wait_s)
        return message

    async def trigger(self, id_: str, **more: Any) -> str:
        reply = await self.site.request("schedule.trigger", {"id": id_, **more})
        assert reply.get("state") == "queued", reply
        return str(reply["execution_id"])


@asynccontextmanager
async def queue_of(site: Site, name: str, **config: Any) -> AsyncIterator[Queue]:
    """The queue's consumer, made beforehand with what a test wants otherwise: ack_wait (s), max_deliver."""
    wanted = {"ack_wait": 30, "max_deliver": 20, **config}
    await site.js.add_consumer(
        "SCHEDD_TASKS",
        ConsumerConfig(
            durable_name=name, filter_subject=f"schedd.task.{name}.>", ack_policy=AckPolicy.EXPLICIT,
            sample_freq="100", **wanted,
        ),
    )  # fmt: skip
    subscription = await site.js.pull_subscribe_bind(name, stream="SCHEDD_TASKS")
    try:
        yield Queue(site, subscription)
    finally:
        await subscription.unsubscribe()


async def put(site: Site, id_: str, schedule: dict[str, Any]) -> int:
    """By the API, so that it is applied when this returns; the revision."""
    reply = await site.request("schedule.put", {"id": id_, "schedule": schedule})
    assert "revision" in reply, reply
    return int(reply["revision"])


async def record_of(site: Site, id_: str, *states: str, within_s: float = 10) -> dict[str, Any]:
    """The record once it is in one of these states; in any terminal one, if none is named."""

    async def there() -> dict[str, Any] | None:
        found = await site.value("schedd-executions", id_)
        return found if found and found["state"] in (states or TERMINAL) else None

    return await eventually(there, within_s=within_s, what=f"{id_} to be {states or 'over'}")


async def last_on(site: Site, stream: str, subject: str) -> dict[str, Any] | None:
    """The JSON of the last message on a subject, if there is one."""
    try:
        message = (await site.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
    except KeyError:
        return None
    found: dict[str, Any] = json.loads(base64.b64decode(message["data"]))
    return found


async def left(site: Site, execution: str) -> int:
    """How many tasks of it are in the stream."""
    return await site.stored_count("SCHEDD_TASKS", f"schedd.task.*.{execution}")


# --- what a worker gets


async def test_headers_of_an_automatic_run(contract: Site) -> None:
    """Exactly the headers of the contract, those that do not apply left out, and the user's own."""
    async with queue_of(contract, "auto") as queue:
        headers = {"X-Team": "ä b", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        revision = await put(
            contract,
            "auto",
            {"every": "2s", "queue": "auto", "type": "a:b/c", "timeout": "1500ms", "max_tries": 7, "headers": headers},
        )
        message = await queue.next()
        await message.ack()
        await contract.delete("auto")
    got = {name: value for name, value in message.headers.items() if not name.startswith("Nats-Batch-")}
    assert set(got) == ALWAYS | {"Schedd-Previous-At", "Schedd-Next-At", "Schedd-Timeout", *headers}
    nominal = datetime.fromisoformat(got["Schedd-Nominal-At"])
    assert got["Schedd-Nominal-At"] == nominal.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert nominal.timestamp() % 2 == 0
    assert got["Schedd-Execution-Id"] == f"auto.{nominal:%Y%m%dT%H%M%S}000Z"
    assert got["Schedd-Fire-At"] == got["Schedd-Nominal-At"]
    assert datetime.fromisoformat(got["Schedd-Previous-At"]) == nominal - 2 * SECOND
    assert datetime.fromisoformat(got["Schedd-Next-At"]) == nominal + 2 * SECOND
    wanted = {
        "Schedd-Schedule-Id": "auto", "Schedd-Type": "a:b/c", "Schedd-Kind": "auto", "Schedd-Timeout": "1.5",
        "Schedd-Max-Tries": "7", "Schedd-Generation": str(revision), "Schedd-Drive": "0", "Schedd-Attempts-Before": "0",
        **headers,
    }  # fmt: skip
    assert {name: got[name] for name in wanted} == wanted


async def test_headers_of_a_manual_run(contract: Site) -> None:
    """Kind manual, nominal time when it was asked for, the nonce in the id; no neighbours, no timeout."""
    async with queue_of(contract, "hand") as queue:
        await put(contract, "hand", {**HAND, "queue": "hand"})
        before = utc_now()
        execution = await queue.trigger("hand", nonce="n-0_Z")
        message = await queue.next()
        await message.ack()
    got = {name for name in message.headers if not name.startswith("Nats-Batch-")}
    assert got == ALWAYS
    assert message.headers["Schedd-Kind"] == "manual"
    assert message.headers["Schedd-Execution-Id"] == execution
    assert execution.startswith("hand.")
    assert execution.endswith("Z-mn-0_Z")
    nominal = datetime.fromisoformat(message.headers["Schedd-Nominal-At"])
    assert before - SECOND < nominal < utc_now() + SECOND


async def test_neighbours_are_left_out_where_there_are_none(contract: Site) -> None:
    """The first of two instants has no previous one, the last no next one; `start_delay` moves the fire time alone."""
    at = utc_now().replace(microsecond=0) + 2 * SECOND
    async with queue_of(contract, "edges") as queue:
        schedule = {"at": [at.isoformat(), (at + SECOND).isoformat()], "type": "t", "queue": "edges"}
        await put(contract, "edges", {**schedule, "overlap": "allow", "start_delay": "250ms"})
        messages = [await queue.next(), await queue.next()]
        for message in messages:
            await message.ack()
    first, last = (message.headers for message in messages)
    assert ("Schedd-Previous-At" in first, "Schedd-Next-At" in first) == (False, True)
    assert ("Schedd-Previous-At" in last, "Schedd-Next-At" in last) == (True, False)
    fire = datetime.fromisoformat(first["Schedd-Fire-At"])
    assert fire - datetime.fromisoformat(first["Schedd-Nominal-At"]) == timedelta(milliseconds=250)
    record = await record_of(contract, first["Schedd-Execution-Id"])
    assert (record["nominal_at"], record["fire_at"]) == (first["Schedd-Nominal-At"], first["Schedd-Fire-At"])
    assert 0 <= record["lateness_s"] < 1


SPACED = '{"b" : 1.0, "a":[1e3, "\\u00e4ä"],  "b2":{}}'  # spaces, an exponent, an escape
BODIES: dict[str, tuple[str, bytes]] = {
    "absent": ("{}", b""),
    "null": ('{"payload": null}', b"null"),
    "as-stored": ('{"payload": ' + SPACED + "}", SPACED.encode()),
    "number": ('{"payload": 12345678901234567890.10}', b"12345678901234567890.10"),
    "text": ('{"payload": ""}', b'""'),
    "false": ('{"payload": false}', b"false"),
    "bytes": ('{"payload_base64": "' + base64.b64encode(bytes(range(256))).decode() + '"}', bytes(range(256))),
    "no-bytes": ('{"payload_base64": ""}', b""),
    "largest": ('{"payload": "' + "x" * 65_534 + '"}', b'"' + b"x" * 65_534 + b'"'),
    "largest-bytes": ('{"payload_base64": "' + base64.b64encode(bytes(65_536)).decode() + '"}', bytes(65_536)),
}  # fmt: skip


async def test_the_body_is_the_payload_as_stored(contract: Site) -> None:
    """Byte for byte the JSON that was put, nothing where there is none, the bytes of base64; the record keeps it."""
    async with queue_of(contract, "bodies") as queue:
        for name, (fields, _) in BODIES.items():
            value = '{"manual": true, "queue": "bodies", "type": "t", ' + fields.strip("{")
            await contract.put(f"body.{name}", value.replace(", }", "}").encode())
        await put(contract, "body-last", {**HAND, "queue": "bodies"})  # applied: so are those before
        for name, (_, wanted) in BODIES.items():
            execution = await queue.trigger(f"body.{name}")
            message = await queue.next()
            assert message.data == wanted, name
            await message.ack()
            record = await record_of(contract, execution)
            if name in {"bytes", "largest-bytes"}:
                assert base64.b64decode(record["payload_base64"]) == wanted, name
            elif wanted:
                assert record["payload"] == json.loads(wanted), name
        await queue.trigger("body.null", payload={"given": [1]})
        message = await queue.next()
        await message.ack()
        assert json.loads(message.data) == {"given": [1]}


async def test_everything_at_its_longest(contract: Site) -> None:
    """The longest id, queue, type, nonce, payload and user headers go all the way, by hand and by the clock."""
    id_, name = "i" + ".x" * 63 + "y", "q" * 64
    headers = {"n" * 64: "v" * 1024, "x": "ü" * 512, "empty": ""} | {f"h{number}": "1" for number in range(20)}
    schedule = {"every": "1s", "overlap": "allow", "queue": name, "type": "t" * 128, "headers": headers}
    assert len(id_) == 128
    async with queue_of(contract, name) as queue:
        await put(contract, id_, {**schedule, "payload": "x" * 65_534})
        by_hand = await queue.trigger(id_, nonce="n" * 32)
        seen = set()
        while seen != {"auto", "manual"}:
            message = await queue.next()
            seen.add(message.headers["Schedd-Kind"])
            assert {key: message.headers[key] for key in headers} == headers
            await message.ack()
        await contract.delete(id_)
        assert (await record_of(contract, by_hand))["state"] == "succeeded"


# --- what becomes of it


async def test_an_ack_is_success(contract: Site) -> None:
    """Claimed, queued, succeeded; nothing is left in the stream but the claim."""
    async with queue_of(contract, "ack") as queue:
        await put(contract, "ack", {**HAND, "queue": "ack"})
        execution = await queue.trigger("ack")
        queued = await record_of(contract, execution, "queued")
        assert (queued["attempt"], queued["finished_at"], queued["queued_at"] is None) == (0, None, False)
        await (await queue.next()).ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["attempt"], record["error"], record["reason"]) == ("succeeded", 1, None, None)
    assert [entry["state"] for entry in record["history"]] == ["claimed", "queued", "succeeded"]
    assert await left(contract, execution) == 0
    assert await contract.stored_count("SCHEDD_TASKS", f"schedd.claim.{execution}.*") == 1


async def test_a_nak_is_a_retry(contract: Site) -> None:
    """Retrying after each nak, delivered again after the worker's own delay; the try that succeeds is counted."""
    async with queue_of(contract, "nak") as queue:
        await put(contract, "nak", {**HAND, "queue": "nak"})
        execution = await queue.trigger("nak")
        await (await queue.next()).nak()
        again = await queue.next()
        assert again.metadata.num_delivered == 2
        retrying = await record_of(contract, execution, "retrying")
        assert (retrying["attempt"], retrying["finished_at"]) == (1, None)
        began = utc_now()
        await again.nak(delay=1)
        third = await queue.next()
        assert utc_now() - began > 0.9 * SECOND
        await third.ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["attempt"]) == ("succeeded", 3)
    assert [entry["state"] for entry in record["history"]] == ["claimed", "queued", "retrying", "retrying", "succeeded"]


async def test_naks_end_with_max_tries(contract: Site) -> None:
    """The last try that the schedule allows, handed back, is the end: failed, and nobody gets the task again."""
    async with queue_of(contract, "tries") as queue:
        await put(contract, "tries", {**HAND, "queue": "tries", "max_tries": 2})
        execution = await queue.trigger("tries")
        await (await queue.next()).nak()
        await (await queue.next()).nak(delay=2)
        record = await record_of(contract, execution)
    assert (record["state"], record["reason"], record["attempt"]) == ("failed", "max_tries", 2)
    assert await left(contract, execution) == 0


async def test_a_term_is_failure(contract: Site) -> None:
    """At once, whatever tries are left."""
    async with queue_of(contract, "term") as queue:
        await put(contract, "term", {**HAND, "queue": "term", "max_tries": 100})
        execution = await queue.trigger("term")
        await (await queue.next()).term()
        record = await record_of(contract, execution)
        assert (record["state"], record["attempt"]) == ("failed", 1)
        assert await left(contract, execution) == 0
        execution = await queue.trigger("term")
        await contract.client.publish((await queue.next()).reply, b"+TERM no such customer")
        record = await record_of(contract, execution)
    assert (record["state"], record["reason"]) == ("failed", "no such customer")


async def test_in_progress_keeps_a_task(contract: Site) -> None:
    """A worker that says so holds its task beyond the ack wait; it is not delivered to anybody else."""
    async with queue_of(contract, "slow", ack_wait=1) as queue:
        await put(contract, "slow", {**HAND, "queue": "slow"})
        execution = await queue.trigger("slow")
        message = await queue.next()
        for _ in range(5):
            await asyncio.sleep(0.5)
            await message.in_progress()
        await message.ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["attempt"]) == ("succeeded", 1)


async def test_a_worker_that_dies_with_a_task(contract: Site) -> None:
    """Nothing tells of it but the next delivery, an ack wait later: whose ack counts as the second try."""
    async with queue_of(contract, "dies", ack_wait=1) as queue:
        await put(contract, "dies", {**HAND, "queue": "dies", "max_tries": 1})
        execution = await queue.trigger("dies")
        await queue.next()
        again = await queue.next()
        assert again.metadata.num_delivered == 2
        assert (await record_of(contract, execution, "queued"))["attempt"] == 0
        await again.ack()
        record = await record_of(contract, execution)
    assert (record["state"], record["attempt"]) == ("succeeded", 2)


async def test_a_worker_that_never_answers(contract: Site) -> None:
    """At the queue's `max_deliver` the execution has failed, with that reason, and its task is removed."""
    async with queue_of(contract, "never", ack_wait=1, max_deliver=2) as queue:
        await put(contract, "never", {**HAND, "queue": "never", "max_tries": 100})
        execution = await queue.trigger("never")
        seen = [(await queue.next()).metadata.num_delivered, (await queue.next()).metadata.num_delivered]
        assert seen == [1, 2]
        with pytest.raises(TimeoutError):  # the server only notices while somebody pulls
            await queue.next(wait_s=1.5)
        record = await record_of(contract, execution)
    assert (record["state"], record["reason"], record["attempt"]) == ("failed", "max_deliver", 2)
    assert await left(contract, execution) == 0


async def test_a_task_that_vanished_is_inferred_success(contract: Site) -> None:
    """Gone from the stream without a signal: succeeded, with the reason `inferred`."""
    async with queue_of(contract, "gone") as queue:
        await put(contract, "gone", {**HAND, "queue": "gone"})
        execution = await queue.trigger("gone")
        record = await record_of(contract, execution, "queued")
        await contract.api("STREAM.MSG.DELETE.SCHEDD_TASKS", {"seq": record["task_seq"]})
        record = await record_of(contract, execution, within_s=20)
    assert (record["state"], record["reason"]) == ("succeeded", "inferred")


# --- reports: what a worker in any language may send beyond the ack


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


# --- what is never queued


async def test_an_overlap_is_skipped_on_record(contract: Site) -> None:
    """`skip` while one runs: a record that says why; the run's end frees the slot."""
    async with queue_of(contract, "busy") as queue:
        await put(contract, "busy", {"manual": True, "type": "t", "queue": "busy"})
        first = await queue.trigger("busy")
        reply = await contract.request("schedule.trigger", {"id": "busy"})
        assert reply["state"] == "skipped"
        record = await record_of(contract, reply["execution_id"])
        assert record["reason"]
        assert record["queued_at"] is None
        assert record["finished_at"] is not None
        row = await contract.status("busy")
        assert (row["active"], row["waiting"]) == ([first], [])
        await (await queue.next()).ack()
        await record_of(contract, first)

        async def free() -> bool:
            return (await contract.status("busy"))["active"] == []

        await eventually(free, what="the slot")
        await queue.trigger("busy")
        await (await queue.next()).ack()


async def test_max_running_is_skipped_with_that_reason(contract: Site) -> None:
    """`allow` with `max_running`: the surplus is skipped, reason max_running."""
    async with queue_of(contract, "many") as queue:
        await put(contract, "many", {**HAND, "queue": "many", "max_running": 2})
        await queue.trigger("many")
        await queue.trigger("many")
        reply = await contract.request("schedule.trigger", {"id": "many"})
        record = await record_of(contract, reply["execution_id"])
        assert (record["state"], record["reason"]) == ("skipped", "max_running")
        for _ in range(2):
            await (await queue.next()).ack()
