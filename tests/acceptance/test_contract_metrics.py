"""The monitor port: every metric of the contract by name, type and labels, after real traffic; healthz and readyz."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.harness import Site, eventually, utc_now
from tests.acceptance.plain_queue import HAND, put, queue_of, record_of
from tests.acceptance.processes import Replica
from tests.acceptance.standing import Standing
from tests.nats_servers import Server

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

METRICS: dict[str, tuple[str, set[str]]] = {
    "leader": ("gauge", set()),
    "leader_epoch": ("gauge", set()),
    "leader_transitions_total": ("counter", set()),
    "schedules": ("gauge", {"state"}),
    "planned_until_timestamp_seconds": ("gauge", set()),
    "occurrences_armed_total": ("counter", set()),
    "occurrences_total": ("counter", {"verdict", "reason"}),
    "fire_lateness_seconds": ("histogram", set()),
    "dispatch_batch_size": ("histogram", set()),
    "executions_total": ("counter", {"queue", "state"}),
    "execution_duration_seconds": ("histogram", {"queue"}),
    "queue_pending": ("gauge", {"queue"}),
    "queue_ack_pending": ("gauge", {"queue"}),
    "reconciler_repairs_total": ("counter", {"kind"}),
    "fenced_writes_total": ("counter", set()),
    "invalid_schedules": ("gauge", set()),
    "reports_lag": ("gauge", set()),
    "api_requests_total": ("counter", {"endpoint", "code"}),
    "nats_reconnects_total": ("counter", set()),
    "build_info": ("gauge", {"version", "replica", "namespace", "python"}),
}


async def get(replica: Replica, path: str, *, accept: str = "", method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body."""
    address = (await replica.logged("http.listening"))["address"]
    request = urllib.request.Request(f"http://{address}{path}", headers={"Accept": accept}, method=method)

    def ask() -> tuple[int, str, str]:
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, reply.headers["Content-Type"], reply.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers["Content-Type"], refusal.read().decode()

    return await asyncio.to_thread(ask)


async def families(replica: Replica) -> dict[str, Metric]:
    """What Prometheus would read, by family; a counter's family has no `_total`."""
    _, _, body = await get(replica, "/metrics")
    return {family.name: family for family in text_string_to_metric_families(body)}


async def grown(replica: Replica, before: dict[str, float], wanted: dict[str, float]) -> None:
    """Wait until these series have grown by exactly so much."""
    last: dict[str, float] = {}

    async def there() -> bool:
        now = await replica.metrics()
        last.update({name: now.get(name, 0) - before.get(name, 0) for name in wanted})
        return all(last[name] >= value for name, value in wanted.items())

    try:
        await eventually(there, what="the counters")
    finally:
        assert last == wanted


async def traffic(site: Site) -> dict[str, Any]:
    """One of each: a run by reports, one that fails, one that is skipped, one waiting, one delivered, a bad value."""
    claim = {"Nats-Expected-Last-Subject-Sequence": "0"}
    await put(site, "skips", {"manual": True, "type": "t", "queue": "m-wait"})
    await put(site, "works", {**HAND, "queue": "m-work"})
    await site.put("m-bad", b"{")
    await site.request("schedule.get", {"id": "m-none"})
    async with queue_of(site, "m-work") as work, queue_of(site, "m-wait") as wait:
        done = await work.trigger("works")
        message = await work.next()
        await site.js.publish(f"schedd.report.m-work.{done}.1.started", b'{"worker": "w"}', headers=claim)
        await site.js.publish(f"schedd.report.m-work.{done}.1.finished", b'{"outcome": "succeeded"}')
        await message.ack()
        failed = await work.trigger("works")
        await (await work.next()).term()
        await wait.trigger("skips")
        skipped = (await site.request("schedule.trigger", {"id": "skips"}))["execution_id"]
        await wait.trigger("skips", overlap="allow")
        held = await wait.next()
        for id_ in (done, failed, skipped):
            await record_of(site, id_)
        return {"held": held}


async def test_every_metric_of_the_contract_counts_what_it_says(contract: Site, standing: Standing) -> None:
    """Names, types, labels, help; and the numbers after traffic of a known size."""
    replica = standing.replica
    before = await replica.metrics()
    held = (await traffic(contract))["held"]
    await grown(
        replica,
        before,
        {
            'schedd_executions_total{queue="m-work",state="succeeded"}': 1,
            'schedd_executions_total{queue="m-work",state="failed"}': 1,
            'schedd_executions_total{queue="m-wait",state="skipped"}': 1,
            'schedd_occurrences_total{reason="manual",verdict="fired"}': 4,
            'schedd_occurrences_total{reason="overlap",verdict="skipped"}': 1,
            "schedd_fire_lateness_seconds_count": 4,
            'schedd_execution_duration_seconds_count{queue="m-work"}': 1,
            'schedd_queue_pending{queue="m-wait"}': 1,
            'schedd_queue_ack_pending{queue="m-wait"}': 1,
            "schedd_invalid_schedules": 1,
            'schedd_schedules{state="invalid"}': 1,
            'schedd_schedules{state="active"}': 2,
            'schedd_api_requests_total{code="ok",endpoint="schedule.trigger"}': 5,
            'schedd_api_requests_total{code="not_found",endpoint="schedule.get"}': 1,
            "schedd_fenced_writes_total": 0,
        },
    )
    await held.ack()
    found = await families(replica)
    for name, (kind, labels) in METRICS.items():
        family = found.get(f"schedd_{name.removesuffix('_total')}")
        assert family is not None, name
        assert family.type == kind, name
        assert family.documentation, name
        assert family.samples, name
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == labels, name
    assert {name for name in found if not name.startswith("schedd_")} == set()


