"""SIGSTOP of a replica between any two writes of a dispatch, SIGCONT long after others have finished its work."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

import pytest

from tests.acceptance.evidence import Expected, id_of
from tests.acceptance.harness import Site, eventually, utc_now
from tests.acceptance.processes import Replica
from tests.faults.test_dispatch_steps import IDS, POINTS


@pytest.mark.parametrize("point", POINTS)
async def test_a_stall_at_each_step_changes_nothing(site: Site, point: str) -> None:
    """What the sleeper does when it wakes comes to nothing: one task, one record, no slot held."""
    sleeper: Replica = (await site.replicas("sleeper", SCHEDD_TEST_STOP=f"{point}:STOP"))[0]
    worker = site.worker("default")
    first = (utc_now() + timedelta(seconds=2)).replace(microsecond=0)
    instants = [first, first + timedelta(seconds=3)]
    for id_ in IDS:
        definition = {"at": [at.isoformat() for at in instants], "queue": "default", "type": "once"}
        await site.put(id_, {**definition, "overlap": id_.split("-")[0]})
    await sleeper.stopped()
    await site.replicas("next")
    expected = Expected({id_of(id_, at): at for id_ in IDS for at in instants})
    await site.settle(expected, [worker])
    before = await site.records()
    sleeper.signal(signal.SIGCONT)
    await asyncio.sleep(2)
    await site.verify(expected, [worker], late_max_s=15)
    after = await site.records()
    changed = {id_ for id_ in before if before[id_] != after[id_]}
    assert not changed, [(before[id_], after[id_]) for id_ in changed]

    async def no_slot_is_held() -> bool:
        rows = await asyncio.gather(*(site.status(id_) for id_ in IDS))
        return all(row["active"] == [] for row in rows)

    await eventually(no_slot_is_held, within_s=15, what="every slot to be free")
