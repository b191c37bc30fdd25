"""Ids and states of schedules that any client puts straight into KV (contract, parts 2 and 3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from tests.acceptance.harness import SCHEDULES, STATUS, Site, eventually, utc_now

WHAT: dict[str, Any] = {"queue": "none", "type": "t"}
YEARLY = {"cron": "0 0 1 1 *", **WHAT}
HAND = {"manual": True, **WHAT}
SECOND = timedelta(seconds=1)


async def put_all(site: Site, prefix: str, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Put each by nats-py, as any client would; what the status row of each says then."""
    kv = await site.js.key_value(SCHEDULES)
    bodies = {name: value if isinstance(value, bytes) else json.dumps(value).encode() for name, value in values.items()}
    await asyncio.gather(*(kv.put(f"{prefix}.{name}", body) for name, body in bodies.items()))

    async def there() -> bool:
        return {f"{prefix}.{name}" for name in values} <= set(await site.keys(STATUS))

    await eventually(there, what="a row of each")
    rows = await asyncio.gather(*(site.status(f"{prefix}.{name}") for name in values))
    return dict(zip(values, rows, strict=True))


# --- ids

IDS = ["a", "Z9", "a.b", "a.b.c", "a-b_c.D", "0", "x" * 128, "9-9", "a_b", "event", "leader", "_nonce"[1:]]
NO_IDS = ["_a", "-a", "a-", "a_", "x" * 129, "a/b", "a=b", "=", "_nonce.a.b"]


async def test_ids_at_their_limits(contract: Site) -> None:
    """Every id that the contract allows gets a row; every other key gets an event and is counted, and has none."""
    kv = await contract.js.key_value(SCHEDULES)
    for key in (*IDS, *NO_IDS):
        await contract.js.publish(f"$KV.{SCHEDULES}.{key}", json.dumps(HAND).encode())

    async def told() -> bool:
        keys = {event["data"].get("key") for event in await contract.events("invalid", "_")}
        return set(NO_IDS) <= keys and set(IDS) <= set(await contract.keys(STATUS))

    await eventually(told, what="an event or a row of each")
    assert set(NO_IDS).isdisjoint(await contract.keys(STATUS))
    for key in NO_IDS:
        reply = await contract.request("schedule.get", {"id": key})
        assert (reply["code"], reply["field"]) == ("invalid_argument", "id"), key
    for key in (*IDS, *NO_IDS):
        await kv.delete(key, validate_keys=False)


async def test_an_id_may_hold_another_one(contract: Site) -> None:
    """`dot` and `dot.ted` are two schedules: executions, rows and deletes of one leave the other alone."""
    kv = await contract.js.key_value(SCHEDULES)
    body = json.dumps({**WHAT, "every": "1s", "queue": "dots", "overlap": "allow"}).encode()
    for key in ("dot", "dot.ted"):
        await kv.put(key, body)
    await asyncio.sleep(1.2)
    await kv.delete("dot")
    await asyncio.sleep(2.2)
    listed = await contract.request("execution.list", {"schedule": "dot.ted"})
    alone = await contract.request("execution.list", {"schedule": "dot"})
    assert {record["schedule"] for record in listed["items"]} == {"dot.ted"}
    assert {record["schedule"] for record in alone["items"]} <= {"dot"}
    assert len(listed["items"]) > len(alone["items"])
    assert await contract.stored_count("SCHEDD_TIMELINE", "schedd.arm.dot.*") == 0
    assert await contract.stored_count("SCHEDD_TIMELINE", "schedd.arm.dot.ted.*") > 0
    await kv.delete("dot.ted")


# --- KV is first-class


async def test_kv_put_update_delete_and_put_again(contract: Site) -> None:
    """Each write by plain nats-py is applied: row, event and generation (its revision) follow it."""
    kv = await contract.js.key_value(SCHEDULES)
    first = await kv.create("raw", json.dumps(HAND).encode())
    second = await kv.update("raw", json.dumps({**HAND, "type": "other"}).encode(), last=first)
    with pytest.raises(KeyWrongLastSequenceError):
        await kv.update("raw", b"{}", last=first)
    await kv.delete("raw")
    third = await kv.create("raw", json.dumps({**HAND, "paused": True}).encode())

    async def applied() -> list[int] | None:
        found = [event["data"]["generation"] for event in await contract.events("applied", "raw")]
        return found if found and found[-1] == third else None

    generations = await eventually(applied, what="the last write to be applied")
    assert set(generations) <= {first, second, third}, "a write may overtake the one before"
    reply = await contract.request("schedule.get", {"id": "raw"})
    assert (reply["revision"], reply["generation"]) == (third, third)
    assert reply["schedule"] == {**HAND, "paused": True}
    assert reply["status"]["state"] == "paused"
    await kv.delete("raw")

    async def gone() -> bool:
        return (await contract.request("schedule.get", {"id": "raw"})).get("code") == "not_found" and not (
            await contract.status("raw")
        )

    await eventually(gone, what="the schedule and its row to be gone")
    deleted = await contract.events("deleted", "raw")
    assert deleted[-1]["data"]["generation"] > third
    with pytest.raises(KeyNotFoundError):
        await kv.get("raw")


