"""Three NATS nodes, R3: the node that leads a stream dies while schedules run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import FAILED
from tests.acceptance.harness import Site
from tests.acceptance.herd import expected_of, put_many
from tests.nats_servers import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
R3 = {"SCHEDD_STREAM_REPLICAS": "3", "SCHEDD_LEASE": "8", "SCHEDD_HORIZON": "30s"}


@pytest.fixture
async def wide(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with Site(tmp_path, cluster.urls, env=R3) as found:
        yield found
        if request.node.stash.get(FAILED, False):
            found.show_logs()


@pytest.mark.parametrize("stream", ["SCHEDD_TIMELINE", "SCHEDD_TASKS", "KV_schedd-executions"])
async def test_killing_the_node_that_leads_a_stream_loses_nothing(wide: Site, cluster: Cluster, stream: str) -> None:
    """SIGKILL of that node, and its return: nothing lost, nothing doubled."""
    await wide.replicas("a", "b")
    worker = wide.worker("herd")
    puts = await put_many(wide, 50)
    await asyncio.sleep(4)
    name = await cluster.leader_of(stream)
    await cluster.kill(name)
    await asyncio.sleep(14)
    await cluster.start(name)
    await asyncio.sleep(4)
    await wide.verify(expected_of(puts), [worker], late_max_s=30, within_s=60)


async def test_replicas_that_boot_against_an_election_all_come_up(tmp_path: Path) -> None:
    """Three replicas at once, against three servers that have just been spawned."""
    cluster = Cluster(3)
    cluster.spawn()
    try:
        site = Site(tmp_path, cluster.urls, env=R3)
        replicas = [site.replica(name) for name in ("a", "b", "c")]
        try:
            await asyncio.gather(*(replica.ready(within_s=60) for replica in replicas))
            async with site:
                worker = site.worker("herd")
                puts = await put_many(site, 5)
                await site.leader(within_s=30)
                await asyncio.sleep(4)
                await site.verify(expected_of(puts), [worker], late_max_s=20)
        finally:
            await asyncio.gather(*(replica.kill() for replica in replicas))
    finally:
        await cluster.__aexit__()
