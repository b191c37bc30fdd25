"""The life of an SDK worker, from its start to SIGTERM (contract, part 9), from outside."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.acceptance.contract_site import Caller, Place, command
from tests.acceptance.harness import Site, eventually
from tests.acceptance.sdk.serving import TASKS, Served, ended, run, start

BUSY = """
from scheduler.worker import Worker
import asyncio, json, os, time
worker = Worker("BUSY", "BUSY2", concurrency=2)

@worker.task("t")
async def t(payload, ctx):
    for what in ("began", "ended"):
        with open(os.environ["EVIDENCE"], "a") as file:
            line = {"id": ctx.execution_id, "what": what, "at": time.time(), "queue": ctx.queue}
            file.write(json.dumps(line) + "\\n")
        await asyncio.sleep(0.4)

worker.run()
"""


async def test_its_row_tells_who_it_is(api: Caller, site: Site, served: Served) -> None:
    """The bucket of workers has a row under a random id, with queues, types and what runs."""
    execution = await start(api, "takes", payload=2.5)

    async def row() -> dict[str, Any] | None:
        rows = [await site.value("schedd-workers", key) for key in await site.keys("schedd-workers")]
        running = [each for each in rows if each and any(one["id"] == execution for one in each["running"])]
        return running[0] if running else None

    found = await eventually(row, what="the worker's row")
    assert found.keys() >= {
        "worker", "host", "pid", "version", "queues", "types", "actions", "concurrency", "running", "started_at", "at"
    }  # fmt: skip
    assert (found["pid"], found["queues"], found["concurrency"]) == (served.pid, ["SDK"], 10)
    assert {"echo", "takes"} <= set(found["types"])
    assert found["actions"] == []
    assert {"id": execution, "attempt": 1} in found["running"]
    assert (await ended(api, execution))["worker"] == found["worker"]


async def test_a_worker_before_its_queue(api: Caller, site: Site) -> None:
    """Started first, it waits, and takes the queue's first task soon after the queue is there."""
    early = site.sdk_worker(TASKS.replace('"SDK"', '"EARLY"') + "\nworker.run()\n", name="early")

    async def waits() -> bool:
        assert early.exit_code is None, early.log
        return "EARLY" in early.log and "trying each second" in early.log

    await eventually(waits, what="the worker's wait")
    began = time.monotonic()
    assert (await run(api, "echo", queue="EARLY", payload=1))["state"] == "succeeded"
    assert time.monotonic() - began < 4


async def test_concurrency_over_several_queues(api: Caller, site: Site) -> None:
    """Two places, two queues, eight tasks: two at a time, never more, and both queues are served."""
    busy = site.sdk_worker(BUSY, name="busy")
    executions = await asyncio.gather(*(start(api, "t", queue=queue) for queue in ("BUSY", "BUSY2") for _ in range(4)))
    await asyncio.gather(*(ended(api, execution) for execution in executions))
    running = most = 0
    for note in sorted(busy.notes(), key=lambda each: each["at"]):
        running += 1 if note["what"] == "began" else -1
        most = max(most, running)
    assert most == 2
    assert {note["queue"] for note in busy.notes()} == {"BUSY", "BUSY2"}
    assert len(busy.notes()) == 16


async def test_sigterm(api: Caller, site: Site) -> None:
    """It stops pulling, lets end what can, hands back the rest as a try of its own, and exits 0, its row gone."""
    program = TASKS.replace('"SDK"', '"STOP"') + "\nworker.run()\n"
    first = site.sdk_worker(program, name="stopped")
    short = await start(api, "takes", queue="STOP", payload=0.6)
    long = await start(api, "takes", queue="STOP", payload=4)

    async def both_run() -> bool:
        return len(first.notes()) == 2

    await eventually(both_run, what="both runs")
    rows = set(await site.keys("schedd-workers"))
    first.signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    later = await start(api, "echo", queue="STOP", payload=1)
    assert await first.ended(within_s=8) == 0
    assert [note["what"] for note in first.notes()] == ["began", "began", "ended"]
    done = await ended(api, short)
    assert (done["state"], done["attempt"], done["result"]) == ("succeeded", 1, 0.6)
    handed_back = await api.ask("execution.get", {"id": long})
    assert (handed_back["state"], handed_back["attempt"]) == ("retrying", 1)
    assert (await api.ask("execution.get", {"id": later}))["state"] == "queued"
    assert set(await site.keys("schedd-workers")) < rows
    second = site.sdk_worker(program, name="successor")
    record = await ended(api, long)
    assert (record["state"], record["attempt"]) == ("succeeded", 2)
    assert (await ended(api, later))["attempt"] == 1
    assert [note["what"] for note in second.notes()] == ["began", "ended"]


async def test_worker_run_refuses_what_it_cannot_serve(place: Place, tmp_path: Path) -> None:
    """No such module, a broken one, no Worker under that name: exit 2, one sentence, the line where it broke."""
    (tmp_path / "broken.py").write_text("import os\n\nos.nonsense\n")
    (tmp_path / "other.py").write_text("worker = 7\n")
    for target, word in (
        ("nowhere:worker", "nowhere"),
        ("broken:worker", "line 3"),
        ("other:worker", "int"),
        ("other:nobody", "nobody"),
        ("other", "MODULE:NAME"),
    ):
        result = await command("worker", "run", target, cwd=tmp_path, NATS_URL=place.url)
        assert (result.code, result.out) == (2, ""), result
        assert word in result.err


async def test_a_worker_that_is_refused(tmp_path: Path) -> None:
    """Wrong options of a decorator are told where the program starts, with the fix."""
    program = tmp_path / "wrong.py"
    for line, word in (
        ("Worker()", "queue"),
        ('Worker("a b")', "queue"),
        ('Worker("Q", concurrency=0)', "concurrency"),
        ('Worker("Q").task("t", max_tries=0)(print)', "max_tries"),
        ('Worker("Q").task("t", timeout="soon")(lambda p: p)', "timeout"),
        ('Worker("Q").task("t", timeout="1s")(lambda: 1)', "f(payload)"),
    ):
        program.write_text(f"from scheduler.worker import Worker\ntry:\n    {line}\nexcept Exception as problem:\n"
                           "    print(type(problem).__name__, problem)\n")  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3],
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip
        out, _ = await process.communicate()
        assert out.decode().startswith("InvalidArgument")
        assert word in out.decode()
