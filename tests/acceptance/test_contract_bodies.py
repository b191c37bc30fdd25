"""Records, rows, leases, watermarks and events: what stands in NATS, field by field (contract, parts 5 and 6)."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from datetime import UTC, datetime
from typing import Any

from tests.acceptance.harness import Site, eventually, utc_now
from tests.acceptance.plain_queue import HAND, SECOND, put, queue_of, record_of
from tests.acceptance.standing import Standing

DAY_S = 24 * 3600
CLAIM_FLOOR_S = 30 * 60
SLOW = """
import asyncio
from scheduler.worker import Worker
worker = Worker('rows')
@worker.task('slow', max_tries=2)
async def slow(payload):
    await asyncio.sleep(3)
    return 1
worker.run()
"""
RECORD = {
    "id", "schedule", "generation", "epoch", "kind", "nominal_at", "fire_at", "queue", "type", "payload", "headers",
    "state", "reason", "attempt", "max_tries", "drive", "attempts_before", "worker", "task_seq", "queued_at",
    "started_at", "finished_at", "duration_s", "lateness_s", "result", "error", "history",
}  # fmt: skip
ROW = {
    "state", "error", "active", "waiting", "last_outcome", "previous_at", "next_nominal", "late_from",
    "decided", "fires",
}  # fmt: skip


async def stored(site: Site, bucket: str, key: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The value under a key and the headers it was written with."""
    subject = f"$KV.{bucket}.{key}"
    return await message_on(site, f"KV_{bucket}", subject)


