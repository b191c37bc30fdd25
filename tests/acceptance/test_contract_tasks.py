"""What a worker pulls (contract, part 4) and what is never queued: by plain nats-py."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

from tests.acceptance.harness import Site, eventually, utc_now
from tests.acceptance.plain_queue import HAND, SECOND, put, queue_of, record_of

ALWAYS = {
    "Schedd-Execution-Id", "Schedd-Schedule-Id", "Schedd-Type", "Schedd-Kind", "Schedd-Nominal-At", "Schedd-Fire-At",
    "Schedd-Max-Tries", "Schedd-Generation", "Schedd-Drive", "Schedd-Attempts-Before",
}  # fmt: skip


# --- what a worker gets


async def test_headers_of_an_automatic_run(contract: Site) -> None:
    """Exactly the headers of the contract, those that do not apply left out, and the user's own."""
    async with queue_of(contract, "auto") as queue:
        headers = {"X-Team": "ä b", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        revision = await put(
            contract,
            "auto",
            {"every": "2s", "queue": "auto", "type": "a:b/c", "timeout": "1500ms", "max_tries": 7, "headers": headers},
        )
        message = await queue.next()
        await message.ack()
        await contract.delete("auto")
    got = {name: value for name, value in message.headers.items() if not name.startswith("Nats-Batch-")}
    assert set(got) == ALWAYS | {"Schedd-Previous-At", "Schedd-Next-At", "Schedd-Timeout", *headers}
    nominal = datetime.fromisoformat(got["Schedd-Nominal-At"])
    assert got["Schedd-Nominal-At"] == nominal.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert nominal.timestamp() % 2 == 0
    assert got["Schedd-Execution-Id"] == f"auto.{nominal:%Y%m%dT%H%M%S}000Z"
    assert got["Schedd-Fire-At"] == got["Schedd-Nominal-At"]
    assert datetime.fromisoformat(got["Schedd-Previous-At"]) == nominal - 2 * SECOND
    assert datetime.fromisoformat(got["Schedd-Next-At"]) == nominal + 2 * SECOND
    wanted = {
        "Schedd-Schedule-Id": "auto", "Schedd-Type": "a:b/c", "Schedd-Kind": "auto", "Schedd-Timeout": "1.5",
        "Schedd-Max-Tries": "7", "Schedd-Generation": str(revision), "Schedd-Drive": "0", "Schedd-Attempts-Before": "0",
        **headers,
    }  # fmt: skip
    assert {name: got[name] for name in wanted} == wanted


async def test_headers_of_a_manual_run(contract: Site) -> None:
    """Kind manual, nominal time when it was asked for, the nonce in the id; no neighbours, no timeout."""
    async with queue_of(contract, "hand") as queue:
        await put(contract, "hand", {**HAND, "queue": "hand"})
        before = utc_now()
        execution = await queue.trigger("hand", nonce="n-0_Z")
        message = await queue.next()
        await message.ack()
    got = {name for name in message.headers if not name.startswith("Nats-Batch-")}
    assert got == ALWAYS
    assert message.headers["Schedd-Kind"] == "manual"
    assert message.headers["Schedd-Execution-Id"] == execution
    assert execution.startswith("hand.")
    assert execution.endswith("Z-mn-0_Z")
    nominal = datetime.fromisoformat(message.headers["Schedd-Nominal-At"])
    assert before - SECOND < nominal < utc_now() + SECOND


async def test_neighbours_are_left_out_where_there_are_none(contract: Site) -> None:
    """The first of two instants has no previous one, the last no next one; `start_delay` moves the fire time alone."""
    at = utc_now().replace(microsecond=0) + 2 * SECOND
    async with queue_of(contract, "edges") as queue:
        schedule = {"at": [at.isoformat(), (at + SECOND).isoformat()], "type": "t", "queue": "edges"}
        await put(contract, "edges", {**schedule, "overlap": "allow", "start_delay": "250ms"})
        messages = [await queue.next(), await queue.next()]
        for message in messages:
            await message.ack()
    first, last = (message.headers for message in messages)
    assert ("Schedd-Previous-At" in first, "Schedd-Next-At" in first) == (False, True)
    assert ("Schedd-Previous-At" in last, "Schedd-Next-At" in last) == (True, False)
    fire = datetime.fromisoformat(first["Schedd-Fire-At"])
    assert fire - datetime.fromisoformat(first["Schedd-Nominal-At"]) == timedelta(milliseconds=250)
    record = await record_of(contract, first["Schedd-Execution-Id"])
    assert (record["nominal_at"], record["fire_at"]) == (first["Schedd-Nominal-At"], first["Schedd-Fire-At"])
    assert 0 <= record["lateness_s"] < 1


SPACED = '{"b" : 1.0, "a":[1e3, "\\u00e4ä"],  "b2":{}}'  # spaces, an exponent, an escape
BODIES: dict[str, tuple[str, bytes]] = {
    "absent": ("{}", b""),
    "null": ('{"payload": null}', b"null"),
    "as-stored": ('{"payload": ' + SPACED + "}", SPACED.encode()),
    "number": ('{"payload": 12345678901234567890.10}', b"12345678901234567890.10"),
    "text": ('{"payload": ""}', b'""'),
    "false": ('{"payload": false}', b"false"),
    "bytes": ('{"payload_base64": "' + base64.b64encode(bytes(range(256))).decode() + '"}', bytes(range(256))),
    "no-bytes": ('{"payload_base64": ""}', b""),
    "largest": ('{"payload": "' + "x" * 65_534 + '"}', b'"' + b"x" * 65_534 + b'"'),
    "largest-bytes": ('{"payload_base64": "' + base64.b64encode(bytes(65_536)).decode() + '"}', bytes(65_536)),
}  # fmt: skip


async def test_the_body_is_the_payload_as_stored(contract: Site) -> None:
    """Byte for byte the JSON that was put, nothing where there is none, the bytes of base64; the record keeps it."""
    async with queue_of(contract, "bodies") as queue:
        for name, (fields, _) in BODIES.items():
            value = '{"manual": true, "queue": "bodies", "type": "t", ' + fields.strip("{")
            await contract.put(f"body.{name}", value.replace(", }", "}").encode())
        await put(contract, "body-last", {**HAND, "queue": "bodies"})  # applied: so are those before
        for name, (_, wanted) in BODIES.items():
            execution = await queue.trigger(f"body.{name}")
            message = await queue.next()
            assert message.data == wanted, name
            await message.ack()
            record = await record_of(contract, execution)
            if name in {"bytes", "largest-bytes"}:
                assert base64.b64decode(record["payload_base64"]) == wanted, name
            elif wanted:
                assert record["payload"] == json.loads(wanted), name
        await queue.trigger("body.null", payload={"given": [1]})
        message = await queue.next()
        await message.ack()
        assert json.loads(message.data) == {"given": [1]}


async def test_everything_at_its_longest(contract: Site) -> None:
    """The longest id, queue, type, nonce, payload and user headers go all the way, by hand and by the clock."""
    id_, name = "i" + ".x" * 63 + "y", "q" * 64
    headers = {"n" * 64: "v" * 1024, "x": "ü" * 512, "empty": ""} | {f"h{number}": "1" for number in range(20)}
    schedule = {"every": "1s", "overlap": "allow", "queue": name, "type": "t" * 128, "headers": headers}
    assert len(id_) == 128
    async with queue_of(contract, name) as queue:
        await put(contract, id_, {**schedule, "payload": "x" * 65_534})
        by_hand = await queue.trigger(id_, nonce="n" * 32)
        seen = set()
        while seen != {"auto", "manual"}:
            message = await queue.next()
            seen.add(message.headers["Schedd-Kind"])
            assert {key: message.headers[key] for key in headers} == headers
            await message.ack()
        await contract.delete(id_)
        assert (await record_of(contract, by_hand))["state"] == "succeeded"


# --- what is never queued


async def test_an_overlap_is_skipped_on_record(contract: Site) -> None:
    """`skip` while one runs: a record that says why; the run's end frees the slot."""
    async with queue_of(contract, "busy") as queue:
        await put(contract, "busy", {"manual": True, "type": "t", "queue": "busy"})
        first = await queue.trigger("busy")
        reply = await contract.request("schedule.trigger", {"id": "busy"})
        assert reply["state"] == "skipped"
        record = await record_of(contract, reply["execution_id"])
        assert record["reason"]
        assert record["queued_at"] is None
        assert record["finished_at"] is not None
        row = await contract.status("busy")
        assert (row["active"], row["waiting"]) == ([first], [])
        await (await queue.next()).ack()
        await record_of(contract, first)

        async def free() -> bool:
            return (await contract.status("busy"))["active"] == []

        await eventually(free, what="the slot")
        await queue.trigger("busy")
        await (await queue.next()).ack()


async def test_max_running_is_skipped_with_that_reason(contract: Site) -> None:
    """`allow` with `max_running`: the surplus is skipped, reason max_running."""
    async with queue_of(contract, "many") as queue:
        await put(contract, "many", {**HAND, "queue": "many", "max_running": 2})
        await queue.trigger("many")
        await queue.trigger("many")
        reply = await contract.request("schedule.trigger", {"id": "many"})
        record = await record_of(contract, reply["execution_id"])
        assert (record["state"], record["reason"]) == ("skipped", "max_running")
        for _ in range(2):
            await (await queue.next()).ack()


async def test_a_moved_occurrence_keeps_its_nominal(contract: Site) -> None:
    """Tomorrow is excluded: its occurrence fires today, under tomorrow's nominal and with a deadline of today."""
    async with queue_of(contract, "moves") as queue:
        at, fields = tomorrow_excluded("moves")
        tomorrow = at + timedelta(days=1)
        cron = f"{at.second} {at.minute} {at.hour} {tomorrow.day} {tomorrow.month} *"
        await put(contract, "moves", {**fields, "cron": cron, "deadline": "90m"})
        message = await queue.next(wait_s=10)
        await message.ack()
    assert message.headers["Schedd-Execution-Id"] == f"moves.{tomorrow:%Y%m%dT%H%M%S}000Z"
    told = {name: message.headers[f"Schedd-{name}"] for name in ("Nominal-At", "Fire-At", "Deadline")}
    assert {name: datetime.fromisoformat(text) for name, text in told.items()} == {
        "Nominal-At": tomorrow, "Fire-At": at, "Deadline": at + timedelta(minutes=90),
    }  # fmt: skip


async def test_a_moved_occurrence_gives_way(contract: Site) -> None:
    """Where its new day already has one, it is skipped, reason coalesced."""
    async with queue_of(contract, "gives-way") as queue:
        at, fields = tomorrow_excluded("gives-way")
        await put(contract, "gives-way", {**fields, "cron": f"{at.second} {at.minute} {at.hour} * * *"})
        message = await queue.next(wait_s=10)
        await message.ack()
        record = await record_of(contract, f"gives-way.{at + timedelta(days=1):%Y%m%dT%H%M%S}000Z")
    assert datetime.fromisoformat(message.headers["Schedd-Nominal-At"]) == at
    assert (record["state"], record["reason"], record["queued_at"]) == ("skipped", "coalesced", None)


def tomorrow_excluded(queue: str) -> tuple[datetime, dict[str, Any]]:
    """An instant soon, and a schedule whose occurrences of the day after move to its day."""
    at = utc_now().replace(microsecond=0) + 4 * SECOND
    day = at + timedelta(days=1)
    excluded = {"exclude": [f"* * {day.day} {day.month} *"], "on_excluded": "previous_business_day"}
    return at, {**excluded, "type": "t", "queue": queue, "overlap": "allow"}
