"""What becomes of tasks whose workers raise, hang, die, or refuse: attempts, states and errors on record."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime, timedelta
from typing import Any

from tests.acceptance.harness import ENDED, Site, eventually, utc_now
from tests.acceptance.processes import SdkWorker

PROGRAM = """
import asyncio, json, os, time
from scheduler.worker import Worker

worker = Worker("sdk")

def note(ctx, what):
    with open(os.environ["EVIDENCE"], "a") as file:
        line = {"id": ctx.execution_id, "attempt": ctx.attempt, "what": what, "pid": os.getpid()}
        file.write(json.dumps(line) + "\\n")
        file.flush()
        os.fsync(file.fileno())

FAST = {"initial": "200ms", "max": "1s", "jitter": 0}

@worker.task("ok")
async def ok(payload, ctx):
    note(ctx, "ran")
    return {"got": payload}

@worker.task("raises", backoff=FAST)
async def raises(payload, ctx):
    note(ctx, "ran")
    raise ValueError("no such customer: 7")

@worker.task("mends", backoff=FAST)
def mends(payload, ctx):
    note(ctx, "ran")
    if ctx.attempt < 3:
        raise ConnectionError("not yet")
    return "at last"

@worker.task("hangs", backoff=FAST)
async def hangs(payload, ctx):
    note(ctx, "ran")
    await asyncio.sleep(600)

@worker.task("long", backoff=FAST)
async def long(payload, ctx):
    note(ctx, "began")
    await asyncio.sleep(payload["s"])
    note(ctx, "done")

worker.run()
"""


async def once(site: Site, type_: str, *, queue: str = "sdk", **fields: Any) -> str:
    """Put a one-shot that is due now; its execution id."""
    at = utc_now() + timedelta(seconds=1)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    name = f"{type_}-{queue}"
    await site.put(name, {"at": at.isoformat(), "queue": queue, "type": type_, **fields})
    return f"{name}.{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z"


async def ended(site: Site, execution: str, *, within_s: float = 30) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        record = await site.value("schedd-executions", execution)
        return record if record and record["state"] in ENDED else None

    return await eventually(look, within_s=within_s, what=f"the end of {execution}")


def states(record: dict[str, Any]) -> list[str]:
    return [line["state"] for line in record["history"]]


async def test_what_becomes_of_functions_is_on_record(site: Site) -> None:
    """Results, errors, tries and time-outs of an SDK worker, whose queue gives up on a silent worker after 2 s."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    worker = site.sdk_worker(PROGRAM, name="sdk")
    await asyncio.gather(returns(site), raises(site, worker), mends(site), hangs(site), takes_long(site))


async def returns(staffed: Site) -> None:
    """succeeded, with result, attempt, worker and a start before the end."""
    record = await ended(staffed, await once(staffed, "ok", payload={"n": 1}))
    assert record["state"] == "succeeded"
    assert record["result"] == {"got": {"n": 1}}
    assert record["attempt"] == 1
    assert record["worker"]
    assert record["queued_at"] <= record["started_at"] <= record["finished_at"]
    assert states(record) == ["claimed", "queued", "running", "succeeded"]


async def raises(staffed: Site, worker: SdkWorker) -> None:
    """max_tries attempts, each on record, the error with type, message and traceback."""
    execution = await once(staffed, "raises", max_tries=3)
    record = await ended(staffed, execution)
    assert record["state"] == "failed"
    assert record["attempt"] == 3
    assert record["error"]["type"] == "ValueError"
    assert record["error"]["message"] == "no such customer: 7"
    assert "raise ValueError" in record["error"]["traceback"] or "ValueError" in record["error"]["traceback"]
    assert states(record).count("running") == 3
    assert states(record).count("retrying") == 2
    assert [note["attempt"] for note in worker.notes() if note["id"] == execution] == [1, 2, 3]


async def mends(staffed: Site) -> None:
    """Failed attempts before a good one leave no error on the record."""
    record = await ended(staffed, await once(staffed, "mends", max_tries=5))
    assert (record["state"], record["attempt"], record["result"]) == ("succeeded", 3, "at last")
    assert record["error"] is None


async def hangs(staffed: Site) -> None:
    """Each attempt is cut at the timeout; the last one ends the execution as timed_out."""
    record = await ended(staffed, await once(staffed, "hangs", timeout="1s", max_tries=2))
    assert record["state"] == "timed_out"
    assert record["attempt"] == 2
    assert 0.9 < record["duration_s"] < 4


async def takes_long(staffed: Site) -> None:
    """Heartbeats keep a task of 6 s with its worker though the queue's ack_wait is 2 s: one attempt."""
    record = await ended(staffed, await once(staffed, "long", payload={"s": 6}))
    assert (record["state"], record["attempt"]) == ("succeeded", 1)
    assert 5.9 < record["duration_s"] < 9


async def test_a_worker_killed_mid_run_is_followed_by_the_next(site: Site) -> None:
    """kill -9 during attempt 1: another worker runs attempt 2, and the record tells both."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    first = site.sdk_worker(PROGRAM, name="first")
    execution = await once(site, "long", payload={"s": 3}, max_tries=3)

    async def began() -> bool:
        return bool(first.notes())

    await eventually(began, what="the first attempt")
    await first.kill()
    second = site.sdk_worker(PROGRAM, name="second")
    record = await ended(site, execution, within_s=40)
    assert (record["state"], record["attempt"]) == ("succeeded", 2)
    assert [(note["attempt"], note["what"]) for note in second.notes()] == [(2, "began"), (2, "done")]
    assert [note["what"] for note in first.notes()] == ["began"]


async def test_a_worker_killed_in_its_only_try_is_lost(site: Site) -> None:
    """max_tries 1 is at most once: nobody runs it again, and the record says lost."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    first = site.sdk_worker(PROGRAM, name="first")
    execution = await once(site, "long", payload={"s": 3}, max_tries=1)

    async def began() -> bool:
        return bool(first.notes())

    await eventually(began, what="the attempt")
    await first.kill()
    second = site.sdk_worker(PROGRAM, name="second")
    record = await ended(site, execution, within_s=40)
    assert record["state"] == "lost"
    assert record["reason"]
    assert record["attempt"] == 1
    await asyncio.sleep(3)
    assert second.notes() == []
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.>") == 0


