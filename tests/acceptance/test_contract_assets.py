"""Everything in NATS, by its name and the configuration that matters (contract, part 1), for two namespaces at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.errors import TimeoutError as NoTask
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError

from tests.acceptance.harness import Site, eventually
from tests.acceptance.processes import Replica
from tests.acceptance.standing import Standing, end, wait_for
from tests.nats_servers import Server

DAY_NS = 24 * 3600 * 1_000_000_000
WHAT: dict[str, Any] = {"queue": "q", "type": "t"}
NAMESPACES = [("schedd", "SCHEDD"), ("team1", "TEAM1")]
BUCKETS = ("schedules", "executions", "status", "control", "calendars", "workers")
NO_LIMITS = {"max_age": 0, "max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1, "max_msg_size": -1}
LIMITS = {"retention": "limits"}
WORK_QUEUE = {"retention": "workqueue", "allow_atomic": True, "allow_msg_ttl": True}
HISTORY_1 = {"max_msgs_per_subject": 1, "max_age": 0, "retention": "limits", "discard": "new"}

STREAMS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "TIMELINE": (
        ["{ns}.arm.>", "{ns}.due.>", "{ns}.epoch", "{ns}.watermark"],
        {**WORK_QUEUE, **NO_LIMITS, "allow_msg_schedules": True, "discard": "old"},
    ),
    "TASKS": (["{ns}.task.>", "{ns}.claim.>"], {**WORK_QUEUE, "discard": "new", "allow_msg_schedules": False}),
    "REPORTS": (["{ns}.report.>"], {**LIMITS, "max_age": 7 * DAY_NS}),
    "EVENTS": (["{ns}.event.>"], {**LIMITS, "max_age": 30 * DAY_NS}),
    "LOGS": (["{ns}.log.>"], {**LIMITS, "max_age": 7 * DAY_NS}),
    "ADVISORIES": (
        [
            "$JS.EVENT.METRIC.CONSUMER.ACK.{NS}_TASKS.*",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.{NS}_TASKS.*",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{NS}_TASKS.*",
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{NS}_TASKS.*",
        ],
        {**LIMITS, "max_age": DAY_NS},
    ),
    "KV_{ns}-schedules": (["$KV.{ns}-schedules.>"], {**HISTORY_1, "deny_purge": True}),
    "KV_{ns}-executions": (["$KV.{ns}-executions.>"], {**HISTORY_1, "allow_msg_ttl": True}),
    "KV_{ns}-status": (["$KV.{ns}-status.>"], HISTORY_1),
    "KV_{ns}-control": (["$KV.{ns}-control.>"], {**HISTORY_1, "allow_direct": False, "allow_msg_ttl": False}),
    "KV_{ns}-calendars": (["$KV.{ns}-calendars.>"], HISTORY_1),
    "KV_{ns}-workers": (["$KV.{ns}-workers.>"], {**HISTORY_1, "allow_msg_ttl": True}),
}


@pytest.fixture(scope="module")
def team(standing: Standing) -> Iterator[Replica]:
    """A second namespace on the same server, with a replica of its own."""
    replica = standing.start("b", SCHEDD_NAMESPACE="team1")
    try:
        wait_for(replica, "leadership_gained")
        yield replica
    finally:
        end(replica)


@pytest.fixture
async def site(contract: Site, team: Replica) -> Site:
    """Both namespaces are up."""
    return contract


async def infos(site: Site) -> dict[str, dict[str, Any]]:
    """Every stream on the server by name, with when it was created."""
    return {each["config"]["name"]: each for each in (await site.api("STREAM.LIST"))["streams"]}


async def configs(site: Site) -> dict[str, dict[str, Any]]:
    return {name: each["config"] for name, each in (await infos(site)).items()}


async def tasks_of(site: Site, queue: str, stream: str = "SCHEDD_TASKS", *, wait_s: float = 5) -> Any:
    """The next task of a queue, pulled and acknowledged by plain nats-py."""

    async def there() -> bool:
        names = (await site.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or []
        return queue in names

    await eventually(there, what=f"the consumer {queue}")
    subscription = await site.js.pull_subscribe_bind(queue, stream=stream)
    try:
        [message] = await subscription.fetch(1, timeout=wait_s)
        await message.ack_sync()
    finally:
        await subscription.unsubscribe()
    return message


def full(template: str, namespace: str, upper: str) -> str:
    name = template if template.startswith("KV_") else "{NS}_" + template
    return name.format(ns=namespace, NS=upper)


# --- streams and buckets


async def test_there_is_nothing_else(site: Site) -> None:
    """Six streams and six buckets per namespace, and not one stream more."""
    wanted = {full(name, *namespace) for namespace in NAMESPACES for name in STREAMS}
    assert set(await configs(site)) == wanted


@pytest.mark.parametrize(("namespace", "upper"), NAMESPACES)
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_what_the_contract_says(site: Site, name: str, namespace: str, upper: str) -> None:
    """Subjects exactly, retention, flags and ages."""
    subjects, wanted = STREAMS[name]
    config = (await configs(site))[full(name, namespace, upper)]
    assert config["subjects"] == [subject.format(ns=namespace, NS=upper) for subject in subjects]
    found = {key: config.get(key, False) for key in wanted}
    assert found == wanted
    assert (config["storage"], config["num_replicas"]) == ("file", 1)


async def test_logs_are_bounded_per_execution(site: Site) -> None:
    """One execution that never stops logging cannot fill the stream."""
    assert 0 < (await configs(site))["SCHEDD_LOGS"]["max_msgs_per_subject"] <= 100_000


async def test_buckets_are_buckets_of_nats_py(site: Site) -> None:
    """Each opens by `js.key_value`, shows history 1, and takes put, get and delete; schedules refuse a purge."""
    for bucket in BUCKETS:
        status = await (await site.js.key_value(f"schedd-{bucket}")).status()
        assert (status.history, status.bucket) == (1, f"schedd-{bucket}")
    kv = await site.js.key_value("schedd-schedules")
    await kv.put("purged", json.dumps({**WHAT, "manual": True}).encode())
    with pytest.raises(APIError):
        await kv.purge("purged")
    with pytest.raises(KeyError):
        await site.api("STREAM.PURGE.KV_schedd-schedules", {"filter": "$KV.schedd-schedules.purged"})
    assert await site.value("schedd-schedules", "purged") is not None
    await kv.delete("purged")


async def test_control_holds_the_lease_and_a_copy_of_the_watermark(site: Site) -> None:
    """`leader` and `schema` at once, `watermark` within ten seconds."""
    lease = await site.leader_record()
    assert lease["replica"] == "a"
    other = await site.value("team1-control", "leader")
    assert other
    assert other["replica"] == "b"

    async def copied() -> dict[str, Any] | None:
        return await site.value("schedd-control", "watermark")

    copy = await eventually(copied, within_s=12, what="the copy of the watermark")
    assert {"until", "applied", "calendars"} <= set(copy)
    schema = await site.value("schedd-control", "schema")
    assert schema
    assert schema["schema"] == 1


async def test_a_replica_older_than_what_is_stored_does_not_start(server: Server, tmp_path: Path) -> None:
    """One clear sentence and exit code 5: it would misread what newer ones wrote."""
    async with Site(tmp_path, server.url) as site:
        await site.replicas("a")
        await (await site.js.key_value("schedd-control")).put("schema", b'{"schema": 99, "tzdata": "2026a"}')
        old = site.replica("old")
        assert await old.ended() == 5
        assert "schema 99" in old.log
        assert "Traceback" not in old.log


# --- consumers


@pytest.mark.parametrize(("namespace", "upper"), NAMESPACES)
@pytest.mark.parametrize(
    ("stream", "name", "subject"),
    [("TIMELINE", "dispatcher", "{ns}.due.>"), ("REPORTS", "tracker", None), ("ADVISORIES", "tracker", None)],
)
async def test_the_daemon_pulls_by_durable_consumers(
    site: Site, stream: str, name: str, subject: str | None, namespace: str, upper: str
) -> None:
    """Shared by all replicas: explicit acks, pulled, redelivered for ever, room for the pulls of five replicas."""
    found = (await site.api(f"CONSUMER.INFO.{upper}_{stream}.{name}"))["config"]
    assert found["durable_name"] == name
    assert found.get("filter_subject") == (subject.format(ns=namespace) if subject else None)
    assert "deliver_subject" not in found
    assert (found["ack_policy"], found["deliver_policy"], found["max_deliver"]) == ("explicit", "all", -1)
    assert found["max_ack_pending"] >= 5 * 4 * 256
    names = (await site.api(f"CONSUMER.NAMES.{upper}_{stream}"))["consumers"]
    assert names == [name]


@pytest.mark.parametrize(("namespace", "upper"), NAMESPACES)
async def test_a_queue_is_a_consumer_of_its_name(site: Site, namespace: str, upper: str) -> None:
    """Made by the daemon as soon as a schedule names the queue, before anything fires, with the queue's defaults."""
    queue = "Q_-9" + "q" * 60
    kv = await site.js.key_value(f"{namespace}-schedules")
    await kv.put("named", json.dumps({"cron": "0 0 1 1 *", "queue": queue, "type": "t"}).encode())

    async def made() -> dict[str, Any] | None:
        try:
            return (await site.api(f"CONSUMER.INFO.{upper}_TASKS.{queue}"))["config"]
        except KeyError:
            return None

    found = await eventually(made, what="the consumer")
    wanted = {
        "durable_name": queue,
        "filter_subject": f"{namespace}.task.{queue}.>",
        "sample_freq": "100",
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": 30 * 1_000_000_000,
        "max_deliver": 20,
        "max_ack_pending": 1000,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert "deliver_subject" not in found
    await kv.delete("named")


async def test_an_operators_numbers_stay_and_what_tracking_needs_is_mended(site: Site) -> None:
    """A consumer made before its queue keeps ack_wait, max_deliver and max_ack_pending; sampling is switched on."""
    config = ConsumerConfig(
        durable_name="mine",
        filter_subject="schedd.task.mine.>",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=7,
        max_deliver=3,
        max_ack_pending=11,
    )
    await site.js.add_consumer("SCHEDD_TASKS", config)
    await site.put("operated", {"manual": True, "queue": "mine", "type": "t"})

    async def sampled() -> bool:
        found = (await site.api("CONSUMER.INFO.SCHEDD_TASKS.mine"))["config"]
        assert (found["ack_wait"], found["max_deliver"], found["max_ack_pending"]) == (7_000_000_000, 3, 11)
        return found.get("sample_freq") == "100"

    await eventually(sampled, what="the sampling")
    config.ack_wait, config.max_deliver, config.sample_freq = 9, 5, "100"
    await site.js.add_consumer("SCHEDD_TASKS", config)
    await asyncio.sleep(2)  # two rounds of the reconciler
    found = (await site.api("CONSUMER.INFO.SCHEDD_TASKS.mine"))["config"]
    assert (found["ack_wait"], found["max_deliver"], found["sample_freq"]) == (9_000_000_000, 5, "100")
    await site.delete("operated")


async def test_a_consumer_that_somebody_deleted_comes_back(site: Site) -> None:
    """The reconciler restores queues and the daemon's own consumers."""
    await site.put("restored", {"cron": "0 0 1 1 *", "queue": "restored", "type": "t"})

    async def there() -> bool:
        names = [(await site.api(f"CONSUMER.NAMES.SCHEDD_{each}"))["consumers"] or [] for each in ("TASKS", "REPORTS")]
        return "restored" in names[0] and "tracker" in names[1]

    await eventually(there, what="the queue")
    await site.api("CONSUMER.DELETE.SCHEDD_TASKS.restored")
    await site.api("CONSUMER.DELETE.SCHEDD_REPORTS.tracker")
    await eventually(there, within_s=15, what="both consumers")
    await site.delete("restored")


async def test_a_second_replica_changes_nothing(site: Site, standing: Standing) -> None:
    """Provisioning what is there already makes nothing anew and rewrites no configuration."""

    async def everything() -> dict[str, Any]:
        return {name: (each["created"], each["config"]) for name, each in (await infos(site)).items()}

    before = await everything()
    replica = standing.start("a2")
    try:
        await replica.ready()
        assert await everything() == before
    finally:
        await replica.kill()


# --- subjects of what passes through


async def test_what_passes_through_has_the_subjects_of_the_contract(site: Site) -> None:
    """Armed, due, claim and task, by their subjects; the claim goes before its task and holds nothing but a TTL."""
    await site.put("way", {**WHAT, "every": "1s", "queue": "way"})
    message = await tasks_of(site, "way")
    execution = message.headers["Schedd-Execution-Id"]
    assert message.subject == f"schedd.task.way.{execution}"
    claim = (await site.api("STREAM.MSG.GET.SCHEDD_TASKS", {"last_by_subj": f"schedd.claim.{execution}.0"}))["message"]
    assert claim["seq"] == message.metadata.sequence.stream - 1
    assert "data" not in claim
    info = await site.api("STREAM.INFO.SCHEDD_TIMELINE", {"subjects_filter": "schedd.arm.way.*"})
    armed = sorted(info["state"]["subjects"])
    assert len(armed) > 60, "two minutes ahead"
    assert all(len(subject.removeprefix("schedd.arm.way.")) == len("20261121T080000000Z") for subject in armed)
    await site.delete("way")


async def test_two_namespaces_do_not_see_each_other(site: Site, standing: Standing, team: Replica) -> None:
    """The same id in both: each fires in its own streams, answers as its own service, and counts its own."""
    value = {**WHAT, "manual": True, "queue": "both", "payload": "one"}
    kv = await site.js.key_value("schedd-schedules")
    await kv.put("twin", json.dumps(value).encode())
    await (await site.js.key_value("team1-schedules")).put("twin", json.dumps({**value, "payload": "two"}).encode())
    await asyncio.sleep(0.5)
    reply = await site.client.request("team1.api.v1.schedule.trigger", b'{"id":"twin"}', timeout=5)
    assert json.loads(reply.data)["state"] == "queued", reply.data
    message = await tasks_of(site, "both", "TEAM1_TASKS")
    assert (message.data, message.subject.split(".")[:3]) == (b'"two"', ["team1", "task", "both"])
    assert {name for name in message.headers if not name.startswith("Nats-")} >= {"Schedd-Execution-Id", "Schedd-Kind"}
    with pytest.raises(NoTask):
        await tasks_of(site, "both", wait_s=0.5)
    await kv.delete("twin")
    await asyncio.sleep(0.5)
    assert await site.value("team1-schedules", "twin") is not None
    there = json.loads((await site.client.request("team1.api.v1.schedule.get", b'{"id":"twin"}', timeout=5)).data)
    assert there["status"]["state"] == "active"
    assert (await site.request("schedule.get", {"id": "twin"}))["code"] == "not_found"
    for service, replica in (("schedd", standing.replica), ("team1", team)):
        found = json.loads((await site.client.request(f"$SRV.INFO.{service}", b"", timeout=5)).data)
        assert found["name"] == service
        assert all(each["subject"].startswith(f"{service}.api.v1.") for each in found["endpoints"])
        metrics = await replica.metrics()
        assert metrics["schedd_leader"] == 1
    subject = {"last_by_subj": "team1.event.applied.twin"}
    event = await site.api("STREAM.MSG.GET.TEAM1_EVENTS", subject)
    assert event["message"]["subject"] == "team1.event.applied.twin"
