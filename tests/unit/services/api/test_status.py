"""status.get: who leads, who is there, how the schedules stand; and nothing that is not so."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scheduler.core.leadership import LeaseRecord
from scheduler.core.zones import tzdata_version
from scheduler.memory.clock import START
from scheduler.wire import api
from scheduler.wire.status import encode_lease
from tests.unit.services.api.stage import HELLO, Stage


def lease(holder: str, lease_s: float = 15.0) -> bytes:
    return encode_lease(LeaseRecord(holder, "n", "replica-a", "0.1.0", lease_s, START))


async def test_the_whole_body(stage: Stage) -> None:
    """Every field of the contract, with a leader in office and one replica that answers."""

    async def found() -> Sequence[api.ReplicaStatus]:
        return [api.ReplicaStatus(replica="replica-a", version="0.1.0", started_at="2026-11-21T08:00:00.000Z")]

    stage.api.discover_replicas = found
    await stage.control.put("leader", lease("leader"))
    await stage.put("a")
    await stage.put("b", {**HELLO, "paused": True})
    stage.schedules.put_raw("c", b"{}")
    stage.schedules.put_raw("not a key..", b"{}")
    assert await stage.ask("status.get") == {
        "leader": {"replica": "replica-a", "epoch": 1, "since": "2026-11-21T08:00:00.000Z"},
        "replicas": [{"replica": "replica-a", "version": "0.1.0", "started_at": "2026-11-21T08:00:00.000Z"}],
        "planned_until": "2026-11-21T08:01:00.000Z",
        "schedules": {"active": 1, "paused": 1, "invalid": 2},
        "tzdata": tzdata_version(),
        "server": "2.15.1",
        "clock_skew_s": 0.0,
    }


async def test_no_leader(stage: Stage) -> None:
    """No lease, a released one, an overdue one, one whose holder has not taken office: there is no leader."""
    for holder in (None, "", "another"):
        if holder is not None:
            await stage.control.put("leader", lease(holder))
        assert (await stage.ask("status.get"))["leader"] is None
    await stage.control.put("leader", lease("leader"))
    assert (await stage.ask("status.get"))["leader"] is not None
    await stage.clock.advance(16)
    assert (await stage.ask("status.get"))["leader"] is None


async def test_before_anything_was_planned() -> None:
    """A namespace in which nobody has led yet."""
    stage = Stage()
    await stage.cache.start()
    await stage.index.start()
    status = await stage.ask("status.get")
    assert (status["leader"], status["planned_until"], status["replicas"]) == (None, None, [])
    await stage.stop()


async def test_counts_follow_every_write(stage: Stage) -> None:
    """A schedule counts at once, and a pause that ends by itself within a second or so."""
    await stage.put("a", {**HELLO, "paused": True, "paused_until": "2026-11-21T08:00:05Z"})
    assert (await stage.ask("status.get"))["schedules"] == {"active": 0, "paused": 1, "invalid": 0}
    await stage.clock.advance(6)
    assert (await stage.ask("status.get"))["schedules"] == {"active": 1, "paused": 0, "invalid": 0}
    stage.schedules.put_raw("b", json.dumps(HELLO).encode())
    assert (await stage.ask("status.get"))["schedules"] == {"active": 2, "paused": 0, "invalid": 0}
