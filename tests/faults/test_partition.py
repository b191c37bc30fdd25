"""A replica that loses its way to NATS while others keep theirs; a watch that is cut behind a leader's back."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from tests.acceptance.harness import Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.faults.proxy import Proxy

TICK = {"every": "1s", "queue": "old", "type": "tick", "overlap": "allow"}


async def test_a_leader_behind_a_dead_switch_is_replaced_and_does_no_harm(site: Site) -> None:
    """Silence beyond its lease: it steps down by its own clock, another leads; what arrives late is harmless."""
    async with Proxy(site.url) as proxy:
        cut_off = site.replica("far", NATS_URL=proxy.url, SCHEDD_HORIZON="10s")
        await cut_off.ready()
        worker = site.worker("herd")
        puts = await put_many(site, 30)
        await site.leader()
        await site.replicas("near", SCHEDD_HORIZON="10s")
        proxy.silence()
        successor = await site.leader(other_than=cut_off, within_s=15)

        async def stepped_down() -> bool:
            return (await cut_off.metrics())["schedd_leader"] == 0

        await eventually(stepped_down, within_s=5, what="the cut-off leader to know")
        await asyncio.sleep(5)
        proxy.heal()
        await asyncio.sleep(5)
        assert (await successor.metrics())["schedd_leader"] == 1
        assert cut_off.exit_code is None
        await site.verify(expected_of(puts), [worker], late_max_s=20)


@pytest.mark.slow
async def test_a_flapping_link_is_survived(site: Site, dice: random.Random) -> None:
    """The connection of one replica breaks every moment: nothing is lost or doubled, and it stays alive."""
    async with Proxy(site.url) as proxy:
        flapping = site.replica("far", NATS_URL=proxy.url, SCHEDD_HORIZON="10s")
        await flapping.ready()
        await site.replicas("near", SCHEDD_HORIZON="10s")
        worker = site.worker("herd")
        puts = await put_many(site, 30)
        await asyncio.sleep(3)
        files, memory_mb, before = flapping.open_files, flapping.memory_mb, proxy.accepted
        for _ in range(25):
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            proxy.cut()
        await asyncio.sleep(4)
        assert proxy.accepted - before > 5, "it was hardly ever connected, so hardly ever cut off"
        assert flapping.exit_code is None
        await site.verify(expected_of(puts), [worker], late_max_s=15)
        assert flapping.open_files <= files + 2
        assert flapping.memory_mb < memory_mb + 30
        await asyncio.sleep(32)  # what could not be deleted is forgotten by the server
        for bucket in ("schedules", "executions", "control"):
            left = (await site.api(f"CONSUMER.NAMES.KV_schedd-{bucket}"))["consumers"]
            assert len(left) <= 3, f"{bucket}: one watch a replica, and at most one just replaced: {left}"


async def test_a_leader_whose_watch_is_cut_plans_no_stale_definition(site: Site) -> None:
    """Every consumer of the schedules bucket is deleted in the server, and the schedule edited: the edit holds."""
    await site.replicas("a", "b", SCHEDD_HORIZON="4s")
    old, new = site.worker("old"), site.worker("new")
    await site.put("tick", TICK)
    await asyncio.sleep(3)
    for turn in range(3):
        watches = (await site.api("CONSUMER.NAMES.KV_schedd-schedules"))["consumers"]
        assert len(watches) >= 2, f"no watch of each replica to cut: {watches}"
        for name in watches:
            await site.api(f"CONSUMER.DELETE.KV_schedd-schedules.{name}")
        queue = ("new", "old")[turn % 2]
        put = await site.put("tick", {**TICK, "queue": queue})
        await asyncio.sleep(4)
        since = put.at + timedelta(seconds=1)
        wrong, right = (old, new) if queue == "new" else (new, old)
        assert not [each for each in wrong.deliveries() if each.nominal_at > since], turn
        assert len([each for each in right.deliveries() if each.nominal_at > since]) >= 2, turn
