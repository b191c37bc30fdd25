"""What the tests of the API ask and look up, in the words of the contract."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import Any

from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import Site

MANUAL = {"manual": True, "queue": "none", "type": "t"}
NEVER = {"at": "2190-01-01T00:00:00Z", "queue": "none", "type": "t"}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
RECORD = {
    *("id", "schedule", "generation", "epoch", "kind", "nominal_at", "fire_at", "queue", "type", "payload", "headers"),
    *("state", "reason", "attempt", "max_tries", "drive", "attempts_before", "worker", "task_seq", "queued_at"),
    *("started_at", "finished_at", "duration_s", "lateness_s", "result", "error", "history"),
}


def at(text: str) -> datetime:
    assert INSTANT.fullmatch(text), text
    return datetime.fromisoformat(text)


async def put(api: Caller, schedule_id: str, schedule: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await api.ask("schedule.put", {"id": schedule_id, "schedule": schedule, **more})
    return found


async def task_of(site: Site, queue: str, execution: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a task that lies in its queue."""
    reply = await site.api("STREAM.MSG.GET.SCHEDD_TASKS", {"last_by_subj": f"schedd.task.{queue}.{execution}"})
    block = base64.b64decode(reply["message"].get("hdrs", "")).decode()
    headers = dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line)
    return headers, base64.b64decode(reply["message"].get("data", ""))


async def last_revision(site: Site) -> int:
    return int((await site.api("STREAM.INFO.KV_schedd-schedules"))["state"]["last_seq"])


async def applied(site: Site) -> int:
    """The revision up to which edits are on the timeline, as stored."""
    reply = await site.api("STREAM.MSG.GET.SCHEDD_TIMELINE", {"last_by_subj": "schedd.watermark"})
    return int(json.loads(base64.b64decode(reply["message"]["data"]))["applied"])
