"""Provisioning against real servers: everything of the contract is made, kept, and never damaged."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.errors import KeyWrongLastSequenceError, ServerError

from scheduler.core.errors import Unavailable
from scheduler.jetstream.buckets import NatsBucket
from scheduler.jetstream.provisioning import births, ensure_queue, provision, restore
from scheduler.jetstream.requests import Message, Requests
from scheduler.jetstream.topology import topology
from scheduler.system.clock import SystemClock
from scheduler.wire.names import Names
from tests.integration.provisioned import EVERYTHING, NAMES, config_of
from tests.nats_servers import connected


async def _change(requests: Requests, stream: str, **changes: Any) -> None:
    await requests.api(f"STREAM.UPDATE.{stream}", {**await config_of(requests, stream), **changes})


# --- made


async def test_everything_is_made_once(requests: Requests) -> None:
    """The first pass makes all of it, a second one and a restore find nothing to do."""
    assert len(await provision(requests, NAMES)) == EVERYTHING
    assert await provision(requests, NAMES) == []
    assert await restore(requests, NAMES) == []
    assert len(await provision(requests, Names("team-1"))) == EVERYTHING


async def test_what_the_contract_says(requests: Requests) -> None:
    """The settings that the contract names are in force on the server."""
    await provision(requests, NAMES)
    timeline = await config_of(requests, "SCHEDD_TIMELINE")
    assert timeline["subjects"] == ["schedd.arm.>", "schedd.due.>", "schedd.epoch", "schedd.watermark"]
    assert timeline["retention"] == "workqueue"
    assert timeline["allow_msg_schedules"]
    assert timeline["allow_msg_ttl"]
    assert timeline["allow_atomic"]
    assert (timeline["max_msgs"], timeline["max_bytes"], timeline["max_age"]) == (-1, -1, 0)
    tasks = await config_of(requests, "SCHEDD_TASKS")
    assert (tasks["retention"], tasks["discard"], tasks["allow_atomic"], tasks["allow_msg_ttl"]) == (
        "workqueue",
        "new",
        True,
        True,
    )
    schedules = await config_of(requests, "KV_schedd-schedules")
    assert (schedules["deny_purge"], schedules["max_msgs_per_subject"]) == (True, 1)
    assert not (await config_of(requests, "KV_schedd-control"))["allow_direct"]
    day_ns = 86_400 * 10**9
    ages = {word: (await config_of(requests, f"SCHEDD_{word}"))["max_age"] for word in ("REPORTS", "EVENTS", "LOGS")}
    assert ages == {"REPORTS": 7 * day_ns, "EVENTS": 30 * day_ns, "LOGS": 7 * day_ns}
    due = (await requests.api("CONSUMER.INFO.SCHEDD_TIMELINE.dispatcher"))["config"]
    assert (due["filter_subject"], due["ack_wait"], due["max_ack_pending"]) == ("schedd.due.>", 5 * 10**9, 5120)
    assert (due["max_deliver"], due["max_waiting"]) == (-1, 512)


async def test_any_kv_client_may_work_on_schedules(requests: Requests, nats_client: Client) -> None:
    """An ordinary KV client puts, reads, updates, lists, watches and deletes; purging and roll-ups are refused."""
    await provision(requests, NAMES)
    js = nats_client.jetstream()
    bucket = await js.key_value("schedd-schedules")
    watcher = await bucket.watchall()
    revision = await bucket.put("a.b", b"1")
    entry = await bucket.get("a.b")
    assert (entry.value, entry.revision) == (b"1", revision)
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.create("a.b", b"2")
    revision = await bucket.update("a.b", b"2", last=revision)
    assert await bucket.keys() == ["a.b"]
    with pytest.raises(ServerError):
        await bucket.purge("a.b")
    with pytest.raises(ServerError):
        await js.publish("$KV.schedd-schedules.a.b", b"", headers={"Nats-Rollup": "all"})
    await bucket.delete("a.b")
    seen = [update async for update in _updates(watcher, 3)]
    assert [update.operation for update in seen] == [None, None, "DEL"]
    await watcher.stop()
    ours = await NatsBucket(requests, "schedd-schedules").get("a.b")
    assert ours is not None
    assert ours.deleted


async def _updates(watcher: Any, count: int) -> Any:
    while count:
        update = await watcher.updates(timeout=5)
        if update is not None:
            count -= 1
            yield update


async def test_the_timeline_fires(requests: Requests, nats_client: Client) -> None:
    """A message armed for now comes out of the dispatcher's consumer as a due message."""
    await provision(requests, NAMES)
    at = datetime.now(UTC) + timedelta(milliseconds=300)
    headers = {"Nats-Schedule": f"@at {at.isoformat()}", "Nats-Schedule-Target": "schedd.due.a.x"}
    await requests.publish(Message("schedd.arm.a.x", b"body", headers))
    consumer = await nats_client.jetstream().pull_subscribe_bind("dispatcher", "SCHEDD_TIMELINE")
    (message,) = await consumer.fetch(1, timeout=5)
    assert (message.subject, message.data) == ("schedd.due.a.x", b"body")
    await message.ack()
    await consumer.unsubscribe()


