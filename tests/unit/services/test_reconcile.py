"""Rounds of all repairs: they leave alone what is healthy, keep no other from its work, and end with the term."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Overlap
from scheduler.core.reconciling import REPAIR_KINDS
from scheduler.memory.messages import Write
from scheduler.services.leader import Deposed
from scheduler.services.reconcile.consumers import ConsumersRepair
from tests.unit.services.dispatch_stage import due
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, Tripwire, World, begun, lose_signals


async def test_nothing_to_repair() -> None:
    """A healthy world: rounds repair nothing, write nothing and count nothing."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        for number in range(3):
            await replica.launched(number)
        await world.schedules.put("a", EVERY_DAY)
        running = await replica.launched(4)
        world.start(running.id)
        await replica.track()
        before = (world.executions.stream.last_seq, world.status.stream.last_seq, world.server.tasks.last_seq)
        for _ in range(5):
            await world.beat((running.id, 1))
            await replica.reconcile(every_s=9)
        assert replica.telemetry.count("repaired") == 0
        after = (world.executions.stream.last_seq, world.status.stream.last_seq, world.server.tasks.last_seq)
        assert after == before


# --- the rounds


async def test_one_repair_that_breaks_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first repairs raise: the others still run, in the same round."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)

        async def broken() -> list[str]:
            raise RuntimeError("a bug")

        async def unavailable(*_: object, **__: object) -> int:
            raise Unavailable("electing")

        (consumers,) = [each for each in replica.reconciler.repairs if isinstance(each, ConsumersRepair)]
        monkeypatch.setattr(consumers, "_ensure", broken)
        monkeypatch.setattr(replica.tracker.liveness, "check", unavailable)
        await replica.reconcile(every_s=40)
        assert (await world.record(execution.id)).state is State.QUEUED


async def _claimed(world: World, replica: Replica) -> None:
    await world.store(replica.execution())


async def _gone(world: World, replica: Replica) -> None:
    await replica.launched()
    world.queue.ack(world.take().token)
    lose_signals(world)


async def _slots(world: World, replica: Replica) -> None:
    execution = await replica.launched()
    world.queue.ack(world.take().token)
    lose_signals(world)
    await world.store(structs.replace(execution, state=State.FAILED))


async def _running(world: World, replica: Replica) -> None:
    await begun(world, replica, max_tries=1)


async def _leftover(world: World, replica: Replica) -> None:
    execution = await replica.launched()
    await world.store(structs.replace(execution, state=State.FAILED, finished_at=world.clock.now()))


async def _waiting(world: World, replica: Replica) -> None:
    await world.store(structs.replace(replica.execution(), state=State.WAITING))


async def _untold(world: World, replica: Replica) -> None:
    await world.store(structs.replace(replica.execution(), state=State.SKIPPED, finished_at=world.clock.now()))


async def _ghost(world: World, replica: Replica) -> None:
    await world.store(replica.execution())
    await world.clock.advance(8 * 86400)
    world.server.events.store([Write("schedd.event.admin._", b"{}")])
    world.server.events.delete(world.server.events.last_seq)


async def _due(world: World, replica: Replica) -> None:
    due(world, 1)
    await world.timeline.deliver_from(world.server.timeline.last_seq + 1)


WRECKS = (_claimed, _gone, _slots, _running, _leftover, _waiting, _untold, _ghost, _due)


@pytest.mark.parametrize("wreck", WRECKS, ids=lambda each: each.__name__.strip("_"))
async def test_a_term_that_is_over_writes_nothing(wreck: Callable[[World, Replica], Awaitable[None]]) -> None:
    """The lease has run out while the process slept: Deposed before any write, and by each repair for itself."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        await wreck(world, replica)
        tenure = replica.tenure(lasts_s=90)
        await world.clock.advance(91)
        before = stored(world)
        for repair in replica.reconciler.repairs:
            for _ in range(3):
                with contextlib.suppress(Deposed):
                    await repair.repair(tenure)
                await world.clock.advance(35)
        with pytest.raises(Deposed):
            await replica.reconciler.round(tenure)
        assert stored(world) == before
        assert replica.rearmed == []
        await replica.reconcile(rounds=4)
        assert stored(world) != before, "there was nothing to repair"


def stored(world: World) -> list[list[int]]:
    """Sequences of all that is there, and of what the dispatcher's consumer is at."""
    streams = (world.executions.stream, world.status.stream, world.server.tasks, world.server.events)
    return [*([*each.messages] for each in streams), [world.server.due.ack_floor]]


async def test_it_runs_until_cancelled() -> None:
    """Rounds at the given pace, through a server that goes away and comes back."""
    world = World()
    async with Replica(world) as replica:
        task = asyncio.create_task(replica.reconciler.run(replica.tenure()))
        await world.clock.advance(10)
        world.server.down = True
        await world.clock.advance(60)
        world.server.down = False
        execution = replica.execution()
        await world.store(execution)
        await world.clock.advance(100)
        assert (await world.record(execution.id)).state is State.QUEUED
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_kinds_are_registered() -> None:
    """Every repair counts under a kind that the metrics know beforehand."""
    world = World()
    async with Replica(world) as replica:
        assert sorted(each.kind.value for each in replica.reconciler.repairs) == sorted(REPAIR_KINDS)


# --- killed anywhere


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_a_reconciler_killed_anywhere(late: bool) -> None:
    """One of each kind of wreck, and a leader that dies at its n-th call, for every n: its successor ends the same."""
    number = 1
    while True:
        wire = Tripwire(number, late=late)
        world = World()
        ids = await _wrecks(world)
        async with Replica(world, wire, overlap=Overlap.ALLOW) as doomed:
            try:
                await doomed.reconcile(rounds=5)
            except asyncio.CancelledError:
                assert wire.tripped
        async with Replica(world, overlap=Overlap.ALLOW) as heir:
            for _ in range(6):
                await heir.reconcile()
                await heir.track()
        states = [(await world.record(each)).state for each in ids]
        assert states == [State.QUEUED, State.SUCCEEDED, State.LOST, State.FAILED], f"killed at call {number}"
        assert (await world.row()).active in ((ids[0],), ())
        assert len(world.tasks()) == 1
        if not wire.tripped:
            break
        number += 1
    assert number > 20


async def _wrecks(world: World) -> list[str]:
    """Claimed and not queued, acknowledged without a signal, run by a dead worker, ended with its slot."""
    async with Replica(world, overlap=Overlap.ALLOW) as dead:
        await world.schedules.put("a", EVERY_DAY)
        claimed = dead.execution(0)
        gone, silent, ended = [await dead.launched(number, max_tries=1) for number in (1, 2, 3)]
        for _ in range(3):
            delivery = world.take()
            if delivery.message.seq == gone.task_seq:
                world.queue.ack(delivery.token)
        world.start(silent.id)
        await dead.turn(dead.tracker.reports.turn())
        lose_signals(world)
        world.server.tasks.delete(ended.task_seq or 0)
        await world.store(structs.replace(await world.record(ended.id), state=State.FAILED))
        await world.store(claimed)
        await world.hold(claimed.id, gone.id, silent.id, ended.id)
        return [claimed.id, gone.id, silent.id, ended.id]