async def test_a_lost_run_frees_its_slot_with_no_worker_left(site: Site) -> None:
    """overlap skip, the only worker dies mid-run and nobody follows: the schedule is not blocked for ever."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    worker = site.sdk_worker(PROGRAM, name="only")
    await site.put("s", {"every": "1s", "queue": "sdk", "type": "long", "payload": {"s": 600}, "max_tries": 1})

    async def began() -> bool:
        return bool(worker.notes())

    await eventually(began, what="the attempt")
    await worker.kill()
    dead = worker.notes()[0]["id"]
    record = await ended(site, dead, within_s=40)
    assert record["state"] == "lost"

    async def another() -> bool:
        return (await site.status("s"))["active"] not in ([], [dead])

    await eventually(another, within_s=15, what="the slot's next holder")


async def test_sigterm_hands_back_what_runs(site: Site) -> None:
    """A worker that is told to stop finishes what it can within its grace and exits 0."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    worker = site.sdk_worker(PROGRAM, name="sdk")
    execution = await once(site, "long", payload={"s": 3})

    async def began() -> bool:
        return bool(worker.notes())

    await eventually(began, what="the attempt")
    worker.signal(signal.SIGTERM)
    assert await worker.ended(within_s=15) == 0
    record = await ended(site, execution)
    assert (record["state"], record["attempt"]) == ("succeeded", 1)


# --- plain workers


async def test_a_plain_nak_is_a_failed_try(site: Site) -> None:
    """NAK after NAK: retrying each time, failed when max_tries is used up, and the task is gone."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    worker = site.worker("plain", "nak")
    record = await ended(site, await once(site, "t", queue="plain", max_tries=3), within_s=30)
    assert record["state"] == "failed"
    assert record["reason"] == "max_tries"
    assert "retrying" in states(record)
    assert record["attempt"] >= 3

    async def gone() -> bool:
        return await site.stored_count("SCHEDD_TASKS", "schedd.task.>") == 0

    await eventually(gone, what="the task's removal")
    assert len(worker.deliveries()) >= 3


async def test_a_plain_term_is_a_failure(site: Site) -> None:
    """TERM ends it as failed, at once, without another try."""
    await site.replicas("a", SCHEDD_ACK_WAIT="2s")
    worker = site.worker("plain", "term")
    record = await ended(site, await once(site, "t", queue="plain", max_tries=3))
    assert record["state"] == "failed"
    assert len(worker.deliveries()) == 1


async def test_a_worker_that_never_answers_fails_at_max_deliver(site: Site) -> None:
    """Silence until max_deliver: failed, reason max_deliver, and the task is gone."""
    await site.replicas("a", SCHEDD_ACK_WAIT="1s", SCHEDD_MAX_DELIVER="3")
    worker = site.worker("plain", "never")
    record = await ended(site, await once(site, "t", queue="plain", max_tries=100), within_s=30)
    assert (record["state"], record["reason"]) == ("failed", "max_deliver")

    async def gone() -> bool:
        return await site.stored_count("SCHEDD_TASKS", "schedd.task.>") == 0

    await eventually(gone, what="the task's removal")
    assert [each.delivered for each in worker.deliveries()] == [1, 2, 3]


async def test_an_existing_consumer_keeps_its_numbers(site: Site) -> None:
    """A queue whose consumer somebody made beforehand, with an ack_wait of its own, is used as it is."""
    await site.replicas("a")
    config = {
        "durable_name": "plain", "ack_policy": "explicit", "ack_wait": 1_000_000_000, "max_deliver": 2,
        "filter_subject": "schedd.task.plain.>", "deliver_policy": "all",
    }  # fmt: skip
    await site.api(
        "CONSUMER.CREATE.SCHEDD_TASKS.plain.schedd.task.plain.>", {"stream_name": "SCHEDD_TASKS", "config": config}
    )
    site.worker("plain", "never")
    record = await ended(site, await once(site, "t", queue="plain"), within_s=20)
    assert (record["state"], record["reason"]) == ("failed", "max_deliver")
    info = await site.api("CONSUMER.INFO.SCHEDD_TASKS.plain")
    assert info["config"]["ack_wait"] == 1_000_000_000
    assert info["config"]["max_deliver"] == 2
    assert info["config"]["sample_freq"] in {"100", "100%"}, "repaired: without it an ack is never seen"


async def test_an_ack_seen_while_every_replica_is_down_is_a_success(site: Site) -> None:
    """Workers go on without replicas; whoever comes back learns what they did."""
    [replica] = await site.replicas("a", SCHEDD_HORIZON="20s")
    worker = site.worker("plain")
    put = await site.put("tick", {"every": "1s", "queue": "plain", "type": "t", "overlap": "allow"})
    await asyncio.sleep(1.5)
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(3)
    await replica.kill()
    worker.signal(signal.SIGCONT)
    await asyncio.sleep(2)
    acked = {each.id for each in worker.deliveries()}
    assert len(acked) >= 3
    await site.replicas("b")
    for execution in sorted(acked):
        record = await ended(site, execution)
        assert record["state"] == "succeeded", record
    assert datetime.fromisoformat(record["nominal_at"]) > put.at