async def message_on(site: Site, stream: str, subject: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The last message on a subject: its JSON and its headers."""
    message = (await site.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
    lines = base64.b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in lines if line)
    return json.loads(base64.b64decode(message["data"])), headers


def instant(text: str) -> datetime:
    """UTC with `Z` and exactly three decimals, or the test fails."""
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert len(text) == len("2026-11-21T08:00:00.000Z")
    return at


# --- records


async def test_a_record_from_its_claim_to_its_end(contract: Site, standing: Standing) -> None:
    """Every field of the contract, in the shape it has there, at each stage of an automatic run."""
    at = utc_now().replace(microsecond=0) + 2 * SECOND
    async with queue_of(contract, "whole") as queue:
        definition = {"at": at.isoformat(), "queue": "whole", "type": "a:b", "max_tries": 5, "headers": {"X-A": "1"}}
        revision = await put(contract, "whole", {**definition, "payload": {"n": 1}})
        message = await queue.next()
        id_ = message.headers["Schedd-Execution-Id"]
        waiting = await record_of(contract, id_, "queued")
        assert set(waiting) >= RECORD
        await message.ack()
        record = await record_of(contract, id_)
    epoch = (await standing.replica.metrics())["schedd_leader_epoch"]
    wanted = {
        "id": f"whole.{at:%Y%m%dT%H%M%S}000Z", "schedule": "whole", "generation": revision, "epoch": epoch,
        "kind": "auto", "nominal_at": f"{at:%Y-%m-%dT%H:%M:%S}.000Z", "fire_at": f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
        "queue": "whole", "type": "a:b", "payload": {"n": 1}, "headers": {"X-A": "1"}, "state": "succeeded",
        "reason": None, "attempt": 1, "max_tries": 5, "drive": 0, "attempts_before": 0, "worker": None,
        "task_seq": message.metadata.sequence.stream, "result": None, "error": None,
    }  # fmt: skip
    assert {name: record[name] for name in wanted} == wanted
    assert {name: waiting[name] for name in wanted} == {**wanted, "state": "queued", "attempt": 0}
    queued, finished = instant(record["queued_at"]), instant(record["finished_at"])
    assert at <= queued < finished
    assert abs(record["lateness_s"] - (queued - at).total_seconds()) < 0.0015
    assert record["lateness_s"] < 1
    assert (waiting["finished_at"], waiting["duration_s"]) == (None, None)
    assert [set(entry) for entry in record["history"]] == [{"at", "state", "note"}] * len(record["history"])
    assert [entry["state"] for entry in record["history"]] == ["claimed", "queued", "succeeded"]
    times = [instant(entry["at"]) for entry in record["history"]]
    assert times == sorted(times)


async def test_only_what_is_over_has_a_ttl(contract: Site) -> None:
    """None before; then the retention, seven days by default, and never less than the claim floor."""
    ages = {
        "default": (None, 7 * DAY_S),
        "long": ("30d", 30 * DAY_S),
        "longest": ("3650d", 3650 * DAY_S),
        "short": ("1s", CLAIM_FLOOR_S),
        "none": ("0s", CLAIM_FLOOR_S),
    }
    async with queue_of(contract, "ages") as queue:
        for name, (age, wanted_s) in ages.items():
            retention = {} if age is None else {"retention": {"age": age}}
            await put(contract, f"age-{name}", {**HAND, "queue": "ages", **retention})
            id_ = await queue.trigger(f"age-{name}")
            await record_of(contract, id_, "queued")
            _, before = await stored(contract, "schedd-executions", id_)
            assert "Nats-TTL" not in before
            await (await queue.next()).ack()
            await record_of(contract, id_)
            _, headers = await stored(contract, "schedd-executions", id_)
            assert headers["Nats-TTL"].removesuffix("s") == str(wanted_s), name
        _, claim = await claim_of(contract, id_)
        assert claim["Nats-TTL"].removesuffix("s") == str(CLAIM_FLOOR_S)


async def claim_of(site: Site, id_: str) -> tuple[None, dict[str, str]]:
    found = (await site.api("STREAM.MSG.GET.SCHEDD_TASKS", {"last_by_subj": f"schedd.claim.{id_}.0"}))["message"]
    lines = base64.b64decode(found["hdrs"]).decode().split("\r\n")[1:]
    return None, dict(line.split(": ", 1) for line in lines if line)


async def test_history_is_bounded(contract: Site) -> None:
    """However often it is handed back, a record keeps its beginning and its latest turns."""
    async with queue_of(contract, "turns", max_deliver=80) as queue:
        await put(contract, "turns", {**HAND, "queue": "turns", "max_tries": 100})
        id_ = await queue.trigger("turns")
        for _ in range(70):
            await (await queue.next()).nak()
        await (await queue.next()).ack()
        record = await record_of(contract, id_)
    assert (record["state"], record["attempt"]) == ("succeeded", 71)
    states = [entry["state"] for entry in record["history"]]
    assert len(states) <= 60
    assert (states[0], states[-1], set(states[2:-1])) == ("claimed", "succeeded", {"retrying"})


async def test_the_api_shows_the_record_as_stored(contract: Site) -> None:
    """`execution.get` and `execution.list` answer with the stored record; of a schedule or of all, newest first."""
    async with queue_of(contract, "shown") as queue:
        await put(contract, "shown", {**HAND, "queue": "shown", "payload": [1, {"b": None}]})
        ids = []
        for _ in range(3):
            ids.append(await queue.trigger("shown"))
            await (await queue.next()).ack()
            await record_of(contract, ids[-1])
            await asyncio.sleep(0.005)
    record, _ = await stored(contract, "schedd-executions", ids[0])
    assert await contract.request("execution.get", {"id": ids[0]}) == record
    listed = await contract.request("execution.list", {"schedule": "shown"})
    assert [item["id"] for item in listed["items"]] == ids[::-1]
    assert listed["items"][-1] == record
    assert listed["cursor"] is None
    recent = await contract.request("execution.list", {"queue": "shown", "state": "succeeded", "limit": 2})
    assert [item["id"] for item in recent["items"]] == ids[:0:-1]
    assert recent["cursor"] is not None


# --- rows


async def test_a_status_row_follows_its_schedule(contract: Site) -> None:
    """Active run, last outcome, the nominal before and the one to come, how often it fired by itself."""
    async with queue_of(contract, "row") as queue:
        await put(contract, "row", {"every": "2s", "type": "t", "queue": "row"})
        message = await queue.next()
        nominal = message.headers["Schedd-Nominal-At"]
        row, headers = await stored(contract, "schedd-status", "row")
        assert set(row) == ROW
        assert "Nats-TTL" not in headers
        assert (row["state"], row["error"], row["waiting"]) == ("active", None, [])
        assert row["active"] == [message.headers["Schedd-Execution-Id"]]
        await message.ack()

        async def followed() -> dict[str, Any] | None:
            found = await contract.status("row")
            return found if found["last_outcome"] and found["previous_at"] else None

        row = await eventually(followed, what="the row to follow")
        assert row["last_outcome"] == "succeeded"
        assert row["previous_at"] >= nominal
        assert row["fires"] >= 1
        assert (row["late_from"], row["decided"]) == (None, None)
        reply = await contract.request("schedule.get", {"id": "row"})
        status = reply["status"]
        assert set(status) == {"state", "next_at", "previous_at", "last_outcome", "active", "error"}
        assert instant(status["next_at"]) > instant(status["previous_at"])
        await contract.delete("row")


async def test_the_row_names_the_nominal_that_comes_next(contract: Site) -> None:
    """`next_nominal` is not the past of a schedule that fires; a paused or a manual one has none."""
    async with queue_of(contract, "next"):
        await put(contract, "next", {"every": "1s", "type": "t", "queue": "next", "overlap": "allow"})
        await put(contract, "next-never", {**HAND, "queue": "next"})
        await asyncio.sleep(3.5)
        row = await contract.status("next")
        assert row["fires"] >= 2
        assert instant(row["next_nominal"]) > instant(row["previous_at"])
        assert (await contract.status("next-never"))["next_nominal"] is None
        await contract.request("schedule.pause", {"id": "next"})
        assert (await contract.status("next"))["next_nominal"] is None
        await contract.delete("next")


async def test_an_invalid_row_says_why(contract: Site) -> None:
    """State, error and nothing to come; the next valid put clears both."""
    await contract.put("why", b'{"cron": "0 0 30 2 *", "queue": "q", "type": "t"}')

    async def told() -> dict[str, Any] | None:
        row = await contract.status("why")
        return row if row.get("state") == "invalid" else None

    row = await eventually(told, what="the row")
    assert set(row) == ROW
    assert "cron" in row["error"]
    assert (row["next_nominal"], row["active"], row["fires"]) == (None, [], 0)
    await put(contract, "why", {**HAND, "queue": "q"})
    row = await contract.status("why")
    assert (row["state"], row["error"]) == ("active", None)


# --- the daemon's own


async def test_lease_epoch_watermark_and_armed_bodies(contract: Site, standing: Standing) -> None:
    """Each body has the fields of the contract, and they agree with each other."""
    lease, _ = await stored(contract, "schedd-control", "leader")
    assert set(lease) == {"holder", "nonce", "replica", "version", "lease_s", "since"}
    assert lease["replica"] == "a"
    assert lease["holder"].startswith("a-")
    assert isinstance(lease["lease_s"], int | float)
    epoch, _ = await message_on(contract, "SCHEDD_TIMELINE", "schedd.epoch")
    assert set(epoch) == {"holder", "lease_rev", "at"}
    assert epoch["holder"] == lease["holder"]
    assert instant(lease["since"]) <= instant(epoch["at"]) < utc_now()
    revision = await put(contract, "armed", {"every": "1s", "type": "t", "queue": "armed", "start_delay": "10s"})
    mark, _ = await message_on(contract, "SCHEDD_TIMELINE", "schedd.watermark")
    assert set(mark) == {"until", "applied", "calendars"}
    assert mark["applied"] >= revision
    assert instant(mark["until"]) > utc_now() + 60 * SECOND
    at = (utc_now() + 20 * SECOND).replace(microsecond=0)
    subject = f"schedd.arm.armed.{at:%Y%m%dT%H%M%S}000Z"
    armed, headers = await message_on(contract, "SCHEDD_TIMELINE", subject)
    assert armed == {
        "v": 1, "generation": revision, "fire_at": f"{at + 10 * SECOND:%Y-%m-%dT%H:%M:%S}.000Z",
        "epoch": (await standing.replica.metrics())["schedd_leader_epoch"],
    }  # fmt: skip
    assert headers["Nats-Schedule"] == f"@at {armed['fire_at']}"
    assert headers["Nats-Schedule-Target"] == subject.replace(".arm.", ".due.")
    await contract.delete("armed")


async def test_a_worker_shows_itself(contract: Site) -> None:
    """The row of an SDK worker under a random key, with what it is and what it runs, with a TTL, gone at the end."""
    await put(contract, "rows", {**HAND, "queue": "rows", "type": "slow"})
    worker = contract.sdk_worker(SLOW)
    reply = await contract.request("schedule.trigger", {"id": "rows"})

    async def running() -> tuple[str, dict[str, Any]] | None:
        for key in await contract.keys("schedd-workers"):
            row = await contract.value("schedd-workers", key)
            if row and row["running"] and row["queues"] == ["rows"]:
                return key, row
        return None

    key, row = await eventually(running, within_s=20, what="a row that runs")
    assert set(row) >= {
        "worker", "host", "pid", "version", "queues", "types", "actions", "concurrency", "running", "started_at", "at",
    }  # fmt: skip
    assert (row["worker"], row["pid"], row["types"]) == (key, worker.pid, ["slow"])
    assert row["running"] == [{"id": reply["execution_id"], "attempt": 1}]
    _, headers = await stored(contract, "schedd-workers", key)
    assert int(headers["Nats-TTL"].removesuffix("s")) <= 60
    record = await record_of(contract, reply["execution_id"])
    assert (record["state"], record["worker"], record["result"]) == ("succeeded", key, 1)
    assert 2.9 < record["duration_s"] < 5


# --- events


async def cloud_event(site: Site, kind: str, subject: str) -> dict[str, Any]:
    """The last event of a kind about a subject, after a look at what every event has."""

    async def there() -> dict[str, Any] | None:
        found = await site.events(kind, subject)
        return found[-1] if found else None

    event = await eventually(there, what=f"an event {kind} of {subject}")
    assert set(event) == {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
    assert (event["specversion"], event["source"]) == ("1.0", "/schedd/schedd")
    assert (event["type"], event["subject"]) == (f"schedd.{kind}", subject)
    assert event["datacontenttype"] == "application/json"
    assert utc_now() - 600 * SECOND < instant(event["time"]) < utc_now() + SECOND
    return event


async def test_every_change_of_a_schedule_is_an_event(contract: Site) -> None:
    """Applied with the definition in force, paused, resumed, invalid, deleted: each names its revision."""
    definition = {**HAND, "queue": "told"}
    revision = await put(contract, "told", definition)
    event = await cloud_event(contract, "applied", "told")
    assert set(event["data"]) >= {"generation", "effective_from", "definition", "calendars", "tzdata"}
    assert (event["data"]["generation"], event["data"]["definition"]) == (revision, definition)
    instant(event["data"]["effective_from"])
    for verb, kind in (("pause", "paused"), ("resume", "resumed")):
        reply = await contract.request(f"schedule.{verb}", {"id": "told"})
        event = await cloud_event(contract, kind, "told")
        assert event["data"]["generation"] == reply["revision"]
        assert (await cloud_event(contract, "applied", "told"))["data"]["generation"] == reply["revision"]
    broken = await contract.put("told", b"{")
    event = await cloud_event(contract, "invalid", "told")
    assert event["data"]["generation"] == broken.revision
    assert event["data"]["error"]
    reply = await contract.request("schedule.delete", {"id": "told"})
    event = await cloud_event(contract, "deleted", "told")
    assert event["data"]["generation"] == reply["revision"]
    ids = [
        each["id"]
        for kind in ("applied", "paused", "resumed", "invalid", "deleted")
        for each in await contract.events(kind, "told")
    ]
    assert len(ids) == len(set(ids))


async def test_the_end_of_an_execution_is_an_event(contract: Site) -> None:
    """Once, with the execution and its state."""
    async with queue_of(contract, "ends") as queue:
        await put(contract, "ends", {**HAND, "queue": "ends"})
        id_ = await queue.trigger("ends")
        await (await queue.next()).term()
        await record_of(contract, id_)
    event = await cloud_event(contract, "finished", "ends")
    assert (event["data"]["execution_id"], event["data"]["state"]) == (id_, "failed")
    await asyncio.sleep(1)
    assert len(await contract.events("finished", "ends")) == 1


async def test_a_change_of_leader_is_an_event(site: Site) -> None:
    """Who leads, in which epoch: at the start, and again when another replica takes over."""
    [first] = await site.replicas("a")
    assert (await site.leader()) is first
    [second] = await site.replicas("b")
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0
    assert (await site.leader()) is second

    async def both() -> bool:
        return len(await site.events("leader", "_")) == 2

    await eventually(both, what="two events")
    await cloud_event(site, "leader", "_")
    told = [event["data"] for event in await site.events("leader", "_")]
    assert [data["replica"] for data in told] == ["a", "b"]
    assert told[0]["epoch"] < told[1]["epoch"] == (await second.metrics())["schedd_leader_epoch"]
    assert told[1]["holder"] == (await site.leader_record())["holder"]
