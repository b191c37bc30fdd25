"""Pairs and planning batches on three servers, while their leader is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.errors import Fenced, ScheddError, Unavailable
from scheduler.core.model.occurrence import Occurrence
from scheduler.jetstream.provisioning import provision
from scheduler.jetstream.queues import NatsTaskQueues
from scheduler.jetstream.requests import Requests
from scheduler.jetstream.timeline import NatsTimeline
from scheduler.ports.queues import Claim, Pair, Queued
from scheduler.ports.timeline import Office, Watermark
from scheduler.system.clock import SystemClock
from scheduler.wire.instants import cut
from scheduler.wire.names import Names
from tests.nats_servers import Cluster, connected

pytestmark = pytest.mark.cluster
NAMES = Names()


@pytest.fixture
async def replicas(cluster: Cluster) -> AsyncIterator[tuple[Requests, Requests]]:
    """Two replicas of schedd, each with a connection of its own."""
    async with connected(cluster.urls) as one, connected(cluster.urls) as other:
        await provision(one, NAMES, replicas=3)
        yield one, other


async def insist(queues: NatsTaskQueues, pairs: Sequence[Pair]) -> list[Queued]:
    """Publish until each pair is queued, as the dispatcher does by way of redelivery."""
    done: dict[str, Queued] = {}
    async with asyncio.timeout(60):
        while left := [pair for pair in pairs if pair.execution_id not in done]:
            for pair, result in zip(left, await queues.publish(left), strict=True):
                if isinstance(result, Queued):
                    done[pair.execution_id] = result
                else:
                    assert isinstance(result, Unavailable), result
            await asyncio.sleep(0.05)
    return [done[pair.execution_id] for pair in pairs]


def pairs_of(count: int) -> list[Pair]:
    return [Pair(f"s{number}.20261121T080000000Z", 0, "Q", b"%d" % number, {}, 600) for number in range(count)]


async def test_two_replicas_and_a_killed_leader(cluster: Cluster, replicas: tuple[Requests, Requests]) -> None:
    """Two replicas that publish the same pairs through an election end with one task each, and agree on where."""
    one, other = (NatsTaskQueues(requests, NAMES, SystemClock()) for requests in replicas)
    await one.ensure("Q")
    pairs = pairs_of(3000)
    work = asyncio.gather(insist(one, pairs), insist(other, list(reversed(pairs))))
    await asyncio.sleep(0.05)
    await cluster.kill(await cluster.leader_of(NAMES.tasks))
    first, second = await work
    seqs = [result.task_seq for result in first]
    assert seqs == [result.task_seq for result in reversed(second)]
    assert len(set(seqs)) == 3000
    assert await one.claim_at([seq - 1 for seq in seqs]) == [Claim(pair.execution_id, 0) for pair in pairs]
    info = await replicas[0].api(f"STREAM.INFO.{NAMES.tasks}")
    assert info["state"]["messages"] == 6000


async def plan(timeline: NatsTimeline, office: Office, arms: Sequence[Occurrence], until: datetime) -> Office:
    """Commit one slice and, after silence, ask what is stored: as the planner does."""
    wanted = Watermark(until)
    async with asyncio.timeout(60):
        while True:
            try:
                return await timeline.commit(office, arms=arms, disarms=[], watermark=wanted)
            except (Unavailable, Fenced):
                await asyncio.sleep(0.1)
            try:
                epoch, watermark = await timeline.epoch(), await timeline.watermark()
            except ScheddError:
                continue
            assert epoch is not None
            assert watermark is not None
            assert watermark.watermark is not None
            assert epoch.seq == office.epoch
            office = Office(epoch.seq, watermark.seq, watermark.watermark)


async def test_planning_through_an_election(cluster: Cluster, replicas: tuple[Requests, Requests]) -> None:
    """Slices planned while the leader is killed are all armed; an office from before is refused afterwards too."""
    mine, others = (NatsTimeline(requests, requests.client, NAMES) for requests in replicas)
    now = cut(datetime.now(UTC))
    old = await others.take_office(
        holder="old", lease_rev=1, at=now, expect_epoch=0, watermark=Watermark(now), expect_watermark=0
    )
    office = await mine.take_office(
        holder="new",
        lease_rev=2,
        at=now,
        expect_epoch=old.epoch,
        watermark=old.watermark,
        expect_watermark=old.watermark_seq,
    )
    expected: dict[str, list[datetime]] = {}
    killing: asyncio.Task[None] | None = None
    for number in range(20):
        at = now + timedelta(hours=1, seconds=number)
        arms = [Occurrence(f"s{number}-{each}", at, at, 1) for each in range(200)]
        expected |= {arm.schedule_id: [at] for arm in arms}
        if number == 5:
            killing = asyncio.create_task(cluster.kill(await cluster.leader_of(NAMES.timeline)))
        office = await plan(mine, office, arms, at)
    assert killing is not None
    await killing
    with pytest.raises(Fenced):
        await others.commit(old, arms=[Occurrence("ghost", now, now, 1)], disarms=[], watermark=old.watermark)
    assert await mine.all_armed() == expected
    stored = await mine.watermark()
    assert stored is not None
    assert (stored.seq, stored.watermark) == (office.watermark_seq, office.watermark)
