"""kill -9 and SIGSTOP of a replica between any two writes of a retry: one new drive, one task, one run of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from tests.acceptance.harness import Site, eventually, on_sites_of_their_own

POINTS = ("retry.opened", "launch.claimed", "launch.slotted", "launch.paired", "launch.queued")


async def test_a_kill_at_each_step_comes_to_exactly_one_run(tmp_path: Path) -> None:
    """Whoever comes next finishes the very same drive; the client that asks again gets that one."""
    await on_sites_of_their_own(tmp_path, {point: partial(kill_at, point) for point in POINTS})


@pytest.mark.slow
async def test_a_stall_at_each_step_changes_nothing(tmp_path: Path) -> None:
    """SIGSTOP there, SIGCONT after others have finished it: what the sleeper then does comes to nothing."""
    await on_sites_of_their_own(tmp_path, {point: partial(stall_at, point) for point in POINTS})


async def dead_letters(site: Site) -> list[str]:
    """Two executions that were queued and have ended: one of a schedule that takes slots, one of one that does not."""
    [first] = await site.replicas("first")
    ids = []
    for overlap in ("skip", "allow"):
        await site.put(overlap, {"manual": True, "queue": "default", "type": "once", "overlap": overlap})
        ids.append((await triggered(site, overlap))["execution_id"])
        cancelled = await site.request("execution.cancel", {"id": ids[-1]})
        assert cancelled["state"] == "cancelled"
    await first.kill()
    return ids


async def triggered(site: Site, schedule: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        answer = await site.request("schedule.trigger", {"id": schedule, "nonce": "n"})
        return answer if answer.get("state") == "queued" else None

    return await eventually(look, what=f"{schedule} to be known")


async def ask(site: Site, execution_id: str) -> dict[str, Any]:
    """Nobody waits longer than that for one who is dead."""
    with contextlib.suppress(NatsError, asyncio.TimeoutError):
        async with asyncio.timeout(4):
            return await site.request("execution.retry", {"id": execution_id, "expected_drive": 0})
    return {}


async def kill_at(point: str, site: Site) -> None:
    ids = await dead_letters(site)
    [doomed] = await site.replicas("doomed", SCHEDD_TEST_STOP=f"{point}:KILL")
    asking = [asyncio.ensure_future(ask(site, each)) for each in ids]
    assert await doomed.ended(within_s=40) == -signal.SIGKILL
    await asyncio.gather(*asking)
    await site.replicas("next")
    await finished(site, ids)


async def stall_at(point: str, site: Site) -> None:
    ids = await dead_letters(site)
    [sleeper] = await site.replicas("sleeper", SCHEDD_TEST_STOP=f"{point}:STOP")
    asking = [asyncio.ensure_future(ask(site, each)) for each in ids]
    await sleeper.stopped()
    await asyncio.gather(*asking)
    await site.replicas("next")
    await finished(site, ids)
    before = await site.records()
    sleeper.signal(signal.SIGCONT)
    await asyncio.sleep(2)
    assert await site.records() == before


async def finished(site: Site, ids: list[str]) -> None:
    """Asked again, and worked off: one task of the new drive for each, and no slot is held."""
    worker = site.worker("default")

    async def answered() -> bool:
        answers = [await ask(site, each) for each in ids]
        return all(answer.get("drive") == 1 for answer in answers)

    async def over() -> bool:
        values = [await site.value("schedd-executions", each) for each in ids]
        return all(value is not None and value["state"] == "succeeded" for value in values)

    async def free() -> bool:
        return not any([(await site.status(each)).get("active") for each in ("skip", "allow")])

    await eventually(answered, within_s=40, what="the retry to be answered")
    await eventually(over, within_s=40, what="the retried ones to succeed")
    await eventually(free, within_s=15, what="every slot to be free")
    for each in ids:
        record = await site.value("schedd-executions", each)
        assert record is not None
        assert (record["drive"], record["attempts_before"]) == (1, 1)
    assert sorted(each.id for each in worker.deliveries()) == sorted(ids)
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.>") == 0
    assert await site.stored_count("SCHEDD_TASKS", "schedd.claim.*.*.1") == len(ids)
