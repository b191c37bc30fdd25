"""Three NATS nodes, R3: the node that leads a stream dies while schedules run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats.errors
import pytest

from tests.acceptance.harness import R3, Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.nats_servers import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


async def test_killing_the_nodes_that_lead_our_streams_loses_nothing(wide: Site, cluster: Cluster) -> None:
    """SIGKILL of the node that leads the timeline, its return, then of the one that leads the tasks."""
    await lose_leaders(wide, cluster, "SCHEDD_TIMELINE", "SCHEDD_TASKS")


@pytest.mark.slow
async def test_killing_the_nodes_that_lead_our_buckets_loses_nothing(wide: Site, cluster: Cluster) -> None:
    """The same for the buckets of records, definitions, rows and the lease."""
    buckets = ("executions", "schedules", "status", "control")
    await lose_leaders(wide, cluster, *(f"KV_schedd-{word}" for word in buckets))


async def lose_leaders(wide: Site, cluster: Cluster, *streams: str) -> None:
    await wide.replicas("a", "b")
    worker = wide.worker("herd")
    puts = await put_many(wide, 50)
    await asyncio.sleep(3)
    for stream in streams:
        name = await cluster.leader_of(stream)
        await cluster.kill(name)
        await asyncio.sleep(11)
        await cluster.start(name)
        await asyncio.sleep(2)
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


@pytest.mark.slow
async def test_a_lost_majority_is_waited_out(wide: Site, cluster: Cluster) -> None:
    """Two of three nodes die: nothing can be written, nobody gives up; they return: late, once, nothing lost."""
    replicas = await wide.replicas("a", "b")
    worker = wide.worker("herd")
    puts = await put_many(wide, 20)
    await asyncio.sleep(4)
    for name in ("n1", "n2"):
        await cluster.kill(name)
    await asyncio.sleep(10)
    await asyncio.gather(*(cluster.start(name) for name in ("n1", "n2")))
    await asyncio.sleep(8)
    await wide.verify(expected_of(puts), [worker], late_max_s=45, within_s=60)
    assert all(replica.exit_code is None for replica in replicas)


@pytest.mark.slow
async def test_a_rolling_restart_of_nats_is_hardly_noticed(wide: Site, cluster: Cluster) -> None:
    """Each node in turn is stopped gracefully and started again: nothing lost, nothing doubled."""
    replicas = await wide.replicas("a", "b")
    worker = wide.worker("herd")
    puts = await put_many(wide, 50)
    await asyncio.sleep(3)
    for name in ("n1", "n2", "n3"):
        await cluster.servers[name].stop()
        await asyncio.sleep(1)
        await cluster.start(name)
        await asyncio.sleep(8)
    await wide.verify(expected_of(puts), [worker], late_max_s=30, within_s=60)
    assert all(replica.exit_code is None for replica in replicas)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nodes_that_leave_as_lame_ducks_one_after_the_other_are_hardly_noticed(tmp_path: Path) -> None:
    """F7: SIGUSR2 to each node, the next only when the last has caught up with every stream: late by an election each
    at most, once, and the office does not change hands more than that."""
    config = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"'
    async with Cluster(3, config=config) as cluster, Site(tmp_path, cluster.urls, env=R3) as site:
        replicas = await site.replicas("a", "b")
        worker = site.worker("herd")
        puts = await put_many(site, 50)
        await asyncio.sleep(3)
        for name, node in cluster.servers.items():
            await node.lame_duck()
            assert "lame duck mode" in node.log.lower(), f"{name} just stopped"
            node.spawn()
            await eventually(lambda node=node: node.is_healthy(), within_s=60, what=f"{name} to be back")
            await eventually(lambda: caught_up(site), within_s=60, what="every stream to be led and followed")
        await asyncio.sleep(8)
        await site.verify(expected_of(puts), [worker], late_max_s=12, within_s=60)
        assert all(replica.exit_code is None for replica in replicas)
        assert sum(len(replica.events("leadership_gained")) for replica in replicas) <= 1 + len(cluster.servers)


@pytest.mark.slow
async def test_a_follower_that_dies_is_not_noticed(cluster: Cluster, tmp_path: Path) -> None:
    """F7: kill -9 of a node that leads nothing of ours and serves nobody, and its return: nothing is late for it, and
    nobody else leads."""
    serving = ",".join(cluster.servers[name].url for name in ("n1", "n2"))
    async with Site(tmp_path, serving, env=R3) as site:
        replicas = await site.replicas("a", "b")
        worker = site.worker("herd")
        puts = await put_many(site, 50)
        await asyncio.sleep(3)
        await eventually(lambda: leads_nothing(site, "n3"), within_s=60, what="n3 to lead nothing")
        before = await site.leader_record()
        await cluster.kill("n3")
        await asyncio.sleep(10)
        await cluster.start("n3")
        await asyncio.sleep(5)
        after = await site.leader_record()
        assert (before["holder"], before["since"]) == (after["holder"], after["since"])
        assert not [replica.name for replica in replicas if replica.events("nats_disconnected")]
        await site.verify(expected_of(puts), [worker], late_max_s=5, within_s=60)


async def caught_up(site: Site) -> bool:
    """Whether every stream is led, and all its copies are up to date. A node says much earlier that it is healthy."""
    try:
        places = [
            (await site.api(f"STREAM.INFO.{name}"))["cluster"] for name in (await site.api("STREAM.NAMES"))["streams"]
        ]
    except (nats.errors.Error, KeyError):
        return False
    copies = [each for place in places for each in place.get("replicas", [])]
    led = all(place.get("leader") for place in places)
    return led and len(copies) == 2 * len(places) and all(each["current"] for each in copies)


async def leads_nothing(site: Site, node: str) -> bool:
    """Whether it does; where not, it is told to hand over."""
    clear = True
    for stream in (await site.api("STREAM.NAMES"))["streams"]:
        if (await site.api(f"STREAM.INFO.{stream}"))["cluster"].get("leader") == node:
            clear = False
            await site.api(f"STREAM.LEADER.STEPDOWN.{stream}")
        for consumer in (await site.api(f"CONSUMER.LIST.{stream}"))["consumers"] or []:
            place = consumer.get("cluster", {})
            if place.get("leader") == node and place.get("replicas"):  # a watch has one copy, on some node, and no more
                clear = False
                await site.api(f"CONSUMER.LEADER.STEPDOWN.{stream}.{consumer['name']}")
    if not clear:
        await asyncio.sleep(1)
    return clear


@pytest.mark.slow
async def test_the_whole_cluster_and_the_leader_die_together(wide: Site, cluster: Cluster) -> None:
    """kill -9 of all three nodes and of the leading replica at once, and everything back: nothing lost or doubled."""
    await wide.replicas("a", "b")
    worker = wide.worker("herd")
    puts = await put_many(wide, 30)
    await asyncio.sleep(5)
    leader = await wide.leader()
    await asyncio.gather(leader.kill(), *(cluster.kill(name) for name in cluster.servers))
    await asyncio.sleep(2)
    await asyncio.gather(*(cluster.start(name) for name in cluster.servers))
    await asyncio.sleep(15)
    await wide.verify(expected_of(puts), [worker], late_max_s=45, within_s=60)


@pytest.mark.slow
async def test_a_paused_node_that_leads_is_survived(wide: Site, cluster: Cluster) -> None:
    """SIGSTOP of the node that leads the timeline, for longer than an election, then SIGCONT."""
    await wide.replicas("a", "b")
    worker = wide.worker("herd")
    puts = await put_many(wide, 30)
    await asyncio.sleep(4)
    name = await cluster.leader_of("SCHEDD_TIMELINE")
    cluster.servers[name].pause()
    await asyncio.sleep(20)
    assert await cluster.leader_of("SCHEDD_TIMELINE") != name, "nobody else was elected"
    cluster.servers[name].resume()
    await asyncio.sleep(8)
    await wide.verify(expected_of(puts), [worker], late_max_s=45, within_s=60)
