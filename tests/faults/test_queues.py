"""Queues and what is full, while NATS and replicas die (issue 6: F12, F23)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import APIError

from scheduler.client import Client
from scheduler.core.errors import Conflict, ScheddError
from tests.acceptance.harness import TERMINAL, Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica
from tests.nats_servers import Cluster, Server

pytestmark = pytest.mark.timeout(240)
TASKS = "SCHEDD_TASKS"
QUICK = {"SCHEDD_RECONCILE_EVERY": "1", "SCHEDD_RECONCILE_GRACE": "2"}
MANUAL = {"manual": True, "queue": "Q", "type": "t", "overlap": "allow"}


async def limit(site: Site, stream: str, max_bytes: int) -> None:
    config = (await site.api(f"STREAM.INFO.{stream}"))["config"]
    await site.api(f"STREAM.UPDATE.{stream}", {**config, "max_bytes": max_bytes})


async def size_of(site: Site, stream: str) -> int:
    return int((await site.api(f"STREAM.INFO.{stream}"))["state"]["bytes"])


@pytest.mark.slow
@pytest.mark.parametrize("stream", [TASKS, "KV_schedd-executions"])
async def test_a_full_stream_refuses_and_evicts_nothing(site: Site, stream: str) -> None:
    """F23: `max_bytes` is reached: what is new is refused, nothing that is stored goes, claims least of all; with room
    again everything that was due is dispatched, late and once."""
    replicas = await site.replicas("a", "b")
    puts = await put_many(site, 40)
    await asyncio.sleep(3)
    await limit(site, stream, await size_of(site, stream) + 20_000)

    async def is_full() -> bool:
        before = await size_of(site, stream)
        await asyncio.sleep(2)
        return await size_of(site, stream) == before

    await eventually(is_full, within_s=20)
    subject = "schedd.task.herd.too-much" if stream == TASKS else "$KV.schedd-executions.too-much"
    with pytest.raises(APIError, match="maximum bytes exceeded"):
        await site.js.publish(subject, bytes(30_000))
    claims = await site.stored_count(TASKS, "schedd.claim.>")
    assert claims > 20
    await asyncio.sleep(3)
    assert await site.stored_count(TASKS, "schedd.claim.>") >= claims
    assert (await site.request("status.get"))["leader"] is not None
    await limit(site, stream, -1)
    worker = site.worker("herd")
    await asyncio.sleep(5)
    await site.verify(expected_of(puts), [worker], late_max_s=40, within_s=60)
    assert all(replica.exit_code is None for replica in replicas)


@pytest.mark.slow
async def test_the_disk_limit_is_reached_and_lifted(tmp_path: Path) -> None:
    """F12: JetStream's storage is used up by somebody else: the API says unavailable, no acknowledgement lies; once it
    is freed, fires that got stuck in the server are armed again, late and once."""
    store = tmp_path / "store"
    config = f'jetstream {{ store_dir: "{store}", max_file_store: 24MB }}'
    server = Server(tmp_path / "nats", config=config, jetstream=False)
    await server.start()
    try:
        async with Site(tmp_path, server.url, env=QUICK) as site:
            replicas = await site.replicas("a", "b")
            puts = await put_many(site, 20)
            worker = site.worker("herd")
            await asyncio.sleep(3)
            await site.js.add_stream(name="FOREIGN", subjects=["foreign"])
            refused = 0
            while refused < 20:
                try:
                    await site.js.publish("foreign", bytes(random.randrange(200_000, 500_000)))
                except Exception:
                    refused += 1
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client makes of a refusal
                await site.js.publish("foreign", bytes(500_000))
            with pytest.raises(Exception):  # noqa: B017, PT011 - and schedd's own writes are refused like any other
                await site.put("refused", {"manual": True, "queue": "q", "type": "t", "payload": "x" * 60_000})
            await eventually(lambda: _all_say(replicas, 503), within_s=30, what="/readyz to say 503")
            reply = await site.request("schedule.put", {"id": "new", "schedule": MANUAL})
            assert reply.get("code") == "unavailable", reply
            assert reply["message"]
            await site.js.delete_stream("FOREIGN")
            await eventually(lambda: _all_say(replicas, 200), within_s=30, what="/readyz to say 200")
            await asyncio.sleep(10)
            await site.verify(expected_of(puts), [worker], late_max_s=60, within_s=60)
            assert all(replica.exit_code is None for replica in replicas)
    finally:
        await server.kill()


async def _all_say(replicas: Sequence[Replica], status: int) -> bool:
    return {(await each.http("/readyz"))[0] for each in replicas} == {status}


@pytest.mark.slow
async def test_a_purge_through_the_death_of_replicas(site: Site, dice: random.Random) -> None:
    """kill -9 of the replica that purges, again and again: repeated, it comes to the same end for each execution."""
    await site.replicas("a", "b")
    async with Client.connect(site.url) as client:
        await client.queues.put("Q", {"paused": True})
        await client.schedules.put("s", MANUAL)
        ids: list[str] = []
        for _ in range(10):
            replies = await asyncio.gather(*(client.schedules.trigger("s") for _ in range(40)))
            ids += [reply.execution_id for reply in replies]
        interrupted = 0
        for number in range(3):
            purging = asyncio.ensure_future(client.queues.purge("Q"))
            await asyncio.sleep(dice.uniform(0.05, 0.6))
            victim = next(each for each in site.processes if each.exit_code is None)
            interrupted += not purging.done()
            await victim.kill()
            await site.replicas(f"new{number}")
            await asyncio.gather(purging, return_exceptions=True)
        assert interrupted, "no purge was under way when a replica died"

        async def is_empty() -> bool:
            try:
                return (await client.queues.purge("Q")).remaining == 0
            except ScheddError:
                return False

        await eventually(is_empty, within_s=60)

        async def all_ended() -> list[Any] | None:
            records = await asyncio.gather(*(client.executions.get(each) for each in ids))
            return list(records) if all(record.state in TERMINAL for record in records) else None

        records = await eventually(all_ended, within_s=30)
    assert {(record.state, record.reason) for record in records} == {("cancelled", "purged")}
    assert all(sum(line.state in TERMINAL for line in record.history) == 1 for record in records)


@pytest.mark.slow
@pytest.mark.cluster
async def test_settings_through_the_death_of_stream_leaders(cluster: Cluster, tmp_path: Path) -> None:
    """R3: the node that leads the tasks dies, then the one that leads the copies, under a storm of edits: what was
    acknowledged holds, a pause never ends by itself, and consumer and copy agree."""
    env = {**QUICK, "SCHEDD_STREAM_REPLICAS": "3", "SCHEDD_LEASE": "8"}
    async with Site(tmp_path, cluster.urls, env=env) as site:
        await site.replicas("a", "b")
        async with Client.connect(site.url) as client:
            await client.queues.put("Q", {"paused": True, "pause_note": "stays"})
            number, held, over = 0, 0, False

            async def edit() -> None:
                nonlocal number, held
                while not over:
                    number += 1
                    try:
                        await client.queues.put("Q", {"max_deliver": 2 + number})
                        held = number
                    except Conflict:
                        raise
                    except ScheddError:
                        await asyncio.sleep(0.2)

            editing = asyncio.create_task(edit())
            for stream in (TASKS, "KV_schedd-control"):
                await asyncio.sleep(2)
                name = await cluster.leader_of(stream)
                await cluster.kill(name)
                await asyncio.sleep(8)
                await cluster.start(name)
                await asyncio.sleep(2)
            over = True
            await editing
            assert held > 10
            item = await eventually(lambda: client.queues.get("Q"), within_s=20)
            assert (item.status.paused, item.settings["pause_note"]) == (True, "stays")
            assert item.settings["max_deliver"] >= 2 + held
            await site.js.delete_consumer(TASKS, "Q")

            async def restored() -> dict[str, Any] | None:
                try:
                    return dict((await client.queues.get("Q")).settings)
                except ScheddError:
                    return None

            assert await eventually(restored, within_s=30) == item.settings
