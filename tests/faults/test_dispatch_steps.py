"""kill -9 and SIGSTOP of a replica between any two writes of a dispatch: one task and one record, whatever the step."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

from tests.acceptance.evidence import Expected, id_of
from tests.acceptance.harness import Site, eventually, on_sites_of_their_own, utc_now

POINTS = ("dispatch.pulled", "launch.claimed", "launch.slotted", "launch.paired", "launch.queued")
IDS = tuple(f"{overlap}-{number}" for overlap in ("skip", "allow") for number in (1, 2, 3))


async def test_a_kill_at_each_step_comes_to_exactly_one_task(tmp_path: Path) -> None:
    """Whoever comes next finishes the very same occurrences, once; and what is due soon after is not skipped."""
    await on_sites_of_their_own(tmp_path, {point: partial(kill_at, point) for point in POINTS})


async def test_a_stall_at_each_step_changes_nothing(tmp_path: Path) -> None:
    """SIGSTOP there, SIGCONT long after others have finished: what the sleeper then does comes to nothing."""
    await on_sites_of_their_own(tmp_path, {point: partial(stall_at, point) for point in POINTS})


async def put_pairs_of_shots(site: Site) -> Expected:
    """Several schedules of both policies, all due at the same two instants."""
    first = (utc_now() + timedelta(seconds=3)).replace(microsecond=0)
    instants = [first, first + timedelta(seconds=6)]
    for id_ in IDS:
        definition = {"at": [at.isoformat() for at in instants], "queue": "default", "type": "once"}
        await site.put(id_, {**definition, "overlap": id_.split("-")[0]})
    assert utc_now() < first
    return Expected({id_of(id_, at): at for id_ in IDS for at in instants})


async def kill_at(point: str, site: Site) -> None:
    [doomed] = await site.replicas("doomed", SCHEDD_TEST_STOP=f"{point}:KILL")
    worker = site.worker("default")
    expected = await put_pairs_of_shots(site)
    assert await doomed.ended() == -signal.SIGKILL
    await site.replicas("next")
    await asyncio.sleep(3)
    await site.verify(expected, [worker], late_max_s=12)
    await no_slot_is_held(site)


async def stall_at(point: str, site: Site) -> None:
    [sleeper] = await site.replicas("sleeper", SCHEDD_TEST_STOP=f"{point}:STOP")
    worker = site.worker("default")
    expected = await put_pairs_of_shots(site)
    await sleeper.stopped()
    await site.replicas("next")
    await site.settle(expected, [worker])
    before = await site.records()
    sleeper.signal(signal.SIGCONT)
    await asyncio.sleep(2)
    await site.verify(expected, [worker], late_max_s=15)
    after = await site.records()
    changed = {id_ for id_ in before if before[id_] != after[id_]}
    assert not changed, [(before[id_], after[id_]) for id_ in changed]
    await no_slot_is_held(site)


async def no_slot_is_held(site: Site) -> None:
    """At once, or after the reconciler has looked."""

    async def look() -> bool:
        rows = await asyncio.gather(*(site.status(id_) for id_ in IDS))
        return all(row["active"] == [] for row in rows)

    await eventually(look, within_s=15, what="every slot to be free")
