"""schedule.trigger, field by field (contract, part 7)."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.api.asking import MANUAL, NEVER, RECORD, at, put, task_of
from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import Site


async def test_trigger(api: Caller, site: Site) -> None:
    """`{execution_id, state}`; the nominal time is now, the kind manual; its task is there with payload and headers."""
    await put(api, "trig", {**MANUAL, "queue": "trig", "payload": {"own": 1}, "headers": {"X-User": "u"}})
    before = datetime.now(UTC)
    found = await api.ask("schedule.trigger", {"id": "trig"})
    assert set(found) == {"execution_id", "state"}
    assert found["state"] == "queued"
    assert re.fullmatch(r"trig\.\d{8}T\d{9}Z-m[A-Za-z0-9_-]{1,32}", found["execution_id"])
    record = await api.ask("execution.get", {"id": found["execution_id"]})
    assert set(record) >= RECORD
    assert record["payload"] == {"own": 1}
    assert record["headers"] == {"X-User": "u"}
    assert record["kind"] == "manual"
    assert before - timedelta(seconds=1) < at(record["nominal_at"]) < datetime.now(UTC) + timedelta(seconds=1)
    headers, body = await task_of(site, "trig", found["execution_id"])
    assert body == b'{"own": 1}'
    assert headers["Schedd-Kind"] == "manual"
    assert headers["Schedd-Execution-Id"] == found["execution_id"]
    assert headers["Schedd-Nominal-At"] == record["nominal_at"]
    assert headers["X-User"] == "u"


@pytest.mark.parametrize(
    ("own", "given", "body"),
    [
        ({"payload": {"own": 1}}, {"payload": None}, b"null"),
        ({"payload": {"own": 1}}, {"payload": [1, {"b": 2}]}, b'[1, {"b": 2}]'),
        ({"payload": None}, {}, b"null"),
        ({}, {}, b""),
        ({}, {"payload": 0}, b"0"),
        ({"payload_base64": "AAH/"}, {}, b"\x00\x01\xff"),
        ({"payload_base64": "AAH/"}, {"payload": "text"}, b'"text"'),
    ],
)
async def test_trigger_with_a_payload(
    api: Caller, site: Site, own: dict[str, Any], given: dict[str, Any], body: bytes
) -> None:
    """A payload in the request replaces the schedule's own, null too; left out, the own one goes."""
    await put(api, "load", {**MANUAL, "queue": "load", "overlap": "allow", **own})
    found = await api.ask("schedule.trigger", {"id": "load", **given})
    assert (await task_of(site, "load", found["execution_id"]))[1] == body


async def test_trigger_with_a_nonce_runs_once(api: Caller, site: Site) -> None:
    """A repeat, twenty at once and by whatever replica, is the same execution and one task."""
    await put(api, "nonce", {**MANUAL, "queue": "nonce", "overlap": "allow"})
    body = {"id": "nonce", "nonce": "abc_1", "payload": 1}
    answers = await asyncio.gather(*(api.ask("schedule.trigger", body) for _ in range(20)))
    answers.append(await api.ask("schedule.trigger", {"id": "nonce", "nonce": "abc_1"}))
    assert len({answer["execution_id"] for answer in answers}) == 1
    assert answers[0]["execution_id"].endswith("Z-mabc_1")
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.nonce.>") == 1
    other = await api.ask("schedule.trigger", {"id": "nonce", "nonce": "abc_2"})
    assert other["execution_id"] != answers[0]["execution_id"]
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.nonce.>") == 2


async def test_trigger_obeys_overlap_unless_told_otherwise(api: Caller) -> None:
    """While a run is open, skip skips; a policy in the request wins; the record of a skip says why."""
    await put(api, "busy", {**MANUAL, "queue": "busy"})
    assert (await api.ask("schedule.trigger", {"id": "busy"}))["state"] == "queued"
    skipped = await api.ask("schedule.trigger", {"id": "busy"})
    assert skipped["state"] == "skipped"
    assert (await api.ask("execution.get", {"id": skipped["execution_id"]}))["reason"] == "overlap"
    assert (await api.ask("schedule.trigger", {"id": "busy", "overlap": "allow"}))["state"] == "queued"
    assert (await api.ask("schedule.trigger", {"id": "busy", "overlap": "skip"}))["state"] == "skipped"


async def test_trigger_of_what_would_not_fire_by_itself(api: Caller) -> None:
    """Paused, exhausted, not due for long: a manual run ignores that."""
    await put(api, "t-paused", {**NEVER, "paused": True})
    await put(api, "t-over", {"at": "2020-01-01T00:00:00Z", "queue": "none", "type": "t", "overlap": "allow"})
    for schedule_id in ("t-paused", "t-over"):
        assert (await api.ask("schedule.trigger", {"id": schedule_id}))["state"] == "queued"


async def test_trigger_refuses(api: Caller) -> None:
    """Nobody to trigger, a bad nonce, an unknown policy, a payload too large, an unknown field."""
    await put(api, "t", MANUAL)
    for body, code, field in (
        ({"id": "nobody"}, "not_found", "id"),
        ({"id": "t", "nonce": "a b"}, "invalid_argument", "nonce"),
        ({"id": "t", "nonce": "n" * 33}, "invalid_argument", "nonce"),
        ({"id": "t", "overlap": "perhaps"}, "invalid_argument", "overlap"),
        ({"id": "t", "overlap": "buffer_two"}, "invalid_argument", "overlap"),
        ({"id": "t", "payload": "x" * 70_000}, "payload_too_large", "payload"),
        ({"id": "t", "at": "2190-01-01T00:00:00Z"}, "invalid_argument", "at"),
    ):
        assert (await api.refused("schedule.trigger", body))[::2] == (code, field), body
    assert (await api.ask("execution.list", {"schedule": "t"}))["items"] == []


async def test_many_at_once(api: Caller, site: Site) -> None:
    """A script that sends everything in one go is served: 600 puts, 300 triggers, 300 lists."""
    puts = [put(api, f"crowd-{number}", {**MANUAL, "queue": "crowd"}) for number in range(600)]
    assert len({reply["revision"] for reply in await asyncio.gather(*puts)}) == 600
    triggers = [api.ask("schedule.trigger", {"id": f"crowd-{number}"}) for number in range(300)]
    assert {reply["state"] for reply in await asyncio.gather(*triggers)} == {"queued"}
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.crowd.>") == 300
    pages = await asyncio.gather(*(api.ask("execution.list", {"queue": "crowd", "limit": 10}) for _ in range(300)))
    assert {len(page["items"]) for page in pages} == {10}
