"""Each field of a schedule: what it takes and what it refuses, in KV and by the API (contract, part 3)."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

from tests.acceptance.harness import SCHEDULES, Site
from tests.acceptance.test_contract_schedules import HAND, WHAT, YEARLY, put_all

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
