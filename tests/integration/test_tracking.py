"""What became of the tasks, against a real server: every signal and report of it, through a whole replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from scheduler.testing.local import LocalSchedd
from scheduler.worker import Worker

ENV = {
    "SCHEDD_ACK_WAIT": "1s",
    "SCHEDD_MAX_DELIVER": "3",
    "SCHEDD_RECONCILE_EVERY": "1s",
    "SCHEDD_RECONCILE_GRACE": "1s",
    "SCHEDD_CLAIM_FLOOR": "60s",
}
UNTIL_S = 40.0


class House:
    """A replica, a client, and what one looks at."""

    def __init__(self, local: LocalSchedd, client: Client) -> None:
        self.local, self.client = local, client
        self.js = client.jetstream()

    async def api(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = await self.client.request(f"schedd.api.v1.{verb}", json.dumps(body).encode(), timeout=10)
        assert "Nats-Service-Error" not in (reply.headers or {}), reply.data
        return msgspec.json.decode(reply.data)

    async def fire(self, schedule_id: str, **fields: Any) -> str:
        """Put a manual schedule and trigger it; the execution id."""
        schedule = {"manual": True, "queue": "Q", "type": "t", **fields}
        await self.api("schedule.put", {"id": schedule_id, "schedule": schedule})
        return (await self.api("schedule.trigger", {"id": schedule_id}))["execution_id"]

    async def until(self, execution_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        record: dict[str, Any] = {}
        try:
            async with asyncio.timeout(UNTIL_S):
                while not (record and wanted(record)):
                    await asyncio.sleep(0.05)
                    record = await self.api("execution.get", {"id": execution_id})
        except TimeoutError:
            pytest.fail(f"it stayed {record.get('state')}: {record}")
        return record

    async def ended(self, execution_id: str) -> dict[str, Any]:
        return await self.until(execution_id, lambda record: record["finished_at"] is not None)

    async def pull(self, queue: str = "Q") -> Msg:
        subscription = await self.js.pull_subscribe_bind(queue, "SCHEDD_TASKS")
        (message,) = await subscription.fetch(1, timeout=10)
        return message

    async def tasks(self) -> int:
        """How many tasks are in the stream."""
        info = await self.js.stream_info("SCHEDD_TASKS", subjects_filter="schedd.task.>")
        return sum((info.state.subjects or {}).values())

    async def no_tasks(self) -> None:
        async with asyncio.timeout(UNTIL_S):
            while await self.tasks():
                await asyncio.sleep(0.05)

    async def slots(self, schedule_id: str) -> list[str]:
        return (await self.api("schedule.get", {"id": schedule_id}))["status"]["active"]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with LocalSchedd(env=ENV) as local:
        client = await nats.connect(local.nats_url)
        try:
            yield House(local, client)
        finally:
            await client.close()


async def test_plain_ack(house: House) -> None:
    """A client of any language acknowledges: succeeded within moments, and the slot is free."""
    execution_id = await house.fire("ack")
    await (await house.pull()).ack()
    record = await house.ended(execution_id)
    assert (record["state"], record["attempt"], record["reason"]) == ("succeeded", 1, None)
    assert await house.slots("ack") == []


async def test_plain_term(house: House) -> None:
    """It terminates the task: failed."""
    execution_id = await house.fire("term")
    await (await house.pull()).term()
    assert (await house.ended(execution_id))["state"] == "failed"


async def test_plain_naks(house: House) -> None:
    """It hands the task back: retrying, then failed at max_tries, and the task is gone."""
    execution_id = await house.fire("nak", max_tries=2)
    await (await house.pull()).nak()
    record = await house.until(execution_id, lambda each: each["state"] == "retrying")
    assert record["attempt"] == 1
    await (await house.pull()).nak()
    record = await house.ended(execution_id)
    assert (record["state"], record["reason"], record["attempt"]) == ("failed", "max_tries", 2)
    await house.no_tasks()


async def test_max_deliver(house: House) -> None:
    """It falls silent with every delivery: failed at the queue's max_deliver, and the task is gone."""
    execution_id = await house.fire("silent", max_tries=50)
    for _ in range(3):
        await house.pull()
    subscription = await house.js.pull_subscribe_bind("Q", "SCHEDD_TASKS")
    with pytest.raises(TimeoutError):
        await subscription.fetch(1, timeout=2)  # somebody must ask, or the server never notices
    record = await house.ended(execution_id)
    assert (record["state"], record["reason"]) == ("failed", "max_deliver")
    await house.no_tasks()


