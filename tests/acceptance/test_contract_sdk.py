"""The SDK from outside (contract, part 9, with 4 and 5): workers as users write them, in processes of their own."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.contract_site import Caller, Place, command, stand_together
from tests.acceptance.harness import ENDED, Site, eventually
from tests.acceptance.processes import Process

TASKS = """
import asyncio, json, os, time
from scheduler.worker import Worker

worker = Worker("SDK", stop_grace="1s")
FAST = {"initial": "100ms", "factor": 1, "jitter": 0}

def note(ctx, what="ran", **more):
    line = {"id": ctx.execution_id, "attempt": ctx.attempt, "what": what, "at": time.time(), **more}
    with open(os.environ["EVIDENCE"], "a") as file:
        file.write(json.dumps(line) + "\\n")

@worker.task("context")
async def context(payload, ctx):
    names = ("execution_id schedule_id queue type kind nominal_at fire_at previous_at next_at deadline attempt "
             "max_tries headers cancelled").split()
    found = {name: getattr(ctx, name) for name in names}
    note(ctx, payload=payload, **{name: value.isoformat() if hasattr(value, "isoformat") else value
                                  for name, value in found.items()})
    ctx.log.info("three %s", "mails", to="you")
    ctx.progress(0.5, "half way")
    await ctx.heartbeat()

@worker.task("echo")
async def echo(payload):
    return payload

@worker.task("thread")
def thread(payload, ctx):
    ctx.log.warning("from a thread")
    ctx.progress(1.0)
    return {"sync": payload}

@worker.task("bytes")
def raw(payload: bytes):
    return payload.hex()

@worker.task("no-json")
async def no_json(payload):
    return object()

@worker.task("raises")
async def raises(payload, ctx):
    note(ctx)
    raise LookupError(f"no customer {payload}")

@worker.task("tries-2", max_tries=2, backoff=FAST)
async def tries(payload, ctx):
    note(ctx, max_tries=ctx.max_tries)
    raise RuntimeError("again")

@worker.task("hangs-1s", timeout="1s", backoff=FAST)
async def hangs(payload, ctx):
    note(ctx)
    await asyncio.sleep(60)

@worker.task("asked")
def asked(payload, ctx):
    note(ctx, "began")
    while not ctx.cancelled:
        time.sleep(0.01)
    return "tidied up"

@worker.task("takes")
async def takes(seconds, ctx):
    note(ctx, "began")
    await asyncio.sleep(seconds)
    note(ctx, "ended")
    return seconds
