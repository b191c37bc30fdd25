"""Ends that nobody was told of: killed between a record and its event, wherever that is; the leader tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from msgspec import structs

from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import Action, Asked, State
from scheduler.memory.event_feed import MemoryEventFeed
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Write
from scheduler.services.reconcile import events as module
from scheduler.wire import api
from scheduler.wire.events import Event
from scheduler.wire.record import decode_execution
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, Tripwire, World

Ending = Callable[[World, Replica], Awaitable[object]]


async def _by_report(world: World, replica: Replica) -> None:
    run = await replica.launched()
    world.start(run.id)
    world.finish(run.id)
    world.queue.ack(world.take().token)
    await replica.track()


async def _by_signal(world: World, replica: Replica) -> None:
    await replica.launched()
    world.queue.ack(world.take().token)
    await replica.track()


async def _by_skip(world: World, replica: Replica) -> None:
    await replica.launched()
    await replica.launched(1)


async def _by_cancel(world: World, replica: Replica) -> None:
    run = await replica.launched()
    await replica.canceller.ask([run.id], Asked(Action.CANCEL, world.clock.now(), "requested"))


async def _by_deadline(world: World, replica: Replica) -> None:
    await replica.launched(start_deadline=timedelta(seconds=5))
    await world.clock.advance(6)
    await replica.deadlines.turn(replica.tenure())


async def _by_loss(world: World, replica: Replica) -> None:
    run = await replica.launched()
    world.start(run.id)
    world.queue.ack(world.take().token)
    await replica.track()
    await replica.reconcile(rounds=4)


ENDINGS = (_by_report, _by_signal, _by_skip, _by_cancel, _by_deadline, _by_loss)


async def _ends(world: World) -> set[tuple[str, str]]:
    entries = [await world.executions.get(key) for key in await world.executions.keys()]
    records = [decode_execution(each.value) for each in entries if each is not None and each.value]
    return {(each.id, each.state.value) for each in records if each.state in TERMINAL}


def _told(world: World) -> list[tuple[str, str]]:
    return [(event["execution_id"], event["state"]) for event in world.finished_events()]


async def _killed(ending: Ending, wire: Tripwire) -> tuple[World, int]:
    """One that the wire may kill, and then one that leads; how many events he had to tell."""
    world = World()
    await world.schedules.put("a", EVERY_DAY)
    async with Replica(world, wire) as doomed:
        try:
            await ending(world, doomed)
        except asyncio.CancelledError:
            assert wire.tripped
    async with Replica(world) as heir:
        await world.clock.advance(6)
        await heir.track()
        await heir.reconcile(rounds=4)
        await heir.deadlines.turn(heir.tenure())
        await heir.reconcile(rounds=3)
    return world, _repaired(heir)


def _repaired(replica: Replica) -> int:
    return sum(call.values["kind"] == "events" for call in replica.telemetry.calls if call.name == "repaired")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__.strip("_"))
async def test_killed_anywhere(ending: Ending, late: bool) -> None:
    """Killed at its n-th call, for every n, whatever it was that ended: each end is told, and nothing else is."""
    number = repaired = 0
    while True:
        wire = Tripwire(number + 1, late=late)
        world, count = await _killed(ending, wire)
        ends = await _ends(world)
        assert ends or wire.tripped
        assert set(_told(world)) == ends, number
        if not wire.tripped:
            break
        number, repaired = number + 1, repaired + count
    assert number >= 4
    assert repaired >= 1  # sometimes: it was really killed between the two


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_a_leader_killed_over_telling(late: bool) -> None:
    """At each of its calls: its successor goes on, and in the end every end is told."""
    number, tripped = 1, True
    while tripped:
        world, wire = World(), Tripwire(number, late=late)
        async with Replica(world) as replica:
            await replica.reconcile()
            for each in range(3):
                await _lost_event(world, replica, each)
        async with Replica(world, wire) as leader:
            with suppress(asyncio.CancelledError):
                await leader.reconcile(rounds=2)
        async with Replica(world) as successor:
            await successor.reconcile(rounds=2)
        assert set(_told(world)) == await _ends(world)
        number, tripped = number + 1, wire.tripped
    assert number >= 10


async def test_in_peace_nothing_is_told_again() -> None:
    """What is told is left alone, by the same leader and by his successors, who go on from his place."""
    world = World()
    async with Replica(world) as first:
        for number in range(3):
            await first.launched(number)
            world.queue.ack(world.take().token)
            await first.track()
            await first.reconcile(rounds=3)
        assert len(world.finished_events()) == 3
        assert _repaired(first) == 0
    entry = await world.control.get("ends")
    async with Replica(world) as successor:
        await successor.reconcile(rounds=3)
        assert len(world.finished_events()) == 3
        await successor.launched(9)
        world.queue.ack(world.take().token)
        await successor.track()
        await successor.reconcile(rounds=3)
    assert len(world.finished_events()) == 4
    after = await world.control.get("ends")
    assert entry is not None
    assert after is not None
    assert after.revision > entry.revision


async def test_young_ends_are_left_to_whoever_wrote_them() -> None:
    """Within the grace their event may be on its way; the place stays behind them."""
    world = World()
    async with Replica(world, Tripwire()) as replica:
        await replica.reconcile()
        await _lost_event(world, replica)
        await replica.reconcile(every_s=5)
        assert _told(world) == []
        await replica.reconcile(every_s=31)
        assert set(_told(world)) == await _ends(world)


async def test_more_ends_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the records are read from the bucket."""
    monkeypatch.setattr(module, "BATCH", 2)
    world = World()
    async with Replica(world) as replica:
        await replica.reconcile()
        replica.index._ends_max = 2
        for number in range(7):
            await _lost_event(world, replica, number)
        await world.clock.settle()
        assert replica.index.ends_after > 0
        await replica.reconcile(rounds=2)
    assert len(_told(world)) == 7
    assert set(_told(world)) == await _ends(world)