async def test_acks_of_tasks_are_recorded(requests: Requests, nats_client: Client) -> None:
    """What becomes of a task, ack, nak and term, is in the advisories stream; API calls are not."""
    await provision(requests, NAMES)
    await ensure_queue(requests, NAMES, "Q")
    js = nats_client.jetstream()
    consumer = await js.pull_subscribe_bind("Q", "SCHEDD_TASKS")
    for number in range(3):
        await js.publish(f"schedd.task.Q.{number}", b"")
    first, second, third = await consumer.fetch(3, timeout=5)
    await first.ack()
    await second.nak(delay=60)
    await third.term()
    async with asyncio.timeout(5):
        while (await requests.api("STREAM.INFO.SCHEDD_ADVISORIES"))["state"]["messages"] < 3:
            await asyncio.sleep(0.02)
    info = await requests.api("STREAM.INFO.SCHEDD_ADVISORIES", {"subjects_filter": ">"})
    assert sorted(info["state"]["subjects"]) == [
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.SCHEDD_TASKS.Q",
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.SCHEDD_TASKS.Q",
        "$JS.EVENT.METRIC.CONSUMER.ACK.SCHEDD_TASKS.Q",
    ]
    await consumer.unsubscribe()


# --- kept


async def test_drift_is_repaired(requests: Requests) -> None:
    """What the guarantees rest on is set back; what belongs to the operator stays, a further subject too."""
    await provision(requests, NAMES)
    subjects = [*(await config_of(requests, "SCHEDD_TASKS"))["subjects"], "theirs.>"]
    await _change(requests, "SCHEDD_TASKS", discard="old", description="mine", subjects=subjects)
    await _change(requests, "SCHEDD_EVENTS", max_age=10**15)
    await _change(requests, "KV_schedd-control", allow_direct=True)
    await _change(requests, "SCHEDD_TIMELINE", max_msgs=10)
    assert sorted(await restore(requests, NAMES)) == [
        "repaired stream KV_schedd-control: allow_direct",
        "repaired stream SCHEDD_TASKS: discard",
        "repaired stream SCHEDD_TIMELINE: max_msgs",
    ]
    tasks = await config_of(requests, "SCHEDD_TASKS")
    assert (tasks["discard"], tasks["description"], tasks["subjects"]) == ("new", "mine", subjects)
    assert (await config_of(requests, "SCHEDD_EVENTS"))["max_age"] == 10**15
    assert await restore(requests, NAMES) == []


async def test_consumers_come_back(requests: Requests, nats_client: Client) -> None:
    """A deleted consumer is made again, a changed one set back."""
    await provision(requests, NAMES)
    js = nats_client.jetstream()
    await js.delete_consumer("SCHEDD_TIMELINE", "dispatcher")
    info = await requests.api("CONSUMER.INFO.SCHEDD_REPORTS.tracker")
    request = {"stream_name": "SCHEDD_REPORTS", "config": {**info["config"], "max_ack_pending": 1}}
    await requests.api("CONSUMER.CREATE.SCHEDD_REPORTS.tracker", request)
    assert sorted(await restore(requests, NAMES)) == [
        "created consumer dispatcher of SCHEDD_TIMELINE",
        "repaired consumer tracker of SCHEDD_REPORTS",
    ]
    assert await restore(requests, NAMES) == []


async def test_a_queue_keeps_its_numbers(requests: Requests) -> None:
    """A queue is made once with the numbers given; what somebody changes later stays."""
    await provision(requests, NAMES)
    assert await ensure_queue(requests, NAMES, "EMAIL", ack_wait_s=2, max_deliver=7)
    config = (await requests.api("CONSUMER.INFO.SCHEDD_TASKS.EMAIL"))["config"]
    assert (config["ack_wait"], config["max_deliver"]) == (2 * 10**9, 7)
    request = {"stream_name": "SCHEDD_TASKS", "config": {**config, "max_deliver": 3}}
    await requests.api(f"CONSUMER.CREATE.SCHEDD_TASKS.EMAIL.{config['filter_subject']}", request)
    assert not await ensure_queue(requests, NAMES, "EMAIL", ack_wait_s=2, max_deliver=7)
    assert (await requests.api("CONSUMER.INFO.SCHEDD_TASKS.EMAIL"))["config"]["max_deliver"] == 3


