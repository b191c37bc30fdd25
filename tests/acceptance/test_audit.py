"""The audit from outside: whatever happens, each nominal time has a verdict, and one that has none is found."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from scheduler.wire.instants import format_instant
from tests.acceptance.contract_site import command
from tests.acceptance.harness import Site, eventually, utc_now

TICK = {"every": "1s", "queue": "audited", "type": "t", "overlap": "allow"}


async def settled(site: Site, schedule: str, since: str) -> dict[str, Any]:
    """The audit of a schedule, once nothing is on its way any more."""

    async def look() -> dict[str, Any] | None:
        reply = await site.request("schedule.audit", {"id": schedule, "since": since})
        assert "code" not in reply, reply
        assert sum(reply["verdicts"].values()) + reply["unexplained"] == reply["expected"] == len(reply["occurrences"])
        return None if reply["unexplained"] or "pending" in reply["verdicts"] else reply

    return await eventually(look, within_s=20, what=f"an audit of {schedule} that explains everything")


async def test_everything_is_explained_while_the_leader_is_killed(site: Site, tmp_path: Path) -> None:
    """Edits, a pause, a deletion, late and delayed ones around a kill -9 of the leader: 100 % in the end. A record that
    somebody takes away is the one that is unexplained, by the API and by the command, whose exit code is 1."""
    await site.replicas("a", "b", SCHEDD_HORIZON="6s")
    site.worker("audited")
    since = format_instant(utc_now() - timedelta(minutes=1))
    past = format_instant(utc_now() - timedelta(seconds=30))
    for name, more in (
        ("tick", {}), ("edited", {}), ("paused", {}), ("gone", {}), ("tick.delayed", {"start_delay": "1500ms"}),
    ):  # fmt: skip
        await site.put(name, TICK | more)
    await site.put("late", {key: value for key, value in TICK.items() if key != "every"} | {"at": past})
    await asyncio.sleep(3)
    leader = await site.leader()
    await leader.kill()
    await site.put("edited", TICK | {"every": "3s"})
    await site.put("tick.delayed", TICK | {"every": "2s"})
    await site.put("paused", TICK | {"paused": True})
    await site.delete("gone")
    await site.leader(other_than=leader)
    await site.put("paused", TICK)
    await site.put("gone", TICK)
    await asyncio.sleep(8)

    audits = {name: await settled(site, name, since) for name in ("tick", "edited", "paused", "gone", "tick.delayed")}
    assert audits["tick"]["verdicts"].keys() == {"fired"}
    assert audits["tick"]["expected"] >= 8
    assert audits["paused"]["verdicts"]["paused"] >= 1
    late = await settled(site, "late", since)
    assert [(each["nominal_at"], each["verdict"]) for each in late["occurrences"]] == [(past, "fired")]

    victim = audits["tick"]["occurrences"][3]
    await (await site.bucket("schedd-executions")).delete(victim["execution_id"])
    reply = await site.request("schedule.audit", {"id": "tick", "since": since})
    assert reply["unexplained"] == 1
    holes = [each for each in reply["occurrences"] if each["verdict"] == "unexplained"]
    assert [each["nominal_at"] for each in holes] == [victim["nominal_at"]]
    shown = await command("audit", "tick", "--since", "1m", "--verdict", "unexplained", cwd=tmp_path, NATS_URL=site.url)
    assert shown.code == 1
    assert "unexplained 1" in shown.lines[-1]
    assert "unexplained" in shown.lines[1].split()
    as_json = await command("audit", "tick", "--since", since, "--json", cwd=tmp_path, NATS_URL=site.url)
    assert (as_json.code, as_json.json["unexplained"]) == (1, 1)
    good = await command("audit", "edited", "--since", "5m", cwd=tmp_path, NATS_URL=site.url)
    assert good.code == 0, good
    assert good.lines[-1].endswith("unexplained 0")
    past_fires = await command(
        "preview", "edited", "--last", "3", "--count", "1", "--json", cwd=tmp_path, NATS_URL=site.url
    )
    assert [each["verdict"] for each in json.loads(past_fires.out)["past"]][1:] == ["fired"] * 2


async def test_what_it_cannot_know(site: Site, tmp_path: Path) -> None:
    """A time before what is kept is an invalid argument that says from when on; one that never was, not found."""
    await site.replicas("a")
    await site.put("tick", TICK)
    old = await site.request("schedule.audit", {"id": "tick", "since": "2020-01-01T00:00:00Z"})
    assert (old["code"], old["field"]) == ("invalid_argument", "since")
    refused = await command("audit", "tick", "--since", "30d", cwd=tmp_path, NATS_URL=site.url)
    assert refused.code == 2
    assert "ask from" in refused.err
    assert (await site.request("schedule.audit", {"id": "nope", "since": format_instant(utc_now())}))[
        "code"
    ] == "not_found"
    nonsense = await command("audit", "tick", "--since", "yesterday", cwd=tmp_path, NATS_URL=site.url)
    assert nonsense.code == 2
    assert "24h" in nonsense.err