async def test_a_replica_forgets_ends_that_the_leader_has_long_compared() -> None:
    """Whoever does not lead keeps minutes of them, not all that ever were; as the leader it reads the rest."""
    world = World()
    async with Replica(world) as replica:
        await replica.reconcile()
        await _lost_event(world, replica, 0)
        await world.clock.advance(240)
        assert replica.index.ends_after == 0
        await world.clock.advance(61)
        await _lost_event(world, replica, 1)
        await world.clock.settle()
        assert replica.index.ends_after > 0
        await replica.reconcile(rounds=2)
    assert set(_told(world)) == await _ends(world)
    assert len(_told(world)) == 2


async def test_a_retry_tells_the_end_that_it_takes_back() -> None:
    """Once the record is in its next drive, nobody else could tell how the one before ended."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1)
        world.start(run.id)
        world.finish(run.id, Outcome.FAILED)
        world.queue.ack(world.take().token)
        await replica.track()
        for seq in list(world.server.events.messages):
            world.server.events.delete(seq)  # as if he had died before
        await replica.retries.retry(api.RetryExecution(id=run.id))
        assert _told(world) == [(run.id, "failed")]
        (event,) = MemoryEvents(world.server).of("finished")
        assert event.id == f"finished-{run.id}-0"
        await replica.reconcile(rounds=3)
        assert _told(world) == [(run.id, "failed")]


async def test_what_is_no_event_of_ours() -> None:
    """Somebody else may have written anything there: it tells nothing, and harms nothing."""
    world = World()
    async with Replica(world) as replica:
        await _lost_event(world, replica)
        for body in (b"\xff", b"{}", b'{"data": {"execution_id": 1, "drive": []}}'):
            world.server.events.store([Write(world.names.event("finished", "a"), body)])
        await replica.reconcile(rounds=3)
    found = [event.data["execution_id"] for event in await _readable(world)]
    assert found == [key for key, _ in await _ends(world)]


async def _lost_event(world: World, replica: Replica, number: int = 0) -> None:
    """An execution ends, and its event is lost."""
    run = replica.execution(number)
    ended = structs.replace(run, state=State.SUCCEEDED, finished_at=world.clock.now())
    await world.store(ended)


async def _readable(world: World) -> list[Event]:
    feed = MemoryEventFeed(world.server)
    page = await feed.read(0, ("finished",), most=99, wait_s=0.0)
    return [told.event for told in page.items if told.event is not None]
