"""Queues on a real server: edits at once and under running work, pauses, purges, deletions, restored consumers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.core.errors import Conflict
from scheduler.core.lifecycle import TERMINAL
from scheduler.testing import LocalSchedd
from scheduler.wire.names import Names
from scheduler.wire.record import Record
from scheduler.worker import Worker
from tests.integration import api_stage
from tests.nats_servers import Server

NAMES = Names()
ENV = {
    "SCHEDD_RECONCILE_EVERY": "0.3s", "SCHEDD_RECONCILE_GRACE": "0.5s", "SCHEDD_CLAIM_FLOOR": "60s",
}  # fmt: skip
MANUAL = {"manual": True, "queue": "Q", "type": "t", "overlap": "allow", "max_tries": 1}


@contextlib.asynccontextmanager
async def local() -> AsyncIterator[tuple[LocalSchedd, Client]]:
    async with LocalSchedd(env=ENV) as schedd, Client.connect(schedd.nats_url) as client:
        yield schedd, client


@contextlib.asynccontextmanager
async def serving(*workers: Worker) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.serve()) for worker in workers]
    try:
        yield
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
        await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(look: Callable[[], Awaitable[Any]], *, within_s: float = 15) -> Any:
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.05)
        return found


async def trigger(client: Client, count: int, schedule: str = "s") -> list[str]:
    replies = await asyncio.gather(*(client.schedules.trigger(schedule) for _ in range(count)))
    return [reply.execution_id for reply in replies]


async def ended(client: Client, ids: list[str], *, within_s: float = 20) -> list[Record]:
    """Their records, once all have ended."""

    async def look() -> list[Record] | None:
        records = await asyncio.gather(*(client.executions.get(each) for each in ids))
        return list(records) if all(record.state in TERMINAL for record in records) else None

    return list(await eventually(look, within_s=within_s))


async def test_a_pause_outlives_replica_and_server(nats_server: Server) -> None:
    """A paused queue is paused after kill -9 of the server, under another replica and leader; its tasks are there."""
    async with api_stage.replica(nats_server.url), api_stage.user(nats_server.url) as (client, _):
        await client.schedules.put("s", MANUAL)
        await client.queues.pause("Q", note="why")
        await trigger(client, 3)
    await nats_server.kill()
    await nats_server.start()
    async with api_stage.replica(nats_server.url, "b"), api_stage.user(nats_server.url) as (client, _):
        item = await client.queues.get("Q")
        assert (item.status.paused, item.settings["pause_note"], item.status.pending) == (True, "why", 3)
        worker = Worker("Q", nats=nats_server.url)
        ran: list[str] = []

        @worker.task("t")
        async def run(payload: Any, ctx: Any) -> None:
            ran.append(ctx.execution_id)

        async with serving(worker):
            await asyncio.sleep(1.5)
            assert not ran
            await client.queues.resume("Q")

            async def all_ran() -> bool:
                return len(ran) == 3

            await eventually(all_ran)


async def test_two_replicas_put_at_once(nats_server: Server) -> None:
    """Edits that come at the same moment, to several replicas, are all in force afterwards, round after round."""
    async with (
        api_stage.replica(nats_server.url, "a") as one,
        api_stage.replica(nats_server.url, "b", leads=False) as other,
        api_stage.user(nats_server.url) as (client, _),
    ):
        for number in range(1, 6):
            await asyncio.gather(
                client.queues.put("Q", {"max_deliver": number + 1}),
                client.queues.put("Q", {"max_ack_pending": number}),
                client.queues.put("Q", {"max_pending": number * 10}),
                client.queues.put("Q", {"ack_wait": f"{number}s"}),
                client.queues.put("Q", {"paused": number % 2 == 0}),
            )
            settings = (await client.queues.get("Q")).settings
            found = [settings[name] for name in ("max_deliver", "max_ack_pending", "max_pending", "ack_wait", "paused")]
            assert found == [number + 1, number, number * 10, f"{number}s", number % 2 == 0]
            assert await one.adapters.queues.queue("Q") == await other.adapters.queues.queue("Q")


async def test_one_at_a_time_over_two_workers() -> None:
    """`max_ack_pending` 1: of two workers with room for ten each, one runs one task at any moment."""
    async with local() as (schedd, client):
        await client.queues.put("Q", {"max_ack_pending": 1})
        await client.schedules.put("s", MANUAL)
        workers = [Worker("Q", nats=schedd.nats_url, concurrency=10) for _ in range(2)]
        running, most, by = 0, 0, Counter[int]()

        async def run(payload: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1

        for number, worker in enumerate(workers):

            @worker.task("t")
            async def work(payload: Any, number: int = number) -> None:
                by[number] += 1
                await run(payload)

        async with serving(*workers):
            records = await ended(client, await trigger(client, 40))
        assert {record.state for record in records} == {"succeeded"}
        assert (most, sum(by.values())) == (1, 40)


async def test_edits_while_workers_pull() -> None:
    """Settings change, and change again, pauses included, under load: every task is carried out, once."""
    async with local() as (schedd, client):
        await client.schedules.put("s", MANUAL)
        worker = Worker("Q", nats=schedd.nats_url)
        ran: Counter[str] = Counter()

        @worker.task("t")
        async def run(payload: Any, ctx: Any) -> None:
            ran[ctx.execution_id] += 1
            await asyncio.sleep(0.01)

        async with serving(worker):
            ids: list[str] = []
            for number in range(8):
                ids += await trigger(client, 20)
                await client.queues.put(
                    "Q", {"max_ack_pending": 2 + number, "ack_wait": f"{2 + number}s", "paused": number % 2 == 0}
                )
            await client.queues.put("Q", {"paused": False})
            records = await ended(client, ids)
        assert {(record.state, record.attempt) for record in records} == {("succeeded", 1)}
        assert ran == Counter(ids)


async def test_a_shorter_ack_wait_under_running_work() -> None:
    """A run that lasts longer than the new ack wait goes on, although another worker comes: one attempt, no more."""
    async with local() as (schedd, client):
        await client.schedules.put("s", {**MANUAL, "max_tries": 3})
        workers = [Worker("Q", nats=schedd.nats_url, concurrency=1) for _ in range(2)]
        starts: list[int] = []
        for worker in workers:

            @worker.task("t")
            async def run(payload: Any, ctx: Any) -> None:
                starts.append(ctx.attempt)
                await asyncio.sleep(4)

        async with serving(workers[0]):
            (execution,) = await trigger(client, 1)

            async def begun() -> bool:
                return bool(starts)

            await eventually(begun)
            await client.queues.put("Q", {"ack_wait": "1s"})
            async with serving(workers[1]):  # it knows of nothing but the new ack wait
                (record,) = await ended(client, [execution])
        assert (record.state, record.attempt, starts) == ("succeeded", 1, [1])


async def test_a_purge_while_workers_pull() -> None:
    """Every execution ends in exactly one terminal state: what ran succeeded, what was purged never began."""
    async with local() as (schedd, client):
        await client.schedules.put("s", MANUAL)
        workers = [Worker("Q", nats=schedd.nats_url, concurrency=4) for _ in range(2)]
        ran: Counter[str] = Counter()
        for worker in workers:

            @worker.task("t")
            async def run(payload: Any, ctx: Any) -> None:
                ran[ctx.execution_id] += 1
                await asyncio.sleep(0.1)

        ids = await trigger(client, 240)
        async with serving(*workers):

            async def under_way() -> bool:
                return len(ran) > 20

            await eventually(under_way)
            replies = await asyncio.gather(*(client.queues.purge("Q") for _ in range(3)))
            records = await ended(client, ids)
        states = Counter(record.state for record in records)
        assert set(states) == {"succeeded", "cancelled"}
        assert all((record.state == "succeeded") == (ran[record.id] == 1) for record in records), states
        assert {record.reason for record in records if record.state == "cancelled"} == {"purged"}
        assert all(sum(line.state in TERMINAL for line in record.history) == 1 for record in records)
        assert sum(reply.purged for reply in replies) >= states["cancelled"] - 8
        assert (await client.queues.get("Q")).status.pending == 0


async def test_deleted_and_put_again_under_a_worker() -> None:
    """Refused while in use; once gone, a worker that serves it waits, and goes on when a schedule names it again."""
    async with local() as (schedd, client):
        await client.queues.put("Q", {"max_deliver": 3})
        await client.schedules.put("s", MANUAL)
        worker = Worker("Q", nats=schedd.nats_url)

        @worker.task("t")
        async def run(payload: Any) -> None: ...

        async with serving(worker):
            await ended(client, await trigger(client, 3))
            with pytest.raises(Conflict, match="used by s"):
                await client.queues.delete("Q")
            await client.schedules.delete("s")
            await client.queues.delete("Q")
            assert [item.id async for item in client.queues.list()] == []
            await asyncio.sleep(1.0)  # rounds of the reconciler
            assert [item.id async for item in client.queues.list()] == []
            await client.schedules.put("s", MANUAL)
            assert (await client.queues.get("Q")).settings["max_deliver"] == 20
            records = await ended(client, await trigger(client, 3))
        assert {record.state for record in records} == {"succeeded"}


async def test_a_deleted_consumer_comes_back_as_it_was() -> None:
    """With its numbers, its pause and its note, also those that other tools set; a queue that nobody uses as well."""
    async with local() as (_, client):
        await client.queues.put("Q", {"max_deliver": 4, "max_pending": 7, "paused": True, "pause_note": "why"})
        before = await client.queues.get("Q")
        js = client.connection.jetstream()
        info = await js.consumer_info(NAMES.tasks, "Q")
        info.config.max_ack_pending = 3
        await js.add_consumer(NAMES.tasks, info.config)

        async def noted() -> bool:
            entry = await (await js.key_value(NAMES.control)).get("queue.Q")
            return b'"max_ack_pending":3' in (entry.value or b"")

        await eventually(noted)
        await js.delete_consumer(NAMES.tasks, "Q")

        async def restored() -> Any:
            return next(iter([item async for item in client.queues.list()]), None)

        found = await eventually(restored)
        assert found.settings == before.settings | {"max_ack_pending": 3}
        assert found.status.paused


async def test_a_full_queue_of_its_own_limit() -> None:
    """`max_pending` of the queue holds, paused or not: what is above is skipped, `queue_full`."""
    async with local() as (_, client):
        await client.queues.put("Q", {"max_pending": 2, "paused": True})
        await client.schedules.put("s", MANUAL)
        await trigger(client, 2)

        async def refused() -> bool:
            (execution,) = await trigger(client, 1)
            record = await client.executions.get(execution)
            return (record.state, record.reason) == ("skipped", "queue_full")

        await eventually(refused)


async def test_deadlines_hold_in_a_pause() -> None:
    """A task of a paused queue ends at its start deadline as any other does; workers are not told of it."""
    async with local() as (_, client):
        await client.queues.put("Q", {"paused": True})
        await client.schedules.put("s", {**MANUAL, "start_deadline": "500ms"})
        (record,) = await ended(client, await trigger(client, 1))
        assert (record.state, record.reason) == ("expired", "start_deadline")
        assert (await client.queues.get("Q")).status.pending == 0