"""
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


class Served(Process):
    """`schedctl worker run tasks:worker` in a folder that holds `tasks.py`."""

    def __init__(self, name: str, folder: Path, url: str) -> None:
        (folder / "tasks.py").write_text(TASKS)
        self.evidence_place = folder / f"{name}.evidence"
        self.evidence_place.touch()
        arguments = ["-m", "cli.schedctl", "--nats", url, "worker", "run", "tasks:worker"]
        super().__init__(
            name, folder, arguments, {"EVIDENCE": str(self.evidence_place), "NATS_URL": "nats://127.0.0.1:1"}
        )

    def notes(self, execution: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.evidence_place.read_bytes().split(b"\n")[:-1]]
        return [line for line in lines if line["id"] == execution]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from stand_together(tmp_path_factory.mktemp("sdk"), "a", SCHEDD_ACK_WAIT="2s")


@pytest.fixture(scope="module")
def served(place: Place) -> Iterator[Served]:
    """One worker for all tests of the module, started before its queue exists."""
    worker = Served("served", place.folder, place.url)
    yield worker
    worker.signal(signal.SIGKILL)
    worker._process.wait(10)


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    async with Site(place.folder, place.url) as found:
        yield found


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.client)


async def start(
    api: Caller, type_: str, *, queue: str = "SDK", given: dict[str, Any] | None = None, **fields: Any
) -> str:
    """Trigger a schedule of that type; the execution id."""
    name = f"{type_}-{next(NUMBERS)}"
    await api.ask("schedule.put", {"id": name, "schedule": {"manual": True, "queue": queue, "type": type_, **fields}})
    found = await api.ask("schedule.trigger", {"id": name, **(given or {})})
    assert found["state"] in {"queued", "running", "succeeded"}, found
    return str(found["execution_id"])


NUMBERS = itertools.count()


async def ended(api: Caller, execution: str, *, within_s: float = 20) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        record: dict[str, Any] = await api.ask("execution.get", {"id": execution})
        return record if record["state"] in ENDED else None

    return await eventually(look, within_s=within_s, what=f"the end of {execution}")


async def run(api: Caller, type_: str, **more: Any) -> dict[str, Any]:
    return await ended(api, await start(api, type_, **more))


async def stored(site: Site, stream: str, subject: str) -> list[dict[str, Any]]:
    """The bodies on a subject, oldest first."""
    found, seq = [], 1
    while True:
        try:
            reply = await site.api(f"STREAM.MSG.GET.{stream}", {"seq": seq, "next_by_subj": subject})
        except KeyError:
            return found
        found.append(json.loads(base64.b64decode(reply["message"]["data"])))
        seq = reply["message"]["seq"] + 1


# --- what a function gets


async def test_the_context(api: Caller, site: Site, served: Served) -> None:
    """Each field of `ctx`, as the schedule, the record and the headers of the task have it."""
    more = {"payload": {"n": 1}, "headers": {"X-User": "u"}, "max_tries": 7}
    schedule = {"every": "2s", "queue": "SDK", "type": "context", **more}
    await api.ask("schedule.put", {"id": "ctx", "schedule": schedule})

    async def first() -> dict[str, Any] | None:
        items = (await api.ask("execution.list", {"schedule": "ctx"}))["items"]
        done = [item for item in items if item["state"] == "succeeded"]
        return done[-1] if done else None

    record = await eventually(first, within_s=15, what="the first run")
    await api.ask("schedule.delete", {"id": "ctx"})
    [noted] = served.notes(record["id"])
    nominal = datetime.fromisoformat(record["nominal_at"])
    assert nominal.timestamp() % 2 == 0
    assert {name: noted[name] for name in noted.keys() - {"at", "what", "id"}} == {
        "payload": {"n": 1}, "execution_id": record["id"], "schedule_id": "ctx", "queue": "SDK", "type": "context",
        "kind": "auto", "nominal_at": nominal.isoformat(), "fire_at": nominal.isoformat(),
        "previous_at": (nominal - timedelta(seconds=2)).isoformat(),
        "next_at": (nominal + timedelta(seconds=2)).isoformat(), "deadline": None, "attempt": 1, "max_tries": 7,
        "headers": {"X-User": "u"}, "cancelled": False,
    }  # fmt: skip


async def test_what_a_worker_tells(api: Caller, site: Site, served: Served) -> None:
    """started, progress and finished as the contract spells them; log lines with their values; the same worker."""
    execution = await start(api, "context", payload=None)
    record = await ended(api, execution)
    [started] = await stored(site, "SCHEDD_REPORTS", f"schedd.report.SDK.{execution}.1.started")
    assert started.keys() == {"worker", "at"}
    assert started["worker"] == record["worker"]
    [progress] = await stored(site, "SCHEDD_REPORTS", f"schedd.report.SDK.{execution}.1.progress")
    assert progress.keys() == {"fraction", "note", "at"}
    assert (progress["fraction"], progress["note"]) == (0.5, "half way")
    [finished] = await stored(site, "SCHEDD_REPORTS", f"schedd.report.SDK.{execution}.1.finished")
    assert (finished["outcome"], finished["result"]) == ("succeeded", None)
    [line] = await stored(site, "SCHEDD_LOGS", f"schedd.log.{execution}")
    assert line.keys() == {"at", "level", "message", "values", "attempt", "worker"}
    assert (line["level"], line["message"], line["values"], line["attempt"]) == (
        "info",
        "three mails",
        {"to": "you"},
        1,
    )
    assert line["worker"] == record["worker"]
    assert all(re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", each["at"]) for each in (started, progress, finished, line))
    threaded = await start(api, "thread")
    await ended(api, threaded)
    assert [each["level"] for each in await stored(site, "SCHEDD_LOGS", f"schedd.log.{threaded}")] == ["warning"]


@pytest.mark.parametrize(
    ("type_", "fields", "result"),
    [
        ("echo", {"payload": {"a": [1, 2.5, None, "ü"]}}, {"a": [1, 2.5, None, "ü"]}),
        ("echo", {"payload": None}, None),
        ("echo", {}, None),
        ("thread", {"payload": "text"}, {"sync": "text"}),
        ("bytes", {"payload_base64": "AAH/"}, "0001ff"),
        ("bytes", {"payload": {"a": 1}}, b'{"a": 1}'.hex()),
        ("bytes", {}, ""),
        ("no-json", {}, None),
    ],
)
async def test_payload_and_result(api: Caller, served: Served, type_: str, fields: dict[str, Any], result: Any) -> None:
    """JSON in, JSON out, in async and in sync functions; bytes where they are asked for; on record as succeeded."""
    record = await run(api, type_, **fields)
    assert (record["state"], record["result"], record["error"]) == ("succeeded", result, None)
    assert record["attempt"] == 1
    assert record["queued_at"] <= record["started_at"] <= record["finished_at"]
    assert 0 <= record["duration_s"] < 5
    assert [line["state"] for line in record["history"]] == ["claimed", "queued", "running", "succeeded"]


async def test_a_payload_that_the_function_cannot_get(api: Caller, served: Served) -> None:
    """Bytes that are no JSON, for a function that wants JSON: failed at once, no try would change that."""
    record = await run(api, "echo", payload_base64="AAH/")
    assert (record["state"], record["attempt"]) == ("failed", 1)
    assert "JSON" in record["error"]["message"]


# --- failing


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
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.NOBODY.>") == 0


# --- the life of a worker


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
            sys.executable, str(program), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        out, _ = await process.communicate()
        assert out.decode().startswith("InvalidArgument")
        assert word in out.decode()
