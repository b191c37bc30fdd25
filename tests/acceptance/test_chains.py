"""`after` on a real server: each run the delay after the end of the last, whoever works and whoever is killed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.acceptance.harness import Site, eventually

DELAY = timedelta(seconds=1)
PROGRAM = """
import asyncio
from scheduler.worker import Worker

worker = Worker("sdk")

@worker.task("t")
async def work(payload):
    await asyncio.sleep(0.4)

worker.run()
"""


async def runs_of(site: Site, schedule: str) -> list[dict[str, Any]]:
    """Its automatic executions, by nominal time."""
    records = (await site.records()).values()
    found = [each for each in records if each["schedule"] == schedule and each["kind"] == "auto"]
    return sorted(found, key=lambda each: str(each["nominal_at"]))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def check_chain(runs: list[dict[str, Any]]) -> None:
    """Each nominal time is the end before it plus the delay, to the millisecond; nothing runs beside another."""
    for before, after in pairwise(runs):
        assert instant(after["nominal_at"]) == instant(before["finished_at"]) + DELAY, (before, after)
        if after["queued_at"] is None:  # we look while it is being dispatched
            assert (after["state"], after["id"]) == ("claimed", runs[-1]["id"])
        else:
            assert instant(after["queued_at"]) >= instant(before["finished_at"]) + DELAY


async def test_a_chain_survives_its_leader(site: Site) -> None:
    """With SDK and plain workers, through a kill -9 of the leader: unbroken, one to come at a time, nothing doubled."""
    await site.replicas("a", "b", "c")
    site.sdk_worker(PROGRAM)
    plain = site.worker("plain", "0.3")
    puts = {queue: await site.put(queue, {"after": "1s", "queue": queue, "type": "t"}) for queue in ("sdk", "plain")}

    async def both(count: int) -> bool:
        return all([len(await runs_of(site, queue)) >= count for queue in puts])

    await eventually(lambda: both(4), within_s=20, what="four runs of each")
    leader = await site.leader()
    await leader.kill()
    killed = len(await runs_of(site, "sdk"))
    await site.leader(other_than=leader)
    await eventually(lambda: both(killed + 3), within_s=20, what="three more of each")
    for queue, put in puts.items():
        runs = await runs_of(site, queue)
        check_chain(runs)
        assert instant(runs[0]["nominal_at"]) == put.at.replace(microsecond=put.at.microsecond // 1000 * 1000)
        assert {each["state"] for each in runs[:-1]} == {"succeeded"}
        assert await site.stored_count("SCHEDD_TIMELINE", f"schedd.arm.{queue}.*") <= 1
    delivered = [each.id for each in plain.deliveries()]
    assert len(delivered) == len(set(delivered))


async def test_edits_pauses_and_deletions(site: Site) -> None:
    """The API shows what is to come: a delay moves it, a pause stops it, a manual run does neither; deleted it ends."""
    await site.replicas("a")
    site.worker("plain")
    definition = {"after": "1s", "queue": "plain", "type": "t"}
    reply = await site.request("schedule.put", {"id": "c", "schedule": definition})
    assert len(reply["next"]) == 1

    async def runs(count: int) -> list[dict[str, Any]] | None:
        found = [each for each in await runs_of(site, "c") if each["finished_at"]]
        return found if len(found) >= count else None

    await eventually(lambda: runs(3), what="three runs")
    await site.request("schedule.put", {"id": "c", "schedule": definition | {"after": "1h"}})

    async def waits() -> str | None:
        status = (await site.request("schedule.get", {"id": "c"}))["status"]
        return None if status["active"] else status["next_at"]

    next_at = await eventually(waits, what="the hour")
    before = (await runs_of(site, "c"))[-1]
    assert instant(next_at) == instant(before["finished_at"]) + timedelta(hours=1)
    [fire] = (await site.request("schedule.preview", {"id": "c"}))["fires"]
    assert (fire["nominal_at"], fire["notes"]) == (next_at, ["then 1h after the end of each run"])
    triggered = await site.request("schedule.trigger", {"id": "c"})

    async def manual_is_over() -> bool:
        return bool((await site.value("schedd-executions", triggered["execution_id"]) or {}).get("finished_at"))

    await eventually(manual_is_over, what="the manual run")
    assert await waits() == next_at
    await site.request("schedule.pause", {"id": "c"})
    assert await waits() is None

    async def nothing_armed() -> bool:
        return await site.stored_count("SCHEDD_TIMELINE", "schedd.arm.c.*") == 0  # a disarm stays for a second

    await eventually(nothing_armed, what="an empty timeline")
    await site.request("schedule.resume", {"id": "c"})
    assert await waits() == next_at
    await site.request("schedule.delete", {"id": "c"})
    count = len(await runs_of(site, "c"))
    reply = await site.request("schedule.put", {"id": "c", "schedule": definition | {"after": "1h"}})
    assert instant(reply["next"][0]) < instant(next_at)

    async def new_one() -> dict[str, Any] | None:
        found = await runs_of(site, "c")
        return found[-1] if len(found) > count and found[-1]["finished_at"] else None

    first = await eventually(new_one, what="the first run of the new chain")
    assert first["nominal_at"] == reply["next"][0]
    await asyncio.sleep(1.5)
    assert len(await runs_of(site, "c")) == count + 1
