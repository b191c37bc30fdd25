"""A replica is killed before or after any one of its calls; another goes on, and the outcome is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from scheduler.core.model.execution import Failure, State
from scheduler.memory.server import MemoryServer
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import Replica, Tripwire, World

Scene = Callable[[World, str], Awaitable[None]]
BOOM = Failure("ValueError", "boom", "trace")


async def _sdk_success(world: World, execution_id: str) -> None:
    delivery = world.take()
    world.start(execution_id)
    world.finish(execution_id, result=b"1")
    world.queue.ack(delivery.token)


async def _sdk_retry_then_failure(world: World, execution_id: str) -> None:
    world.start(execution_id)
    world.finish(execution_id, Outcome.RETRY, error=BOOM)
    world.start(execution_id, 2)
    world.finish(execution_id, Outcome.FAILED, 2, error=BOOM)
    world.queue.ack(world.take().token)


async def _plain_ack(world: World, execution_id: str) -> None:
    world.queue.ack(world.take().token)


async def _plain_naks(world: World, execution_id: str) -> None:
    for _ in range(3):
        world.queue.nak(world.take().token)


async def _given_up(world: World, execution_id: str) -> None:
    world.start(execution_id)
    for _ in range(5):
        world.take()
        await world.clock.advance(31)
    assert world.queue.take(1) == []


SCENES: dict[Scene, tuple[State, str | None, int]] = {
    _sdk_success: (State.SUCCEEDED, None, 1),
    _sdk_retry_then_failure: (State.FAILED, None, 2),
    _plain_ack: (State.SUCCEEDED, None, 1),
    _plain_naks: (State.FAILED, "max_tries", 3),
    _given_up: (State.LOST, "worker_gone", 1),
}


async def _play(scene: Scene, wire: Tripwire, fault: str = "") -> tuple[bool, World, str]:
    """The scene, tracked by a replica that the wire may kill, then by one that lives; without any reconciler."""
    world = World()
    async with Replica(world) as first:
        execution = await first.launched(max_tries=3)
    await scene(world, execution.id)
    if fault:
        getattr(world.server, fault)()
    async with Replica(world, wire) as doomed:
        try:
            await doomed.track()
        except asyncio.CancelledError:
            assert wire.tripped
    async with Replica(world) as heir:
        for _ in range(4):
            await world.clock.advance(6)
            await heir.track()
    return wire.tripped, world, execution.id


async def _check(scene: Scene, world: World, execution_id: str) -> None:
    state, reason, attempt = SCENES[scene]
    done = await world.record(execution_id)
    assert (done.state, done.reason, done.attempt) == (state, reason, attempt)
    assert (await world.row()).active == ()
    assert world.tasks() == []
    assert world.server.tracker.ack_pending == world.server.signals.ack_pending == 0
    assert world.server.tracker.pending == 0


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", list(SCENES), ids=lambda scene: scene.__name__.strip("_"))
async def test_killed_anywhere(scene: Scene, late: bool) -> None:
    """Killed at its n-th call, for every n: the same end, the slot is free, no task and no message stays."""
    number, kills = 1, 0
    while True:
        tripped, world, execution_id = await _play(scene, Tripwire(number, late=late))
        await _check(scene, world, execution_id)
        if not tripped:
            break
        number, kills = number + 1, kills + 1
    assert kills >= 6  # sometimes: it was really killed, at pulls, reads, writes, removals and acknowledgements


@pytest.mark.parametrize("scene", [_plain_naks, _given_up], ids=lambda scene: scene.__name__.strip("_"))
async def test_the_record_says_why_before_the_task_goes(scene: Scene) -> None:
    """Nobody may ever find the task gone and the record open, with nothing on its way that tells why."""
    world = World()
    states = world.note_removals()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=3)
        await scene(world, execution.id)
        await replica.track()
        await _check(scene, world, execution.id)
    assert states == [SCENES[scene][0]]


@pytest.mark.parametrize("fault", ["lose_ack_next", "lose_next", "refuse_in_flight_next", "land_late"])
@pytest.mark.parametrize("scene", list(SCENES), ids=lambda scene: scene.__name__.strip("_"))
async def test_faults_of_the_first_write(scene: Scene, fault: str) -> None:
    """The first write is lost, refused, lands late or without an answer: the outcome is the same."""
    assert hasattr(MemoryServer, fault)
    _, world, execution_id = await _play(scene, Tripwire(), fault)
    await _check(scene, world, execution_id)
    assert [event["state"] for event in world.finished_events()] == [SCENES[scene][0].value]


@pytest.mark.parametrize("scene", list(SCENES), ids=lambda scene: scene.__name__.strip("_"))
async def test_two_replicas_side_by_side(scene: Scene) -> None:
    """Two replicas that fold at the same time come to one outcome, told once."""
    world = World()
    async with Replica(world) as one, Replica(world) as other:
        execution = await one.launched(max_tries=3)
        await scene(world, execution.id)
        tasks = [
            asyncio.ensure_future(tracker.turn())
            for replica in (one, other)
            for tracker in (replica.tracker.reports, replica.tracker.signals)
        ]
        await world.clock.advance(12)
        await asyncio.gather(*tasks)
        for replica in (one, other, one):
            await replica.track()
            await world.clock.advance(6)
        await _check(scene, world, execution.id)
        assert len(world.finished_events()) == 1
        assert one.telemetry.count("finished") + other.telemetry.count("finished") == 1
