"""Everything at once: ten thousand due at one second, a thousand every second, fifty thousand definitions in one go,
more requests than a replica takes (F16)."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.evidence import Expected, id_of, on_grid
from tests.acceptance.harness import Site, eventually, utc_now
from tests.acceptance.herd import SECOND
from tests.acceptance.processes import ROOT, Replica, clean_environment

pytestmark = pytest.mark.timeout(420)
AT_ONCE = 500
SPARE_MB = 60.0
"""What a replica may keep of a herd: CPython gives back to the system only pages in which nothing at all is left."""


def quantiles(values: Sequence[float]) -> str:
    found = sorted(values)
    return ", ".join(f"{name} {found[min(len(found) - 1, int(part * len(found)))]:.3f}" for name, part in POINTS)


POINTS = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


async def put_all(site: Site, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    ids = list(values)
    puts: dict[str, Any] = {}
    for first in range(0, len(ids), AT_ONCE):
        some = ids[first : first + AT_ONCE]
        puts |= zip(some, await asyncio.gather(*(site.put(id_, values[id_]) for id_ in some)), strict=True)
    return puts


async def armed(site: Site, count: int, within_s: float) -> None:
    async def all_are() -> bool:
        return await site.stored_count("SCHEDD_TIMELINE", "schedd.arm.>") >= count

    await eventually(all_are, within_s=within_s, what=f"{count} to be armed")


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_a_herd_at_one_second(site: Site, count: int) -> None:
    """All of them through the whole product, three replicas on one server: each once, and queued within seconds; the
    memory that the herd took comes back."""
    replicas = await site.replicas("a", "b", "c")
    workers = [site.worker("default", name=f"w{number}") for number in range(2)]
    lead_s = 8 + count / 80
    at = utc_now().replace(microsecond=0) + lead_s // 1 * SECOND
    value = {"at": at.isoformat(), "queue": "default", "type": "herd", "catch_up": {"after": "10m"}}
    await put_all(site, {f"herd-{number}": value for number in range(count)})
    await armed(site, count, within_s=30 + count / 60)
    before = [replica.memory_mb for replica in replicas]
    assert utc_now() < at, "all of them were armed in time"
    await asyncio.sleep((at - utc_now()).total_seconds())
    expected = Expected({id_of(f"herd-{number}", at): at for number in range(count)})
    limit_s = 5 + count / 200  # 200 a second, on two cores that others use too
    await site.verify(expected, workers, late_max_s=limit_s, within_s=30 + count / 100)
    records = await site.records()
    lateness = [record["lateness_s"] for record in records.values()]
    print(f"{count} due at one instant, queued late by (s): {quantiles(lateness)}")
    assert max(lateness) < limit_s
    assert {replica.name for replica in replicas if await dispatched(replica)} == {"a", "b", "c"}, "all took part"
    await memory_comes_back(replicas, before)


async def dispatched(replica: Replica) -> float:
    metrics = await replica.metrics()
    return sum(value for name, value in metrics.items() if name.startswith("schedd_occurrences_total{"))


async def memory_comes_back(replicas: Sequence[Replica], before: Sequence[float]) -> None:
    async def is_back() -> bool:
        return all(each.memory_mb < was + SPARE_MB for each, was in zip(replicas, before, strict=True))

    now = [f"{each.name} {each.memory_mb:.0f}" for each in replicas]
    print(f"memory in MB: {', '.join(now)}; before {[round(was) for was in before]}")
    await eventually(is_back, within_s=30, what="the memory to come back")


@pytest.mark.slow
async def test_a_thousand_every_second_for_a_minute(site: Site) -> None:
    """60,000 fires in a minute from 1,000 schedules: none lost or doubled, and it never falls behind for long."""
    replicas = await site.replicas("a", "b", "c", SCHEDD_HORIZON="20s")
    workers = [site.worker("herd", name=f"w{number}") for number in range(2)]
    tick = {"every": "1s", "queue": "herd", "type": "t", "overlap": "allow", "catch_up": {"after": "10m"}}
    ends_at = utc_now().replace(microsecond=500_000) + timedelta(seconds=80)
    tick |= {"retention": {"age": "1h"}, "ends_at": ends_at.isoformat()}
    puts = await put_all(site, {f"tick-{number:04d}": tick for number in range(1000)})
    assert ends_at - utc_now() > timedelta(seconds=62), "the machine is too slow: there is no minute left"
    await asyncio.sleep((ends_at - utc_now()).total_seconds())
    expected = Expected({})
    for id_, put in puts.items():
        expected |= on_grid(id_, SECOND, put.at, ends_at)
    assert len(expected.must) > 60_000
    findings = await site.verify(expected, workers, late_max_s=40, within_s=60)
    records = await site.records()
    lateness = [records[id_]["lateness_s"] for id_ in expected.must]
    print(f"{findings.expected} in a minute, queued late by (s): {quantiles(lateness)}")
    print(f"memory: {', '.join(f'{each.name} {each.memory_mb:.0f} MB' for each in replicas)}")
    assert all(replica.exit_code is None for replica in replicas)


def definitions(count: int) -> list[dict[str, Any]]:
    """Cron schedules of the year, so that memory is that of the definitions alone."""
    return [
        {
            "id": f"job-{number:05d}",
            "cron": f"{number % 60} {number % 24} 1 1 *",
            "timezone": "Europe/Berlin",
            "queue": "mail",
            "type": "report",
            "payload": {"number": number},
        }
        for number in range(count)
    ]


PER_SCHEDULE_KB = 12.0
"""Of a replica, for a definition as stored, parsed and compiled (a cron with a time zone, a small payload)."""


LONG = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("count", [pytest.param(500, marks=pytest.mark.slow), pytest.param(50_000, marks=LONG)])
async def test_definitions_applied_at_once(site: Site, tmp_path: Path, count: int) -> None:
    """`schedctl apply` of a file of all of them: all are stored and active, replicas stay ready meanwhile, and a
    replica's memory grows by no more than the definitions need."""
    replicas = await site.replicas("a", "b", "c")
    before = [replica.memory_mb for replica in replicas]
    file = tmp_path / "all.json"
    file.write_text(json.dumps(definitions(count)))
    began = utc_now()
    applying = await schedctl(site, "apply", "-f", str(file), "--yes")
    told = asyncio.create_task(applying.communicate())  # it tells of each: who does not listen holds it up
    unready = 0
    while not told.done():
        unready += sum(
            status != 200 for status, _ in await asyncio.gather(*(each.http("/readyz") for each in replicas))
        )
        await asyncio.wait([told], timeout=1)
    output = (await told)[0].decode()
    assert applying.returncode == 0, output[-2000:]
    took_s = (utc_now() - began).total_seconds()
    counts = (await site.request("status.get"))["schedules"]
    assert counts["active"] == count, counts
    grown = [each.memory_mb - was for each, was in zip(replicas, before, strict=True)]
    per_kb = max(grown) * 1024 / count
    print(f"{count} applied in {took_s:.1f} s; grown by (MB): {[round(each) for each in grown]}, {per_kb:.1f} KB each")
    assert unready == 0
    assert max(grown) < SPARE_MB + count * PER_SCHEDULE_KB / 1024


