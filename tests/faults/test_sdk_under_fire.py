"""SDK workers while NATS, replicas and workers die: at most one first attempt, an end on record for each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from tests.acceptance.evidence import grid, id_of
from tests.acceptance.harness import Site, utc_now
from tests.faults.test_overlap import all_decided
from tests.nats_servers import Server

PROGRAM = """
import asyncio, json, os
from scheduler.worker import Worker

worker = Worker("sdk", concurrency=100)

@worker.task("tick", backoff={"initial": "200ms", "max": "1s", "jitter": 0})
async def tick(payload, ctx):
    with open(os.environ["EVIDENCE"], "ab", buffering=0) as file:
        file.write(json.dumps({"id": ctx.execution_id, "attempt": ctx.attempt}).encode() + b"\\n")
        os.fsync(file.fileno())
    await asyncio.sleep(0.3)

worker.run()
"""
SLOW = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("run_s", [12, pytest.param(90, marks=SLOW)])
async def test_each_attempt_runs_once_whatever_dies(
    site: Site, server: Server, dice: random.Random, run_s: int
) -> None:
    """Kills of everything in turn: no attempt of any execution starts twice, each ends as succeeded."""
    await site.replicas("a", "b", SCHEDD_HORIZON="8s", SCHEDD_ACK_WAIT="2s")
    workers = [site.sdk_worker(PROGRAM, name=f"sdk-{n}") for n in range(2)]
    tick = {"every": "1s", "queue": "sdk", "type": "tick", "overlap": "allow", "max_tries": 20}
    puts = {f"s-{n}": await site.put(f"s-{n}", tick) for n in range(10)}
    until, turn, killed = utc_now() + timedelta(seconds=run_s), 0, Counter[str]()
    while utc_now() < until:
        await asyncio.sleep(dice.uniform(1.5, 3))
        match turn % 3:
            case 0:
                killed["worker"] += workers[-1].exit_code is None
                await workers[-1].kill()
                workers.append(site.sdk_worker(PROGRAM, name=f"sdk-{turn}-next"))
            case 1:
                victim = dice.choice([each for each in site.processes if each.name[:2] in {"a", "b", "a.", "b."}])
                if victim.exit_code is None:
                    await victim.kill()
                    killed["replica"] += 1
                    site.replica(victim.name.split(".")[0], SCHEDD_HORIZON="8s", SCHEDD_ACK_WAIT="2s")
            case 2:
                await server.kill()
                killed["nats-server"] += 1
                await asyncio.sleep(dice.uniform(0, 1))
                await server.start()
        turn += 1
    ids = {id_of(id_, at) for id_, put in puts.items() for at in grid(timedelta(seconds=1), put.at, utc_now())}
    assert all(killed[kind] for kind in ("worker", "replica", "nats-server")), killed
    records = await all_decided(site, ids, within_s=60)
    starts = Counter((note["id"], note["attempt"]) for worker in workers for note in worker.notes())
    assert [start for start, count in starts.items() if count > 1] == []
    wrong = {id_: records[id_] for id_ in ids if records[id_]["state"] != "succeeded"}
    assert not wrong, f"{len(wrong)} of {len(ids)}: {list(wrong.values())[:3]}"
    ran = {id_ for id_, _ in starts}
    assert ids <= ran
    last = {id_: max(attempt for other, attempt in starts if other == id_) for id_ in ids}
    assert {id_: records[id_]["attempt"] for id_ in ids} == last


@pytest.mark.slow
async def test_one_try_is_at_most_once_whatever_dies(site: Site, server: Server, dice: random.Random) -> None:
    """max_tries 1: no execution is started twice, and none is left without an end."""
    await site.replicas("a", "b", SCHEDD_HORIZON="8s", SCHEDD_ACK_WAIT="2s")
    workers = [site.sdk_worker(PROGRAM, name=f"sdk-{n}") for n in range(2)]
    tick = {"every": "1s", "queue": "sdk", "type": "tick", "overlap": "allow", "max_tries": 1}
    puts = {f"s-{n}": await site.put(f"s-{n}", tick) for n in range(10)}
    for turn in range(5):
        await asyncio.sleep(dice.uniform(1, 2))
        assert workers[turn].exit_code is None, f"it ended by itself: {workers[turn].log[-2000:]}"
        await workers[turn].kill()
        workers.append(site.sdk_worker(PROGRAM, name=f"sdk-{turn}-next"))
        if turn == 2:
            await server.kill()
            await server.start()
    ids = {id_of(id_, at) for id_, put in puts.items() for at in grid(timedelta(seconds=1), put.at, utc_now())}
    records = await all_decided(site, ids, within_s=60)
    starts = Counter(note["id"] for worker in workers for note in worker.notes())
    assert [start for start, count in starts.items() if count > 1] == []
    states = Counter(records[id_]["state"] for id_ in ids)
    assert states.keys() <= {"succeeded", "lost"}, states
    assert states["succeeded"] > len(ids) / 2