async def test_automatic_fires_count(contract: Site, standing: Standing) -> None:
    """Armed ahead, dispatched in batches, fired with reason auto, in time."""
    before = await standing.replica.metrics()
    async with queue_of(contract, "m-auto") as queue:
        await put(contract, "m-auto", {"every": "1s", "type": "t", "queue": "m-auto", "overlap": "allow"})
        for _ in range(2):
            await (await queue.next()).ack()
        await contract.delete("m-auto")
    fired = 'schedd_occurrences_total{reason="auto",verdict="fired"}'

    async def counted() -> dict[str, float] | None:  # a worker may be faster than the record that counts
        found = await standing.replica.metrics()
        return found if found.get(fired, 0) - before.get(fired, 0) >= 2 else None

    after = await eventually(counted, what="two fires")
    assert after["schedd_occurrences_armed_total"] - before["schedd_occurrences_armed_total"] > 60
    assert after["schedd_dispatch_batch_size_count"] > before["schedd_dispatch_batch_size_count"]
    late = [
        after[name] - before[name]
        for name in ("schedd_fire_lateness_seconds_sum", "schedd_fire_lateness_seconds_count")
    ]
    assert late[0] / late[1] < 1


async def test_who_leads_and_how_far(contract: Site, standing: Standing) -> None:
    """The leader's epoch is the sequence of the epoch message; planning is two minutes ahead; another does not lead."""
    now_s = utc_now().timestamp()
    found = await standing.replica.metrics()
    message = (await contract.api("STREAM.MSG.GET.SCHEDD_TIMELINE", {"last_by_subj": "schedd.epoch"}))["message"]
    assert (found["schedd_leader"], found["schedd_leader_epoch"]) == (1, message["seq"])
    assert found["schedd_leader_transitions_total"] == 1
    assert now_s + 90 < found["schedd_planned_until_timestamp_seconds"] < now_s + 150
    other = standing.start("b")
    try:
        await other.ready()
        metrics = await other.metrics()
        assert (metrics["schedd_leader"], metrics["schedd_leader_epoch"]) == (0, 0)
        assert metrics["schedd_leader_transitions_total"] == 0
        build = next(iter((await families(other))["schedd_build_info"].samples))
        assert (build.value, build.labels["replica"], build.labels["namespace"]) == (1, "b", "schedd")
    finally:
        await other.kill()


async def test_openmetrics_for_who_asks(standing: Standing) -> None:
    """By the Accept header; anybody else gets the text format. Both are read by Prometheus' own parsers."""
    status, kind, body = await get(standing.replica, "/metrics", accept=OPENMETRICS)
    assert status == 200
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    names = {family.name for family in openmetrics.text_string_to_metric_families(body)}
    assert {f"schedd_{name.removesuffix('_total')}" for name in METRICS} <= names
    for accept in ("", "*/*", "text/html"):
        status, kind, body = await get(standing.replica, "/metrics", accept=accept)
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert "# TYPE schedd_leader gauge" in body


async def test_the_monitor_port_changes_nothing(standing: Standing) -> None:
    """Nothing but GET, no path but its own."""
    for path in ("/metrics", "/healthz", "/readyz"):
        status, _, _ = await get(standing.replica, path, method="POST")
        assert status == 405
    for path in ("/api/v1/schedules", "/metrics/x", "/..%2f"):
        status, _, _ = await get(standing.replica, path)
        assert status == 404


@pytest.mark.timeout(60)
async def test_health_and_readiness_while_nats_is_away(server: Server, site: Site) -> None:
    """Away: well, but not ready, and why. Back: ready again, by itself, and the reconnect is counted."""
    [replica] = await site.replicas("a")
    for path in ("/healthz", "/readyz"):
        status, kind, body = await get(replica, path)
        assert (status, kind.split(";")[0], json.loads(body)["ok"]) == (200, "application/json", True)
    await server.kill()

    async def readiness(wanted: int) -> bool:
        status, _, body = await get(replica, "/readyz")
        return status == wanted and (wanted == 200 or "NATS" in body)

    await eventually(lambda: readiness(503), what="503 of readyz")
    assert (await get(replica, "/healthz"))[0] == 200
    assert (await replica.metrics())["schedd_nats_reconnects_total"] == 0
    await asyncio.sleep(1)
    assert (await get(replica, "/healthz"))[0] == 200
    await server.start()
    await eventually(lambda: readiness(200), within_s=20, what="200 of readyz")
    assert (await replica.metrics())["schedd_nats_reconnects_total"] == 1
    assert replica.exit_code is None


async def test_readiness_while_a_replica_waits_for_nats(server: Server, site: Site) -> None:
    """Started before its NATS: the port is there, healthy and not ready, and it becomes ready when NATS comes."""
    await server.kill()
    replica = site.replica("early")
    await replica.logged("http.listening")
    assert (await get(replica, "/healthz"))[0] == 200
    assert (await get(replica, "/readyz"))[0] == 503
    await server.start()
    await replica.ready()
    assert (await get(replica, "/readyz"))[0] == 200
