"""kill -9 of a replica between any two writes of a dispatch: one task and one record, whatever the step."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

import pytest

from tests.acceptance.evidence import on_grid
from tests.acceptance.harness import Site, utc_now

POINTS = ("dispatch.pulled", "launch.claimed", "launch.slotted", "launch.paired", "launch.queued")
GRID = timedelta(seconds=2)


@pytest.mark.parametrize("overlap", ["skip", "allow"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_each_step_comes_to_exactly_one_task(site: Site, point: str, overlap: str) -> None:
    """The replica that dispatches dies at the step; whoever comes next finishes the very same occurrence, once."""
    await site.replicas("doomed", SCHEDD_TEST_STOP=f"{point}:KILL:2")
    worker = site.worker("default")
    put = await site.put("hello", {"every": "2s", "queue": "default", "type": "hello", "overlap": overlap})
    doomed = site.processes[0]
    assert await doomed.ended() == -signal.SIGKILL
    await site.replicas("next")
    await site.leader(other_than=None, within_s=15)
    await asyncio.sleep(3)
    expected = on_grid("hello", GRID, put.at, utc_now(), may_until=utc_now() + timedelta(minutes=5))
    await site.verify(expected, [worker], late_max_s=12)
    assert (await site.status("hello"))["active"] == []
