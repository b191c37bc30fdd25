"""Damaged files of a nats-server: a flipped bit, a block cut short or gone (F13).

A server that finds a damaged block after a kill -9 gives up all that lies behind the damage, says nothing of it to
anybody, and gives the sequences a second time. On one node that is a loss, so each test first asserts that the server
did lose something, with all replicas stopped, and then what schedd makes of it.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from nats.errors import Error as NatsError

from tests.acceptance.evidence import Delivery, Expected, check
from tests.acceptance.harness import TERMINAL, Site, eventually, first_fault
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import Replica
from tests.faults.damage import CUT, DELETE, FLIP, INDEX, damage
from tests.nats_servers import Cluster, Server

pytestmark = pytest.mark.timeout(300)
slow = pytest.mark.slow
TIMELINE, TASKS, SCHEDULES, EXECUTIONS = (
    "SCHEDD_TIMELINE",
    "SCHEDD_TASKS",
    "KV_schedd-schedules",
    "KV_schedd-executions",
)
LATE_S = 60.0


async def state_of(site: Site, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = (await site.api(f"STREAM.INFO.{stream}"))["state"]
    return found


async def lose(site: Site, server: Server, stream: str, how: str, dice: random.Random) -> None:
    """kill -9, damage, start: and the server has less than it had, before schedd could do anything about it."""
    replicas = [each for each in site.processes if isinstance(each, Replica)]
    before = await state_of(site, stream)
    for replica in replicas:
        replica.signal(signal.SIGSTOP)
    try:
        await server.kill()
        print(damage(site.folder, stream, how, dice))
        await server.start()
        await eventually(lambda: _answers(site), what="NATS")
        after = await state_of(site, stream)
    finally:
        for replica in replicas:
            replica.signal(signal.SIGCONT)
    print(
        f"{stream}: {before['messages']} messages to {before['last_seq']} -> {after['messages']}, {after['last_seq']}"
    )
    assert after["last_seq"] < before["last_seq"], "the server lost its end"


async def _answers(site: Site) -> bool:
    try:
        return bool(await site.api("INFO"))
    except NatsError:
        return False


def told(site: Site, event: str, stream: str) -> bool:
    lines = [line for each in site.processes if isinstance(each, Replica) for line in each.events(event)]
    return any(line.get("stream") == stream for line in lines)


async def audits(site: Site, puts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    requests = {id_: {"id": id_, "since": put.at.isoformat()} for id_, put in puts.items()}
    return {id_: await site.request("schedule.audit", request) for id_, request in requests.items()}


def of(deliveries: Iterable[Delivery], expected: Expected) -> list[Delivery]:
    """What was due by now; the rest goes on. The server was killed, and may have forgotten what it had delivered: the
    same task once more is a redelivery, whatever it counts."""
    found: dict[str, list[Delivery]] = {}
    for each in sorted(deliveries, key=lambda each: each.at):
        before = found.setdefault(each.id, [])
        again = any(other.seq == each.seq for other in before)
        before.append(structs.replace(each, delivered=max(each.delivered, 2)) if again else each)
    return [each for id_ in expected.must for each in found.get(id_, [])]


WHOLE = [  # what is planned from, known to all, or derived: nothing of it may be missing afterwards
    pytest.param(SCHEDULES, FLIP, id="schedules-flip"),
    pytest.param(SCHEDULES, CUT, id="schedules-cut", marks=slow),
    pytest.param(SCHEDULES, DELETE, id="schedules-delete", marks=slow),
    pytest.param(TIMELINE, FLIP, id="timeline-flip", marks=slow),
    pytest.param(TIMELINE, CUT, id="timeline-cut", marks=slow),
    pytest.param(TIMELINE, DELETE, id="timeline-delete", marks=slow),
    pytest.param("KV_schedd-status", FLIP, id="status-flip", marks=slow),
    pytest.param("KV_schedd-control", FLIP, id="control-flip", marks=slow),
    pytest.param("KV_schedd-control", DELETE, id="control-delete", marks=slow),
    pytest.param("SCHEDD_EVENTS", FLIP, id="events-flip", marks=slow),
]


@pytest.mark.parametrize(("stream", "how"), WHOLE)
async def test_a_damaged_block_of_the_only_node_costs_nothing(
    site: Site, server: Server, dice: random.Random, stream: str, how: str
) -> None:
    """Definitions, the timeline, rows, who leads: made up for from memory and from each other. Nothing is lost, doubled
    or unexplained, an edit made just then holds, and it is told."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="20s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(4)
    await lose(site, server, stream, how, dice)
    quick = {"every": "1s", "queue": "other", "type": "t"}
    other = site.worker("other")
    await eventually(lambda: _put(site, "new", quick), within_s=20, what="a put after the loss")
    await asyncio.sleep(8)
    await site.delete("new")
    expected = expected_of(puts)
    deliveries, records = await site.settle(expected, [worker], within_s=40)
    known = {id_: record for id_, record in records.items() if not id_.startswith("new.")}
    findings = check(expected, deliveries, known, late_max_s=LATE_S)
    print(findings)
    assert findings.clean, f"{findings}\n{first_fault(findings, deliveries, records)}"
    assert sorted(await site.keys("schedd-schedules")) == sorted(puts)
    assert other.deliveries(), "what was acknowledged after the loss is planned"
    was_told = told(site, "stream_cut", stream)
    assert was_told or stream != SCHEDULES  # others are filled up again within a second, and hide it
    print(f"told: {was_told}")
    assert sum(audit["unexplained"] for audit in (await audits(site, puts)).values()) == 0
    assert all(replica.exit_code is None for replica in replicas)
    await site.replicas("c", SCHEDD_HORIZON="20s")  # knows only what is stored
    for replica in replicas:
        await replica.kill()
    before = len(worker.deliveries())

    async def goes_on() -> bool:
        return len({each.id.partition(".")[0] for each in worker.deliveries()[before:]}) == len(puts)

    await eventually(goes_on, within_s=40, what="every schedule going on")