async def schedctl(site: Site, *arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "cli.schedctl", *arguments]
    env = {**clean_environment(), "NATS_URL": site.url, "SCHEDD_NAMESPACE": "schedd"}
    return await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=ROOT
    )


class Flood:
    """Requests sent as fast as the connection takes them, with one inbox for all answers."""

    def __init__(self, site: Site) -> None:
        self._client = site.client
        self.answers: dict[int, dict[str, Any]] = {}

    async def send(self, endpoint: str, bodies: Sequence[Mapping[str, Any]]) -> None:
        inbox = self._client.new_inbox()
        await self._client.subscribe(inbox + ".*", cb=self._on_answer)
        for number, body in enumerate(bodies):
            subject = f"schedd.api.v1.{endpoint}"
            await self._client.publish(subject, json.dumps(body).encode(), reply=f"{inbox}.{number}")

    async def _on_answer(self, message: Any) -> None:
        self.answers[int(message.subject.rpartition(".")[2])] = json.loads(message.data)


@pytest.mark.slow
async def test_requests_beyond_the_limit_are_refused_at_once(site: Site) -> None:
    """More puts at one moment than a replica answers at once (4,096): each is answered within seconds, done or refused
    as unavailable with a sentence; what is said to be done is stored, and then there is room again."""
    [replica] = await site.replicas("a")
    value = {"cron": "0 0 1 1 *", "queue": "q", "type": "t"}
    count = 8000
    flood, asked = Flood(site), utc_now()
    replica.signal(signal.SIGSTOP)  # so that they all are there when it looks
    await flood.send("schedule.put", [{"id": f"r-{number}", "schedule": value} for number in range(count)])
    await asyncio.sleep(0.5)
    replica.signal(signal.SIGCONT)

    async def all_answered() -> bool:
        return len(flood.answers) == count

    await eventually(all_answered, within_s=25, what="an answer to each")
    took_s = (utc_now() - asked).total_seconds()
    refused = [reply for reply in flood.answers.values() if "code" in reply]
    done = {reply["id"] for reply in flood.answers.values() if "code" not in reply}
    print(f"{len(done)} done, {len(refused)} refused within {took_s:.2f} s")
    assert refused, "the limit was reached"
    assert {reply["code"] for reply in refused} == {"unavailable"}
    words = Counter("busy" if "requests already: try again" in reply["message"] else "not applied" for reply in refused)
    assert words["busy"] > count / 4, (words, refused[0])
    assert done, "and some were done"
    assert done <= set(await site.keys("schedd-schedules"))

    async def has_room() -> bool:
        return "id" in await site.request("schedule.put", {"id": "later", "schedule": value})

    await eventually(has_room, within_s=20, what="room again")
