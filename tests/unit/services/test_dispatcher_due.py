"""What is due, and by which definition: poison, early ones, edits, and no decision on what may be stale."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import State
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Write
from tests.unit.services.dispatch_stage import (
    Dispatching,
    check_once,
    due,
    due_left,
    execution,
    finish,
    id_of,
    nominal,
    put,
    states,
)
from tests.unit.services.tracking_stage import World


async def test_poison_is_set_aside() -> None:
    """A due message that cannot be read is acknowledged and counted, and its batch goes on."""
    world = World()
    put(world)
    for body in (b"", b"{", b'{"v":2,"generation":1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1}'):
        world.server.timeline.store([Write(world.names.due("a", nominal(9)), body)])
    world.server.timeline.store([Write(f"{world.names.namespace}.due.a.never", b"{}")])
    due(world)
    async with Dispatching(world) as replica:
        await replica.run()
        assert replica.telemetry.count("dropped", what="due", reason="poison") == 4
    await check_once(world, "skip")


async def test_early_ones_wait() -> None:
    """A server's clock is ahead: handed back until it is time, and then neither lost nor early."""
    world = World()
    put(world, overlap="allow")
    early = [due(world, seconds) for seconds in (20, 20.001, 100)]
    on_time = due(world)
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(15)
        assert list(await states(world)) == [on_time]
        assert replica.telemetry.count("dropped", what="due", reason="early") == 3
        put(world, every=None, at=["2026-11-21T08:00:20Z", "2026-11-21T08:00:20.001Z", "2026-11-21T08:01:40Z"])
        await world.clock.advance(10)
        assert await states(world) == dict.fromkeys([on_time, *early[:2]], State.QUEUED) | {early[1]: State.SKIPPED}
        await finish(world)
        await world.clock.advance(100)
        assert (await states(world))[early[2]] is State.QUEUED
    queued_at = (await execution(world, 100)).queued_at
    assert queued_at is not None
    assert nominal(99) <= queued_at <= nominal(102)


@pytest.mark.parametrize(
    ("edit", "state", "reason"),
    [
        ({"paused": True}, State.PAUSED, "paused"),
        ({"paused": True, "paused_until": "2026-11-21T08:00:01Z"}, State.PAUSED, "paused"),
        ({"paused": True, "paused_until": "2026-11-21T08:00:00Z"}, State.QUEUED, None),
        ({"every": None, "cron": "30 * * * * *"}, State.SUPERSEDED, "edited"),
        ({"every": "2s", "payload": {"n": 2}}, State.QUEUED, None),
        ({"every": None}, State.SUPERSEDED, "invalid"),
        ({"typo": 1}, State.SUPERSEDED, "invalid"),
        (None, State.SUPERSEDED, "deleted"),
    ],
)
@pytest.mark.parametrize("is_stalled", [False, True], ids=["watching", "stalled"])
async def test_decided_by_what_is_stored_now(
    edit: dict[str, Any] | None, state: State, reason: str | None, is_stalled: bool
) -> None:
    """Edited, paused or deleted between arm and fire, with a watch that says nothing: the newest definition decides."""
    world = World()
    put(world)
    async with Dispatching(world) as replica:
        if is_stalled:
            replica.bucket.stall_watches()
        if edit is None:
            await world.schedules.delete("a")
        else:
            put(world, **edit)
        due(world)
        await replica.run()
        done = await execution(world)
        assert (done.state, done.reason) == (state, reason)
        assert len(world.tasks()) == (state is State.QUEUED)
        fired = state is State.QUEUED
        assert replica.verdicts() == [("fired", "auto") if fired else (state.value, reason)]
        ended = [each["state"] for each in MemoryEvents(world.server).of("finished", "a") for each in [each.data]]
        assert ended == ([] if fired else [state.value])
        is_known = reason not in ("deleted", "invalid")
        assert replica.telemetry.count("finished") == (not fired and is_known)
    assert due_left(world) == []


async def test_a_schedule_that_was_never_there() -> None:
    """Its due message ends as superseded, and makes neither a task nor a row."""
    world = World()
    due(world, 0, "ghost")
    async with Dispatching(world) as replica:
        await replica.run()
        await replica.settlement.flush()
    assert await states(world) == {id_of(0, "ghost"): State.SUPERSEDED}
    assert await world.status.keys() == []


async def test_an_edit_that_wants_it_later() -> None:
    """A start_delay was added before its nominal time, and the old arm fired all the same: it waits."""
    world = World()
    put(world)
    put(world, start_delay="5s", overlap="allow")
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(1)
        due(world, 1)
        await world.clock.advance(4.8)
        assert await states(world) == {}
        await world.clock.advance(1)
        done = await execution(world, 1)
        assert (done.state, done.fire_at) == (State.QUEUED, nominal(6))
        assert done.queued_at is not None
        assert done.queued_at >= nominal(6)


async def test_no_decision_without_proof_of_freshness() -> None:
    """The bucket does not answer: the batch is handed back as it is, and decided when it does."""
    world = World()
    put(world, catch_up={"after": "1m"})
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(0.1)
        replica.bucket.fail_next(*[Unavailable("electing")] * 2)
        due(world)
        await world.clock.advance(1)
        assert await states(world) == {}
        await world.clock.advance(14)
    await check_once(world, "skip")
