"""What the server has sent already is sent again, by somebody: due messages, minutes of them (design, guarantee 2)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.acceptance.harness import Site
from tests.acceptance.herd import expected_of, put_many

TIMES = 3


async def test_due_messages_that_come_again_fire_nothing_again(site: Site) -> None:
    """Each due message is published three times more, to two replicas: one record, one task, one delivery."""
    replicas = await site.replicas("a", "b", SCHEDD_HORIZON="10s")
    worker = site.worker("herd")
    puts = await put_many(site, 5)
    again, seen = 0, set[str]()
    for _ in range(40):
        await asyncio.sleep(0.2)
        for id_, record in (await site.records()).items():
            if id_ not in seen:
                seen.add(id_)
                await asyncio.gather(*(site.js.publish(subject_of(id_), body_of(record)) for _ in range(TIMES)))
                again += TIMES
    assert again > 50
    findings = await site.verify(expected_of(puts), [worker], late_max_s=8)
    assert not findings.redelivered
    left = await site.stored_count("SCHEDD_TIMELINE", "schedd.due.>")
    assert left < again / 2, "they are answered, not kept"
    fired = [(await replica.metrics()).get(FIRED, 0.0) for replica in replicas]
    assert sum(fired) == len(await site.records()), "and counted once"


FIRED = 'schedd_occurrences_total{reason="auto",verdict="fired"}'


def subject_of(id_: str) -> str:
    """The subject of the due message (contract, part 1)."""
    schedule, _, nominal = id_.rpartition(".")
    return f"schedd.due.{schedule}.{nominal}"


def body_of(record: dict[str, Any]) -> bytes:
    """The body of the armed occurrence (contract, part 6)."""
    body = {"v": 1, "generation": record["generation"], "fire_at": record["fire_at"], "epoch": record["epoch"]}
    return json.dumps(body).encode()