async def test_an_ack_that_nobody_told(house: House) -> None:
    """The advisory gets lost, as it may (at most once): succeeded, inferred, and counted."""
    execution_id = await house.fire("lost-signal")
    await house.until(execution_id, lambda each: each["state"] == "queued")
    message = await house.pull()
    info = await house.js.stream_info("SCHEDD_ADVISORIES")
    kept = info.config.subjects
    await house.js.update_stream(info.config.evolve(subjects=["nobody.listens"]))
    told = asyncio.Event()

    async def heard(_: Msg) -> None:
        told.set()

    subscriptions = [await house.client.subscribe(each, cb=heard) for each in kept]
    await message.ack_sync()
    await asyncio.wait_for(told.wait(), 10)
    for each in subscriptions:
        await each.unsubscribe()
    await house.js.update_stream(info.config.evolve(subjects=kept))
    record = await house.ended(execution_id)
    assert (record["state"], record["reason"]) == ("succeeded", "inferred")
    told_of = b'schedd_reconciler_repairs_total{kind="gone"} 1.0'  # counted at the end of the round that did it
    async with asyncio.timeout(10):
        while told_of not in house.local.replica.telemetry.render()[0]:
            await asyncio.sleep(0.05)


async def test_sdk_outcomes(house: House) -> None:
    """Success with a result, a retry that succeeds, a failure of the last try: as the worker reported them."""
    tries = 0
    worker = Worker("Q", nats=house.local.nats_url)

    @worker.task("ok")
    async def ok(payload: Any) -> dict[str, Any]:
        return {"got": payload}

    @worker.task("second")
    async def second(payload: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("not yet")

    @worker.task("never")
    async def never(payload: Any) -> None:
        raise ValueError("boom")

    backoff = {"initial": "100ms"}
    running = asyncio.create_task(worker.serve())
    try:
        ids = [
            await house.fire("ok", type="ok", payload=[1]),
            await house.fire("second", type="second", backoff=backoff),
            await house.fire("never", type="never", max_tries=1),
        ]
        done, retried, failed = [await house.ended(each) for each in ids]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (done["state"], done["result"], done["attempt"]) == ("succeeded", {"got": [1]}, 1)
    assert (retried["state"], retried["attempt"], retried["error"]) == ("succeeded", 2, None)
    assert (failed["state"], failed["reason"], failed["error"]["message"]) == ("failed", "max_tries", "boom")
    assert done["lateness_s"] < 1.0
    await house.no_tasks()


async def test_a_worker_that_dies_with_the_last_try(house: House) -> None:
    """It claimed the only attempt and was never heard of again: lost, the task is removed, the slot is free."""
    execution_id = await house.fire("dies", max_tries=1)
    await house.pull()
    body = b'{"worker": "nobody", "at": "2026-11-21T08:00:00Z"}'
    await house.js.publish(f"schedd.report.Q.{execution_id}.1.started", body)
    record = await house.until(execution_id, lambda each: each["state"] == "running")
    assert record["worker"] == "nobody"
    record = await house.ended(execution_id)
    assert (record["state"], record["reason"], record["attempt"]) == ("lost", "worker_gone", 1)
    await house.no_tasks()
    assert await house.slots("dies") == []


async def test_no_handler(house: House) -> None:
    """The only worker of the queue does not know the type: no attempt, and at max_deliver failed, no_handler."""
    worker = Worker("Q", nats=house.local.nats_url)

    @worker.task("other")
    async def other(payload: Any) -> None:
        """Never called."""

    running = asyncio.create_task(worker.serve())
    try:
        execution_id = await house.fire("strange", type="strange", max_tries=1)
        record = await house.ended(execution_id)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (record["state"], record["reason"], record["attempt"]) == ("failed", "no_handler", 0)
    await house.no_tasks()
