"""Replicas die, stop and come back while schedules run: nothing lost, nothing doubled (design, guarantees 2 to 4)."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.harness import Site, eventually, on_sites_of_their_own
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica

SLOW = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize(("count", "run_s"), [(200, 18), pytest.param(200, 120, marks=SLOW)])
async def test_killing_leaders_loses_and_doubles_nothing(
    site: Site, dice: random.Random, count: int, run_s: int
) -> None:
    """kill -9 of whoever leads, again and again, with a horizon hardly longer than a take-over."""
    await site.replicas("a", "b", "c", SCHEDD_HORIZON="8s")
    worker = site.worker("herd")
    puts = await put_many(site, count)
    kills, until_s = 0, time.monotonic() + run_s
    leader = await site.leader()
    while time.monotonic() < until_s:
        await asyncio.sleep(dice.uniform(3, 6))
        await leader.kill()
        kills += 1
        began_s = time.monotonic()
        name = leader.name.split(".")[0]
        leader = await site.leader(other_than=leader, within_s=15)
        assert time.monotonic() - began_s < 3 + 2.2 * 0.4 + 3, "a take-over within the lease and its retries"
        site.replica(name, SCHEDD_HORIZON="8s")
    assert kills >= 2
    await site.verify(expected_of(puts), [worker], late_max_s=8, within_s=40)


async def test_kill_term_hands_over_in_under_a_second(site: Site) -> None:
    """SIGTERM releases the lease at once: less than a second from the signal to the successor's record."""
    replicas = await site.replicas("a", "b", "c")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    for _ in range(2):
        leader = await site.leader()
        before = await site.leader_record()
        began_s = time.monotonic()
        leader.signal(signal.SIGTERM)

        async def successor(old: str = before["holder"]) -> dict[str, object] | None:
            record = await site.leader_record()
            return record if record.get("holder") not in {"", None, old} else None

        await eventually(successor, what="a successor")
        took_s = time.monotonic() - began_s
        assert took_s < 1, f"handed over after {took_s:.3f} s"
        assert await leader.ended() == 0
    assert sum(replica.exit_code is None for replica in replicas) == 1
    await asyncio.sleep(3)
    await site.verify(expected_of(puts), [worker], late_max_s=4)


async def test_stop_of_all_and_start_of_one_goes_on(site: Site) -> None:
    """With no replica alive what was armed fires late but once, when one is back."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="4s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(3)
    await asyncio.gather(*(replica.kill() for replica in replicas))
    await asyncio.sleep(8)
    await site.replicas("c", SCHEDD_HORIZON="4s")
    await asyncio.sleep(3)
    await site.verify(expected_of(puts), [worker], late_max_s=20)


@pytest.mark.parametrize("stop_s", [7, pytest.param(40, marks=SLOW)])
async def test_a_leader_stopped_beyond_its_lease_does_no_harm(site: Site, stop_s: int) -> None:
    """SIGSTOP, a successor, SIGCONT: the old one steps down or is refused; nothing is lost or doubled."""
    await site.replicas("a", "b", "c", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 50)
    leader = await site.leader()
    await asyncio.sleep(2)
    leader.signal(signal.SIGSTOP)
    successor = await site.leader(other_than=leader, within_s=15)
    await asyncio.sleep(stop_s)
    leader.signal(signal.SIGCONT)

    async def stepped_down() -> bool:
        return (await leader.metrics())["schedd_leader"] == 0

    await eventually(stepped_down, what="the old leader to step down")
    assert (await successor.metrics())["schedd_leader"] == 1
    await asyncio.sleep(3)
    assert leader.exit_code is None
    await site.verify(expected_of(puts), [worker], late_max_s=stop_s + 10, within_s=40)


async def test_a_batch_staged_before_a_long_stop_is_refused_by_the_storage(site: Site) -> None:
    """Stopped between staging and commit, continued after a take-over: the fence refuses the batch, and counts it."""
    [stale] = await site.replicas("stale", SCHEDD_TEST_STOP="timeline.staged:STOP:8", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 10)
    await stale.stopped()
    await site.replicas("b", SCHEDD_HORIZON="10s")
    successor = await site.leader(other_than=stale, within_s=15)
    await asyncio.sleep(1)
    stale.signal(signal.SIGCONT)

    async def refused() -> bool:
        return (await stale.metrics())["schedd_fenced_writes_total"] >= 1

    await eventually(refused, what="a refused write")

    async def stepped_down() -> bool:
        return (await stale.metrics())["schedd_leader"] == 0

    await eventually(stepped_down, what="the stale leader to step down")
    assert (await successor.metrics())["schedd_leader"] == 1
    await asyncio.sleep(2)
    await site.verify(expected_of(puts), [worker], late_max_s=20)


async def test_a_leader_killed_while_planning_leaves_no_gap(tmp_path: Path) -> None:
    """kill -9 at each step of planning: the successor plans what is missing, and nothing twice."""
    points = ("planner.planned", "timeline.staged", "planner.committed")
    await on_sites_of_their_own(tmp_path, {point: partial(kill_at, point) for point in points})


async def kill_at(point: str, site: Site) -> None:
    doomed: Replica = (await site.replicas("a", SCHEDD_TEST_STOP=f"{point}:KILL:9", SCHEDD_HORIZON="6s"))[0]
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await site.replicas("b", SCHEDD_HORIZON="6s")
    assert await doomed.ended() == -signal.SIGKILL
    await site.leader(other_than=doomed, within_s=15)
    await asyncio.sleep(4)
    await site.verify(expected_of(puts), [worker], late_max_s=15)
