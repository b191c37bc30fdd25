"""The main job from outside: any NATS client puts a schedule, any NATS client does the work."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

import pytest

from tests.acceptance.evidence import on_grid
from tests.acceptance.harness import Site, utc_now
from tests.acceptance.processes import clean_environment

TWO_S = timedelta(seconds=2)
HELLO = {"every": "2s", "queue": "default", "type": "hello", "payload": {"n": 1}}


@pytest.mark.parametrize("run_s", [12, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
async def test_a_schedule_put_by_any_client_becomes_tasks_for_any_client(site: Site, run_s: int) -> None:
    """Each instant of the grid is one task, on time, with body and headers as promised, and ends as succeeded."""
    await site.replicas("a")
    put = await site.put("hello", HELLO)
    worker = site.worker("default")
    await asyncio.sleep(run_s)
    expected = on_grid("hello", TWO_S, put.at, utc_now(), may_until=utc_now() + timedelta(minutes=5))
    findings = await site.verify(expected, [worker], late_max_s=1.5)
    assert findings.expected >= run_s // 2 - 1
    assert not findings.redelivered
    for each in worker.deliveries():
        assert each.body == '{"n":1}'
        nominal = each.nominal_at
        assert {name: text for name, text in each.headers.items() if not name.startswith("Nats-")} == {
            "Schedd-Execution-Id": each.id,
            "Schedd-Schedule-Id": "hello",
            "Schedd-Type": "hello",
            "Schedd-Kind": "auto",
            "Schedd-Nominal-At": _text(nominal),
            "Schedd-Fire-At": _text(nominal),
            "Schedd-Previous-At": _text(nominal - TWO_S),
            "Schedd-Next-At": _text(nominal + TWO_S),
            "Schedd-Max-Tries": "3",
            "Schedd-Generation": str(put.revision),
            "Schedd-Drive": each.headers["Schedd-Drive"],
            "Schedd-Attempts-Before": "0",
        }


def _text(at: object) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


async def test_records_say_what_the_contract_says(site: Site) -> None:
    """A record of a plain worker's run carries the contract's fields, with instants in an order that makes sense."""
    await site.replicas("a")
    put = await site.put("hello", HELLO)
    worker = site.worker("default")
    await asyncio.sleep(5)
    expected = on_grid("hello", TWO_S, put.at, utc_now(), may_until=utc_now() + timedelta(minutes=5))
    _, records = await site.settle(expected, [worker])
    for id_, nominal_at in expected.must.items():
        record = records[id_]
        assert record["id"] == id_
        assert record["schedule"] == "hello"
        assert record["generation"] == put.revision
        assert record["kind"] == "auto"
        assert record["state"] == "succeeded"
        assert record["queue"] == "default"
        assert record["payload"] == {"n": 1}
        assert record["nominal_at"] == record["fire_at"] == _text(nominal_at)
        assert record["fire_at"] <= record["queued_at"] <= record["finished_at"]
        assert 0 <= record["lateness_s"] < 2
        assert [line["state"] for line in record["history"]][:2] == ["claimed", "queued"]
        assert record["history"][-1]["state"] == "succeeded"
        assert record["epoch"] > 0
        assert record["task_seq"] in {each.seq for each in worker.deliveries() if each.id == id_}
    status = await site.status("hello")
    assert status["state"] == "active"
    assert status["last_outcome"] == "succeeded"
    assert status["active"] == []


async def test_status_names_leader_epoch_replicas_and_watermark(site: Site) -> None:
    """`status.get` tells who leads with which epoch, which replicas there are and how far is planned."""
    await site.replicas("a", "b")
    await site.put("hello", HELLO)
    leader = await site.leader()
    await asyncio.sleep(1)
    status = await site.request("status.get")
    assert status["leader"]["replica"] == leader.name
    assert status["leader"]["epoch"] > 0
    assert {each["replica"] for each in status["replicas"]} == {"a", "b"}
    assert status["planned_until"] > _text(utc_now())
    assert status["schedules"]["active"] == 1


async def schedctl(site: Site, *arguments: str) -> tuple[int, str]:
    """Run the command as people do: exit code, and what it printed."""
    program = "import sys; from cli.schedctl import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=site.folder, env={**clean_environment(), "NATS_URL": site.url},
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_schedctl_shows_what_happened(site: Site) -> None:
    """The commands of the issue: executions of the schedule, the cluster's status, the error of a bad value."""
    await site.replicas("a")
    put = await site.put("hello", HELLO)
    await site.put("broken", b'{"evry": "2s"}')
    worker = site.worker("default")
    await asyncio.sleep(5)
    expected = on_grid("hello", TWO_S, put.at, utc_now())
    await site.settle(expected, [worker])
    code, said = await schedctl(site, "executions", "list", "--schedule", "hello", "--json")
    assert code == 0, said
    states = {record["id"]: record["state"] for record in json.loads(said)}
    assert {id_: states.get(id_) for id_ in expected.must} == dict.fromkeys(expected.must, "succeeded")
    code, said = await schedctl(site, "status", "--json")
    status = json.loads(said)
    assert (code, status["leader"]["replica"], status["leader"]["epoch"] > 0) == (0, "a", True)
    assert status["planned_until"] > put.at.isoformat()
    assert len(status["replicas"]) == 1
    assert status["schedules"] == {"active": 1, "paused": 0, "invalid": 1}
    code, said = await schedctl(site, "get", "broken", "--json")
    assert code == 0, said
    assert json.loads(said)["status"]["state"] == "invalid"
    assert "evry" in json.loads(said)["status"]["error"]
