"""The API, verb by verb and field by field (contract, part 7): plain NATS requests to three real replicas."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import nats.errors
import pytest

from tests.acceptance.contract_site import Caller, Place, stand_together
from tests.acceptance.harness import Site, eventually
from tests.nats_servers import Server

MANUAL = {"manual": True, "queue": "none", "type": "t"}
NEVER = {"at": "2190-01-01T00:00:00Z", "queue": "none", "type": "t"}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
STATUS = {"state", "next_at", "previous_at", "last_outcome", "active", "error"}
RECORD = {
    *("id", "schedule", "generation", "epoch", "kind", "nominal_at", "fire_at", "queue", "type", "payload", "headers"),
    *("state", "reason", "attempt", "max_tries", "drive", "attempts_before", "worker", "task_seq", "queued_at"),
    *("started_at", "finished_at", "duration_s", "lateness_s", "result", "error", "history"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from stand_together(tmp_path_factory.mktemp("api"), "a", "b", "c")


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    async with Site(place.folder, place.url) as found:
        yield found


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.client)


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


# --- put


async def test_put(api: Caller, site: Site) -> None:
    """The reply in full: id, revision (the bucket's), generation, the next fires, warnings; and it is applied."""
    schedule = {"every": "10m", "queue": "none", "type": "t", "timeout": "31s", "start_delay": "2s"}
    found = await put(api, "put", schedule)
    assert set(found) == {"id", "revision", "generation", "next", "warnings"}
    assert found["id"] == "put"
    assert found["revision"] == found["generation"] == await last_revision(site)
    assert await applied(site) >= found["revision"]
    fires = [at(text) for text in found["next"]]
    assert len(fires) >= 1
    assert all(fire.timestamp() % 600 == 2 for fire in fires)
    assert fires == sorted(set(fires))
    assert fires[0] > datetime.now(UTC) - timedelta(seconds=1)
    assert "ack_wait" in found["warnings"][0]
    assert (await put(api, "put-no-warning", {**schedule, "timeout": "30s"}))["warnings"] == []
    assert json.loads((await (await site.bucket("schedd-schedules")).get("put")).value) == schedule


async def test_put_of_an_equal_definition_writes_nothing(api: Caller, site: Site) -> None:
    """The same, or the same in another order of fields: the same revision; anything else is a new one."""
    schedule = {**NEVER, "payload": {"a": [1, 2]}, "labels": {"x": "y"}}
    first = await put(api, "equal", schedule)
    before = await last_revision(site)
    for again in (schedule, dict(reversed(schedule.items()))):
        for more in ({}, {"expected_revision": first["revision"]}):
            assert await put(api, "equal", again, **more) == first
    assert await last_revision(site) == before
    changed = await put(api, "equal", {**schedule, "payload": {"a": [2, 1]}})
    assert changed["revision"] > first["revision"]


async def test_put_expects_a_revision(api: Caller) -> None:
    """0 creates only; a stale or a future one is a conflict, and nothing is changed by it; the right one writes."""
    first = await put(api, "expect", MANUAL, expected_revision=0)
    changed = {**MANUAL, "type": "other"}
    for expected in (0, first["revision"] - 1 or 99_999, first["revision"] + 1):
        for schedule in (MANUAL, changed):
            body = {"id": "expect", "schedule": schedule, "expected_revision": expected}
            assert (await api.refused("schedule.put", body))[::2] == ("conflict", "expected_revision")
    nobody = {"id": "expect-nobody", "schedule": MANUAL, "expected_revision": 3}
    assert (await api.refused("schedule.put", nobody)).code == "conflict"
    assert (await api.ask("schedule.get", {"id": "expect"}))["revision"] == first["revision"]
    second = await put(api, "expect", changed, expected_revision=first["revision"])
    assert second["revision"] > first["revision"]
    deleted = await api.ask("schedule.delete", {"id": "expect"})
    stale = {"id": "expect", "schedule": MANUAL, "expected_revision": second["revision"]}
    assert (await api.refused("schedule.put", stale)).code == "conflict"
    again = await put(api, "expect", MANUAL, expected_revision=0)
    assert again["revision"] > deleted["revision"]


async def test_put_keeps_a_pause_unless_it_names_one(api: Caller, site: Site) -> None:
    """Without state fields a stored pause stays; with one of them the new definition decides; a raw put replaces."""
    await put(api, "kept", {**NEVER, "paused": True, "pause_note": "audit"})
    await put(api, "kept", {**NEVER, "type": "new"})
    stored = (await api.ask("schedule.get", {"id": "kept"}))["schedule"]
    assert stored == {**NEVER, "type": "new", "paused": True, "pause_note": "audit"}
    before = await last_revision(site)
    await put(api, "kept", {**NEVER, "type": "new"})
    assert await last_revision(site) == before, "an equal definition, its pause kept, is not written again"
    await put(api, "kept", {**NEVER, "paused": False})
    assert (await api.ask("schedule.get", {"id": "kept"}))["status"]["state"] == "active"
    await api.ask("schedule.pause", {"id": "kept"})
    await site.put("kept", NEVER)

    async def active() -> bool:
        return (await api.ask("schedule.get", {"id": "kept"}))["status"]["state"] == "active"

    await eventually(active, what="the raw put")


BAD_PUTS: list[tuple[dict[str, Any] | bytes, str, str | None]] = [
    (b"", "invalid_argument", "id"),
    (b"{}", "invalid_argument", "id"),
    (b"garbage", "invalid_argument", None),
    (b"[]", "invalid_argument", None),
    (b"null", "invalid_argument", None),
    (b"\xff\x00", "invalid_argument", None),
    ({"id": "bad"}, "invalid_argument", "schedule"),
    ({"id": 7, "schedule": MANUAL}, "invalid_argument", "id"),
    ({"id": "", "schedule": MANUAL}, "invalid_argument", "id"),
    ({"id": "a..b", "schedule": MANUAL}, "invalid_argument", "id"),
    ({"id": "x" * 129, "schedule": MANUAL}, "invalid_argument", "id"),
    ({"id": "bad", "schedule": MANUAL, "revision": 1}, "invalid_argument", "revision"),
    ({"id": "bad", "schedule": MANUAL, "expected_revision": -1}, "invalid_argument", "expected_revision"),
    ({"id": "bad", "schedule": MANUAL, "expected_revision": "1"}, "invalid_argument", "expected_revision"),
    ({"id": "bad", "schedule": None}, "invalid_argument", None),
    ({"id": "bad", "schedule": [MANUAL]}, "invalid_argument", None),
    ({"id": "bad", "schedule": {**MANUAL, "evry": "1s"}}, "invalid_argument", "evry"),
    ({"id": "bad", "schedule": {"queue": "q", "type": "t"}}, "invalid_argument", "cron"),
    ({"id": "bad", "schedule": {"manual": True, "type": "t"}}, "invalid_argument", "queue"),
    ({"id": "bad", "schedule": {"manual": True, "queue": "q"}}, "invalid_argument", "type"),
    ({"id": "bad", "schedule": {"cron": "0 0 30 2 *", "queue": "q", "type": "t"}}, "invalid_argument", "cron"),
    ({"id": "bad", "schedule": {**MANUAL, "timezone": "Europe/Atlantis"}}, "invalid_argument", "timezone"),
    ({"id": "bad", "schedule": {**MANUAL, "max_tries": 101}}, "invalid_argument", "max_tries"),
    ({"id": "bad", "schedule": {**MANUAL, "overlap": "allow", "max_running": 1001}}, "invalid_argument", "max_running"),
    ({"id": "bad", "schedule": {**MANUAL, "queue": "a b"}}, "invalid_argument", "queue"),
    ({"id": "bad", "schedule": {**MANUAL, "queue": "q" * 65}}, "invalid_argument", "queue"),
    ({"id": "bad", "schedule": {**MANUAL, "headers": {"nats-x": "1"}}}, "invalid_argument", "headers.nats-x"),
    ({"id": "bad", "schedule": {"after": "0s", "queue": "q", "type": "t"}}, "invalid_argument", "after"),
    ({"id": "bad", "schedule": {**MANUAL, "payload": "x" * 65_535}}, "payload_too_large", "payload"),
]


async def test_put_refuses(api: Caller) -> None:
    """Whatever is wrong is told with its field, in headers and body alike, and nothing is stored."""
    for body, code, field in BAD_PUTS:
        refusal = await api.refused("schedule.put", body)
        assert (refusal.code, refusal.field) == (code, field), f"{body!r:.120}: {refusal}"
    assert (await api.refused("schedule.get", {"id": "bad"})).code == "not_found"
    just_fits = await put(api, "just-fits", {**MANUAL, "payload": "x" * 65_534})
    assert just_fits["revision"]


# --- get and list


async def test_get(api: Caller) -> None:
    """The definition as stored and the status, every field of it; not_found is 404."""
    stored = await put(api, "got", {"every": "1h", "queue": "none", "type": "t"})
    found = await api.ask("schedule.get", {"id": "got"})
    assert set(found) == {"id", "revision", "generation", "schedule", "status"}
    assert (found["id"], found["revision"], found["generation"]) == ("got", stored["revision"], stored["generation"])
    assert found["schedule"] == {"every": "1h", "queue": "none", "type": "t"}
    assert set(found["status"]) == STATUS
    assert found["status"] == {
        "state": "active", "next_at": stored["next"][0], "previous_at": None, "last_outcome": None, "active": [],
        "error": None,
    }  # fmt: skip
    assert (await api.refused("schedule.get", {"id": "nobody"}))[::2] == ("not_found", "id")
    assert (await api.refused("schedule.get", {"id": "got", "x": 1}))[::2] == ("invalid_argument", "x")


async def test_get_of_what_is_invalid(api: Caller, site: Site) -> None:
    """A value that is no JSON shows as null and raw_base64, a bad definition as it is; both with state and error."""
    await site.put("no-json", b"\x00\xffgarbage")
    await site.put("no-schedule", {"every": "1s", "queue": "q", "type": "t", "evry": 1})
    raw = await api.ask("schedule.get", {"id": "no-json"})
    assert raw["schedule"] is None
    assert base64.b64decode(raw["raw_base64"]) == b"\x00\xffgarbage"
    assert raw["status"]["state"] == "invalid"
    assert raw["status"]["error"]
    typo = await api.ask("schedule.get", {"id": "no-schedule"})
    assert typo["schedule"]["evry"] == 1
    assert "evry" in typo["status"]["error"]
    for verb in ("trigger", "preview"):
        assert (await api.refused(f"schedule.{verb}", {"id": "no-schedule"})).code == "invalid_argument"
    for schedule_id in ("no-json", "no-schedule"):
        assert set(await api.ask("schedule.delete", {"id": schedule_id})) == {"id", "revision"}


async def test_list_pages(api: Caller, site: Site) -> None:
    """By id; 100 a page unless asked otherwise; the cursor goes on behind the page and is null at the end."""
    ids = [f"page-{number:03d}" for number in range(203)]
    await asyncio.gather(*(site.put(schedule_id, MANUAL) for schedule_id in ids))
    found = await api.ask("schedule.list", {"prefix": "page-"})
    assert set(found) == {"items", "cursor"}
    assert [item["id"] for item in found["items"]] == ids[:100]
    assert set(found["items"][0]) == {"id", "revision", "generation", "schedule", "status"}
    second = await api.ask("schedule.list", {"prefix": "page-", "cursor": found["cursor"]})
    third = await api.ask("schedule.list", {"prefix": "page-", "cursor": second["cursor"]})
    assert [item["id"] for page in (found, second, third) for item in page["items"]] == ids
    assert third["cursor"] is None
    exactly = await api.ask("schedule.list", {"prefix": "page-", "limit": 203})
    assert (len(exactly["items"]), exactly["cursor"]) == (203, None)
    whole = await api.ask("schedule.list", {"limit": 1000})
    assert [item["id"] for item in whole["items"]] == sorted(item["id"] for item in whole["items"])
    for limit in (0, 1001, -1, "5", 1.5):
        assert (await api.refused("schedule.list", {"limit": limit}))[::2] == ("invalid_argument", "limit")
    assert (await api.ask("schedule.list", {"prefix": "page-", "cursor": "zzz"})) == {"items": [], "cursor": None}


async def test_list_filters(api: Caller, site: Site) -> None:
    """Prefix, labels (all of them) and state, each by itself and together."""
    await put(api, "f-active", {**NEVER, "labels": {"team": "a", "env": "prod"}})
    await put(api, "f-paused", {**NEVER, "labels": {"team": "a"}, "paused": True})
    await put(api, "f-over", {"at": "2020-01-01T00:00:00Z", "queue": "none", "type": "t"})
    await site.put("f-wrong", b"{}")

    async def names(**filters: Any) -> list[str]:
        return [item["id"] for item in (await api.ask("schedule.list", {"prefix": "f-", **filters}))["items"]]

    assert await names() == ["f-active", "f-over", "f-paused", "f-wrong"]
    for state, expected in {"active": "active", "paused": "paused", "exhausted": "over", "invalid": "wrong"}.items():
        assert await names(state=state) == [f"f-{expected}"]
    assert await names(labels={"team": "a"}) == ["f-active", "f-paused"]
    assert await names(labels={"team": "a", "env": "prod"}) == ["f-active"]
    assert await names(labels={"team": "a"}, state="paused") == ["f-paused"]
    assert await names(labels={"team": "b"}) == []
    assert (await api.refused("schedule.list", {"state": "odd"})).field == "state"
    assert (await api.refused("schedule.list", {"labels": {"a": 1}})).code == "invalid_argument"
    await api.ask("schedule.delete", {"id": "f-wrong"})


# --- pause, resume, delete


async def test_pause_and_resume(api: Caller, site: Site) -> None:
    """`{id, revision}`, note and end on record, applied when answered; the same again changes nothing."""
    first = await put(api, "p", {"every": "1h", "queue": "none", "type": "t"})
    paused = await api.ask("schedule.pause", {"id": "p", "note": "why", "until": "2190-01-01T01:00:00+01:00"})
    assert set(paused) == {"id", "revision"}
    assert paused["id"] == "p"
    assert paused["revision"] > first["revision"]
    assert await applied(site) >= paused["revision"]
    found = await api.ask("schedule.get", {"id": "p"})
    assert found["status"]["state"] == "paused"
    assert found["schedule"]["paused"] is True
    assert found["schedule"]["pause_note"] == "why"
    assert at(found["schedule"]["paused_until"]) == datetime(2190, 1, 1, tzinfo=UTC)
    again = await api.ask("schedule.pause", {"id": "p", "note": "why", "until": "2190-01-01T00:00:00Z"})
    assert again == paused
    resumed = await api.ask("schedule.resume", {"id": "p"})
    assert set(resumed) == {"id", "revision"}
    assert await applied(site) >= resumed["revision"] > paused["revision"]
    assert await api.ask("schedule.resume", {"id": "p"}) == resumed
    back = await api.ask("schedule.get", {"id": "p"})
    assert back["schedule"] == {"every": "1h", "queue": "none", "type": "t"}
    assert back["status"]["state"] == "active"
    for body, code, field in (
        ({"id": "nobody"}, "not_found", "id"),
        ({"id": "p", "until": "2020-01-01T00:00:00Z"}, "invalid_argument", "until"),
        ({"id": "p", "until": "tomorrow"}, "invalid_argument", "until"),
        ({"id": "p", "note": "x" * 1025}, "invalid_argument", "note"),
        ({"id": "p", "reason": "x"}, "invalid_argument", "reason"),
    ):
        assert (await api.refused("schedule.pause", body))[::2] == (code, field)
    assert (await api.refused("schedule.resume", {"id": "nobody"})).code == "not_found"


async def test_delete(api: Caller, site: Site) -> None:
    """`{id, revision}`, applied when answered; a second time there is nothing to delete."""
    stored = await put(api, "gone", {"every": "1h", "queue": "none", "type": "t"})
    deleted = await api.ask("schedule.delete", {"id": "gone"})
    assert set(deleted) == {"id", "revision"}
    assert await applied(site) >= deleted["revision"] > stored["revision"]
    for verb in ("delete", "get", "pause", "resume", "trigger", "preview"):
        assert (await api.refused(f"schedule.{verb}", {"id": "gone"})).code == "not_found", verb
    assert "gone" not in [item["id"] for item in (await api.ask("schedule.list", {"prefix": "gone"}))["items"]]

    async def is_disarmed() -> bool:
        return await site.stored_count("SCHEDD_TIMELINE", "schedd.arm.gone.*") == 0  # a disarm stays for a second

    await eventually(is_disarmed, within_s=5)


async def test_an_acknowledged_edit_holds(api: Caller, site: Site) -> None:
    """After a pause or a delete nothing that is due more than a second after the answer is queued."""
    ids = [f"hold-{verb}-{number}" for number in range(10) for verb in ("pause", "delete")]
    schedule = {"every": "1s", "queue": "hold", "type": "t", "overlap": "allow"}
    await asyncio.gather(*(put(api, schedule_id, schedule) for schedule_id in ids))
    await asyncio.sleep(1.6)
    answered: dict[str, datetime] = {}

    async def edit(schedule_id: str) -> None:
        await api.ask(f"schedule.{schedule_id.split('-')[1]}", {"id": schedule_id})
        answered[schedule_id] = datetime.now(UTC)

    await asyncio.gather(*(edit(schedule_id) for schedule_id in ids))
    await asyncio.sleep(2.3)
    records = [(await api.ask("execution.list", {"schedule": each}))["items"] for each in ids]
    assert all(records), "each fired before"
    late = [
        one["id"]
        for found in records
        for one in found
        if at(one["fire_at"]) > answered[one["schedule"]] + timedelta(seconds=1)
    ]
    assert late == []


# --- trigger


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


# --- preview


async def test_preview(api: Caller, site: Site) -> None:
    """Of a stored schedule: ten unless asked otherwise, after an instant (exclusive), with local time and notes."""
    schedule = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "queue": "q", "type": "t", "start_delay": "5s"}
    await put(api, "prev", {**schedule, "paused": True})
    found = await api.ask("schedule.preview", {"id": "prev"})
    assert set(found) == {"fires"}
    assert len(found["fires"]) == 10
    assert all(set(fire) == {"nominal_at", "fire_at", "local", "notes"} for fire in found["fires"])
    assert all(at(fire["fire_at"]) - at(fire["nominal_at"]) == timedelta(seconds=5) for fire in found["fires"])
    assert any("paused" in note for note in found["fires"][0]["notes"])
    past = await api.ask("schedule.preview", {"id": "prev", "after": "2026-03-28T01:30:00Z", "count": 2})
    [gap, normal] = past["fires"]
    assert (gap["nominal_at"], gap["local"]) == ("2026-03-29T01:00:00.000Z", "2026-03-29T03:00:00+02:00")
    assert any("02:30" in note for note in gap["notes"])
    assert (normal["nominal_at"], normal["local"]) == ("2026-03-30T00:30:00.000Z", "2026-03-30T02:30:00+02:00")
    just_before = await api.ask("schedule.preview", {"id": "prev", "after": "2026-03-28T01:29:59.999Z", "count": 1})
    assert just_before["fires"][0]["nominal_at"] == "2026-03-28T01:30:00.000Z"


