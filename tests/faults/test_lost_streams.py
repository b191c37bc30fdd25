"""Somebody deletes streams and buckets under running replicas, and while all of them are stopped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import pytest

from scheduler.wire.instants import format_instant
from tests.acceptance.evidence import Expected
from tests.acceptance.harness import Put, Site, eventually
from tests.acceptance.herd import expected_of, put_many

ALL = (
    "SCHEDD_TIMELINE", "SCHEDD_TASKS", "SCHEDD_REPORTS", "SCHEDD_EVENTS", "SCHEDD_LOGS", "SCHEDD_ADVISORIES",
    "KV_schedd-schedules", "KV_schedd-calendars", "KV_schedd-executions", "KV_schedd-status", "KV_schedd-control",
    "KV_schedd-workers",
)  # fmt: skip
FIRST = ("SCHEDD_TIMELINE", "KV_schedd-schedules", "KV_schedd-control")
OTHERS = ("SCHEDD_REPORTS", "SCHEDD_LOGS", "SCHEDD_ADVISORIES", "KV_schedd-calendars", "KV_schedd-status")


async def lose(site: Site, *streams: str) -> None:
    for stream in streams:
        await site.api(f"STREAM.DELETE.{stream}")


async def goes_on(site: Site, worker: object, more: int = 6) -> None:
    """Tasks come as before."""
    before = len(worker.deliveries())  # type: ignore[attr-defined]

    async def enough() -> bool:
        return len(worker.deliveries()) > before + more  # type: ignore[attr-defined]

    await eventually(enough, within_s=40, what="tasks after the loss")


async def assert_explained(site: Site, puts: Mapping[str, Put]) -> None:
    """Each audit, from the put on, knows a verdict of everything that it expects, which is something."""
    for id_, put in puts.items():
        audit = await site.request("schedule.audit", {"id": id_, "since": format_instant(put.at)})
        assert audit["expected"] > 0, audit
        assert audit["unexplained"] == 0, (id_, audit)


@pytest.mark.parametrize("streams", [FIRST, pytest.param(OTHERS, marks=pytest.mark.slow)])
async def test_lost_one_after_the_other_nothing_is_missing(site: Site, streams: tuple[str, ...]) -> None:
    """The timeline, the definitions, who leads, the others: each comes back, no occurrence is lost or doubled, and a
    replica that starts afterwards knows the definitions."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="6s")
    worker = site.worker("herd")
    puts = await put_many(site, 3)
    await asyncio.sleep(2)
    for stream in streams:
        await lose(site, stream)
        await goes_on(site, worker)
    assert sorted(await site.keys("schedd-schedules")) == sorted(puts)
    assert all(replica.exit_code is None for replica in replicas)
    await site.replicas("c", SCHEDD_HORIZON="6s")
    for replica in replicas:
        await replica.kill()
    await goes_on(site, worker)
    await site.verify(expected_of(puts), [worker], late_max_s=40, within_s=30)
    await assert_explained(site, puts)


async def test_all_at_once(site: Site) -> None:
    """Everything deleted at the same moment: definitions come back from memory and it goes on; no replica ends."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="6s")
    puts = await put_many(site, 3)
    await asyncio.sleep(3)
    await lose(site, *ALL)

    async def back() -> bool:
        with suppress(KeyError):
            return sorted(await site.keys("schedd-schedules")) == sorted(puts)
        return False

    await eventually(back, within_s=30, what="the definitions")
    worker = site.worker("herd", name="afterwards")
    await goes_on(site, worker)
    assert all(replica.exit_code is None for replica in replicas)


async def test_lost_tasks_end_as_lost(site: Site) -> None:
    """Tasks that nobody had taken are gone with their stream, and their records say so; new ones come."""
    await site.replicas("a", "b", SCHEDD_HORIZON="6s", SCHEDD_RECONCILE_GRACE="2")
    puts = await put_many(site, 3)
    await asyncio.sleep(4)
    await lose(site, "SCHEDD_TASKS")
    worker = site.worker("herd")
    await goes_on(site, worker)

    async def told() -> bool:
        ends = Counter((each["state"], each.get("reason")) for each in (await site.records()).values())
        return ends[("lost", "stream_lost")] >= 6 and not ends[("succeeded", "inferred")]

    await eventually(told, within_s=40, what="the lost ones to end")
    delivered = [each.id for each in worker.deliveries()]
    assert len(delivered) == len(set(delivered))
    await assert_explained(site, puts)


@pytest.mark.slow
async def test_the_timeline_lost_while_all_are_stopped(site: Site) -> None:
    """Rebuilt from schedules and the copy of the watermark: what was due meanwhile is late, nothing lost or doubled."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="6s", SCHEDD_WATERMARK_COPY="1s")
    worker = site.worker("herd")
    puts = await put_many(site, 5)
    await asyncio.sleep(5)
    for replica in replicas:
        await replica.kill()
    await lose(site, "SCHEDD_TIMELINE")
    await asyncio.sleep(6)
    await site.replicas("c", "d", SCHEDD_HORIZON="6s")
    await goes_on(site, worker, more=60)
    expected: Expected = expected_of(puts)
    await site.verify(expected, [worker], late_max_s=40, within_s=40)
    await assert_explained(site, puts)
