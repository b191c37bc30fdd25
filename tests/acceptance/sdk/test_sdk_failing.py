"""Functions of an SDK worker that fail, take too long, are cancelled or unknown (contract, part 9), from outside."""

from __future__ import annotations

import asyncio
import re
import time

from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import Site, eventually
from tests.acceptance.sdk.serving import TASKS, Served, ended, run, start


async def test_retries_with_the_backoff_of_the_schedule(api: Caller, served: Served) -> None:
    """max_tries attempts, the pauses the schedule's own; type, message and traceback of the last one on record."""
    backoff = {"initial": "400ms", "factor": 3, "max": "1s", "jitter": 0}
    execution = await start(api, "raises", payload=7, max_tries=3, backoff=backoff)
    record = await ended(api, execution)
    assert (record["state"], record["attempt"], record["max_tries"]) == ("failed", 3, 3)
    assert (record["error"]["type"], record["error"]["message"]) == ("LookupError", "no customer 7")
    assert re.search(r'File ".*tasks\.py", line \d+, in raises', record["error"]["traceback"])
    times = [note["at"] for note in served.notes(execution)]
    assert len(times) == 3
    assert 0.38 < times[1] - times[0] < 0.9
    assert 0.98 < times[2] - times[1] < 1.6
    states = [line["state"] for line in record["history"]]
    assert states == ["claimed", "queued", "running", "retrying", "running", "retrying", "running", "failed"]


async def test_the_smaller_max_tries_wins(api: Caller, served: Served) -> None:
    """The decorator says 2: a schedule that allows 5 gets 2, one that allows 1 gets 1."""
    for allowed, expected in ((5, 2), (1, 1)):
        execution = await start(api, "tries-2", max_tries=allowed)
        record = await ended(api, execution)
        assert (record["state"], record["attempt"]) == ("failed", expected)
        assert [note["max_tries"] for note in served.notes(execution)] == [expected] * expected


async def test_the_shorter_timeout_wins(api: Caller, served: Served) -> None:
    """The decorator says 1 s: a schedule with 30 s gets 1, one with 300 ms gets that; each try of its own."""
    slow, quick, default = await asyncio.gather(
        run(api, "hangs-1s", timeout="30s", max_tries=1),
        run(api, "hangs-1s", timeout="300ms", max_tries=2),
        run(api, "takes", timeout="500ms", payload=60, max_tries=1),
    )
    assert [record["state"] for record in (slow, quick, default)] == ["timed_out"] * 3
    assert [record["attempt"] for record in (slow, quick, default)] == [1, 2, 1]
    assert 0.95 < slow["duration_s"] < 2
    assert 0.28 < quick["duration_s"] < 0.95
    assert 0.48 < default["duration_s"] < 0.95
    assert "timeout" in slow["error"]["message"]


async def test_a_run_that_is_cancelled(api: Caller, site: Site, served: Served) -> None:
    """The message of the contract reaches the worker that runs it: async and sync functions end as cancelled."""
    for type_, payload in (("takes", 60), ("asked", None)):
        execution = await start(api, type_, payload=payload)

        async def began(execution: str = execution) -> bool:
            return bool(served.notes(execution))

        await eventually(began, what="the run")
        await site.client.publish(f"schedd.cancel.SDK.{execution}", b'{"action": "cancel", "grace_s": 1}')
        record = await ended(api, execution)
        assert (record["state"], record["attempt"]) == ("cancelled", 1)


async def test_a_type_that_nobody_knows(api: Caller, site: Site, served: Served) -> None:
    """Handed back for 5 s each time, no attempt; at max_deliver failed, reason no_handler, and the queue is empty."""
    config = {
        "durable_name": "NOBODY", "ack_policy": "explicit", "ack_wait": 2_000_000_000, "max_deliver": 2,
        "filter_subject": "schedd.task.NOBODY.>", "deliver_policy": "all",
    }  # fmt: skip
    subject = "CONSUMER.CREATE.SCHEDD_TASKS.NOBODY.schedd.task.NOBODY.>"
    await site.api(subject, {"stream_name": "SCHEDD_TASKS", "config": config})
    site.sdk_worker(TASKS.replace('"SDK"', '"NOBODY"') + "\nworker.run()\n", name="stranger")
    began = time.monotonic()
    record = await ended(api, await start(api, "unheard-of", queue="NOBODY"), within_s=30)
    assert (record["state"], record["reason"], record["attempt"]) == ("failed", "no_handler", 0)
    assert time.monotonic() - began > 4.5, "one more delivery, 5 s later"

    async def empty() -> bool:
        return await site.stored_count("SCHEDD_TASKS", "schedd.task.NOBODY.>") == 0

    await eventually(empty, what="the queue to be empty: a task goes after its record")
