"""Overlap policies while replicas die: one run at a time means one, and every nominal time has one verdict."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.evidence import Expected, grid, id_of
from tests.acceptance.harness import TERMINAL, Put, Site, eventually, utc_now
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica

SECOND = timedelta(seconds=1)
SLOW = [pytest.mark.slow, pytest.mark.timeout(300)]


def owed(puts: Mapping[str, Put], until: datetime) -> set[str]:
    return {id_of(id_, at) for id_, put in puts.items() for at in grid(SECOND, put.at, until)}


async def all_decided(site: Site, ids: set[str], *, within_s: float = 40) -> dict[str, dict[str, Any]]:
    """Wait until each of these has a terminal record; the records."""

    async def look() -> dict[str, dict[str, Any]] | None:
        records = await site.records()
        left = [id_ for id_ in ids if records.get(id_, {}).get("state") not in TERMINAL]
        return None if left else records

    try:
        return await eventually(look, within_s=within_s, what="a verdict on everything")
    except AssertionError:
        records = await site.records()
        left = {id_: records.get(id_) for id_ in sorted(ids) if records.get(id_, {}).get("state") not in TERMINAL}
        raise AssertionError(f"{len(left)} without a verdict: {list(left.items())[:5]}") from None


def most_at_once(records: Mapping[str, dict[str, Any]], slack: timedelta) -> dict[str, int]:
    """Per schedule, how many runs were between queued and finished at the same time, at most."""
    edges: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    for record in records.values():
        if record["queued_at"] is not None:
            edges[record["schedule"]].append((datetime.fromisoformat(record["queued_at"]), 1))
            edges[record["schedule"]].append((datetime.fromisoformat(record["finished_at"]) - slack, -1))
    found = {}
    for schedule, steps in edges.items():
        level = top = 0
        for _, step in sorted(steps):
            level += step
            top = max(top, level)
        found[schedule] = top
    return found


@pytest.mark.parametrize("run_s", [12, pytest.param(90, marks=SLOW)])
async def test_runs_never_overlap_whoever_dies(site: Site, dice: random.Random, run_s: int) -> None:
    """Work of 1.4 s each second under skip: about every second one runs, alone; kills change nothing about that."""
    await site.replicas("a", "b", "c", SCHEDD_HORIZON="8s")
    worker = site.worker("slow", "1.4")
    tick = {"every": "1s", "queue": "slow", "type": "tick"}
    puts = {f"alone-{n}": await site.put(f"alone-{n}", tick) for n in range(10)}
    puts |= {f"pair-{n}": await site.put(f"pair-{n}", {**tick, "overlap": "allow", "max_running": 2}) for n in range(5)}
    until = utc_now() + timedelta(seconds=run_s)
    while utc_now() < until:
        await asyncio.sleep(dice.uniform(2, 4))
        running = [replica for replica in site.processes if replica.name[0] in "abc" and replica.exit_code is None]
        victim = dice.choice(running)
        await victim.kill()
        site.replica(victim.name.split(".")[0], SCHEDD_HORIZON="8s")
    ids = owed(puts, utc_now())
    records = await all_decided(site, ids)
    decided = {id_: records[id_] for id_ in ids}
    states = {(record["state"], record["reason"]) for record in decided.values()}
    assert states <= {
        ("succeeded", None),
        ("skipped", "overlap"),
        ("skipped", "max_running"),
        ("succeeded", "inferred"),
    }
    most = most_at_once(decided, timedelta(milliseconds=20))
    assert {most[id_] for id_ in puts if id_.startswith("alone")} == {1}
    assert max(most[id_] for id_ in puts if id_.startswith("pair")) <= 2
    ran = {each.id for each in worker.deliveries()}
    assert {id_ for id_, record in decided.items() if record["state"] == "succeeded"} == ran & ids
    assert len(ran) > run_s * 15 / 8, "about every second one runs"


@pytest.mark.slow
async def test_no_slot_is_lost_for_good(site: Site, dice: random.Random) -> None:
    """After kills and quiet, every schedule that skips overlaps fires again and again."""
    await site.replicas("a", "b")
    site.worker("quick")
    tick = {"every": "1s", "queue": "quick", "type": "tick"}
    puts = {f"s-{n}": await site.put(f"s-{n}", tick) for n in range(20)}
    for _ in range(3):
        await asyncio.sleep(dice.uniform(1, 2))
        victim = dice.choice([each for each in site.processes if each.name[0] in "ab" and each.exit_code is None])
        await victim.kill()
        await site.replicas(victim.name.split(".")[0])
    calm = utc_now() + timedelta(seconds=6)
    await asyncio.sleep(10)
    ids = {id_of(id_, at) for id_ in puts for at in grid(SECOND, calm, utc_now() - SECOND)}
    records = await all_decided(site, ids)
    skipped = sorted(id_ for id_ in ids if records[id_]["state"] != "succeeded")
    assert not skipped, f"{len(skipped)} of {len(ids)}: {records[skipped[0]]}"


@pytest.mark.slow
async def test_a_full_queue_skips_and_says_so(site: Site) -> None:
    """No worker: beyond max_pending occurrences are skipped, reason queue_full; it goes on when there is room."""
    await site.replicas("a", SCHEDD_MAX_PENDING="5")
    tick = {"every": "1s", "queue": "lazy", "type": "tick", "overlap": "allow"}
    puts = {f"s-{n}": await site.put(f"s-{n}", tick) for n in range(4)}
    await asyncio.sleep(14)
    full = [record for record in (await site.records()).values() if record["reason"] == "queue_full"]
    assert full
    assert {record["state"] for record in full} == {"skipped"}
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.>") <= 5 + 4 * 6, "of 56: known as of a few seconds ago"
    site.worker("lazy")
    since = utc_now() + 6 * SECOND
    await asyncio.sleep(9)
    records = await all_decided(site, owed(puts, utc_now() - SECOND))
    later = {record["state"] for record in records.values() if datetime.fromisoformat(record["nominal_at"]) > since}
    assert later == {"succeeded"}


async def test_what_is_queued_already_is_not_skipped_for_a_full_queue(site: Site) -> None:
    """Killed after the pairs and before the records, and the queue full by then: the tasks are there, so they count."""
    doomed: Replica = (await site.replicas("doomed", SCHEDD_TEST_STOP="launch.paired:KILL"))[0]
    at = (utc_now() + 2 * SECOND).replace(microsecond=0)
    ids = [f"once-{number}" for number in range(6)]
    for id_ in ids:
        await site.put(id_, {"at": at.isoformat(), "queue": "default", "type": "once"})
    assert await doomed.ended() == -signal.SIGKILL
    await site.replicas("next", SCHEDD_MAX_PENDING="1")
    await asyncio.sleep(3)
    worker = site.worker("default")
    await site.verify(Expected({id_of(id_, at): at for id_ in ids}), [worker], late_max_s=30)


@pytest.mark.slow
async def test_rolling_restarts_delay_nothing(site: Site) -> None:
    """Each replica in turn is told to stop and replaced: everything is on time, and nobody complains."""
    replicas = await site.replicas("a", "b", "c")
    worker = site.worker("herd")
    puts = await put_many(site, 50)
    await asyncio.sleep(1)
    for replica in replicas:
        replica.signal(signal.SIGTERM)
        assert await replica.ended(within_s=10) == 0
        await site.replicas(replica.name)
    await asyncio.sleep(2)
    await site.verify(expected_of(puts), [worker], late_max_s=1.5)
    assert site.complaints() == []
