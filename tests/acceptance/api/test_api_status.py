"""status.get, and discovery as `nats micro` does it (contract, part 7)."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import nats.errors
import pytest

from tests.acceptance.api.asking import MANUAL, NEVER, at, put
from tests.acceptance.contract_site import Caller, Place
from tests.acceptance.harness import Site, eventually


async def test_status(api: Caller, place: Place) -> None:
    """Every field: leader with epoch, replicas with versions, watermark, counts, tzdata, server, clock skew."""

    async def planned() -> dict[str, Any] | None:  # a leader of a moment ago goes there in slices
        status: dict[str, Any] = await api.ask("status.get")
        text = status["planned_until"]
        return status if text and at(text) - datetime.now(UTC) > timedelta(seconds=60) else None

    found = await eventually(planned, what="a leader that has planned ahead")
    assert set(found) == {
        "leader", "replicas", "planned_until", "schedules", "tzdata", "server", "clock_skew_s"
    }  # fmt: skip
    assert set(found["leader"]) == {"replica", "epoch", "since"}
    assert found["leader"]["replica"] in {"a", "b", "c"}
    assert found["leader"]["epoch"] >= 1
    assert at(found["leader"]["since"]) < datetime.now(UTC)
    assert [each["replica"] for each in found["replicas"]] == ["a", "b", "c"]
    assert all(set(each) == {"replica", "version", "started_at"} and each["version"] for each in found["replicas"])
    assert all(at(each["started_at"]) < datetime.now(UTC) for each in found["replicas"])
    assert at(found["planned_until"]) - datetime.now(UTC) < timedelta(seconds=150)
    assert set(found["schedules"]) == {"active", "paused", "invalid"}
    assert re.fullmatch(r"\d{4}[a-z]", found["tzdata"])
    assert re.match(r"2\.\d+\.\d+", found["server"])
    assert abs(found["clock_skew_s"]) < 2
    assert (await api.refused("status.get", {"verbose": True})).field == "verbose"


async def test_counts_of_schedules(api: Caller, site: Site) -> None:
    """active, paused and invalid as the schedules stand, the moment an edit is answered."""

    async def counts() -> dict[str, int]:
        found: dict[str, int] = (await api.ask("status.get"))["schedules"]
        return found

    before = await counts()
    await put(api, "count-1", NEVER)
    await put(api, "count-2", {**NEVER, "paused": True})
    await site.put("count-3", b"{}")
    after = await counts()
    assert {state: after[state] - before[state] for state in after} == {"active": 1, "paused": 1, "invalid": 1}
    await asyncio.gather(*(api.ask("schedule.delete", {"id": f"count-{number}"}) for number in (1, 2, 3)))
    assert await counts() == before


async def _all(site: Site, subject: str) -> list[dict[str, Any]]:
    """Every answer to one request, as `nats micro` gathers them."""
    inbox = site.client.new_inbox()
    subscription = await site.client.subscribe(inbox)
    await site.client.publish(subject, b"", reply=inbox)
    answers = []
    try:
        while True:
            answers.append(json.loads((await subscription.next_msg(timeout=0.25)).data))
    except nats.errors.TimeoutError:
        return answers
    finally:
        await subscription.unsubscribe()


async def test_discovery(site: Site) -> None:
    """`nats micro ls`, `info`, `stats`: one `schedd` per replica, with every endpoint and its subject (ADR-32)."""
    for prefix, type_ in (("PING", "ping"), ("INFO", "info"), ("STATS", "stats")):
        for subject in (f"$SRV.{prefix}", f"$SRV.{prefix}.schedd"):
            answers = await _all(site, subject)
            assert len(answers) == len({each["id"] for each in answers}) == 3
            for each in answers:
                assert each["type"] == f"io.nats.micro.v1.{type_}_response"
                assert each["name"] == "schedd"
                assert re.fullmatch(r"\d+\.\d+\.\d+.*", each["version"])
        [one] = await _all(site, f"$SRV.{prefix}.schedd.{answers[0]['id']}")
        assert one["id"] == answers[0]["id"]
    info = (await _all(site, "$SRV.INFO.schedd"))[0]
    subjects = {each["subject"] for each in info["endpoints"]}
    assert subjects == {
        *(f"schedd.api.v1.schedule.{verb}" for verb in ("put", "get", "list", "delete", "pause", "resume", "trigger")),
        *(f"schedd.api.v1.schedule.{verb}" for verb in ("preview", "audit", "backfill")),
        *(f"schedd.api.v1.backfill.{verb}" for verb in ("get", "list", "cancel")),
        *(f"schedd.api.v1.calendar.{verb}" for verb in ("put", "get", "list", "delete")),
        *(f"schedd.api.v1.execution.{verb}" for verb in ("list", "get", "cancel", "retry", "logs")),
        *(f"schedd.api.v1.queue.{verb}" for verb in ("put", "get", "list", "delete", "purge")),
        "schedd.api.v1.worker.list",
        "schedd.api.v1.action.list",
        "schedd.api.v1.action.invoke",
        "schedd.api.v1.status.get",
        "schedd.api.v1.status.health",
    }
    assert all({"name", "subject", "queue_group", "metadata"} <= set(each) for each in info["endpoints"])
    stats = (await _all(site, "$SRV.STATS.schedd"))[0]
    assert at(stats["started"])
    assert {"num_requests", "num_errors", "last_error", "processing_time", "average_processing_time"} <= set(
        stats["endpoints"][0]
    )


async def test_every_replica_answers(api: Caller, site: Site) -> None:
    """Requests are shared among the replicas, and each answers reads and writes alike."""

    async def served() -> dict[str, int]:
        answers = await _all(site, "$SRV.STATS.schedd")
        return {each["id"]: sum(one["num_requests"] for one in each["endpoints"]) for each in answers}

    before = await served()
    await asyncio.gather(*(put(api, f"each-{number}", MANUAL) for number in range(45)))
    found = await asyncio.gather(*(api.ask("schedule.get", {"id": f"each-{number}"}) for number in range(45)))
    assert [item["id"] for item in found] == [f"each-{number}" for number in range(45)]
    after = await served()
    assert sum(after.values()) - sum(before.values()) == 90
    assert all(after[replica] > before[replica] for replica in before)


async def test_a_replica_that_dies_is_gone_from_the_status(api: Caller, site: Site) -> None:
    """kill -9: the next status no longer names it, and requests go on being answered."""
    extra = site.replica("z")
    await extra.ready()
    assert [each["replica"] for each in (await api.ask("status.get"))["replicas"]] == ["a", "b", "c", "z"]
    await extra.kill()
    assert [each["replica"] for each in (await api.ask("status.get"))["replicas"]] == ["a", "b", "c"]
    for _ in range(20):
        await api.ask("schedule.list", {"limit": 1})


async def test_what_is_not_built_has_no_endpoint(api: Caller) -> None:
    """A verb of a later version is not half there: NATS says at once that nobody serves it."""
    started = time.monotonic()
    for endpoint in ("execution.delete", "queue.rename", "admin.list"):
        with pytest.raises(nats.errors.NoRespondersError):
            await api.ask(endpoint, {"id": "a"})
    assert time.monotonic() - started < 2