async def test_history_is_not_cut(requests: Requests, nats_client: Client) -> None:
    """A bucket that a user made first, with history, keeps its values and its history."""
    bucket = await nats_client.jetstream().create_key_value(bucket="schedd-schedules", history=5)
    for number in range(3):
        await bucket.put("a", b"%d" % number)
    await provision(requests, NAMES)
    assert (await requests.api("STREAM.INFO.KV_schedd-schedules"))["state"]["messages"] == 3
    assert (await config_of(requests, "KV_schedd-schedules"))["deny_purge"]
    (entry,) = await NatsBucket(requests, "schedd-schedules").changes_since(0)
    assert entry.value == b"2"


async def test_what_cannot_be_undone_stays(requests: Requests) -> None:
    """A bucket made by another client with TTLs and without deletes is used as it is; the rest is repaired."""
    name = "KV_schedd-schedules"
    made = {"name": name, "subjects": ["$KV.schedd-schedules.>"], "max_msgs_per_subject": 1, "storage": "file"}
    liberal = {
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "discard": "old",
        "max_age": 10**15,
    }
    await requests.api(f"STREAM.CREATE.{name}", {**made, **liberal})
    began = time.monotonic()
    await provision(requests, NAMES)
    assert time.monotonic() - began < 5
    config = await config_of(requests, name)
    assert (config["discard"], config["max_age"], config["allow_rollup_hdrs"], config["deny_purge"]) == (
        "new",
        0,
        False,
        True,
    )
    await NatsBucket(requests, "schedd-schedules").put("a", b"1")


async def test_a_vital_setting_that_the_server_refuses(requests: Requests) -> None:
    """A bucket whose keys can never expire is not good enough for executions: told at once, with the reason."""
    name = "KV_schedd-executions"
    made = {"name": name, "subjects": ["$KV.schedd-executions.>"], "max_msgs_per_subject": 1, "storage": "file"}
    await requests.api(f"STREAM.CREATE.{name}", {**made, "allow_msg_counter": True})
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"stream KV_schedd-executions: .*counter"):
        await provision(requests, NAMES)
    assert time.monotonic() - began < 5


async def test_a_lost_stream_never_repeats_a_sequence(requests: Requests, nats_client: Client) -> None:
    """Streams deleted from an installation in use come back with sequences above all that were ever given."""
    await provision(requests, NAMES)
    epoch = await requests.publish(Message("schedd.epoch", b"{}"))
    schedules = NatsBucket(requests, "schedd-schedules")
    revision = await schedules.put("a", b"1")
    await nats_client.jetstream().delete_stream("SCHEDD_TIMELINE")
    await restore(requests, NAMES)
    again = await requests.publish(Message("schedd.epoch", b"{}"))
    assert again.seq > epoch.seq
    await nats_client.jetstream().delete_stream("KV_schedd-schedules")
    await restore(requests, NAMES)
    assert await schedules.put("a", b"1") > revision
    assert await schedules.last_revision() == (await schedules.changes_since(0))[-1].revision


async def test_the_first_sequence_is_one(requests: Requests) -> None:
    """A new installation counts from 1, whichever of several replicas made which stream."""
    async with connected(requests.client.connected_url.geturl()) as other:
        made = await asyncio.gather(*(provision(each, NAMES) for each in (requests, other, requests, other)))
    assert sum(map(len, made)) >= EVERYTHING
    for stream in topology(NAMES).streams:
        assert (await requests.api(f"STREAM.INFO.{stream.name}"))["state"]["last_seq"] == 0
    assert await provision(requests, NAMES) == []


async def test_births(requests: Requests) -> None:
    """When each stream was made; None for one that is gone, another time once it is made anew, above all that was."""
    await provision(requests, NAMES)
    before = await births(requests, NAMES)
    assert set(before) == {stream.name for stream in topology(NAMES).streams}
    assert None not in before.values()
    assert await births(requests, NAMES) == before
    await requests.api(f"STREAM.DELETE.{NAMES.tasks}")
    assert (await births(requests, NAMES)) == {**before, NAMES.tasks: None}
    await restore(requests, NAMES, clock=SystemClock())
    after = await births(requests, NAMES)
    assert {name for name, born in after.items() if born != before[name]} == {NAMES.tasks}
    state = (await requests.api(f"STREAM.INFO.{NAMES.tasks}"))["state"]
    assert state["first_seq"] > 10**12