async def _put(site: Site, key: str, value: Mapping[str, Any]) -> int | None:
    """Answered by schedd; None while it cannot."""
    body = json.dumps({"id": key, "schedule": value}).encode()
    try:
        message = await site.client.request("schedd.api.v1.schedule.put", body, timeout=14)
    except NatsError:
        return None
    revision: int | None = json.loads(message.data).get("revision")
    return revision


@slow
@pytest.mark.parametrize("how", [FLIP, DELETE])
async def test_tasks_in_a_damaged_block_end_as_lost(site: Site, server: Server, dice: random.Random, how: str) -> None:
    """Tasks that nobody had taken: each was delivered, once, or its record says that NATS lost it; none is called a
    success that nobody worked on."""
    await site.replicas("a", "b", SCHEDD_HORIZON="20s")
    puts = await put_many(site, 10)
    await asyncio.sleep(6)
    waiting = await site.stored_count(TASKS, "schedd.task.>")
    assert waiting > 30
    await lose(site, server, TASKS, how, dice)
    left = await site.stored_count(TASKS, "schedd.task.>")
    worker = site.worker("herd")
    await asyncio.sleep(8)
    expected = expected_of(puts)

    async def ended() -> dict[str, Any] | None:
        records = await site.records()
        open_ = [id_ for id_ in expected.must if records.get(id_, {}).get("state") not in TERMINAL]
        return None if open_ else records

    records = await eventually(ended, within_s=60, what="every record to end")
    delivered = {each.id for each in worker.deliveries()}
    lost = {id_ for id_ in expected.must if records[id_]["state"] == "lost"}
    print(f"{waiting} waited, {left} were left; {len(lost)} of {len(expected.must)} ended as lost")
    assert lost
    assert {records[id_]["reason"] for id_ in lost} == {"stream_lost"}
    odd = {id_: (records[id_]["state"], records[id_]["reason"]) for id_ in (expected.must.keys() - delivered) ^ lost}
    assert not odd, odd
    seqs = [(each.id, each.seq) for each in worker.deliveries()]
    assert len(set(seqs)) == len({id_ for id_, _ in seqs}), "one occurrence as two tasks"
    assert told(site, "stream_cut", TASKS)
    assert sum(audit["unexplained"] for audit in (await audits(site, puts)).values()) == 0


