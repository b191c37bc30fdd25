"""status.health of a whole schedd on a real server."""

from __future__ import annotations

import asyncio

from scheduler.client import Client
from scheduler.testing import LocalSchedd
from scheduler.wire import api


async def test_a_healthy_schedd_and_a_full_queue() -> None:
    """Every check is ok with a replica that has just begun; tasks that nobody takes fill a queue up to CRIT."""
    async with LocalSchedd(env={"SCHEDD_MAX_PENDING": "2"}) as local, Client.connect(local.nats_url) as client:
        async with asyncio.timeout(20):
            while (found := await client.health()).level != "ok":
                await asyncio.sleep(0.1)
        names = {check.name for check in found.checks}
        assert names == {
            *("leader", "replicas", "planning", "lateness", "schedules", "clock", "queues", "store", "disk")
        }
        stores = {check.of for check in found.checks if check.name == "store"}
        assert {"SCHEDD_TIMELINE", "SCHEDD_TASKS", "schedd-schedules", "schedd-executions"} <= stores
        await client.schedules.put("x", {"manual": True, "overlap": "allow", "queue": "Q", "type": "t"})
        for _ in range(2):
            await client.schedules.trigger("x")
        checks: dict[str, api.HealthCheck] = {}
        async with asyncio.timeout(20):
            while "queue" not in checks or checks["queue"].level != "crit" or "2 fires" not in checks["lateness"].told:
                checks = {check.name: check for check in (await client.health()).checks}
                await asyncio.sleep(0.1)
        assert "queue_full" in (checks["queue"].advice or "")
        assert checks["queue"].told.startswith("2 waiting, 0 at work, oldest ")
