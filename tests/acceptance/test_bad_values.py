"""Bad values put straight into KV: each reported, none fired, everybody else unaffected (design, guarantee 6)."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from tests.acceptance.evidence import check, on_grid
from tests.acceptance.harness import Site, eventually, utc_now

GOOD = {"every": "1s", "queue": "default", "type": "tick", "overlap": "allow"}
CRON = {"cron": "* * * * * *", "queue": "default", "type": "tick"}


def value(base: dict[str, object], **more: object) -> bytes:
    return json.dumps({**base, **more}).encode()


BAD: dict[str, bytes] = {
    "invalid-json": b'{"every": "1s", "queue": ',
    "unknown-field": value(GOOD, evry="1s"),
    "impossible-cron": value(CRON, cron="0 0 30 2 *"),
    "unknown-zone": value(CRON, timezone="Europe/Atlantis"),
    "two-megabytes": value(GOOD, payload="x" * 2_000_000),
    "binary": bytes(range(256)) * 4,
    "empty": b"",
    "no-queue": b'{"every": "1s", "type": "t"}',
    "no-trigger": b'{"queue": "default", "type": "t"}',
    "two-triggers": value(GOOD, cron="* * * * *"),
    "no-calendar": value(GOOD, exclude=["holidays"]),
    "too-often": value(GOOD, every="1ms"),
    "deep": b"[" * 5000,
    "huge-number": b'{"every": "1s", "queue": "default", "type": "t", "max_tries": 1' + b"0" * 5000 + b"}",
    "list": b"[1, 2, 3]",
    "null": b"null",
    "string": b'"every 1s"',
    "reserved-header": value(GOOD, headers={"Nats-Rollup": "all"}),
    "newline-header": value(GOOD, headers={"a": "b\r\nNats-TTL: 1"}),
    "bad-queue": value(GOOD, queue="a.>"),
    "surrogate": b'{"every": "1s", "queue": "default", "type": "t", "name": "\\ud800"}',
    "not-a-number": b'{"every": "1s", "queue": "default", "type": "t", "payload": NaN}',
    "far-away": value(GOOD, every="99999999999999999999h"),
    "year-zero": b'{"at": "0000-01-01T00:00:00Z", "queue": "default", "type": "t"}',
}
POISON = 'schedd_dropped_total{reason="poison",what="due"}'
BAD_KEYS = ("_odd", "-dash", "ends-with-", "sl/ash", "eq=ual", "x" * 200)


async def test_each_bad_value_is_reported_and_nothing_else_suffers(site: Site) -> None:
    """Row, event and metric tell of each; the neighbours keep their grid; no replica restarts."""
    replicas = await site.replicas("a", "b")
    worker = site.worker("default")
    put = await site.put("good", GOOD)
    await asyncio.sleep(2)
    for key, body in BAD.items():
        await site.put(key, body)
    for key in BAD_KEYS:
        await site.put(key, value(GOOD))

    async def counted() -> bool:
        found = [(await replica.metrics())["schedd_invalid_schedules"] for replica in replicas]
        return found == [len(BAD) + len(BAD_KEYS)] * len(replicas)

    await eventually(counted, within_s=20, what=f"{len(BAD) + len(BAD_KEYS)} invalid schedules in the metrics")
    for key in BAD:
        row = await site.status(key)
        assert row.get("state") == "invalid", f"{key}: {row}"
        assert row["error"], key
        assert len(row["error"]) < 1000, key
        events = await site.events("invalid", key)
        assert events, key
        assert events[-1]["data"]["error"], key
    told = {event["data"]["key"] for event in await site.events("invalid", "_")}
    assert told >= {key[:256] for key in BAD_KEYS}
    await asyncio.sleep(3)
    expected = on_grid("good", timedelta(seconds=1), put.at, utc_now(), may_until=utc_now() + timedelta(minutes=5))
    await site.verify(expected, [worker], late_max_s=2.5)
    assert {each.id.rpartition(".")[0] for each in worker.deliveries()} == {"good"}
    assert set(await site.keys("schedd-status")) == {*BAD, "good"}
    for replica in replicas:
        assert replica.exit_code is None
        assert len(replica.events("ready")) == 1
        assert "Traceback" not in replica.log


async def test_a_bad_value_over_a_good_one_stops_it_until_it_is_repaired(site: Site) -> None:
    """Invalid: everything disarmed, nothing expected; repaired: it goes on, without what lay between."""
    await site.replicas("a")
    worker = site.worker("default")
    await site.put("tick", GOOD)
    await asyncio.sleep(2.5)
    broken = await site.put("tick", b"{nonsense")
    await asyncio.sleep(3.5)
    assert (await site.status("tick"))["state"] == "invalid"
    assert await site.stored_count("SCHEDD_TIMELINE", "schedd.arm.tick.*") == 0
    quiet = [each for each in worker.deliveries() if each.nominal_at > broken.at + timedelta(seconds=1)]
    assert not quiet
    repaired = await site.put("tick", GOOD)
    await asyncio.sleep(3.2)
    assert (await site.status("tick"))["state"] == "active"
    assert (await site.status("tick"))["error"] is None
    after = [each for each in worker.deliveries() if each.nominal_at > broken.at + timedelta(seconds=1)]
    assert min(each.nominal_at for each in after) > repaired.at
    wanted = on_grid("tick", timedelta(seconds=1), repaired.at, utc_now() - timedelta(seconds=1)).must
    assert wanted.keys() <= {each.id for each in after}


async def test_deleting_what_is_invalid_clears_every_report_of_it(site: Site) -> None:
    """A deleted bad value leaves neither row nor count behind."""
    [replica] = await site.replicas("a")
    await site.put("broken", b"{")
    await site.put("_odd", b"{}")

    async def count_is(count: int) -> bool:
        return (await replica.metrics())["schedd_invalid_schedules"] == count

    await eventually(lambda: count_is(2), what="two invalid schedules")
    await site.delete("broken")
    await site.delete("_odd")
    await eventually(lambda: count_is(0), what="no invalid schedule")

    async def forgotten() -> bool:
        return await site.keys("schedd-status") == []

    await eventually(forgotten, what="no row")


@pytest.mark.parametrize(
    "body", [b"{", *(pytest.param(each, marks=pytest.mark.slow) for each in (b"", b'{"v": 99}', bytes(200)))]
)
async def test_foreign_messages_on_our_own_subjects_break_nothing(site: Site, body: bytes) -> None:
    """Garbage on due subjects, in status rows, records, reports and the lease is survived."""
    replicas = await site.replicas("a", "b")
    worker = site.worker("default")
    put = await site.put("good", GOOD)
    await asyncio.sleep(1.5)
    await site.js.publish("schedd.due.good.20200101T000000000Z", body)
    await site.js.publish("schedd.due.nonsense", body)
    await site.js.publish("$KV.schedd-status.good", body)
    await site.js.publish("$KV.schedd-executions.good.20200101T000000000Z", body)
    await site.js.publish("schedd.report.default.good.20200101T000000000Z.1.started", body)
    await site.js.publish("schedd.report.default.nonsense", body)
    await site.js.publish("$KV.schedd-control.leader", body)
    await asyncio.sleep(5)
    expected = on_grid("good", timedelta(seconds=1), put.at, utc_now(), may_until=utc_now() + timedelta(minutes=5))
    deliveries, _ = await site.settle(expected, [worker], records=False)
    findings = check(expected, deliveries, late_max_s=10)
    assert findings.clean, f"an old nominal that the grid yields may not fire: {findings}"
    assert all(replica.exit_code is None for replica in replicas)
    assert await site.stored_count("SCHEDD_TIMELINE", "schedd.due.nonsense") == 0, "it is answered, and goes"
    poison = [(await replica.metrics()).get(POISON, 0) for replica in replicas]
    assert sum(poison) >= 1, "and is counted"
    assert await site.leader() in replicas, "a lease that is no record is taken anew"
    told = [line for line in site.complaints() if "Traceback" in line or "service_broke" in line]
    assert not told
