"""Many schedules of one kind, and what they owe."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from tests.acceptance.evidence import Expected, on_grid
from tests.acceptance.harness import Put, Site, utc_now

SECOND = timedelta(seconds=1)


async def put_many(site: Site, count: int, queue: str = "herd") -> dict[str, Put]:
    """Put that many schedules of one tick a second, overlap allowed; the acknowledged writes by id."""
    tick: dict[str, Any] = {"every": "1s", "queue": queue, "type": "tick", "overlap": "allow"}
    tick |= {"catch_up": {"after": "10m"}}  # late by an outage: fired all the same, however it was dealt
    ids = [f"tick-{number:03d}" for number in range(count)]
    puts = await asyncio.gather(*(site.put(id_, tick) for id_ in ids))
    return dict(zip(ids, puts, strict=True))


def expected_of(puts: dict[str, Put]) -> Expected:
    """What these owe from their puts until now; what comes in the next minutes is allowed."""
    now = utc_now()
    found = Expected({})
    for id_, put in puts.items():
        found |= on_grid(id_, SECOND, put.at, now, may_until=now + timedelta(minutes=5))
    return found
