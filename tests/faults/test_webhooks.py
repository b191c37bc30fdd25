"""Webhooks of a running schedd, while endpoints are sick and leaders are killed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from tests.acceptance.harness import Site, eventually
from tests.integration.receivers import OK, Received, Receiver, answer

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def configured(folder: Path, *hooks: dict[str, object]) -> dict[str, str]:
    """A webhooks file and the environment that names it."""
    place = folder / "webhooks.json"
    place.write_text(json.dumps(list(hooks)))
    return {"SCHEDD_WEBHOOKS": str(place), "OPS_SECRET": SECRET}


def is_signed(received: Received) -> bool:
    """As a receiver of Standard Webhooks verifies it."""
    headers = received.headers
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    expected = "v1," + base64.b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(headers["webhook-signature"], expected)


def ids_of(received: list[Received], kind: str) -> dict[str, set[str]]:
    """The webhook-ids under which each execution was told."""
    found: dict[str, set[str]] = {}
    for each in received:
        event = json.loads(each.body)
        if event["type"] == f"schedd.{kind}":
            found.setdefault(event["data"]["execution_id"], set()).add(each.headers["webhook-id"])
    return found


async def test_nothing_is_lost_over_sick_endpoints_and_a_killed_leader(site: Site, tmp_path: Path) -> None:
    """Each failed execution arrives, signed, under one id however often; a hook that hangs holds up nobody."""
    sick = Receiver(lambda number: answer("500 Oh") if number < 4 else OK)
    async with sick, Receiver(lambda _: None) as hanging:
        hooks = (
            {"name": "ops", "url": sick.url, "secret": {"env": "OPS_SECRET"}, "events": ["failed", "late"]},
            {"name": "dead", "url": hanging.url, "timeout": "5s", "events": ["*"]},
        )
        await site.replicas("a", "b", **configured(tmp_path, *hooks))
        leader = await site.leader()
        site.worker("bad", "term")
        for number in range(6):
            await site.put(f"s{number}", {"every": "1s", "queue": "bad", "type": "t", "max_tries": 1})

        async def some() -> bool:
            return len(ids_of(sick.received, "failed")) > 10

        await eventually(some, within_s=40, what="failures told")
        await leader.kill()
        await site.leader(other_than=leader)
        await eventually(some, within_s=10)
        for number in range(6):
            await site.delete(f"s{number}")

        async def all_of_them() -> bool:
            told, ended = ids_of(sick.received, "failed"), await failures(site)
            return all(event["data"]["execution_id"] in told for event in ended)

        await eventually(all_of_them, within_s=60, what="every failure that is on record")
        told = ids_of(sick.received, "failed")
        assert all(len(each) == 1 for each in told.values())
        assert all(is_signed(each) for each in sick.received)
        assert all(each.headers["content-type"].startswith("application/cloudevents+json") for each in sick.received)
        assert json.loads(sick.received[0].body)["specversion"] == "1.0"
        assert 0 < len(hanging.received) < 40


async def failures(site: Site) -> list[dict[str, Any]]:
    """The events of failures, of every schedule."""
    found = [await site.events("finished", f"s{number}") for number in range(6)]
    return [event for events in found for event in events if event["data"]["state"] == "failed"]


async def test_a_bad_file_refuses_the_start(site: Site, tmp_path: Path) -> None:
    """One sentence that names the file and the field, exit code 2."""
    env = configured(tmp_path, {"name": "ops", "url": "http://169.254.169.254/latest"})
    replica = site.replica("a", **env)
    assert await replica.ended(within_s=20) == 2
    (said,) = [line for line in replica.log.splitlines() if not line.startswith("{")]
    assert said.startswith("schedd: webhooks file")
    assert "ops.url: this address is refused" in said
