"""A backfill while leaders die: each nominal time of the range has exactly one execution, delivered once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.acceptance.evidence import Expected
from tests.acceptance.harness import Site, eventually, utc_now

MINUTE = timedelta(minutes=1)


def as_text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


async def backfill(site: Site, schedule: str, start: datetime, count: int, **fields: Any) -> dict[str, datetime]:
    """Ask for it; the ids that it has to make, computed here."""
    body = {"id": schedule, "from": as_text(start), "to": as_text(start + count * MINUTE), **fields}
    listed = await site.request("schedule.backfill", {**body, "dry_run": True})
    reply = await site.request("schedule.backfill", {**body, "dry_run": False, "backfill_id": "fill-1"})
    nominals = [start + number * MINUTE for number in range(count)]
    assert reply["nominals"] == listed["nominals"] == [as_text(at)[:-1] + ".000Z" for at in nominals]
    return {f"{schedule}.{at:%Y%m%dT%H%M%S}000Z-bfill-1": at for at in nominals}


async def is_over(site: Site) -> dict[str, Any] | None:
    item = await site.value("schedd-control", "backfill.fill-1")
    return item if item is not None and item["state"] != "running" else None


async def test_killing_leaders_in_the_middle_of_a_backfill(site: Site) -> None:
    """kill -9 of whoever leads, twice, while 120 runs are started 12 a second: 120 executions, 120 deliveries."""
    await site.replicas("a", "b", "c", SCHEDD_HORIZON="8s")
    worker = site.worker("herd")
    await site.put("a", {"every": "1m", "queue": "herd", "type": "t", "overlap": "allow", "paused": True})
    leader = await site.leader()
    start = utc_now().replace(second=0, microsecond=0) - timedelta(days=2)
    ids = await backfill(site, "a", start, 120, rate=12)
    for _ in range(2):
        await asyncio.sleep(1.7)
        assert await is_over(site) is None, "it was over before the leader died"
        await leader.kill()
        name = leader.name.split(".")[0]
        leader = await site.leader(other_than=leader, within_s=15)
        site.replica(name, SCHEDD_HORIZON="8s")
    item = await eventually(lambda: is_over(site), within_s=30, what="the end of the backfill")
    assert (item["state"], item["count"], item["left"]) == ("done", 120, [])
    deliveries, records = await site.settle(Expected(ids), [worker], within_s=30)
    assert set(records) == set(ids)
    assert Counter(record["state"] for record in records.values()) == {"succeeded": 120}
    assert {record["kind"] for record in records.values()} == {"backfill"}
    assert Counter(len({each.seq for each in deliveries if each.id == id_}) for id_ in ids) == {1: 120}
    assert (await site.status("a"))["fires"] == 0


async def test_a_backfill_of_a_schedule_that_may_not_overlap(site: Site) -> None:
    """By default nothing is skipped: work of 0.2 s each is done one after the other; a cancelled rest never starts."""
    await site.replicas("a", "b")
    worker = site.worker("herd", "0.2")
    await site.put("a", {"every": "1m", "queue": "herd", "type": "t", "paused": True})
    await site.leader()
    start = utc_now().replace(second=0, microsecond=0) - timedelta(days=2)
    ids = await backfill(site, "a", start, 500, rate=100)
    await asyncio.sleep(4)
    cancelled = await site.request("backfill.cancel", {"id": "fill-1"})
    assert cancelled["state"] == "cancelled"

    async def settled() -> dict[str, Any] | None:
        records = await site.records()
        open_ones = [each for each in records.values() if each["state"] not in {"succeeded", "cancelled"}]
        return None if open_ones else records

    records = await eventually(settled, within_s=15, what="an end of all")
    states = Counter(record["state"] for record in records.values())
    assert set(records) < set(ids)
    assert set(states) == {"succeeded", "cancelled"}
    assert states["cancelled"] <= 45
    runs = sorted((each["queued_at"], each["finished_at"]) for each in records.values() if each["queued_at"])
    assert all(former[1] <= later[0] for former, later in pairwise(runs))
    assert len(worker.deliveries()) == states["succeeded"] == len(runs)
    count = len(records)
    await asyncio.sleep(2)
    assert len(await site.records()) == count
