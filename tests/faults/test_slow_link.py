"""A link to NATS that is slow and loses packets: whoever leads goes on leading (issue 6: F10)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import pytest

from tests.acceptance.harness import Site
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica
from tests.faults.proxy import Distance, Proxy
from tests.nats_servers import connected

WAY_S = 0.25
DEFAULTS = {"SCHEDD_LEASE": "15", "SCHEDD_DUE_ACK_WAIT": "5"}
FEW = 5  # on such a link a packet may take 22 s (five times lost), and all that was sent after it waits too


async def test_half_a_second_of_latency_changes_no_leader(site: Site, dice: random.Random) -> None:
    """F10: 250 ms each way for all replicas, with a lease of three seconds: nobody else leads, nothing is lost."""
    await far_away(site, Distance(WAY_S, 0.0, dice), {}, lasts_s=10, transitions=0)


@pytest.mark.slow
async def test_latency_and_lost_packets_change_hardly_a_leader(site: Site, dice: random.Random) -> None:
    """F10: the same with every tenth packet lost and the lease as it is by default."""
    await far_away(site, Distance(WAY_S, 0.1, dice), DEFAULTS, lasts_s=12, transitions=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_minutes_of_latency_and_lost_packets_change_hardly_a_leader(site: Site, dice: random.Random) -> None:
    """F10: ten minutes of it: the lease changes hands at most once, and each occurrence comes once, however late: it is
    about all that such a link carries."""
    await far_away(site, Distance(WAY_S, 0.1, dice), DEFAULTS, lasts_s=600, transitions=1, late_max_s=480)


async def far_away(
    site: Site, distance: Distance, env: Mapping[str, str], *, lasts_s: float, transitions: int, late_max_s: float = 60
) -> None:
    """Two replicas over such a link, and schedules: how often the lease changes hands, and whether all goes well."""
    async with Proxy(site.url) as proxy:
        replicas = await site.replicas("a", "b", NATS_URL=proxy.url, SCHEDD_HORIZON="60s", **env)
        worker = site.worker("herd")
        await (await site.leader()).logged("leadership_gained")  # the office is taken after the lease
        before = terms(replicas)
        puts = await put_many(site, FEW)
        await asyncio.sleep(3)
        proxy.distance = distance
        await slow(proxy)
        await asyncio.sleep(lasts_s)
        changed = terms(replicas) - before
        print(f"{changed} changes in {lasts_s:g} s; {distance.again} packets again, one took {distance.worst_s:.1f} s")
        lost = [line.get("reason") for replica in replicas for line in replica.events("leadership_lost")]
        print(f"reasons: {lost}")
        assert changed <= transitions, f"the lease changes hands: {lost}"
        assert distance.again or not distance.lost, "no packet was lost"
        proxy.distance = None
        await site.verify(expected_of(puts), [worker], late_max_s=late_max_s, within_s=120)


def terms(replicas: list[Replica]) -> int:
    """How often one of them took office."""
    return sum(len(replica.events("leadership_gained")) for replica in replicas)


async def slow(proxy: Proxy) -> None:
    """Make sure that the link is what it is said to be."""
    async with connected(proxy.url, timeout_s=30) as far:
        began_s = time.monotonic()
        await far.api("INFO")
        assert time.monotonic() - began_s >= 2 * WAY_S, "the link is not slow"
