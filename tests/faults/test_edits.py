"""An edit that KV has acknowledged holds, whoever dies right after (design, guarantee 5; mechanisms.md, part 2)."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime, timedelta

import pytest

from tests.acceptance.evidence import Delivery
from tests.acceptance.harness import Site, utc_now
from tests.acceptance.processes import PlainWorker

TICK = {"every": "1s", "queue": "old", "type": "tick", "overlap": "allow"}


def of(schedule: str, workers: list[PlainWorker], since: datetime) -> list[Delivery]:
    found = [each for worker in workers for each in worker.deliveries()]
    return [each for each in found if each.headers["Schedd-Schedule-Id"] == schedule and each.nominal_at > since]


def seconds_of(deliveries: list[Delivery]) -> list[int]:
    return sorted(int(each.nominal_at.timestamp()) for each in deliveries)


async def test_changes_just_before_the_leader_dies_are_applied(site: Site) -> None:
    """An edit, a delete and a pause that KV has acknowledged hold for everything due more than a second later."""
    await site.replicas("a", "b")
    workers = old, new = [site.worker("old"), site.worker("new")]
    for id_ in ("edited", "deleted", "paused", "other"):
        await site.put(id_, TICK)
    leader = await site.leader()
    await asyncio.sleep(4)
    await site.put("edited", {**TICK, "every": "2s", "queue": "new", "type": "tock"})
    await site.delete("deleted")
    last = await site.put("paused", {**TICK, "paused": True})
    await leader.kill()
    await site.leader(other_than=leader, within_s=15)
    await asyncio.sleep(7)
    settled = last.at + timedelta(seconds=1)

    assert not of("edited", [old], settled)
    edited = of("edited", [new], settled)
    assert {each.headers["Schedd-Type"] for each in edited} == {"tock"}
    got = seconds_of(edited)
    assert len(got) >= 3
    assert got == list(range(got[0], got[-1] + 1, 2)), "no gap, no double, on the new grid"

    assert not of("deleted", workers, settled)
    assert await site.stored_count("SCHEDD_TIMELINE", "schedd.arm.deleted.*") == 0
    assert await site.events("deleted", "deleted")

    assert not of("paused", workers, settled)
    assert (await site.status("paused"))["state"] == "paused"
    resumed = await site.put("paused", TICK)
    await asyncio.sleep(3)
    got = seconds_of(of("paused", workers, settled))
    assert got
    assert got[0] > resumed.at.timestamp(), "a resume is not retroactive"
    assert got == list(range(got[0], got[-1] + 1))

    got = seconds_of(of("other", workers, last.at))
    assert got == list(range(got[0], got[-1] + 1)), "others go on"


async def test_a_leader_stopped_across_an_edit_plans_no_stale_definition(site: Site) -> None:
    """SIGSTOP shorter than the lease, an edit meanwhile: after SIGCONT nothing of the old definition fires."""
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
