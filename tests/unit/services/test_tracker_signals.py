"""The tracker and what the server tells of a task: acks, terms, naks and tasks that are delivered no more."""

from __future__ import annotations

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import State
from scheduler.memory.messages import Write
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import BOOM, Replica, World


async def test_a_plain_ack() -> None:
    """Acknowledged without a word: succeeded, its slot is free, the signal is acknowledged."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.queue.ack(world.take().token)
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason, done.attempt) == (State.SUCCEEDED, None, 1)
        assert (await world.row()).active == ()
        assert world.server.signals.ack_pending == 0


async def test_a_plain_term() -> None:
    """Terminated with a text: failed, with that reason."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.queue.term(world.take().token, "no such customer")
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason) == (State.FAILED, "no such customer")


async def test_plain_naks_up_to_max_tries() -> None:
    """NAK: retrying, then failed with the record written before the task is removed; the removal is no outcome."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=2)
        world.queue.nak(world.take().token)
        await replica.track()
        retrying = await world.record(execution.id)
        assert (retrying.state, retrying.attempt) == (State.RETRYING, 1)
        world.queue.nak(world.take().token)
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason, done.attempt) == (State.FAILED, "max_tries", 2)
        assert world.tasks() == []
        await replica.track()  # the server tells of the removal
        assert await world.record(execution.id) == done
        assert replica.telemetry.count("dropped") == 0


async def test_max_deliveries() -> None:
    """A worker that dies with it each time: after the last delivery it failed, and the task does not stay for ever."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=100)
        for _ in range(5):
            world.take()
            await world.clock.advance(31)
        assert world.queue.take(1) == []
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason, done.attempt) == (State.FAILED, "max_deliver", 5)
        assert world.tasks() == []


async def test_signals_of_an_sdk_run_are_ignored() -> None:
    """The ack overtakes the report that explains it: only the report decides."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        delivery = world.take()
        world.start(execution.id)
        world.finish(execution.id, Outcome.FAILED, error=BOOM)
        world.queue.ack(delivery.token)
        await replica.turn(replica.tracker.signals.turn())
        assert (await world.record(execution.id)).state is State.QUEUED
        await replica.track()
        assert (await world.record(execution.id)).state is State.FAILED


async def test_an_sdk_worker_hands_back_what_it_does_not_start() -> None:
    """A worker that stops gives a task back unstarted: no try is spent, even the only one; then it runs."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=1)
        await world.beat()
        world.queue.nak(world.take().token)
        await world.workers.delete("w1")
        await replica.track()
        assert (await world.record(execution.id)).state is State.QUEUED
        world.start(execution.id, worker="w2")
        world.finish(execution.id)
        await replica.track()
        assert (await world.record(execution.id)).state is State.SUCCEEDED


async def test_no_handler() -> None:
    """No worker of the queue knows the type: at max_deliver it failed with no_handler, without an attempt."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        for _ in range(5):
            await world.beat(types=["other"])
            world.queue.nak(world.take().token)
        assert world.queue.take(1) == []
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason, done.attempt) == (State.FAILED, "no_handler", 0)
        assert world.tasks() == []


async def test_max_deliveries_while_its_worker_runs_it() -> None:
    """The queue gives up and the worker does not: the signal waits for the end, which the worker reports."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        for _ in range(5):
            world.queue.nak(world.take().token)  # claimers that were refused
        assert world.queue.take(1) == []
        await world.beat((execution.id, 1))
        await replica.track()
        assert (await world.record(execution.id)).state is State.RUNNING
        assert world.server.signals.ack_pending == 1
        assert len(world.tasks()) == 1
        world.finish(execution.id)
        await world.clock.advance(6)
        await replica.track()
        await replica.track()
        assert (await world.record(execution.id)).state is State.SUCCEEDED
        assert world.tasks() == []
        assert world.server.signals.ack_pending == 0


async def test_max_deliveries_of_a_dead_worker() -> None:
    """The queue gives up and the worker is gone: lost, then the task is removed."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=100)
        world.start(execution.id)
        for _ in range(5):
            world.take()
            await world.clock.advance(31)
        assert world.queue.take(1) == []
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason) == (State.LOST, "worker_gone")
        assert world.tasks() == []


async def test_a_claim_that_has_expired() -> None:
    """Under a long backlog the claim is gone: the record that knows the sequence is found."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.clock.advance(1801)
        world.queue.term(world.take().token, "too old")
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.reason) == (State.FAILED, "too old")


async def test_signals_about_nobody() -> None:
    """A task that schedd did not queue: counted, left alone."""
    world = World()
    async with Replica(world) as replica:
        world.server.tasks.store([Write("schedd.task.Q.by-hand", b"")])
        world.queue.ack(world.take().token)
        await replica.track()
        assert replica.telemetry.of("dropped") == [{"what": "signal", "reason": "unknown_task"}]
        assert world.server.signals.ack_pending == 0


async def test_signals_of_a_record_that_is_gone() -> None:
    """Its record has expired: the task that would be delivered no more goes, too."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.executions.delete(execution.id)
        for _ in range(5):
            world.queue.nak(world.take().token)
        assert world.queue.take(1) == []
        await replica.track()
        assert world.tasks() == []
        assert {call["reason"] for call in replica.telemetry.of("dropped")} == {"no_record"}


async def test_signals_wait_while_records_cannot_be_written() -> None:
    """Unavailable: nothing is acknowledged, nothing is removed, and it all comes again."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=1)
        world.queue.nak(world.take().token)
        replica.records.bucket._port.fail_next(Unavailable("electing"))
        await replica.track()
        assert (await world.record(execution.id)).state is State.QUEUED
        assert len(world.tasks()) == 1
        await world.clock.advance(6)
        await replica.track()
        assert (await world.record(execution.id)).state is State.FAILED
        assert world.tasks() == []
