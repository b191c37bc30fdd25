"""Executions whose task is gone: what is inferred, what is lost, and which signals are waited for."""

from __future__ import annotations

import pytest

from scheduler.core.model.execution import Execution, State
from scheduler.memory.messages import Write
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import Replica, World, lose_signals


async def acked_unheard(world: World, replica: Replica) -> Execution:
    """A plain worker did it, and the server's word of the ack is lost."""
    execution = await replica.launched()
    world.queue.ack(world.take().token)
    lose_signals(world)
    return execution


async def test_an_ack_that_nobody_told() -> None:
    """Gone without a signal: succeeded, inferred, only after a grace and after every signal told so far is folded."""
    world = World()
    async with Replica(world) as replica:
        execution = await acked_unheard(world, replica)
        world.server.advisories.store([Write("$JS.EVENT.x", b"told to somebody, not folded yet")])
        await replica.reconcile(every_s=31)
        await replica.reconcile(rounds=3)
        assert (await world.record(execution.id)).state is State.QUEUED
        await replica.track()  # now it is folded (as poison)
        await replica.reconcile()
        done = await world.record(execution.id)
        assert (done.state, done.reason) == (State.SUCCEEDED, "inferred")
        assert (await world.row()).active == ()
        assert replica.telemetry.of("repaired") == [{"kind": "gone"}]


async def test_signals_about_others_put_nothing_off() -> None:
    """There is always a newer one that nobody has folded yet: what was told by the time the task was gone counts."""
    world = World()
    async with Replica(world) as replica:
        execution = await acked_unheard(world, replica)
        for _ in range(4):
            world.server.advisories.store([Write("$JS.EVENT.x", b"about another task")])
            await replica.reconcile(every_s=31)
            await replica.track()
        assert (await world.record(execution.id)).reason == "inferred"


async def test_a_task_that_the_server_lost_together_with_its_claim() -> None:
    """Nobody saw it happen; but a claim outlives its task by far, so nobody need have worked on it: no success."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        seq = execution.task_seq or 0
        for each in (seq - 1, seq):
            world.server.tasks.delete(each)
        await replica.reconcile(rounds=3, every_s=31)
    record = await world.record(execution.id)
    assert (record.state, record.reason) == (State.LOST, "stream_lost")


async def test_a_task_that_the_server_lost_behind_its_claim() -> None:
    """Its disk was damaged right between the two: the claim does not make it a success that nobody worked on."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        seq = execution.task_seq or 0
        world.server.tasks.delete(seq)
        replica.lost_tasks.note(seq - 1, seq)
        await replica.reconcile(rounds=3, every_s=31)
    record = await world.record(execution.id)
    assert (record.state, record.reason) == (State.LOST, "stream_lost")


@pytest.mark.parametrize("signal", ["term", "nak", "max_deliveries"])
async def test_a_signal_is_never_inferred_away(signal: str) -> None:
    """The task is gone and its signal waits, for long: whatever the reconciler sees, it does not become a success."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=1)
        delivery = world.take()
        if signal == "term":
            world.queue.term(delivery.token, "no")
        elif signal == "nak":
            world.queue.nak(delivery.token)
        else:
            for _ in range(5):
                await world.clock.advance(31)
                world.queue.take(1)
        if signal != "term":  # somebody removed it by hand meanwhile
            world.server.tasks.delete(world.tasks()[0])
        await replica.reconcile(rounds=6)
        assert (await world.record(execution.id)).state is State.QUEUED
        await replica.track()
        await replica.reconcile(rounds=2)
        assert (await world.record(execution.id)).state is State.FAILED


async def test_gone_after_a_start() -> None:
    """Started, acknowledged, and never finished: lost, not succeeded; but not while its worker says that it runs."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.queue.ack(world.take().token)
        await replica.track()
        for _ in range(6):
            await world.beat((execution.id, 1))
            await replica.reconcile(every_s=20)
        assert (await world.record(execution.id)).state is State.RUNNING
        await replica.reconcile(rounds=3)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "worker_gone")


async def test_gone_with_a_report_that_nobody_folded() -> None:
    """The final report is in the stream and its message was lost to us: it decides."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.finish(execution.id, Outcome.FAILED)
        world.queue.ack(world.take().token)
        for delivery in world.server.tracker.take(10):
            world.server.tracker.ack(delivery.token)
        lose_signals(world)
        await replica.reconcile(every_s=31)
        assert (await world.record(execution.id)).state is State.FAILED
        assert replica.telemetry.count("repaired") == 0
