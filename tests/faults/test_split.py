"""Links between machines that fail as wires do: one way only, together with a minority of NATS, or every second.

Each server and replica has a network namespace of its own (issue 6: F9); what is lost is sent again by TCP, and arrives
long after its author stopped leading.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import nats.errors
import pytest
from msgspec import Struct

from scheduler.core.errors import ScheddError
from scheduler.jetstream.buckets import NatsBucket
from scheduler.ports.stores import Entry
from scheduler.services.mirror import Mirror
from scheduler.system.clock import SystemClock
from tests.acceptance.harness import R3, Found, Put, Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import PlainWorker, Replica
from tests.faults.namespaces import Network, missing_here
from tests.nats_servers import Cluster, Server, connected

pytestmark = pytest.mark.timeout(240)
TICK = {"every": "1s", "queue": "old", "type": "tick", "overlap": "allow", "catch_up": {"after": "10m"}}


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := missing_here():
        pytest.skip(reason)
    with Network("n1", "n2", "n3", "far", "near") as found:
        yield found


class Edited(Struct):
    """A schedule that is moved to another queue while somebody may still believe in the old one."""

    site: Site
    old: PlainWorker
    new: PlainWorker
    put: Put
    moved: Put | None = None

    async def move(self) -> None:
        self.moved = await self.site.put("edited", {**TICK, "queue": "new"})

    async def verify(self, puts: dict[str, Put], worker: PlainWorker, *, late_max_s: float) -> None:
        """Everything fired once, this schedule too: until a second after the edit as it was or as it is now, then as it
        is now only."""
        expected = expected_of({**puts, "edited": self.put})
        await self.site.verify(expected, [worker, self.old, self.new], late_max_s=late_max_s, within_s=60)
        self._check()

    def _check(self) -> None:
        assert self.moved is not None
        since = self.moved.at + timedelta(seconds=1)
        assert not [each.id for each in self.old.deliveries() if each.nominal_at > since], "a stale definition fired"
        assert [each for each in self.new.deliveries() if each.nominal_at > since]
        assert self.old.deliveries(), "it never fired before the edit"


async def edited(site: Site) -> Edited:
    put = await site.put("edited", TICK)
    return Edited(site, site.worker("old"), site.worker("new"), put)


async def test_links_that_fail_one_way_replace_the_leader_and_do_no_harm(network: Network, tmp_path: Path) -> None:
    """F9: what the leader sends is lost, then what it would hear: it steps down before another leads, each time; what
    it had sent arrives late and is refused, nothing is lost or doubled, and nothing fires as it was before an edit."""
    server = Server(tmp_path / "nats", host=network.address("n1"), inside=network.inside("n1"))
    await server.start()
    try:
        async with Site(tmp_path, server.url, env={"SCHEDD_HORIZON": "10s"}) as site:
            await asyncio.gather(*(placed(site, network, place).ready() for place in ("far", "near")))
            worker, moving = site.worker("herd"), await edited(site)
            puts = await put_many(site, 20)
            await asyncio.sleep(3)
            for is_deaf in (False, True):
                leader = await site.leader()
                ends = (leader.name, "n1")
                network.drop(*(reversed(ends) if is_deaf else ends))
                successor = await replaced(site, leader)
                if is_deaf:
                    await moving.move()
                await asyncio.sleep(3)
                assert network.lost(leader.name if is_deaf else "n1") > 0, "nothing was lost"
                network.heal()
                await asyncio.sleep(3)
                assert (await successor.metrics())["schedd_leader"] == 1
            await one_epoch(site)
            await moving.verify(puts, worker, late_max_s=12)
    finally:
        await server.kill()


@pytest.fixture
async def machines(network: Network) -> AsyncIterator[Cluster]:
    """Three NATS nodes, each on a machine of its own."""
    names = ("n1", "n2", "n3")
    async with Cluster(3, places={name: (network.address(name), network.inside(name)) for name in names}) as found:
        yield found


@pytest.fixture
async def apart(network: Network, machines: Cluster, tmp_path: Path) -> AsyncIterator[Site]:
    """One replica beside n1 and one beside n2; the test sees n2 and n3. The replica beside n1 leads, and n1 leads what
    it writes to."""
    majority = ",".join(machines.servers[name].url for name in ("n2", "n3"))
    async with Site(tmp_path, majority, env=R3) as site:
        beside = placed(site, network, "n1", NATS_URL=machines.servers["n1"].url)
        await beside.ready()
        assert await site.leader() is beside
        await placed(site, network, "n2").ready()
        for stream in ("SCHEDD_TIMELINE", "KV_schedd-control", "SCHEDD_TASKS"):
            await led_by(site, stream, "n1")
        yield site


@pytest.mark.slow
async def test_a_leader_with_a_minority_of_nodes_is_replaced_and_does_no_harm(
    network: Network, machines: Cluster, apart: Site
) -> None:
    """F9: the leader and the node that leads its streams are cut off from the two others, routes too: the majority
    elects, another replica leads; late by election and lease at most, and once."""
    worker, moving = apart.worker("herd"), await edited(apart)
    puts = await put_many(apart, 30)
    await asyncio.sleep(4)
    leader = await apart.leader()
    network.part(["n1"], ["n2", "n3"])
    await asyncio.sleep(8)
    await eventually(lambda: is_led(apart, "KV_schedd-schedules"), within_s=30, what="the majority to elect")
    await moving.move()
    successor = await replaced(apart, leader)
    await asyncio.sleep(10)
    assert network.lost("n1") > 0
    network.heal()
    await well(machines)
    await asyncio.sleep(5)
    assert (await successor.metrics())["schedd_leader"] == 1
    await one_epoch(apart)
    await moving.verify(puts, worker, late_max_s=30)  # two elections and a lease, and how long TCP waits by then


@pytest.mark.slow
async def test_a_node_that_was_cut_off_takes_nobody_back(network: Network, machines: Cluster) -> None:
    """F9: for many seconds it answers by the side of the leader, with the past: whoever is connected to it hears the
    past or nothing while it is alone, then what is true, and never the past again."""
    old, new = b'"old"', b'"new"'
    async with (
        connected(machines.servers["n1"].url, timeout_s=1) as near,
        connected(machines.servers["n2"].url, timeout_s=5) as far,
    ):
        place = {"name": "KV_x", "subjects": ["$KV.x.>"], "num_replicas": 3, "max_msgs_per_subject": 1}
        await eventually(lambda: answered(far.api("STREAM.CREATE.KV_x", place)), within_s=30, what="the stream")
        mine, theirs = NatsBucket(near, "x"), NatsBucket(far, "x")
        before = await eventually(lambda: answered(theirs.put("key", old)), within_s=30, what="its leader")
        heard: list[Entry] = []
        mirror = Mirror(mine, SystemClock(), heard.append)
        await mirror.start()
        assert [each.value for each in heard] == [old]
        network.part(["n1"], ["n2", "n3"])
        await asyncio.sleep(12)
        after = await eventually(lambda: answered(theirs.put("key", new)), within_s=30, what="the majority to write")
        network.heal()
        told = await told_for(mirror, 20)
        await mirror.stop()
    assert told == sorted(told)
    assert set(told) <= {before, after}
    assert told[-1] == after
    assert [each.value for each in heard] == [old, new]


async def told_for(mirror: Mirror, seconds: float) -> list[int]:
    """What it says to be the newest revision, asked again and again, unless it says that it does not know."""
    told: list[int] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        with suppress(ScheddError):
            told.append(await mirror.fresh())
        await asyncio.sleep(0.003)
    return told


async def answered(asked: Awaitable[Found]) -> Found | None:
    """None where it is refused, or nobody answers."""
    try:
        return await asked
    except ScheddError:
        return None


@pytest.mark.slow
async def test_a_node_whose_routes_flap_every_second_does_no_harm(
    network: Network, machines: Cluster, apart: Site
) -> None:
    """F9: the node that leads everything, and the leader beside it, lose the others for each second second."""
    worker = apart.worker("herd")
    puts = await put_many(apart, 30)
    await asyncio.sleep(4)
    lost = 0
    for _ in range(20):
        network.part(["n1"], ["n2", "n3"])
        await asyncio.sleep(1)
        lost += network.lost("n1")
        network.heal()
        await asyncio.sleep(1)
    assert lost > 0
    await well(machines)
    await asyncio.sleep(5)
    await one_epoch(apart)
    await apart.verify(expected_of(puts), [worker], late_max_s=30, within_s=60)


def placed(site: Site, network: Network, place: str, **env: str) -> Replica:
    """A replica on that machine, named as it is."""
    monitor = f"{network.address(place)}:0"
    return site.replica(place, inside=network.inside(place), SCHEDD_MONITOR=monitor, **env)


async def replaced(site: Site, leader: Replica) -> Replica:
    """Who leads instead; the old leader had stepped down by then, as their logs say."""
    successor = await site.leader(other_than=leader, within_s=40)

    async def over() -> bool:
        return newest(leader, "leadership_lost") > newest(leader, "leadership_gained")

    async def begun() -> bool:
        return newest(successor, "leadership_gained") > newest(successor, "leadership_lost")

    await eventually(over, within_s=5, what="the cut-off leader to know")
    await eventually(begun, what="the successor to take office")
    assert newest(leader, "leadership_lost") < newest(successor, "leadership_gained"), "two led at once"
    return successor


def newest(replica: Replica, event: str) -> str:
    """When it last logged that; empty for never."""
    return max((line["at"] for line in replica.events(event)), default="")


async def one_epoch(site: Site) -> None:
    """Whatever was armed after an office was taken was armed by that office: nobody else's write was accepted."""
    epoch = (await site.api("STREAM.MSG.GET.SCHEDD_TIMELINE", {"last_by_subj": "schedd.epoch"}))["message"]["seq"]
    seq = epoch + 1
    seen = 0
    while True:
        try:
            query = {"seq": seq, "next_by_subj": "schedd.arm.>"}
            message = (await site.api("STREAM.MSG.GET.SCHEDD_TIMELINE", query))["message"]
        except KeyError:
            break
        if body := base64.b64decode(message.get("data", "")):
            assert json.loads(body)["epoch"] == epoch, f"{message['subject']} was armed by another office: {body!r}"
            seen += 1
        seq = message["seq"] + 1
    assert seen, "nothing was armed since the office was taken"


async def well(cluster: Cluster) -> None:
    """Wait until each node says that it has caught up."""

    async def look() -> bool:
        return all([await server.is_healthy() for server in cluster.servers.values()])

    await eventually(look, within_s=60, what="all nodes to be healthy")


async def is_led(site: Site, stream: str) -> bool:
    """Whether a leader answers for it."""
    try:
        return bool((await site.api(f"STREAM.INFO.{stream}"))["cluster"].get("leader"))
    except (nats.errors.Error, KeyError):
        return False


async def led_by(site: Site, stream: str, name: str) -> None:
    """Move the leadership of a stream to that node."""

    async def moved() -> bool:
        if (await site.api(f"STREAM.INFO.{stream}"))["cluster"].get("leader") == name:
            return True
        await site.api(f"STREAM.LEADER.STEPDOWN.{stream}", {"placement": {"preferred": name}})
        await asyncio.sleep(1)
        return False

    await eventually(moved, within_s=20, what=f"{name} to lead {stream}")