async def test_preview_of_an_unsaved_schedule(api: Caller, site: Site) -> None:
    """Nothing is stored; up to a thousand; the id is what H hashes; one that is over has none."""
    before = await last_revision(site)
    every = {"every": "10s", "queue": "q", "type": "t"}
    found = (await api.ask("schedule.preview", {"schedule": every, "count": 1000}))["fires"]
    assert len(found) == 1000
    assert [at(b["nominal_at"]) - at(a["nominal_at"]) for a, b in itertools.pairwise(found)] == [
        timedelta(seconds=10)
    ] * 999
    hashed = {"cron": "H H * * *", "queue": "q", "type": "t"}
    fires = [await api.ask("schedule.preview", {"schedule": hashed, "id": each}) for each in ("one", "one", "two")]
    assert fires[0] == fires[1] != fires[2]
    over = {"at": ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"], "queue": "q", "type": "t"}
    assert (await api.ask("schedule.preview", {"schedule": over}))["fires"] == []
    assert len((await api.ask("schedule.preview", {"schedule": over, "after": "2019-01-01T00:00:00Z"}))["fires"]) == 2
    assert (await api.ask("schedule.preview", {"schedule": MANUAL}))["fires"] == []
    for body, code, field in (
        ({}, "invalid_argument", "id"),
        ({"id": "nobody"}, "not_found", "id"),
        ({"schedule": every, "count": 0}, "invalid_argument", "count"),
        ({"schedule": every, "count": 1001}, "invalid_argument", "count"),
        ({"schedule": every, "after": "2026-01-01T00:00:00"}, "invalid_argument", "after"),
        ({"schedule": {**every, "every": "never"}}, "invalid_argument", "every"),
        ({"schedule": every, "until": "2026-01-01T00:00:00Z"}, "invalid_argument", "until"),
    ):
        assert (await api.refused("schedule.preview", body))[::2] == (code, field), body
    assert await last_revision(site) == before


# --- executions


async def test_executions(api: Caller, site: Site) -> None:
    """Newest first; times bound the nominal (since inclusive, until exclusive); every filter; pages to the end."""
    base = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    times = [f"{base + timedelta(seconds=number):%Y-%m-%dT%H:%M:%S}.000Z" for number in range(7)]
    await put(api, "past", {"at": times, "queue": "exec", "type": "t", "overlap": "allow", "catch_up": {"mode": "all"}})
    await put(api, "skips", {**MANUAL, "queue": "exec2"})
    for _ in range(2):
        await api.ask("schedule.trigger", {"id": "skips"})

    async def whole() -> list[dict[str, Any]] | None:
        items: list[dict[str, Any]] = (await api.ask("execution.list", {"schedule": "past"}))["items"]
        return items if len(items) == 7 and all(item["state"] == "queued" for item in items) else None

    items = await eventually(whole, what="seven executions")
    assert [item["nominal_at"] for item in items] == times[::-1]
    assert set(items[0]) >= RECORD - {"payload"}, "there is none: null would be one"
    assert {item["schedule"] for item in items} == {"past"}
    assert await api.ask("execution.get", {"id": items[0]["id"]}) == items[0]

    async def nominals(**filters: Any) -> list[str]:
        return [each["nominal_at"] for each in (await api.ask("execution.list", filters))["items"]]

    elsewhere = datetime.fromisoformat(times[6]).astimezone(timezone(timedelta(hours=1))).isoformat()
    for scope in ({"schedule": "past"}, {"queue": "exec"}):
        assert await nominals(**scope, since=times[2], until=times[5]) == times[4:1:-1]
        assert await nominals(**scope, since=elsewhere) == times[6:]
        assert await nominals(**scope, state="queued", limit=3) == times[:3:-1]
        assert await nominals(**scope, state="succeeded") == []
        walked: list[str] = []
        cursor: str | None = None
        while True:
            page = await api.ask("execution.list", {**scope, "limit": 3, **({"cursor": cursor} if cursor else {})})
            assert set(page) == {"items", "cursor"}
            walked += [each["nominal_at"] for each in page["items"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert walked == times[::-1]
    assert await nominals(schedule="past", queue="exec2") == []
    [skipped] = (await api.ask("execution.list", {"state": "skipped", "schedule": "skips"}))["items"]
    assert skipped["reason"] == "overlap"
    assert {each["queue"] for each in (await api.ask("execution.list", {"queue": "exec2"}))["items"]} == {"exec2"}
    assert await nominals(schedule="nobody") == []


async def test_executions_refuse(api: Caller) -> None:
    """A limit out of range, a state that is none, an instant without an offset; no such execution."""
    for body, field in (
        ({"limit": 1001}, "limit"), ({"limit": 0}, "limit"), ({"state": "done"}, "state"), ({"queue": "a b"}, "queue"),
        ({"since": "2026-01-01T00:00:00"}, "since"), ({"until": "now"}, "until"), ({"schedule": "a..b"}, "schedule"),
        ({"cursor": "odd"}, "cursor"), ({"from": "x"}, "from"),
    ):  # fmt: skip
        assert (await api.refused("execution.list", body))[::2] == ("invalid_argument", field), body
    for unknown in ("nobody.20260101T000000000Z", "nobody"):
        assert (await api.refused("execution.get", {"id": unknown}))[::2] == ("not_found", "id")
    assert (await api.refused("execution.get", b"")).field == "id"


async def test_a_list_without_a_schedule_reads_no_bucket(api: Caller, site: Site) -> None:
    """The newest of all schedules, in order, from every replica, the moment they are there."""
    await put(api, "recent", {**MANUAL, "queue": "recent", "overlap": "allow"})
    made = [(await api.ask("schedule.trigger", {"id": "recent"}))["execution_id"] for _ in range(5)]
    for _ in range(6):
        items = (await api.ask("execution.list", {"limit": 5}))["items"]
        assert [item["id"] for item in items] == made[::-1]


# --- status, discovery


async def test_status(api: Caller, place: Place) -> None:
    """Every field: leader with epoch, replicas with versions, watermark, counts, tzdata, server, clock skew."""
    found = await api.ask("status.get")
    assert set(found) == {
        "leader", "replicas", "planned_until", "schedules", "tzdata", "server", "clock_skew_s"
    }  # fmt: skip
    assert set(found["leader"]) == {"replica", "epoch", "since"}
    assert found["leader"]["replica"] in {"a", "b", "c"}
    assert found["leader"]["epoch"] >= 1
    assert at(found["leader"]["since"]) < datetime.now(UTC)
    assert [each["replica"] for each in found["replicas"]] == ["a", "b", "c"]
    assert all(set(each) == {"replica", "version", "started_at"} and each["version"] for each in found["replicas"])
    assert all(at(each["started_at"]) < datetime.now(UTC) for each in found["replicas"])
    ahead = at(found["planned_until"]) - datetime.now(UTC)
    assert timedelta(seconds=60) < ahead < timedelta(seconds=150)
    assert set(found["schedules"]) == {"active", "paused", "invalid"}
    assert re.fullmatch(r"\d{4}[a-z]", found["tzdata"])
    assert re.match(r"2\.\d+\.\d+", found["server"])
    assert abs(found["clock_skew_s"]) < 2
    assert (await api.refused("status.get", {"verbose": True})).field == "verbose"


async def test_counts_of_schedules(api: Caller, site: Site) -> None:
    """active, paused and invalid as the schedules stand, the moment an edit is answered."""

    async def counts() -> dict[str, int]:
        found: dict[str, int] = (await api.ask("status.get"))["schedules"]
        return found

    before = await counts()
    await put(api, "count-1", NEVER)
    await put(api, "count-2", {**NEVER, "paused": True})
    await site.put("count-3", b"{}")
    after = await counts()
    assert {state: after[state] - before[state] for state in after} == {"active": 1, "paused": 1, "invalid": 1}
    await asyncio.gather(*(api.ask("schedule.delete", {"id": f"count-{number}"}) for number in (1, 2, 3)))
    assert await counts() == before


async def _all(site: Site, subject: str) -> list[dict[str, Any]]:
    """Every answer to one request, as `nats micro` gathers them."""
    inbox = site.client.new_inbox()
    subscription = await site.client.subscribe(inbox)
    await site.client.publish(subject, b"", reply=inbox)
    answers = []
    try:
        while True:
            answers.append(json.loads((await subscription.next_msg(timeout=0.25)).data))
    except nats.errors.TimeoutError:
        return answers
    finally:
        await subscription.unsubscribe()


async def test_discovery(site: Site) -> None:
    """`nats micro ls`, `info`, `stats`: one `schedd` per replica, with every endpoint and its subject (ADR-32)."""
    for prefix, type_ in (("PING", "ping"), ("INFO", "info"), ("STATS", "stats")):
        for subject in (f"$SRV.{prefix}", f"$SRV.{prefix}.schedd"):
            answers = await _all(site, subject)
            assert len(answers) == len({each["id"] for each in answers}) == 3
            for each in answers:
                assert each["type"] == f"io.nats.micro.v1.{type_}_response"
                assert each["name"] == "schedd"
                assert re.fullmatch(r"\d+\.\d+\.\d+.*", each["version"])
        [one] = await _all(site, f"$SRV.{prefix}.schedd.{answers[0]['id']}")
        assert one["id"] == answers[0]["id"]
    info = (await _all(site, "$SRV.INFO.schedd"))[0]
    subjects = {each["subject"] for each in info["endpoints"]}
    assert subjects == {
        *(f"schedd.api.v1.schedule.{verb}" for verb in ("put", "get", "list", "delete", "pause", "resume", "trigger")),
        *(f"schedd.api.v1.schedule.{verb}" for verb in ("preview", "audit", "backfill")),
        *(f"schedd.api.v1.backfill.{verb}" for verb in ("get", "list", "cancel")),
        *(f"schedd.api.v1.calendar.{verb}" for verb in ("put", "get", "list", "delete")),
        *(f"schedd.api.v1.execution.{verb}" for verb in ("list", "get", "cancel", "retry", "logs")),
        *(f"schedd.api.v1.queue.{verb}" for verb in ("put", "get", "list", "delete", "purge")),
        "schedd.api.v1.worker.list",
        "schedd.api.v1.action.list",
        "schedd.api.v1.action.invoke",
        "schedd.api.v1.status.get",
        "schedd.api.v1.status.health",
    }
    assert all({"name", "subject", "queue_group", "metadata"} <= set(each) for each in info["endpoints"])
    stats = (await _all(site, "$SRV.STATS.schedd"))[0]
    assert at(stats["started"])
    assert {"num_requests", "num_errors", "last_error", "processing_time", "average_processing_time"} <= set(
        stats["endpoints"][0]
    )


async def test_every_replica_answers(api: Caller, site: Site) -> None:
    """Requests are shared among the replicas, and each answers reads and writes alike."""

    async def served() -> dict[str, int]:
        answers = await _all(site, "$SRV.STATS.schedd")
        return {each["id"]: sum(one["num_requests"] for one in each["endpoints"]) for each in answers}

    before = await served()
    await asyncio.gather(*(put(api, f"each-{number}", MANUAL) for number in range(45)))
    found = await asyncio.gather(*(api.ask("schedule.get", {"id": f"each-{number}"}) for number in range(45)))
    assert [item["id"] for item in found] == [f"each-{number}" for number in range(45)]
    after = await served()
    assert sum(after.values()) - sum(before.values()) == 90
    assert all(after[replica] > before[replica] for replica in before)


async def test_a_replica_that_dies_is_gone_from_the_status(api: Caller, site: Site) -> None:
    """kill -9: the next status no longer names it, and requests go on being answered."""
    extra = site.replica("z")
    await extra.ready()
    assert [each["replica"] for each in (await api.ask("status.get"))["replicas"]] == ["a", "b", "c", "z"]
    await extra.kill()
    assert [each["replica"] for each in (await api.ask("status.get"))["replicas"]] == ["a", "b", "c"]
    for _ in range(20):
        await api.ask("schedule.list", {"limit": 1})


async def test_what_is_not_built_has_no_endpoint(api: Caller) -> None:
    """A verb of a later version is not half there: NATS says at once that nobody serves it."""
    started = time.monotonic()
    for endpoint in ("execution.delete", "queue.rename", "admin.list"):
        with pytest.raises(nats.errors.NoRespondersError):
            await api.ask(endpoint, {"id": "a"})
    assert time.monotonic() - started < 2


# --- without a leader


@pytest.fixture
async def leaderless(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Two replicas of which the leading one has just been killed; its lease holds for a while."""
    folder = tmp_path_factory.mktemp("leaderless")
    server = Server(folder / "nats")
    await server.start()
    try:
        async with Site(folder, server.url, env={"SCHEDD_LEASE": "6", "SCHEDD_APPLY_WAIT": "1s"}) as site:
            await site.replicas("a", "b")
            leader = await site.leader()
            await eventually(lambda: _is_applied(site), what="a watermark")
            await leader.kill()
            yield site
    finally:
        await server.kill()


async def _is_applied(site: Site) -> bool:
    found: dict[str, Any] = await Caller(site.client).ask("status.get")
    return found["leader"] is not None and found["planned_until"] is not None


async def test_an_edit_that_is_not_applied_says_so(leaderless: Site) -> None:
    """With nobody leading a put is stored and answered `unavailable`, with its revision; the successor applies it."""
    api = Caller(leaderless.client)
    refusal = await api.refused("schedule.put", {"id": "s", "schedule": NEVER})
    revision = await last_revision(leaderless)
    assert refusal.code == "unavailable"
    assert f"stored as revision {revision}, not yet applied" in refusal.message
    assert (await api.ask("schedule.get", {"id": "s"}))["revision"] == revision

    async def is_applied() -> bool:
        return await applied(leaderless) >= revision

    await eventually(is_applied, within_s=20, what="the successor's watermark")
    again = await put(api, "s", NEVER)
    assert again["revision"] == revision
