"""Policies, deadlines, cancelling and max_fires on a real server, with an SDK worker."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from tests.acceptance.harness import Site, eventually
from tests.acceptance.test_workers import PROGRAM, ended, once

WATCH_S = 9.0


async def test_one_run_and_another(site: Site) -> None:
    """Each policy, each deadline, a cancel and a limit, side by side on one site."""
    await site.replicas("a", "b", SCHEDD_ACK_WAIT="2s")
    site.sdk_worker(PROGRAM, name="sdk")
    await asyncio.gather(
        buffers(site), cancels(site), terminates(site), ends_at_its_deadline(site), starts_too_late(site),
        is_cancelled(site), fires_three_times(site),
    )  # fmt: skip


async def watched(site: Site, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The records of a schedule, oldest first, after it was left to itself for some time, and then paused."""
    definition = {"every": "1s", "queue": "sdk", "max_tries": 1, **fields}
    await site.put(name, definition)
    await asyncio.sleep(WATCH_S)
    await site.put(name, definition | {"paused": True})
    await asyncio.sleep(1.5)
    return await records_of(site, name)


async def records_of(site: Site, name: str) -> list[dict[str, Any]]:
    found = await site.request("execution.list", {"schedule": name, "limit": 100})
    return list(reversed(found["items"]))


def reasons(records: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(record["state"], record["reason"]) for record in records]


def began_and_ended(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found = [(record["started_at"], record["finished_at"] or "9999") for record in records if record["started_at"]]
    return sorted(found)


async def buffers(site: Site) -> None:
    """buffer_one: one after the other, each at once after the one before; the surplus is skipped."""
    records = await watched(site, "buffers", overlap="buffer_one", type="long", payload={"s": 2.2})
    spans = began_and_ended(records)
    assert len(spans) >= 3
    assert all(start >= end for (_, end), (start, _) in pairwise(spans))
    assert ("skipped", "buffer_full") in reasons(records)
    waited = [record for record in records if "waiting" in [line["state"] for line in record["history"]]]
    assert len([record for record in waited if record["state"] == "succeeded"]) >= 2


async def cancels(site: Site) -> None:
    """cancel_other: each run is ended by the next one, which begins after that end; only the newest is left."""
    records = await watched(site, "cancels", overlap="cancel_other", type="hangs")
    spans = began_and_ended(records)
    assert len(spans) >= 4
    assert all(start >= end for (_, end), (start, _) in pairwise(spans))
    found = reasons(records)
    assert found.count(("cancelled", "overlap")) >= 4
    assert [record["state"] for record in records if record["finished_at"] is None] == ["running"]
    status = await site.status("cancels")
    assert (len(status["active"]), status["waiting"]) == (1, [])


async def terminates(site: Site) -> None:
    """terminate_other: the same, and nobody waits."""
    records = await watched(site, "terminates", overlap="terminate_other", type="hangs")
    found = reasons(records)
    assert found.count(("cancelled", "overlap")) >= 4
    assert {state for state, _ in found} <= {"cancelled", "running"}
    assert found[-1] == ("running", None)
    assert not any(line["state"] == "waiting" for record in records for line in record["history"])


async def ends_at_its_deadline(site: Site) -> None:
    """deadline: its attempt ends then, and no other begins, though tries are left."""
    record = await ended(site, await once(site, "hangs", deadline="2s", max_tries=3))
    assert (record["state"], record["reason"], record["attempt"]) == ("timed_out", "deadline", 1)
    assert 1.0 < record["duration_s"] < 2.5


async def starts_too_late(site: Site) -> None:
    """start_deadline: nobody works on its queue, so it expires there, and its task is gone."""
    execution = await once(site, "ok", queue="idle", start_deadline="1500ms")

    async def expired() -> dict[str, Any] | None:
        record = await site.value("schedd-executions", execution)
        return record if record and record["finished_at"] else None

    record = await eventually(expired)
    assert (record["state"], record["reason"]) == ("expired", "start_deadline")

    async def is_gone() -> bool | None:
        return await site.stored_count("SCHEDD_TASKS", "schedd.task.idle.>") == 0 or None

    await eventually(is_gone)


async def is_cancelled(site: Site) -> None:
    """execution.cancel: the worker ends what runs; the record says why."""
    execution = await once(site, "long", payload={"s": 60})

    async def runs() -> bool | None:
        record = await site.value("schedd-executions", execution)
        return bool(record and record["state"] == "running") or None

    await eventually(runs)
    await site.request("execution.cancel", {"id": execution, "grace": "1s"})
    record = await ended(site, execution, within_s=8)
    assert (record["state"], record["reason"]) == ("cancelled", "requested")


async def fires_three_times(site: Site) -> None:
    """max_fires: three run, what came due before it was disarmed is skipped, then it is exhausted."""
    await site.put("thrice", {"every": "1s", "queue": "sdk", "type": "ok", "max_fires": 3})
    await asyncio.sleep(WATCH_S)
    mine = await records_of(site, "thrice")
    states = [record["state"] for record in mine]
    assert states.count("succeeded") == 3
    assert {(record["state"], record["reason"]) for record in mine} <= {("succeeded", None), ("skipped", "max_fires")}
    assert len(states) <= 3 + 4
    status = await site.status("thrice")
    assert (status["state"], status["fires"]) == ("exhausted", 3)
