"""Clocks that lie: of a replica (stepped, at another rate) and of the world (DST); the server's time is the judge."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scheduler.wire.instants import format_instant
from tests.acceptance.evidence import Expected, id_of
from tests.acceptance.harness import Put, Site, eventually, on_sites_of_their_own, utc_now
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import PlainWorker, Replica
from tests.faults.faked_clock import FakedClock, needs_faketime
from tests.faults.faked_zone import BACK, FORWARD, ChangingZones

HORIZON = {"SCHEDD_HORIZON": "10s"}
SKEW = "schedd_clock_skew_seconds"
SLOW_RATE, BATCHES_BEFORE = 0.2, 25
LEASE_S = 3
SEVERE_S = 30


@needs_faketime
async def test_clocks_that_lie_change_nothing(tmp_path: Path) -> None:
    """Wall clocks that step or drift, a boot-time clock at another rate, clocks of the world that change."""
    jobs = {"wall": wall_clock_of_a_leader, "slow": slow_boottime_of_a_leader, "fast": fast_boottime_of_a_leader}
    await on_sites_of_their_own(tmp_path, {**jobs, "world": clocks_of_the_world})


async def wall_clock_of_a_leader(site: Site) -> None:
    """Seconds off: it leads on. An hour off: not ready, not leading, and says why; right again: it may lead again."""
    clock = FakedClock(site.folder / "wrong.clock")
    [wrong] = await site.replicas("wrong", **HORIZON, **clock.env)
    assert await site.leader() is wrong
    [right] = await site.replicas("right", **HORIZON)
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    epoch = (await wrong.metrics())["schedd_leader_epoch"]
    for seconds in (5, -5):
        clock.step(seconds)
        await skewed(wrong, -seconds - 1, -seconds + 1)
    assert (await wrong.metrics())["schedd_leader_epoch"] == epoch, "a few seconds depose nobody"
    assert (await wrong.http("/readyz"))[0] == 200

    clock.step(3600)
    assert await site.leader(other_than=wrong) is right
    await says_why(wrong)
    hour_ahead = utc_now() + timedelta(minutes=59)
    assert max(str(line["at"]) for line in wrong.lines()) > format_instant(hour_ahead), "its own log tells a wrong time"
    clock.right()
    await is_ready(wrong)

    clock.step(-3600)
    await skewed(wrong, 3599, 3601)
    await right.kill()
    await wrong.logged("clock_skew")
    await asyncio.sleep(2)
    assert (await wrong.metrics())["schedd_leader"] == 0, "an hour behind, and alone: nobody leads"
    clock.right()
    await eventually(partial(leads, wrong), within_s=15, what="it to lead when its clock is right again")
    await is_ready(wrong)
    assert (await wrong.metrics())["schedd_leader_epoch"] > epoch
    await sound(site, puts, late_max_s=8)
    assert worker.exit_code is None


async def slow_boottime_of_a_leader(site: Site) -> None:
    """Stopped with a batch in hand for longer than its lease, and by its own clock it was not: the fence knows."""
    clock = FakedClock(site.folder / "slow.clock", rate=SLOW_RATE, monotonic=True)
    stop = f"timeline.staged:STOP:{BATCHES_BEFORE}"
    [slow] = await site.replicas("slow", SCHEDD_TEST_STOP=stop, **HORIZON, **clock.env)
    assert await site.leader() is slow
    [right] = await site.replicas("right", **HORIZON)
    site.worker("herd")
    puts = await put_many(site, 20)
    while not slow.is_stopped:
        await site.put("edited", {"manual": True, "queue": "herd", "type": "t"})  # each edit is a batch
        await asyncio.sleep(0.02)
    stopped_at = utc_now()
    await eventually(partial(leads, right), within_s=15, what="a successor in office")
    await asyncio.sleep(LEASE_S - (utc_now() - stopped_at).total_seconds())
    slow.signal(signal.SIGCONT)
    lost = await slow.logged("leadership_lost")
    assert "not renewed in time" not in str(lost["reason"]), "by its own clock its term was not over"

    async def refused() -> bool:
        return (await slow.metrics())["schedd_fenced_writes_total"] >= 1

    await eventually(refused, what="the staged batch to be refused")
    assert await follows(slow)
    assert await leads(right)
    await asyncio.sleep(2)
    await sound(site, puts, late_max_s=15)


async def fast_boottime_of_a_leader(site: Site) -> None:
    """All its clocks run a tenth too fast: what it takes for now stays the server's time, and it leads on."""
    clock = FakedClock(site.folder / "fast.clock", rate=1.1, monotonic=True)
    [fast] = await site.replicas("fast", **HORIZON, **clock.env)
    site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(15)
    await skewed(fast, -60, -1)
    until = (await fast.metrics())["schedd_planned_until_timestamp_seconds"] - utc_now().timestamp()
    assert 4 < until < 12, f"planned {until:.1f} s ahead of the server's time, the horizon is 10 s"
    await sound(site, puts, late_max_s=8)