@slow
@pytest.mark.parametrize("how", [FLIP, DELETE])
async def test_records_in_a_damaged_block_are_told_by_audit(
    site: Site, server: Server, dice: random.Random, how: str
) -> None:
    """What ran is not run again for it; records that went back to an earlier state come to their end again, and those
    that are gone are counted by audit as unexplained, no fewer and no more."""
    await site.replicas("a", "b", SCHEDD_HORIZON="20s")
    worker = site.worker("herd")
    puts = await put_many(site, 10)
    await asyncio.sleep(6)
    await lose(site, server, EXECUTIONS, how, dice)
    await asyncio.sleep(8)
    expected = expected_of(puts)

    async def ended() -> dict[str, Any] | None:
        records = await site.records()
        open_ = [id_ for id_ in expected.must if id_ in records and records[id_]["state"] not in TERMINAL]
        return None if open_ else records

    records = await eventually(ended, within_s=120, what="every record that is left to end")  # two rounds and a grace
    findings = check(expected, of(worker.deliveries(), expected), late_max_s=LATE_S)
    print(findings)
    assert findings.clean, findings
    gone = expected.must.keys() - records.keys()
    told_of = await audits(site, puts)
    unexplained = {
        (id_, each["nominal_at"])
        for id_, audit in told_of.items()
        for each in audit["occurrences"]
        if each["verdict"] == "unexplained"
    }
    print(f"{len(gone)} of {len(expected.must)} records are gone, audit tells of {len(unexplained)}")
    assert gone or how == FLIP, "an earlier state of each may be left before the damage"
    assert len(unexplained) == len(gone)
    assert told(site, "stream_cut", EXECUTIONS)


@slow
async def test_a_damaged_index_costs_nothing(site: Site, server: Server, dice: random.Random) -> None:
    """What a server writes when it is stopped, to start the faster: damaged, it reads the blocks instead."""
    await site.replicas("a", "b", SCHEDD_HORIZON="20s")
    worker = site.worker("herd")
    puts = await put_many(site, 10)
    await asyncio.sleep(4)
    await server.stop()
    for stream in (TIMELINE, SCHEDULES, EXECUTIONS):
        print(damage(site.folder, stream, INDEX, dice))
    await server.start()
    await asyncio.sleep(8)
    await site.verify(expected_of(puts), [worker], late_max_s=LATE_S, within_s=40)


@slow
async def test_a_flipped_bit_behind_a_clean_stop(site: Site, server: Server, dice: random.Random) -> None:
    """The server trusts its index and finds the damage only when it reads the message: that definition is put back. If
    the server forgets it each time, that is told, and the replicas carry it out all the same."""
    await site.replicas("a", "b", SCHEDD_HORIZON="20s")
    worker = site.worker("herd")
    puts = await put_many(site, 20)
    await asyncio.sleep(4)
    await server.stop()
    print(damage(site.folder, SCHEDULES, FLIP, dice))
    await server.start()
    await asyncio.sleep(8)
    await site.verify(expected_of(puts), [worker], late_max_s=LATE_S, within_s=40)
    kept = set(await site.keys("schedd-schedules")) & puts.keys()
    assert kept == puts.keys() or told(site, "definitions_not_kept", SCHEDULES)
    values = [await site.value("schedd-schedules", id_) for id_ in kept]
    assert all(value is not None and value["every"] == "1s" for value in values)


@slow
@pytest.mark.cluster
@pytest.mark.parametrize("stream", [TIMELINE, TASKS, SCHEDULES, EXECUTIONS])
async def test_a_damaged_block_of_one_node_of_three_costs_nothing(
    cluster: Cluster, tmp_path: Path, dice: random.Random, stream: str
) -> None:
    """The node that leads the stream is killed, its block damaged, and started; then it has to lead again: nothing is
    lost, doubled or unexplained."""
    env = {"SCHEDD_STREAM_REPLICAS": "3", "SCHEDD_LEASE": "8", "SCHEDD_HORIZON": "20s"}
    async with Site(tmp_path, cluster.urls, env=env) as site:
        await site.replicas("a", "b")
        worker = site.worker("herd")
        puts = await put_many(site, 20)
        await asyncio.sleep(5)
        name = await cluster.leader_of(stream)
        before = await state_of(site, stream)
        await cluster.kill(name)
        print(name, damage(cluster.folder / name, stream, FLIP, dice))
        await cluster.start(name)
        await asyncio.sleep(10)
        for other in cluster.servers:  # the damaged one leads, if it is let
            if other != name and await cluster.leader_of(stream) == other:
                await cluster.kill(other)
                await asyncio.sleep(8)
                await cluster.start(other)
        after = await eventually(lambda: _state(site, stream), within_s=30, what="the stream")
        print(f"{before['last_seq']} -> {after['last_seq']}, led by {await cluster.leader_of(stream)}")
        assert after["last_seq"] >= before["last_seq"]
        await asyncio.sleep(8)
        await site.verify(expected_of(puts), [worker], late_max_s=LATE_S, within_s=60)
        assert sum(audit["unexplained"] for audit in (await audits(site, puts)).values()) == 0


async def _state(site: Site, stream: str) -> dict[str, Any] | None:
    try:
        return await state_of(site, stream)
    except (NatsError, KeyError):
        return None
