"""put, pause, resume and delete, verb by verb and field by field (contract, part 7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.api.asking import MANUAL, NEVER, applied, at, last_revision, put
from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import Site, eventually
from tests.nats_servers import Server

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
