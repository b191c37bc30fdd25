"""A minute without NATS, ended by kill -9: what its deduplication knew is gone, what schedd knows is not (F5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.evidence import check, id_of
from tests.acceptance.harness import TERMINAL, Site, eventually, utc_now
from tests.acceptance.herd import expected_of, put_many
from tests.nats_servers import Server

DOWN_S = 60.0
MODES = ("latest", "none", "all")
PROBE = "probe"


async def repeats_are_known(site: Site) -> bool:
    """Whether the server recognises a message that it has had, and that was taken out since."""
    ack = await site.js.publish(PROBE, b"", headers={"Nats-Msg-Id": "once"})
    await site.api("STREAM.PURGE.PROBE")
    return bool(ack.duplicate)


async def audit_of(site: Site, schedule: str, since: datetime, until: datetime) -> dict[str, Any]:
    request = {"id": schedule, "since": since.isoformat(), "until": until.isoformat()}
    return await site.request("schedule.audit", request)


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_a_minute_without_nats_is_late_once_and_audited(site: Site, server: Server) -> None:
    """kill -9, a minute of nothing, back: what allows for ten minutes is late by the outage and once, the others go by
    their catch-up, and an audit explains every nominal time of either."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    await site.js.add_stream(name="PROBE", subjects=[PROBE])
    assert [await repeats_are_known(site) for _ in range(2)] == [False, True]
    puts = await put_many(site, 20)
    tick = {"every": "1s", "queue": "herd", "type": "t", "overlap": "allow"}
    modes = {mode: await site.put(mode, {**tick, "catch_up": {"mode": mode}}) for mode in MODES}
    await asyncio.sleep(6)
    await server.kill()
    down = utc_now()
    await asyncio.sleep(DOWN_S)
    up = utc_now()
    assert not [each for each in worker.deliveries() if down + timedelta(seconds=1) < each.at < up], "nothing came"
    await server.start()
    assert not await repeats_are_known(site), "the server still knew what it had before"
    await asyncio.sleep(20)
    expected = expected_of(puts)
    deliveries, records = await site.settle(expected, [worker], within_s=60)
    mine = [each for each in deliveries if each.id.partition(".")[0] in puts]
    known = {id_: record for id_, record in records.items() if id_.partition(".")[0] in puts}
    findings = check(expected, mine, known, late_max_s=DOWN_S + 20)
    print(findings)
    assert findings.clean, findings
    assert findings.worst_late_s > DOWN_S - 5, "something was due when the outage began"
    ids = [(each.id, each.seq) for each in deliveries]
    assert len({id_ for id_, _ in ids}) == len(set(ids)), "one occurrence as two tasks"
    until = utc_now() - timedelta(seconds=6)
    began = {**{id_: put.at for id_, put in puts.items()}, **{id_: put.at for id_, put in modes.items()}}

    async def explained() -> dict[str, dict[str, Any]] | None:
        audits = {id_: await audit_of(site, id_, at, until) for id_, at in began.items()}
        return audits if not any(audit["unexplained"] for audit in audits.values()) else None

    audits = await eventually(explained, within_s=60, what="every audit to add up")
    assert all(audits[id_]["expected"] == sum(audits[id_]["verdicts"].values()) > DOWN_S for id_ in began)
    _check_modes(audits, {each.id for each in deliveries}, down, up)
    assert all(replica.exit_code is None for replica in replicas)
    assert all(record["state"] in TERMINAL for id_, record in records.items() if id_ in expected.must)


def _check_modes(audits: Mapping[str, Mapping[str, Any]], tasks: set[str], down: datetime, up: datetime) -> None:
    """What was due in the outage and certainly too late: all of it fired, the newest at most, or none."""
    late = {
        mode: [
            each
            for each in audits[mode]["occurrences"]
            if down + timedelta(seconds=2) < datetime.fromisoformat(each["nominal_at"]) < up - timedelta(seconds=15)
        ]
        for mode in MODES
    }
    assert all(len(found) > DOWN_S - 20 for found in late.values())
    fired = {mode: [each for each in found if each["verdict"] == "fired"] for mode, found in late.items()}
    print({mode: f"{len(fired[mode])} of {len(late[mode])} fired" for mode in MODES})
    assert len(fired["all"]) == len(late["all"])
    assert not fired["none"]
    assert len(fired["latest"]) <= 1
    for mode, found in fired.items():
        assert {id_of(mode, datetime.fromisoformat(each["nominal_at"])) for each in found} <= tasks
