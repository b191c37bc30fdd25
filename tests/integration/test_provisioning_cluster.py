"""Provisioning on three nodes: replicas that boot with the cluster, and replicas that are added."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.jetstream.buckets import NatsBucket
from scheduler.jetstream.provisioning import provision, restore
from scheduler.jetstream.requests import Requests
from scheduler.jetstream.topology import topology
from tests.integration.provisioned import NAMES
from tests.nats_servers import Cluster, connected


@pytest.mark.cluster
async def test_replicas_that_boot_with_the_cluster() -> None:
    """Three daemons that provision at once while the servers are still electing all succeed, and agree."""
    cluster = Cluster(3)
    cluster.spawn()
    try:

        async def daemon() -> list[str]:
            async with connected(cluster.urls) as requests:
                return await provision(requests, NAMES, replicas=3)

        await asyncio.gather(daemon(), daemon(), daemon())
        async with connected(cluster.urls) as requests:
            assert await provision(requests, NAMES, replicas=3) == []
            for stream in topology(NAMES).streams:
                info = await requests.api(f"STREAM.INFO.{stream.name}")
                assert info["config"]["num_replicas"] == 3
                assert info["state"]["last_seq"] == 0
    finally:
        await cluster.__aexit__()


@pytest.mark.cluster
async def test_replicas_can_be_added(cluster: Cluster) -> None:
    """An installation with one replica gets three, data included; a restore leaves the number as it is."""
    async with connected(cluster.urls, timeout_s=5.0) as requests:
        await provision(requests, NAMES, replicas=1)
        await NatsBucket(requests, "schedd-schedules").put("a", b"1")
        changed = await provision(requests, NAMES, replicas=3)
        assert len(changed) == len(topology(NAMES).streams)
        assert await restore(requests, NAMES, replicas=1) == []
        async with asyncio.timeout(30):
            while not await _caught_up(requests, "KV_schedd-schedules"):
                await asyncio.sleep(0.1)
        await cluster.kill(await cluster.leader_of("KV_schedd-schedules"))
        assert await cluster.leader_of("KV_schedd-schedules")
        entry = await NatsBucket(requests, "schedd-schedules").get("a")
        assert entry is not None
        assert entry.value == b"1"


async def _caught_up(requests: Requests, stream: str) -> bool:
    followers = (await requests.api(f"STREAM.INFO.{stream}"))["cluster"].get("replicas", [])
    return len(followers) == 2 and all(follower["current"] for follower in followers)