async def test_a_raw_put_replaces_a_pause_and_the_api_keeps_it(contract: Site) -> None:
    """`schedule.put` without state fields keeps a stored pause; with them, or by KV, what is written holds."""
    kv = await contract.js.key_value(SCHEDULES)
    await contract.request("schedule.put", {"id": "state", "schedule": HAND})
    await contract.request("schedule.pause", {"id": "state", "note": "why", "until": "2190-01-01T00:00:00Z"})
    await contract.request("schedule.put", {"id": "state", "schedule": {**HAND, "type": "new"}})
    stored = json.loads((await kv.get("state")).value)
    assert stored == {
        **HAND, "type": "new", "paused": True, "pause_note": "why", "paused_until": "2190-01-01T00:00:00.000Z",
    }  # fmt: skip
    await contract.request("schedule.put", {"id": "state", "schedule": {**HAND, "paused": False}})
    assert json.loads((await kv.get("state")).value) == {**HAND, "paused": False}
    await contract.request("schedule.pause", {"id": "state"})
    await kv.put("state", json.dumps(HAND).encode())

    async def active() -> bool:
        return (await contract.request("schedule.get", {"id": "state"}))["status"]["state"] == "active"

    await eventually(active, what="the raw put to end the pause")


# --- state


async def test_pauses_and_one_shots_show_their_state(contract: Site) -> None:
    """Paused, paused until an instant and active after it, exhausted when the last instant has passed."""
    soon = utc_now().replace(microsecond=0) + 2 * SECOND
    later = (soon + timedelta(days=1)).isoformat()
    rows = await put_all(
        contract,
        "turn",
        {
            "until": {**YEARLY, "paused": True, "paused_until": soon.isoformat()},
            "over": {**YEARLY, "paused": True, "paused_until": "2020-01-01T00:00:00Z"},
            "endless": {**YEARLY, "paused": True},
            "once": {**WHAT, "at": soon.isoformat(), "queue": "turns"},
            "twice": {**WHAT, "at": [soon.isoformat(), later], "queue": "turns", "overlap": "allow"},
            "done": {**WHAT, "at": "2020-01-01T00:00:00Z"},
        },
    )
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "until": "paused",
        "over": "active",
        "endless": "paused",
        "once": "active",
        "twice": "active",
        "done": "exhausted",
    }

    async def turned() -> bool:
        names = ("until", "once")
        found = await asyncio.gather(*(contract.status(f"turn.{name}") for name in names))
        return [row["state"] for row in found] == ["active", "exhausted"]

    await eventually(turned, within_s=8, what="both to turn by themselves")
    assert (await contract.status("turn.twice"))["state"] == "active"
    assert (await contract.status("turn.endless"))["state"] == "paused"
    told = await contract.events("resumed", "turn.until")
    assert len(told) == 1
    assert len(await contract.events("paused", "turn.until")) == 1


async def test_limits_that_configuration_may_set(site: Site) -> None:
    """The minimum interval and the payload's size: both ways of putting obey the replica's settings."""
    await site.replicas("a", SCHEDD_MINIMUM_INTERVAL="250ms", SCHEDD_PAYLOAD_MAX="100")
    rows = await put_all(
        site,
        "limit",
        {
            "fast": {**WHAT, "every": "250ms", "queue": "fast", "overlap": "allow"},
            "too-fast": {**WHAT, "every": "249ms"},
            "small": {**HAND, "payload": "x" * 98},
            "too-big": {**HAND, "payload": "x" * 99},
        },
    )
    assert {name: row["state"] for name, row in rows.items()} == {
        "fast": "active", "too-fast": "invalid", "small": "active", "too-big": "invalid",
    }  # fmt: skip

    async def fired() -> bool:
        fast = {key.rpartition(".")[2][15:18] for key in await site.records() if key.startswith("limit.fast.")}
        assert fast <= {"000", "250", "500", "750"}
        return len(fast) == 4

    await eventually(fired, what="a fire at each quarter of a second")
    reply = await site.request("schedule.put", {"id": "big", "schedule": {**HAND, "payload": "x" * 99}})
    assert reply["code"] == "payload_too_large"


async def test_a_one_shot_fires_when_it_says(contract: Site) -> None:
    """Half a second ahead: on time; past when it is put: at once, its lateness on record; both once."""
    now = utc_now()
    at = {"soon": now + 0.7 * SECOND, "past": now - 3600 * SECOND}
    await put_all(
        contract, "shot", {name: {**WHAT, "at": when.isoformat(), "queue": "shots"} for name, when in at.items()}
    )
    ids = {name: f"shot.{name}.{when:%Y%m%dT%H%M%S}{when.microsecond // 1000:03d}Z" for name, when in at.items()}

    async def fired() -> list[dict[str, Any]] | None:
        found = [await contract.value("schedd-executions", id_) for id_ in ids.values()]
        return found if all(each and each["queued_at"] for each in found) else None

    soon, past = await eventually(fired, what="both records")
    assert 0 <= soon["lateness_s"] < 1
    assert 3600 <= past["lateness_s"] < 3605
    assert (past["state"], past["kind"]) == ("queued", "auto")
    records = [key for key in await contract.records() if key.startswith("shot.")]
    assert sorted(records) == sorted(ids.values())
