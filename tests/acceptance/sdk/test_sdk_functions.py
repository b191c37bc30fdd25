"""What a function of an SDK worker gets and what it tells (contract, parts 4, 5 and 9), from outside."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import Site, eventually
from tests.acceptance.sdk.serving import Served, ended, run, start


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
