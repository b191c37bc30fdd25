"""get, list and preview of schedules, get and list of executions (contract, part 7)."""

from __future__ import annotations

import asyncio
import base64
import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from tests.acceptance.api.asking import MANUAL, NEVER, RECORD, at, last_revision, put
from tests.acceptance.contract_site import Caller
from tests.acceptance.harness import Site, eventually

STATUS = {"state", "next_at", "previous_at", "last_outcome", "active", "error"}

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
