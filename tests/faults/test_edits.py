"""An edit that KV has acknowledged holds, whoever dies right after (design, guarantee 5; mechanisms.md, part 2)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from tests.acceptance.evidence import Delivery
from tests.acceptance.harness import Put, Site, utc_now
from tests.acceptance.processes import PlainWorker

TICK = {"every": "1s", "queue": "old", "type": "tick", "overlap": "allow"}
BEFORE_S = 4
AFTER_S = 8


async def edit_and_kill(site: Site, value: dict[str, object] | None) -> tuple[Put, list[PlainWorker]]:
    """Run `tick`, change it (None: delete it), kill -9 the leader at once, and wait until a successor has acted."""
    await site.replicas("a", "b")
    workers = [site.worker("old"), site.worker("new")]
    await site.put("tick", TICK)
    await site.put("other", {**TICK, "type": "other"})
    leader = await site.leader()
    await asyncio.sleep(BEFORE_S)
    put = await (site.put("tick", value) if value is not None else site.delete("tick"))
    await leader.kill()
    await site.leader(other_than=leader, within_s=15)
    await asyncio.sleep(AFTER_S)
    return put, workers


def of(schedule: str, workers: list[PlainWorker], since: datetime) -> list[Delivery]:
    found = [each for worker in workers for each in worker.deliveries()]
    return [each for each in found if each.headers["Schedd-Schedule-Id"] == schedule and each.nominal_at > since]


def seconds_of(deliveries: list[Delivery]) -> list[int]:
    return sorted(int(each.nominal_at.timestamp()) for each in deliveries)


async def test_an_edit_just_before_the_leader_dies_is_applied(site: Site) -> None:
    """The new queue, type and grid hold for everything due more than a second after the edit."""
    put, [old, new] = await edit_and_kill(site, {**TICK, "every": "2s", "queue": "new", "type": "tock"})
    settled = put.at + timedelta(seconds=1)
    assert not of("tick", [old], settled)
    after = of("tick", [new], settled)
    assert {each.headers["Schedd-Type"] for each in after} == {"tock"}
    got = seconds_of(after)
    assert len(got) >= AFTER_S // 2
    assert got == list(range(got[0], got[-1] + 1, 2)), "no gap, no double, on the new grid"
    assert seconds_of(of("other", [old], put.at)), "others go on"


async def test_a_delete_just_before_the_leader_dies_is_applied(site: Site) -> None:
    """Nothing of it that was due more than a second later reaches a worker, and nothing stays armed."""
    put, workers = await edit_and_kill(site, None)
    assert not of("tick", workers, put.at + timedelta(seconds=1))
    assert await site.stored_count("SCHEDD_TIMELINE", "schedd.arm.tick.*") == 0
    assert seconds_of(of("other", workers, put.at))
    assert await site.events("deleted", "tick")


async def test_a_pause_just_before_the_leader_dies_is_applied(site: Site) -> None:
    """The same for a pause; taking it back makes the schedule go on, and fires nothing of the time between."""
    put, workers = await edit_and_kill(site, {**TICK, "paused": True})
    assert not of("tick", workers, put.at + timedelta(seconds=1))
    assert (await site.status("tick"))["state"] == "paused"
    resumed = await site.put("tick", TICK)
    await asyncio.sleep(4)
    got = seconds_of(of("tick", workers, put.at + timedelta(seconds=1)))
    assert got
    assert got[0] > resumed.at.timestamp(), "a resume is not retroactive"
    assert got == list(range(got[0], got[-1] + 1))


async def test_a_leader_stopped_across_an_edit_plans_no_stale_definition(site: Site) -> None:
    """SIGSTOP shorter than the lease, an edit meanwhile: after SIGCONT nothing of the old definition fires."""
    import signal

    [leader] = await site.replicas("a", SCHEDD_HORIZON="4s", SCHEDD_LEASE="12s")
    workers = [site.worker("old"), site.worker("new")]
    await site.put("tick", TICK)
    await asyncio.sleep(3)
    leader.signal(signal.SIGSTOP)
    put = await site.put("tick", {**TICK, "queue": "new"})
    await asyncio.sleep(5)
    leader.signal(signal.SIGCONT)
    await asyncio.sleep(5)
    assert not of("tick", [workers[0]], put.at), "decided anew at the instant: the old queue gets nothing"
    got = seconds_of(of("tick", [workers[1]], put.at))
    assert got == list(range(got[0], got[-1] + 1))
    assert len(got) >= 8


@pytest.mark.parametrize("turns", [25])
async def test_a_storm_of_edits_neither_doubles_nor_starves(site: Site, turns: int) -> None:
    """One schedule is rewritten many times a second: its grid is kept, and another's too."""
    await site.replicas("a", "b")
    worker = site.worker("old")
    await site.put("other", {**TICK, "type": "other"})
    first = await site.put("tick", TICK)
    for turn in range(turns):
        await site.put("tick", {**TICK, "payload": turn})
        await asyncio.sleep(0.15)
    last = utc_now()
    await asyncio.sleep(4)
    for schedule in ("tick", "other"):
        got = seconds_of(of(schedule, [worker], first.at))
        assert got == list(range(got[0], got[-1] + 1)), schedule
        assert got[-1] > last.timestamp()
