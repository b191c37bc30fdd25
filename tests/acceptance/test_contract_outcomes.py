"""What becomes of a task that is acknowledged, handed back, kept, left (contract, parts 4 and 5): by plain nats-py."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.harness import Site, utc_now
from tests.acceptance.plain_queue import HAND, SECOND, left, put, queue_of, record_of


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
