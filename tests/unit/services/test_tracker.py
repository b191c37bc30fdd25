"""The tracker and SDK workers: reports become records, slots are freed, nothing is lost or doubled."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.errors import Internal
from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Overlap
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import BOOM, QUEUE, Replica, World


async def test_an_sdk_run() -> None:
    """Started, then finished: the record runs and succeeds, its slot is free, the world is told, nothing is left."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        assert (await world.row()).active == (execution.id,)
        delivery = world.take()
        world.start(execution.id)
        await replica.track()
        running = await world.record(execution.id)
        assert (running.state, running.worker, running.attempt) == (State.RUNNING, "w1", 1)
        world.finish(execution.id, result=b'{"sum":3}')
        world.queue.ack(delivery.token)
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.result, done.reason) == (State.SUCCEEDED, b'{"sum":3}', None)
        assert (await world.row()).active == ()
        assert [event["state"] for event in world.finished_events()] == ["succeeded"]
        assert replica.telemetry.count("finished", queue=QUEUE, state="succeeded") == 1
        assert replica.telemetry.count("dropped") == 0
        assert world.server.tracker.ack_pending == world.server.signals.ack_pending == 0


async def test_retries_and_failure() -> None:
    """Two attempts that retry and a third that fails are one history with the last error."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=3)
        for attempt in (1, 2, 3):
            world.start(execution.id, attempt)
            world.finish(execution.id, Outcome.FAILED if attempt == 3 else Outcome.RETRY, attempt, error=BOOM)
        await replica.track()
        done = await world.record(execution.id)
        assert (done.state, done.attempt, done.reason, done.error) == (State.FAILED, 3, "max_tries", BOOM)
        states = [entry.state for entry in done.history]
        assert states.count(State.RETRYING) == 2
        assert states.count(State.RUNNING) == 3


async def test_finished_before_started_is_folded() -> None:
    """Another replica holds the `started`: it is read back, and what that replica folds later changes nothing."""
    world = World()
    async with Replica(world) as one, Replica(world) as other:
        execution = await one.launched()
        world.start(execution.id)
        held = world.server.tracker.take(1)
        world.finish(execution.id)
        await one.track()
        done = await world.record(execution.id)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)
        assert done.started_at is not None
        await world.clock.advance(6)  # what was held comes again, to somebody
        await other.track()
        assert await world.record(execution.id) == done
        assert other.telemetry.count("dropped") == 0
        assert held


async def test_a_worker_faster_than_the_dispatcher() -> None:
    """Reports on a record that still says claimed: it passes through queued, and fired is counted once."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        (result,) = await replica.queues.publish([replica.launcher._pair(_step(replica, execution))])
        await world.store(execution)
        world.start(execution.id)
        await replica.track()
        running = await world.record(execution.id)
        assert (running.state, running.task_seq) == (State.RUNNING, result.task_seq)
        assert running.queued_at is not None
        assert replica.telemetry.count("verdict", verdict="fired") == 1
        await replica.launch(execution)  # the dispatcher, late
        assert replica.telemetry.count("verdict", verdict="fired") == 1
        assert (await world.record(execution.id)).state is State.RUNNING


def _step(replica: Replica, execution: object) -> object:
    from scheduler.services.launch_steps import Step

    return Step(replica._candidate(execution))  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["lose_ack_next", "lose_next", "refuse_in_flight_next"])
async def test_writes_that_fail(fault: str) -> None:
    """A record write without an answer, lost or refused: the report is acknowledged only once it is stored, and the
    end is counted once."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.finish(execution.id)
        getattr(world.server, fault)()
        await replica.track()
        await world.clock.advance(6)
        await replica.track()
        assert (await world.record(execution.id)).state is State.SUCCEEDED
        assert (await world.row()).active == ()
        assert replica.telemetry.count("finished") == 1
        assert len(world.finished_events()) == 1
        assert world.server.tracker.ack_pending == 0


async def test_server_down_and_back() -> None:
    """While NATS is away nothing is acknowledged; when it is back everything is folded."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.finish(execution.id)
        batch = [each async for each in _pulled(replica)]
        world.server.down = True
        await replica.tracker.reports.fold(batch)
        world.server.down = False
        assert (await world.record(execution.id)).state is State.QUEUED
        await world.clock.advance(6)
        await replica.track()
        assert (await world.record(execution.id)).state is State.SUCCEEDED


async def _pulled(replica: Replica):  # type: ignore[no-untyped-def]
    for each in await replica.tracker.reports._reports.pull(256, 1.0):
        yield each


async def test_reports_about_nothing() -> None:
    """Garbage on the subject, an id that is none, an execution without a record: counted, never in the way."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.server.report("schedd.report.Q.nonsense.1.started", b"{}")
        world.server.report(world.names.report(QUEUE, "no-id", 1, "started"), b'{"worker":"w"}')
        world.start("gone.20261121T080000000Z")
        world.server.report(world.names.report(QUEUE, execution.id, 1, "progress"), b'{"fraction":0.5}')
        world.start(execution.id)
        await replica.track()
        assert (await world.record(execution.id)).state is State.RUNNING
        assert replica.telemetry.count("dropped", what="report", reason="poison") == 2
        assert replica.telemetry.count("dropped", what="report", reason="no_record") == 1
        assert world.server.tracker.ack_pending == 0


async def test_one_that_breaks_us_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug met by one execution sets its reports apart, counted and logged; the others of the batch are folded."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        bad, good = await replica.launched(0), await replica.launched(1)
        world.start(bad.id)
        world.start(good.id)
        get_many = replica.records.get_many

        async def broken(ids: list[str]) -> object:
            if bad.id in ids:
                raise Internal("a bug")
            return await get_many(ids)

        monkeypatch.setattr(replica.records, "get_many", broken)
        await replica.track()
        assert (await world.record(good.id)).state is State.RUNNING
        assert replica.telemetry.count("dropped", what="report", reason="broke") == 1
        assert world.server.tracker.ack_pending == 0


async def test_lag_is_told() -> None:
    """How many reports nobody has folded yet is told every few seconds."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        await replica.track()
        assert replica.telemetry.of("reports_lag") == [{"count": 1}]


async def test_it_runs_until_cancelled() -> None:
    """The loops survive a server that goes away and comes back, do not spin, and end when cancelled."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        tasks = [asyncio.create_task(replica.tracker.reports.run()), asyncio.create_task(replica.tracker.signals.run())]
        await world.clock.advance(3)
        world.server.down = True
        await world.clock.advance(20)
        world.server.down = False
        world.start(execution.id)
        world.finish(execution.id)
        calls = replica.wire.count
        await world.clock.advance(20)
        assert (await world.record(execution.id)).state is State.SUCCEEDED
        assert replica.wire.count - calls < 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
