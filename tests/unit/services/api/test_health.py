"""status.health: the facts are gathered from where they are, and one that cannot be had is a check of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from msgspec import structs

from scheduler.core.errors import PermissionDenied
from scheduler.core.model.execution import State
from scheduler.ports.storage import StoreState
from scheduler.wire import api
from scheduler.wire.record import decode_execution, encode_execution
from tests.unit.services.api.stage import Stage
from tests.unit.services.api.test_status import lease


async def asked(stage: Stage) -> dict[str, dict[str, Any]]:
    """The checks by name; of several, `name of`."""
    reply = await stage.ask("status.health")
    return {f"{each['name']} {each['of']}" if each["of"] else each["name"]: each for each in reply["checks"]}


async def two() -> Sequence[api.ReplicaStatus]:
    return [api.ReplicaStatus(replica=name, version="1", started_at="2026-11-21T08:00:00.000Z") for name in ("a", "b")]


async def test_a_whole_answer(stage: Stage) -> None:
    """Leader, replicas, plan, queues with their oldest task, streams: each is told, and the worst level with it."""
    stage.api.discover_replicas = two
    await stage.control.put("leader", lease("leader"))
    await stage.queues.ensure("EMAIL")
    await stage.record("a", 0, State.QUEUED, queue="EMAIL")
    stage.schedules.put_raw("bad", b"{}")
    await stage.clock.advance(10)
    reply = await stage.ask("status.health")
    checks = await asked(stage)
    assert reply["level"] == "warn"
    assert checks["leader"]["told"] == "replica-a, epoch 1"
    assert checks["replicas"]["told"] == "a (1), b (1)"
    assert checks["planning"]["level"] == "warn"  # 50 of 120 s
    assert checks["schedules"] == {
        "name": "schedules", "of": None, "level": "warn", "told": "0 active, 0 paused, 1 invalid",
        "advice": "they do not fire; `schedctl list --state invalid` shows them, `schedctl get ID` what is wrong",
    }  # fmt: skip
    assert checks["queue EMAIL"]["told"] == "0 waiting, 0 at work, oldest 10.0s"
    assert "store SCHEDD_TASKS" in checks


async def test_lateness_is_that_of_the_last_minutes(stage: Stage) -> None:
    """Records of the window count, older ones and those that never fired do not."""

    async def fire(number: int, late_s: float) -> None:
        name = await stage.record("a", number, State.SUCCEEDED)
        entry = await stage.executions.get(name)
        assert entry is not None
        record = decode_execution(entry.value)
        queued_at = record.fire_at + timedelta(seconds=late_s)
        await stage.executions.put(name, encode_execution(structs.replace(record, queued_at=queued_at)))

    await fire(0, 60.0)
    await stage.clock.advance(601)
    await stage.record("a", 1, State.SKIPPED)
    assert (await asked(stage))["lateness"]["told"] == "nothing fired in the last 10m00s"
    await fire(2, 2.0)
    found = (await asked(stage))["lateness"]
    assert (found["level"], found["told"]) == ("warn", "p99 2.0s, of 1 fire in the last 10m00s")


async def test_what_is_not_permitted_is_told(stage: Stage) -> None:
    """The other checks are there all the same."""

    async def refuse() -> Any:
        raise PermissionDenied("not permitted")

    stage.storage.stores = refuse  # type: ignore[method-assign]
    stage.storage.room = refuse  # type: ignore[method-assign]
    checks = await asked(stage)
    assert checks["stores"]["told"] == checks["disk"]["told"] == "not known: not permitted"
    assert "leader" in checks


async def test_limits_on_bytes_and_messages(stage: Stage) -> None:
    """The fuller one of the two decides, and the disk has a check of its own."""
    stage.storage.told = [StoreState(name="S", messages=90, size=10, bytes_max=100, messages_max=100)]
    stage.storage.limit = 10
    checks = await asked(stage)
    assert (checks["store S"]["level"], checks["store S"]["told"]) == ("warn", "90 messages, 10 B, 90% of its limit")
    assert checks["disk"]["level"] == "crit"


async def test_a_queue_as_it_is_set(stage: Stage) -> None:
    """Its own limit is the one that counts, and a pause is told and excuses the age of what waits."""
    await stage.ask("queue.put", id="EMAIL", queue={"max_pending": 10, "paused": True})
    await stage.record("a", 0, State.QUEUED, queue="EMAIL")
    await stage.clock.advance(4000)
    found = (await asked(stage))["queue EMAIL"]
    assert (found["level"], found["told"]) == ("ok", "0 waiting, 0 at work, oldest 1h06m, paused")