async def clocks_of_the_world(site: Site) -> None:
    """Clocks go back by 8 s and forward by 8 s: repeated times fire by policy, those that do not exist too."""
    lead_s, jump_s = 11, 8
    zones = ChangingZones(site.folder / "zones")
    victim, _ = await site.replicas("a", "b", **HORIZON, **zones.env)
    worker = site.worker("world")
    at = utc_now().replace(microsecond=0) + timedelta(seconds=lead_s)
    zones.change(at, seconds=jump_s)
    half = timedelta(seconds=jump_s / 2)
    late, skipped = {"overlap": "both", "gap": "next"}, {"overlap": "first", "gap": "skip"}
    owed = {
        "back-first": (BACK, at - half, {"overlap": "first"}, [at - half]),
        "back-second": (BACK, at - half, {"overlap": "second"}, [at + half]),
        "back-both": (BACK, at - half, late, [at - half, at + half]),
        "forward-next": (FORWARD, at + half, {"gap": "next"}, [at]),
        "forward-skip": (FORWARD, at + half, skipped, []),
        "forward-after": (FORWARD, at + half + timedelta(seconds=jump_s), skipped, [at + half]),
    }
    for id_, (zone, wall, dst, _) in owed.items():
        cron = f"{wall.second} {wall.minute} {wall.hour} * * *"
        await site.put(id_, {"cron": cron, "timezone": zone, "dst": dst, "queue": "world", "type": "t"})
    assert utc_now() < at - half - timedelta(seconds=1), "the schedules were there before the clocks changed"
    await asyncio.sleep((at - utc_now()).total_seconds())
    await victim.kill()
    await asyncio.sleep(jump_s)
    must = {id_of(id_, instant): instant for id_, (_, _, _, instants) in owed.items() for instant in instants}
    await site.verify(Expected(must), [worker], late_max_s=3)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("rate", [1.1, 0.9])
@needs_faketime
async def test_a_wall_clock_that_runs_off_is_noticed_in_time(site: Site, rate: float) -> None:
    """A tenth too fast or too slow: after five minutes it is 30 s off, hands over, and nothing is early or lost."""
    clock = FakedClock(site.folder / "wrong.clock")
    [wrong] = await site.replicas("wrong", **HORIZON, **clock.env)
    await site.replicas("right", **HORIZON)
    site.worker("herd")
    puts = await put_many(site, 50)
    began = utc_now()
    clock.run(rate)
    right = await site.leader(other_than=wrong, within_s=400)
    took_s = (utc_now() - began).total_seconds()
    print(f"handed over after {took_s:.0f} s at {rate:g} seconds a second")
    assert took_s > (SEVERE_S - 5) / abs(rate - 1) - 30
    await eventually(partial(leads, right), what="the successor to be in office")
    await says_why(wrong)
    clock.right()
    await is_ready(wrong)
    await sound(site, puts, late_max_s=8)


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_faketime
async def test_a_minute_with_every_clock_off_differently(site: Site) -> None:
    """Three replicas, an hour ahead, four seconds behind and right, with the leader killed every few seconds."""
    clocks = {name: FakedClock(site.folder / f"{name}.clock") for name in ("ahead", "behind", "right")}
    clocks["ahead"].step(3600)
    clocks["behind"].step(-4)
    replicas = {name: site.replica(name, **HORIZON, **clock.env) for name, clock in clocks.items()}
    site.worker("herd")
    leader = await site.leader(within_s=40)
    await skewed(replicas["ahead"], -3601, -3599)
    await skewed(replicas["behind"], 3, 5)
    puts = await put_many(site, 50)
    for _ in range(8):
        await asyncio.sleep(4)
        assert leader.name.split(".")[0] != "ahead", "one that is an hour ahead never leads"
        await leader.kill()
        name = leader.name.split(".")[0]
        started = site.replica(name, **HORIZON, **clocks[name].env)
        await started.ready()
        leader = await site.leader(other_than=leader, within_s=15)
    await sound(site, puts, late_max_s=10)


async def skewed(replica: Replica, least: float, most: float) -> float:
    """Wait until the server is so far ahead of the replica's wall clock, as the replica itself measures it."""

    async def look() -> float | None:
        measured = (await replica.metrics())[SKEW]
        return measured if least <= measured <= most else None

    return await eventually(look, within_s=15, what=f"a skew between {least:g} and {most:g} s")


async def leads(replica: Replica) -> bool:
    return (await replica.metrics())["schedd_leader"] == 1


async def follows(replica: Replica) -> bool:
    return not await leads(replica)


async def says_why(replica: Replica) -> None:
    """Not leading, not ready, by metric, health and log."""
    assert not await leads(replica)
    status, body = await replica.http("/readyz")
    assert status == 503
    assert "the wall clock is" in body
    lost = await replica.logged("leadership_lost")
    assert "the wall clock is more than 30 s off" in str(lost["reason"])


async def is_ready(replica: Replica) -> None:
    async def look() -> bool:
        return (await replica.http("/readyz"))[0] == 200

    await eventually(look, what=f"{replica.name} to be ready again")


async def sound(site: Site, puts: dict[str, Put], *, late_max_s: float) -> None:
    """Nothing lost, doubled, early; and the audit of the first schedule explains everything."""
    workers = [process for process in site.processes if isinstance(process, PlainWorker)]
    await site.verify(expected_of(puts), workers, late_max_s=late_max_s, within_s=30)
    id_, put = next(iter(puts.items()))
    asked = {"id": id_, "since": format_instant(put.at), "until": format_instant(utc_now())}

    async def all_fired() -> bool:
        """What is on its way through a replica that is slow has its verdict a little later."""
        told: dict[str, Any] = await site.request("schedule.audit", asked)
        assert told["unexplained"] == 0, told
        return told["verdicts"].keys() == {"fired"}

    await eventually(all_fired, within_s=30, what=f"an audit of {id_} that knows of nothing but fires")
