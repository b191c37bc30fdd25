"""kill -9 of a replica between any two writes of a dispatch: one task and one record, whatever the step."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

import pytest

from tests.acceptance.evidence import Expected, id_of
from tests.acceptance.harness import Site, utc_now
from tests.acceptance.processes import Replica

POINTS = ("dispatch.pulled", "launch.claimed", "launch.slotted", "launch.paired", "launch.queued")
IDS = tuple(f"{overlap}-{number}" for overlap in ("skip", "allow") for number in (1, 2, 3))


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_each_step_comes_to_exactly_one_task(site: Site, point: str) -> None:
    """Whoever comes next finishes the very same occurrences, once; and what is due soon after is not skipped."""
    doomed: Replica = (await site.replicas("doomed", SCHEDD_TEST_STOP=f"{point}:KILL"))[0]
    worker = site.worker("default")
    first = (utc_now() + timedelta(seconds=2)).replace(microsecond=0)
    instants = [first, first + timedelta(seconds=3)]
    for id_ in IDS:
        definition = {"at": [at.isoformat() for at in instants], "queue": "default", "type": "once"}
        await site.put(id_, {**definition, "overlap": id_.split("-")[0]})
    assert await doomed.ended() == -signal.SIGKILL
    await site.replicas("next")
    await asyncio.sleep(3)
    expected = Expected({id_of(id_, at): at for id_ in IDS for at in instants})
    await site.verify(expected, [worker], late_max_s=12)
    for id_ in IDS:
        assert (await site.status(id_))["active"] == []
