"""Workers as users write them, and what their tests ask, run and look up."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import ENDED, eventually
from tests.acceptance.processes import Process

NUMBERS = itertools.count()
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


async def start(
    api: Caller, type_: str, *, queue: str = "SDK", given: dict[str, Any] | None = None, **fields: Any
) -> str:
    """Trigger a schedule of that type; the execution id."""
    name = f"{type_}-{next(NUMBERS)}"
    await api.ask("schedule.put", {"id": name, "schedule": {"manual": True, "queue": queue, "type": type_, **fields}})
    found = await api.ask("schedule.trigger", {"id": name, **(given or {})})
    assert found["state"] in {"queued", "running", "succeeded"}, found
    return str(found["execution_id"])


async def ended(api: Caller, execution: str, *, within_s: float = 20) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        record: dict[str, Any] = await api.ask("execution.get", {"id": execution})
        return record if record["state"] in ENDED else None

    return await eventually(look, within_s=within_s, what=f"the end of {execution}")


async def run(api: Caller, type_: str, **more: Any) -> dict[str, Any]:
    return await ended(api, await start(api, type_, **more))
