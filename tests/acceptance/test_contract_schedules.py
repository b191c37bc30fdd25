"""The schedule JSON of the contract (parts 2 and 3), field by field, put straight into KV by any client."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from tests.acceptance.harness import SCHEDULES, STATUS, Site, eventually, utc_now

WHAT: dict[str, Any] = {"queue": "none", "type": "t"}
YEARLY = {"cron": "0 0 1 1 *", **WHAT}
HAND = {"manual": True, **WHAT}
SECOND = timedelta(seconds=1)

VALID: dict[str, dict[str, Any]] = {
    "least": YEARLY,
    "about": {**YEARLY, "name": "Größe", "description": "two\nlines", "labels": {"team": "a/b", "": "x"}},
    "cron-list": {**WHAT, "cron": ["0 9 * * 1-5", "0 12 * * SAT"]},
    "cron-6": {**WHAT, "cron": "*/10 * * * * *"},
    "cron-7": {**WHAT, "cron": "0 0 9 * * MON-FRI 2030-2035"},
    "cron-at": {**WHAT, "cron": "@midnight", "timezone": "America/St_Johns"},
    "cron-every": {**WHAT, "cron": "@every 10m"},
    "cron-hash": {**WHAT, "cron": "H H(0-7) * * *"},
    "cron-every-day": {**WHAT, "cron": "@every 1d"},
    "cron-days": {**WHAT, "cron": "0 9 1W,L-3,LW * *"},
    "cron-weekdays": {**WHAT, "cron": "0 9 ? * 1,5#2,3L"},
    "cron-both": {**WHAT, "cron": "0 9 13 * +FRI"},
    "cron-zone": {**WHAT, "cron": "CRON_TZ=Asia/Tokyo 0 9 * * *", "timezone": "Europe/Berlin"},
    "every": {**WHAT, "every": "1h30m"},
    "every-anchored": {**WHAT, "every": "168h", "anchor": "2026-01-05T09:00:00+01:00"},
    "every-second": {**WHAT, "every": "1s", "paused": True},
    "every-week": {**WHAT, "every": "2w"},
    "rrule": {**WHAT, "rrule": "FREQ=YEARLY;BYHOUR=9", "anchor": "2026-01-01T09:00:00Z"},
    "rrule-list": {**WHAT, "rrule": ["FREQ=YEARLY", "FREQ=YEARLY;BYDAY=1MO"]},
    "at": {**WHAT, "at": "2190-01-01T00:00:00.1239+14:00"},
    "at-list": {**WHAT, "at": ["2190-01-01T00:00:00Z", "2191-01-01T00:00:00-05:00"]},
    "manual": HAND,
    "zone": {**YEARLY, "timezone": "Europe/Berlin"},
    "dst-default": {**YEARLY, "dst": {"gap": "next", "overlap": "first"}},
    "dst-empty": {**YEARLY, "dst": {}},
    "dst-gap": {**YEARLY, "dst": {"gap": "skip"}},
    "dst-overlap": {**YEARLY, "dst": {"overlap": "both"}},
    "dst-second": {**YEARLY, "dst": {"gap": "next", "overlap": "second"}},
    "start-delay": {**YEARLY, "start_delay": "90m"},
    "buffer-one": {**YEARLY, "overlap": "buffer_one"},
    "buffer-all": {**YEARLY, "overlap": "buffer_all"},
    "latest": {**YEARLY, "overlap": "latest"},
    "starts-at": {**YEARLY, "starts_at": "2026-01-01T00:00:00Z"},
    "ends-at": {**YEARLY, "ends_at": "2190-01-01T00:00:00Z"},
    "jitter": {**YEARLY, "jitter": "5s"},
    "jitter-none": {**YEARLY, "jitter": "0s"},
    "exclude-none": {**YEARLY, "exclude": [], "on_excluded": "skip"},
    "exclude-cron": {**YEARLY, "exclude": ["* * 24 12 *", "0 0 2 1 *"]},
    "on-excluded": {**YEARLY, "on_excluded": "next_business_day"},
    "on-excluded-2": {**YEARLY, "exclude": ["* * 1 1 *"], "on_excluded": "previous_business_day"},
    "queue-longest": {**YEARLY, "queue": "Q_-" + "q" * 61},
    "type-longest": {**YEARLY, "type": "0._:/-" + "t" * 122},
    "payload-null": {**YEARLY, "payload": None},
    "payload-deep": {**YEARLY, "payload": {"a": [1, 2.5, "x", {"b": None}]}},
    "payload-base64": {**YEARLY, "payload_base64": base64.b64encode(bytes(range(256))).decode()},
    "headers": {
        **YEARLY,
        "headers": {"X-Trace": "a b", "traceparent": "00-" + "a" * 32, "Statuses": "x", "n" * 64: ""},
    },
    "header-longest": {**YEARLY, "headers": {"x": "v" * 1024}},
    "skip": {**YEARLY, "overlap": "skip"},
    "allow": {**YEARLY, "overlap": "allow", "max_running": 1000},
    "catch-up": {**YEARLY, "catch_up": {"mode": "all", "after": "10s", "window": "24h", "max": 10000}},
    "catch-up-days": {**YEARLY, "catch_up": {"mode": "earliest", "window": "2d"}},
    "catch-up-none": {**YEARLY, "catch_up": {"mode": "none"}},
    "timeout": {**YEARLY, "timeout": "250ms"},
    "tries": {**YEARLY, "max_tries": 100},
    "backoff": {**YEARLY, "backoff": {"initial": "2s", "max": "1m", "factor": 1.5, "jitter": 0}},
    "paused": {**YEARLY, "paused": True, "pause_note": "holidays", "paused_until": "2190-01-01T00:00:00Z"},
    "paused-until": {**YEARLY, "paused_until": "2190-01-01T00:00:00Z"},
    "not-paused": {**YEARLY, "paused": False},
    "retention": {**YEARLY, "retention": {"age": "365d"}},
    "longest": {**YEARLY, "timeout": "3650d"},
}

INVALID: dict[str, tuple[Any, str]] = {
    "no-when": (WHAT, "cron"),
    "two-whens": ({**YEARLY, "every": "1m"}, "exactly one"),
    "manual-false": ({**WHAT, "manual": False}, "manual"),
    "manual-and-cron": ({**YEARLY, "manual": True}, "exactly one"),
    "no-queue": ({"manual": True, "type": "t"}, "queue"),
    "no-type": ({"manual": True, "queue": "q"}, "type"),
    "unknown-field": ({**YEARLY, "time_zone": "UTC"}, "time_zone"),
    "unknown-case": ({**YEARLY, "Timezone": "UTC"}, "Timezone"),
    "unknown-inner": ({**YEARLY, "backoff": {"inital": "1s"}}, "inital"),
    "unknown-catch-up": ({**YEARLY, "catch_up": {"limit": 1}}, "limit"),
    "unknown-retention": ({**YEARLY, "retention": {"days": 1}}, "days"),
    "id-inside": ({**YEARLY, "id": "x"}, "id"),
    "name-number": ({**YEARLY, "name": 1}, "name"),
    "labels-list": ({**YEARLY, "labels": ["a"]}, "labels"),
    "label-number": ({**YEARLY, "labels": {"a": 1}}, "labels"),
    "cron-4": ({**WHAT, "cron": "* * * *"}, "cron"),
    "cron-8": ({**WHAT, "cron": "* * * * * * * *"}, "cron"),
    "cron-minute": ({**WHAT, "cron": "60 * * * *"}, "cron"),
    "cron-weekday": ({**WHAT, "cron": "0 0 * * 8"}, "cron"),
    "cron-zone": ({**WHAT, "cron": "CRON_TZ=Asia/Tokio 0 9 * * *"}, "Asia/Tokyo"),
    "cron-union": ({**WHAT, "cron": ["* * * * * *", "@every 1500ms"]}, "within 500ms"),
    "cron-gap": (
        {
            **WHAT,
            "cron": "0 30 2 28 3 ? 2027",
            "timezone": "Europe/Berlin",
            "dst": {"gap": "skip"},
        },
        "skip all its times",
    ),
    "cron-never": ({**WHAT, "cron": "0 0 30 2 *"}, "cron"),
    "cron-empty": ({**WHAT, "cron": []}, "cron"),
    "cron-reboot": ({**WHAT, "cron": "@reboot"}, "cron"),
    "cron-number": ({**WHAT, "cron": 5}, "cron"),
    "cron-past": ({**WHAT, "cron": "@every 10x"}, "cron"),
    "every-number": ({**WHAT, "every": 10}, "every"),
    "every-bare": ({**WHAT, "every": "10"}, "every"),
    "every-zero": ({**WHAT, "every": "0s"}, "every"),
    "every-negative": ({**WHAT, "every": "-1m"}, "every"),
    "every-fast": ({**WHAT, "every": "999ms"}, "every"),
    "every-cron-fast": ({**WHAT, "cron": "@every 100ms"}, "cron"),
    "every-mixed": ({**WHAT, "every": "1d12h"}, "every"),
    "rrule-never": ({**WHAT, "rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "rrule"),
    "rrule-no-anchor": ({**WHAT, "rrule": "FREQ=DAILY;COUNT=3"}, "anchor"),
    "every-ages": ({**WHAT, "every": "100000h"}, "ten years"),
    "anchor-alone": ({**YEARLY, "anchor": "2026-01-01T00:00:00Z"}, "anchor"),
    "anchor-bad": ({**WHAT, "every": "1m", "anchor": "monday"}, "anchor"),
    "at-no-offset": ({**WHAT, "at": "2190-01-01T00:00:00"}, "at"),
    "at-number": ({**WHAT, "at": 1767225600}, "at"),
    "at-date": ({**WHAT, "at": "2190-02-30T00:00:00Z"}, "at"),
    "at-empty": ({**WHAT, "at": []}, "at"),
    "zone": ({**YEARLY, "timezone": "Mars/Olympus"}, "timezone"),
    "zone-path": ({**YEARLY, "timezone": "../UTC"}, "timezone"),
    "zone-offset": ({**YEARLY, "timezone": "+02:00"}, "timezone"),
    "zone-empty": ({**YEARLY, "timezone": ""}, "timezone"),
    "dst-word": ({**YEARLY, "dst": {"gap": "previous"}}, "gap"),
    "starts-at-word": ({**YEARLY, "starts_at": "soon"}, "starts_at"),
    "max-fires-zero": ({**YEARLY, "max_fires": 0}, "max_fires"),
    "jitter-number": ({**YEARLY, "jitter": 5}, "jitter"),
    "exclude-unknown": ({**YEARLY, "exclude": ["no-such-calendar"]}, "exclude"),
    "exclude-text": ({**YEARLY, "exclude": "holidays"}, "exclude"),
    "on-excluded-word": ({**YEARLY, "on_excluded": "later"}, "on_excluded"),
    "start-delay-negative": ({**YEARLY, "start_delay": "-1s"}, "start_delay"),
    "queue-dot": ({**YEARLY, "queue": "a.b"}, "queue"),
    "queue-empty": ({**YEARLY, "queue": ""}, "queue"),
    "queue-long": ({**YEARLY, "queue": "q" * 65}, "queue"),
    "queue-list": ({**YEARLY, "queue": ["q"]}, "queue"),
    "type-space": ({**YEARLY, "type": "a b"}, "type"),
    "type-first": ({**YEARLY, "type": ":t"}, "type"),
    "type-long": ({**YEARLY, "type": "t" * 129}, "type"),
    "payload-twice": ({**YEARLY, "payload": 1, "payload_base64": "AA=="}, "payload"),
    "payload-base64": ({**YEARLY, "payload_base64": "%%"}, "payload_base64"),
    "payload-big": ({**YEARLY, "payload": "x" * 65_535}, "65537"),
    "payload-base64-big": ({**YEARLY, "payload_base64": base64.b64encode(bytes(65_537)).decode()}, "65537"),
    "header-nats": ({**YEARLY, "headers": {"nAtS-Msg-Id": "1"}}, "nAtS-Msg-Id"),
    "header-kv": ({**YEARLY, "headers": {"KV-Operation": "DEL"}}, "KV-Operation"),
    "header-schedd": ({**YEARLY, "headers": {"SCHEDD-Kind": "x"}}, "SCHEDD-Kind"),
    "header-status": ({**YEARLY, "headers": {"status": "1"}}, "status"),
    "header-name": ({**YEARLY, "headers": {"a_b": "1"}}, "headers"),
    "header-name-long": ({**YEARLY, "headers": {"n" * 65: "1"}}, "headers"),
    "header-value-long": ({**YEARLY, "headers": {"x": "v" * 1025}}, "headers.x"),
    "header-value-bytes": ({**YEARLY, "headers": {"x": "ü" * 600}}, "headers.x"),
    "header-value-control": ({**YEARLY, "headers": {"x": "a\tb"}}, "headers.x"),
    "header-value-number": ({**YEARLY, "headers": {"x": 1}}, "headers.x"),
    "overlap-word": ({**YEARLY, "overlap": "queue"}, "overlap"),
    "max-running-0": ({**YEARLY, "overlap": "allow", "max_running": 0}, "max_running"),
    "max-running-1001": ({**YEARLY, "overlap": "allow", "max_running": 1001}, "max_running"),
    "catch-up-word": ({**YEARLY, "catch_up": "all"}, "catch_up"),
    "catch-up-mode": ({**YEARLY, "catch_up": {"mode": "last"}}, "catch_up.mode"),
    "catch-up-max-0": ({**YEARLY, "catch_up": {"max": 0}}, "catch_up.max"),
    "catch-up-max-10001": ({**YEARLY, "catch_up": {"max": 10001}}, "catch_up.max"),
    "catch-up-window": ({**YEARLY, "catch_up": {"window": 5}}, "catch_up.window"),
    "timeout-zero": ({**YEARLY, "timeout": "0s"}, "timeout"),
    "timeout-ages": ({**YEARLY, "timeout": "3651d"}, "timeout"),
    "tries-0": ({**YEARLY, "max_tries": 0}, "max_tries"),
    "tries-101": ({**YEARLY, "max_tries": 101}, "max_tries"),
    "tries-text": ({**YEARLY, "max_tries": "3"}, "max_tries"),
    "tries-true": ({**YEARLY, "max_tries": True}, "max_tries"),
    "tries-float": ({**YEARLY, "max_tries": 3.0}, "max_tries"),
    "backoff-order": ({**YEARLY, "backoff": {"initial": "10s", "max": "1s"}}, "backoff.max"),
    "backoff-factor": ({**YEARLY, "backoff": {"factor": 0.5}}, "backoff.factor"),
    "backoff-jitter": ({**YEARLY, "backoff": {"jitter": 1.1}}, "backoff.jitter"),
    "paused-text": ({**YEARLY, "paused": "yes"}, "paused"),
    "paused-until": ({**YEARLY, "paused": True, "paused_until": "2190-01-01"}, "paused_until"),
    "retention-text": ({**YEARLY, "retention": "7d"}, "retention"),
    "null-field": ({**YEARLY, "timezone": None}, "timezone"),
    "null-headers": ({**YEARLY, "headers": None}, "headers"),
    "array": ([YEARLY], "object"),
    "text": ("every 10m", "object"),
    "twice": (b'{"cron":"0 0 1 1 *","queue":"q","queue":"r","type":"t"}', "queue"),
    "yaml": (b"every: 10m", "JSON"),
    "empty": (b"", "empty"),
}

UNBUILT: dict[str, dict[str, Any]] = {
    "max-fires": {**YEARLY, "max_fires": 3},
    "cancel-other": {**YEARLY, "overlap": "cancel_other"},
    "terminate-other": {**YEARLY, "overlap": "terminate_other"},
    "start-deadline": {**YEARLY, "start_deadline": "10s"},
    "deadline": {**YEARLY, "deadline": "1h"},
}


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


async def previewed(site: Site, schedule: Mapping[str, Any], after: str, count: int = 3, **more: Any) -> list[str]:
    """Nominal times that the API foretells after that minute, in the same short form."""
    request = {"schedule": {**WHAT, **schedule}, "after": after.replace(" ", "T") + ":00Z", "count": count, **more}
    reply = await site.request("schedule.preview", request)
    assert "fires" in reply, reply
    return [short(fire["nominal_at"]) for fire in reply["fires"]]


def short(at: str) -> str:
    return at.replace("T", " ").removesuffix("Z").removesuffix(".000").removesuffix(":00")


# --- the table


async def test_every_field_takes_what_the_contract_allows(contract: Site) -> None:
    """No valid definition is refused; a paused one is paused, all others active."""
    rows = await put_all(contract, "valid", VALID)
    refused = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert refused == {}
    paused = {name for name, row in rows.items() if row["state"] == "paused"}
    assert paused == {"paused", "paused-until", "every-second"}
    assert {row["state"] for name, row in rows.items() if name not in paused} == {"active"}


async def test_every_field_refuses_what_the_contract_forbids(contract: Site) -> None:
    """Each wrong value makes its schedule invalid, with an error that names the field or the fix."""
    rows = await put_all(contract, "invalid", {name: value for name, (value, _) in INVALID.items()})
    accepted = [name for name, row in rows.items() if row["state"] != "invalid"]
    assert accepted == []
    unclear = {
        name: rows[name]["error"] for name, (_, word) in INVALID.items() if word not in (rows[name]["error"] or "")
    }
    assert unclear == {}
    stutters = [row["error"] for row in rows.values() if re.match(r"([a-z_.]+):? \1\b", row["error"])]
    assert stutters == []
    unbuilt = [name for name, row in rows.items() if "not supported yet" in row["error"]]
    assert unbuilt == []


async def test_the_api_refuses_what_kv_refuses(contract: Site) -> None:
    """The same definitions by `schedule.put`: the same verdicts, and nothing is stored."""
    wanted = {name: value for name, (value, _) in INVALID.items() if not isinstance(value, bytes)}
    replies = await asyncio.gather(
        *(
            contract.request("schedule.put", {"id": f"refused.{name}", "schedule": value})
            for name, value in wanted.items()
        )
    )
    codes = {name: reply.get("code") for name, reply in zip(wanted, replies, strict=True)}
    big = {"payload-big", "payload-base64-big"}
    assert {name for name, code in codes.items() if code == "payload_too_large"} == big
    assert {name: code for name, code in codes.items() if code != "invalid_argument" and name not in big} == {}
    assert all(reply["message"] and "field" in reply for reply in replies)
    kept = [key for key in await contract.keys(SCHEDULES) if key.startswith("refused.")]
    assert kept == []


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


# --- when

TIMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "five fields": ({"cron": "30 9 * * *"}, "2026-03-01 09:30", "2026-03-02 09:30, 2026-03-03 09:30"),
    "six fields": ({"cron": "*/20 59 23 * * *"}, "2026-03-01 23:59", "2026-03-01 23:59:20, 2026-03-01 23:59:40"),
    "seven fields": ({"cron": "0 0 0 1 1 * 2030,2040"}, "2026-01-01 00:00", "2030-01-01 00:00, 2040-01-01 00:00"),
    "Sunday is 0": ({"cron": "0 0 * * 0"}, "2026-03-01 00:00", "2026-03-08 00:00, 2026-03-15 00:00"),
    "Sunday is 7": ({"cron": "0 0 * * 7"}, "2026-03-01 00:00", "2026-03-08 00:00, 2026-03-15 00:00"),
    "day or weekday": ({"cron": "0 0 13 * 5"}, "2026-03-01 00:00", "2026-03-06 00:00, 2026-03-13 00:00"),
    "names": ({"cron": "0 0 1 FEB,dec *"}, "2026-03-01 00:00", "2026-12-01 00:00, 2027-02-01 00:00"),
    "tabs, as in a crontab": ({"cron": "30\t9 * * *"}, "2026-03-01 09:30", "2026-03-02 09:30, 2026-03-03 09:30"),
    "steps": ({"cron": "10-50/20 8 * * *"}, "2026-03-01 08:10", "2026-03-01 08:30, 2026-03-01 08:50"),
    "from a value on": ({"cron": "50/5 8 * * Mon/2"}, "2026-03-01 00:00", "2026-03-02 08:50, 2026-03-02 08:55"),
    "the last working day": ({"cron": "0 0 LW * *"}, "2026-03-01 00:00", "2026-03-31 00:00, 2026-04-30 00:00"),
    "three before the last": ({"cron": "0 0 L-3 * *"}, "2026-03-01 00:00", "2026-03-28 00:00, 2026-04-27 00:00"),
    "the last Friday": ({"cron": "0 0 * * 5L"}, "2026-03-01 00:00", "2026-03-27 00:00, 2026-04-24 00:00"),
    "Mondays and the second Friday": (
        {"cron": "0 0 * * 1,5#2"},
        "2026-03-08 00:00",
        "2026-03-09 00:00, 2026-03-13 00:00",
    ),
    "Friday the 13th": ({"cron": "0 0 13 * +FRI"}, "2026-03-01 00:00", "2026-03-13 00:00, 2026-11-13 00:00"),
    "a zone in front": (
        {"cron": "CRON_TZ=Asia/Tokyo 0 9 * * *", "timezone": "Europe/Berlin"},
        "2026-03-01 00:00",
        "2026-03-02 00:00, 2026-03-03 00:00",
    ),
    "a gap, skipped": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "dst": {"gap": "skip"}},
        "2027-03-27 00:00",
        "2027-03-27 01:30, 2027-03-29 00:30",
    ),
    "an overlap, both times": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "dst": {"overlap": "both"}},
        "2027-10-31 00:00",
        "2027-10-31 00:30, 2027-10-31 01:30",
    ),
    "an overlap, the second time": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "dst": {"overlap": "second"}},
        "2027-10-31 00:00",
        "2027-10-31 01:30, 2027-11-01 01:30",
    ),
    "leap day": ({"cron": "0 0 29 2 *"}, "2026-03-01 00:00", "2028-02-29 00:00, 2032-02-29 00:00"),
    "@yearly": ({"cron": "@yearly"}, "2026-03-01 00:00", "2027-01-01 00:00, 2028-01-01 00:00"),
    "@annually": ({"cron": "@annually"}, "2026-03-01 00:00", "2027-01-01 00:00, 2028-01-01 00:00"),
    "@monthly": ({"cron": "@monthly"}, "2026-03-01 00:00", "2026-04-01 00:00, 2026-05-01 00:00"),
    "@weekly": ({"cron": "@weekly"}, "2026-03-01 00:00", "2026-03-08 00:00, 2026-03-15 00:00"),
    "@daily": ({"cron": "@daily"}, "2026-03-01 00:00", "2026-03-02 00:00, 2026-03-03 00:00"),
    "@midnight": ({"cron": "@midnight"}, "2026-03-01 00:00", "2026-03-02 00:00, 2026-03-03 00:00"),
    "@hourly": ({"cron": "@hourly"}, "2026-03-01 00:00", "2026-03-01 01:00, 2026-03-01 02:00"),
    "@every": ({"cron": "@every 10m"}, "2026-03-01 00:00", "2026-03-01 00:10, 2026-03-01 00:20"),
    "several": (
        {"cron": ["0 9 * * *", "0 9 1 * *", "30 8 * * *"]},
        "2026-02-28 09:00",
        "2026-03-01 08:30, 2026-03-01 09:00",
    ),
    "zone": (
        {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"},
        "2026-03-27 12:00",
        "2026-03-30 07:00, 2026-03-31 07:00",
    ),
    "gap, fixed": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        "2026-03-28 12:00",
        "2026-03-29 01:00, 2026-03-30 00:30",
    ),
    "gap, several at once": (
        {"cron": "0,30 2 * * *", "timezone": "Europe/Berlin"},
        "2026-03-28 12:00",
        "2026-03-29 01:00, 2026-03-30 00:00",
    ),
    "gap, not fixed": (
        {"cron": "*/30 * * * *", "timezone": "Europe/Berlin"},
        "2026-03-29 00:30",
        "2026-03-29 01:00, 2026-03-29 01:30",
    ),
    "overlap, fixed": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        "2026-10-24 12:00",
        "2026-10-25 00:30, 2026-10-26 01:30",
    ),
    "overlap, not fixed": (
        {"cron": "30 * * * *", "timezone": "Europe/Berlin"},
        "2026-10-25 00:00",
        "2026-10-25 00:30, 2026-10-25 01:30",
    ),
    "every": ({"every": "7m"}, "1970-01-01 00:00", "1970-01-01 00:07, 1970-01-01 00:14"),
    "every, anchored": (
        {"every": "90m", "anchor": "2026-03-01T10:15:00+02:00"},
        "2026-03-01 00:00",
        "2026-03-01 00:45, 2026-03-01 02:15",
    ),
    "at, sorted": (
        {"at": ["2026-03-02T00:00:00Z", "2026-03-01T00:00:00+05:00"]},
        "2026-01-01 00:00",
        "2026-02-28 19:00, 2026-03-02 00:00",
    ),
    "at, cut": ({"at": "2026-03-01T00:00:00.9999Z"}, "2026-01-01 00:00", "2026-03-01 00:00:00.999"),
    "manual": ({"manual": True}, "2026-01-01 00:00", ""),
    "every day, Berlin": (
        {"every": "1d", "anchor": "2026-01-01T09:00:00+01:00", "timezone": "Europe/Berlin"},
        "2026-03-28 00:00",
        "2026-03-28 08:00, 2026-03-29 07:00",
    ),
    "every two weeks": (
        {"every": "2w", "anchor": "2026-01-05T09:00:00Z"},
        "2026-01-10 00:00",
        "2026-01-19 09:00, 2026-02-02 09:00",
    ),
    "rrule": ({"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17"}, "2026-01-01 00:00", "2026-01-30 17:00, 2026-02-27 17:00"),
    "rrule, counted": (
        {"rrule": "RRULE:FREQ=DAILY;INTERVAL=10;COUNT=2", "anchor": "2026-03-01T09:00:00Z"},
        "2026-01-01 00:00",
        "2026-03-01 09:00, 2026-03-11 09:00",
    ),
    "rrule, in the gap": (
        {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "timezone": "Europe/Berlin"},
        "2026-03-28 12:00",
        "2026-03-29 01:00, 2026-03-30 00:30",
    ),
    "rrules": (
        {"rrule": ["FREQ=DAILY;BYHOUR=9", "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9,10"]},
        "2026-03-02 08:00",
        "2026-03-02 09:00, 2026-03-02 10:00",
    ),
    "window": (
        {"every": "1h", "starts_at": "2026-03-01T10:00:00Z", "ends_at": "2026-03-01T12:00:00Z"},
        "2026-01-01 00:00",
        "2026-03-01 10:00, 2026-03-01 11:00",
    ),
    "window that is over": ({"every": "1h", "ends_at": "2026-01-01T00:00:00Z"}, "2026-01-01 00:00", ""),
}  # instants in UTC, without what is zero of seconds


async def test_triggers_yield_what_they_say(contract: Site) -> None:
    """Cron in all its forms, zones, both ends of summer time, grids and instants: as the preview tells."""
    wrong = {}
    for name, (schedule, after, wanted) in TIMES.items():
        found = await previewed(contract, schedule, after, count=2)
        if ", ".join(found) != wanted:
            wrong[name] = (found, wanted)
    assert wrong == {}


async def test_hashed_cron_depends_on_the_id_alone(contract: Site) -> None:
    """`H` is the same each time for an id, stays within its range, and spreads different ids."""
    crons = {"cron": "H H(9-11) * * *"}
    day = "2026-03-01 00:00"
    seen = {}
    for id_ in ("one", "two", "three", "four", "five"):
        found = await previewed(contract, crons, day, count=2, id=id_)
        assert await previewed(contract, crons, day, count=2, id=id_) == found
        first, second = (datetime.fromisoformat(at) for at in found)
        assert second - first == timedelta(days=1)
        assert 9 <= first.hour <= 11
        seen[id_] = first
    assert len(set(seen.values())) > 2


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
