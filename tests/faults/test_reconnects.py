"""NATS comes back, and everybody else with it, at the same moment; a load balancer resets them all (issue 6: F11)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest

from scheduler.client import Client
from scheduler.core.errors import ScheddError
from tests.acceptance.harness import Site
from tests.acceptance.herd import expected_of, put_many
from tests.faults.proxy import Proxy
from tests.nats_servers import Server

CLIENTS = 500
FEW = 50
BACK_S = 60.0
ACK_WAIT_S = 30.0  # of a queue, by default: a task that was on its way over a connection that is cut comes again then


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_five_hundred_clients_come_back_at_once(site: Site, server: Server) -> None:
    """F11: kill -9 of NATS under them: each is served again within a minute, and schedules go on, late and once."""
    replicas = await site.replicas("a", "b")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client.connect(site.url, name="storm")) for _ in range(CLIENTS)]
        files = [replica.open_files for replica in replicas]
        await asyncio.sleep(2)
        await server.kill()
        await asyncio.sleep(2)
        began_s = time.monotonic()
        await server.start()
        took_s = await asyncio.gather(*(served_again(client, began_s) for client in clients))
        print(f"{CLIENTS} clients served again, the last after {max(took_s):.1f} s")
        assert max(took_s) < BACK_S
        await asyncio.sleep(3)
        assert [replica.exit_code for replica in replicas] == [None, None]
        assert all(replica.open_files <= before + 2 for replica, before in zip(replicas, files, strict=True))
    await site.verify(expected_of(puts), [worker], late_max_s=45, within_s=60)


@pytest.mark.parametrize(("clients", "resets"), [(FEW, 8), pytest.param(CLIENTS, 40, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
async def test_a_load_balancer_that_resets_everybody_again_and_again(
    site: Site, dice: random.Random, clients: int, resets: int
) -> None:
    """F11: every connection is reset again and again, replicas' and workers' too: all are served within a minute after
    it, nobody has given up, no file is left open, and schedules go on, late and once."""
    async with Proxy(site.url) as proxy, contextlib.AsyncExitStack() as stack:
        replicas = await site.replicas("a", "b", NATS_URL=proxy.url)
        worker = site.worker("herd", url=proxy.url)
        puts = await put_many(site, 20)
        storm = [await stack.enter_async_context(Client.connect(proxy.url, name="storm")) for _ in range(clients)]
        await asyncio.sleep(3)
        files, before = [replica.open_files for replica in replicas], proxy.accepted
        storm_s = time.monotonic()
        for _ in range(resets):
            await asyncio.sleep(dice.uniform(0.1, 1.5))
            proxy.cut()
        began_s = time.monotonic()
        storm_s = began_s - storm_s
        took_s = await asyncio.gather(*(served_again(client, began_s) for client in storm))
        print(f"{proxy.accepted - before} connections anew; {clients} served again, the last after {max(took_s):.1f} s")
        assert proxy.accepted - before > 2 * clients, "they were not reset again and again"
        assert max(took_s) < BACK_S
        await site.verify(expected_of(puts), [worker], late_max_s=storm_s + ACK_WAIT_S + 20, within_s=60)
        assert [process.exit_code for process in (*replicas, worker)] == [None] * 3
        left = [replica.open_files for replica in replicas]
        assert all(now <= then + 2 for now, then in zip(left, files, strict=True)), f"files: {files}, now {left}"


async def served_again(client: Client, began_s: float) -> float:
    """How long until its next read was answered."""
    while True:
        try:
            await client.schedules.get("tick-000")
        except ScheddError:
            assert time.monotonic() - began_s < 2 * BACK_S, "never served again"
            await asyncio.sleep(0.2)
        else:
            return time.monotonic() - began_s
