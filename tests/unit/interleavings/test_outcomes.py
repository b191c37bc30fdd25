"""What a worker did, told by reports and signals in the order in which nobody would want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from scheduler.core.errors import Conflict, ScheddError
from scheduler.core.model.execution import Action, Asked, State
from scheduler.memory.messages import Delivery
from scheduler.services.records import Change, Changed
from scheduler.services.tracker.liveness import run_of
from scheduler.wire import api
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import Replica, World

Answer = Callable[[World, Delivery], None]


def _ack(world: World, delivery: Delivery) -> None:
    world.queue.ack(delivery.token)


def _nak(world: World, delivery: Delivery) -> None:
    world.queue.nak(delivery.token)


def _term(world: World, delivery: Delivery) -> None:
    world.queue.term(delivery.token, "says the worker")


@pytest.mark.parametrize("answer", [_ack, _nak, _term])
@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED])
async def test_a_signal_overtakes_the_report_that_explains_it(answer: Answer, outcome: Outcome) -> None:
    """A replica took the reports and died; another hears what became of the delivery first. Something was started, so
    the signal moves nothing and takes no task away; the reports come again and decide."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1)
        delivery = world.take()
        world.start(run.id)
        world.finish(run.id, outcome)
        assert len(world.server.tracker.take(10)) == 2  # by the one that dies
        answer(world, delivery)
        await replica.turn(replica.tracker.signals.turn())
        assert world.server.signals.ack_pending == world.server.signals.pending == 0
        assert (await world.record(run.id)).state is State.QUEUED
        assert len(world.tasks()) == (answer is _nak)
        await world.clock.advance(6)
        await replica.track()
        done = await world.record(run.id)
        assert (done.state, done.attempt) == (State(outcome.value), 1)
        assert [event["state"] for event in world.finished_events()] == [outcome.value]


@pytest.mark.parametrize(
    ("outcome", "state"), [(Outcome.SUCCEEDED, State.SUCCEEDED), (Outcome.RETRY, State.FAILED), (None, State.LOST)]
)
async def test_the_last_delivery_is_over_before_the_reports_are_folded(outcome: Outcome | None, state: State) -> None:
    """MAX_DELIVERIES comes first, the reports are in the hands of a dead replica: they are read back and decide; only
    without an end the attempt is lost. The task, which would stay for ever, goes."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=9)
        world.start(run.id)
        if outcome is not None:
            world.finish(run.id, outcome)
        world.server.tracker.take(10)
        for _ in range(5):
            world.take()
            await world.clock.advance(31)
        assert world.queue.take(1) == []
        world.server.tracker.take(10)
        await replica.turn(replica.tracker.signals.turn())
        assert (await world.record(run.id)).state is state
        assert world.tasks() == []
        await world.clock.advance(6)
        await replica.track()
        assert (await world.record(run.id)).state is state
        assert len(world.finished_events()) == 1


async def test_a_removal_by_a_strange_hand_is_no_outcome() -> None:
    """Somebody deletes a task that a worker has in hand; the server says TERM in our own words for that. The record
    stays as it is; that the task is gone is found by looking, and said as such."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched()
        delivery = world.take()
        assert await replica.queues.remove(delivery.message.seq)
        assert world.server.signals.pending == 1
        await replica.track()
        assert world.server.signals.pending == world.server.signals.ack_pending == 0
        assert (await world.record(run.id)).state is State.QUEUED
        await replica.reconcile(rounds=3, every_s=31)
        done = await world.record(run.id)
        assert (done.state, done.reason) == (State.SUCCEEDED, "inferred")


def _handed_back(world: World) -> None:
    _nak(world, world.take())


def _ended(world: World) -> None:
    _term(world, world.take())


def _given_up(world: World) -> None:
    for _ in range(5):
        _nak(world, world.take())
    assert world.queue.take(1) == []


@pytest.mark.parametrize("scene", [_handed_back, _ended, _given_up])
async def test_a_failure_under_a_long_backlog_is_never_inferred_away(scene: Callable[[World], None]) -> None:
    """The claim has expired, the signal waits and the task is gone or will be: whatever the reconciler sees meanwhile,
    the record is found by the task's sequence, and what failed has failed."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1 if scene is _handed_back else 99)
        await world.clock.advance(1801)
        assert await replica.queues.claimed_seq(run.id, 0) is None
        scene(world)
        held = world.server.signals.take(256)  # by a replica that dies
        assert held
        await replica.reconcile(rounds=1, every_s=4)
        assert (await world.record(run.id)).state is State.QUEUED
        await world.clock.advance(2)
        await replica.track()
        done = await world.record(run.id)
        assert done.state is State.FAILED
        await replica.reconcile(rounds=3, every_s=31)
        assert (await world.record(run.id)).state is State.FAILED
        assert world.tasks() == []


async def test_a_worker_claims_between_the_look_and_the_take_of_a_cancel() -> None:
    """Nobody had started it when the daemon looked, and the attempt is the worker's when the daemon takes it: lost, so
    it runs; it is told to end, and its task stays."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched()
        take = replica.canceller._reports.take

        async def overtaken(queue: str, execution_id: str, attempt: int, at: datetime) -> bool:
            world.start(execution_id, attempt)
            won: bool = await take(queue, execution_id, attempt, at)
            return won

        replica.canceller._reports.take = overtaken  # type: ignore[method-assign]  # the very order
        await replica.canceller.ask([run.id], Asked(Action.CANCEL, world.clock.now(), "requested", None))
        assert (await world.record(run.id)).state is State.QUEUED
        assert [(each, cancel.action.value) for each, cancel in world.server.cancelled] == [(run.id, "cancel")]
        assert len(world.tasks()) == 1
        world.finish(run.id, Outcome.SUCCEEDED)
        await replica.track()
        assert (await world.record(run.id)).state is State.SUCCEEDED


async def test_a_worker_that_claims_after_the_take_of_a_cancel_begins_nothing() -> None:
    """The daemon takes the attempt, and stands still before it writes the record: the worker, which has the task in
    hand, is refused its attempt; the record ends as cancelled, and only then the task goes."""
    world = World()
    order: list[str] = []
    async with Replica(world) as replica:
        run = await replica.launched()
        fold, remove = replica.canceller._folder.fold, replica.queues._port.remove

        async def stand_still(*args: object, **kwargs: object) -> object:
            if await _is_taken(world, run.id):
                with pytest.raises(Conflict):
                    world.start(run.id)
                order.append("refused")
            return await fold(*args, **kwargs)  # type: ignore[arg-type]

        async def removed(task_seq: int) -> bool:
            order.append((await world.record(run.id)).state.value)
            found: bool = await remove(task_seq)
            return found

        replica.canceller._folder.fold = stand_still  # type: ignore[method-assign,assignment]  # the very order
        replica.queues._port.remove = removed
        await replica.canceller.ask([run.id], Asked(Action.CANCEL, world.clock.now(), "requested", None))
        assert order == ["refused", "cancelled"]
        assert world.tasks() == []


async def _is_taken(world: World, execution_id: str) -> bool:
    return any(execution_id in each.subject for each in world.server.reports.messages.values())


async def test_a_lost_worker_is_lost_after_a_whole_ack_wait_of_silence_only() -> None:
    """Its row is there, forgets the run, and names it again: the silence begins anew each time."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1)
        world.take()
        world.start(run.id)
        await replica.track()
        for _ in range(3):
            await world.beat((run.id, 1))
            await replica.reconcile(every_s=5)
            await world.beat()
            await replica.reconcile(every_s=20)
            assert (await world.record(run.id)).state is State.RUNNING
        await replica.reconcile(rounds=3, every_s=20)
        done = await world.record(run.id)
        assert (done.state, done.reason) == (State.LOST, "worker_gone")
    assert timedelta(seconds=replica.world.queue.limits.ack_wait_s) == timedelta(seconds=30)


async def test_a_silent_delivery_is_told_by_the_next_word_about_it() -> None:
    """A plain worker dies with it twice, of which the server says nothing, and the third hands it back: max_tries 2 may
    be passed by that one delivery, no more, and the next word ends it."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=2)
        for _ in range(2):
            world.take()
            await world.clock.advance(31)
        await replica.track()
        assert world.server.advisories.last_seq == 0
        assert (await world.record(run.id)).state is State.QUEUED
        _nak(world, world.take())
        await replica.track()
        done = await world.record(run.id)
        assert (done.state, done.reason, done.attempt) == (State.FAILED, "max_tries", 3)
        assert world.tasks() == []


async def test_a_silence_ends_no_attempt_but_the_one_that_was_silent() -> None:
    """Found silent for a whole ack wait, and the leader is stopped before he writes: the attempt ends after all, is
    retried, and the next one runs. What he writes when he wakes is not about that one."""
    world = World()
    async with Replica(world) as stopped, Replica(world) as other:
        run = await other.launched(max_tries=1)
        delivery = world.take()
        world.start(run.id)
        await other.track()
        silent = run_of(await world.record(run.id))
        assert silent is not None
        liveness, happened = stopped.tracker.liveness, []
        assert await liveness.check([silent]) == 0
        await world.clock.advance(31)
        fold = liveness._folder.fold

        async def overtaken(changes: Sequence[Change]) -> list[Changed | ScheddError]:
            world.finish(run.id, Outcome.FAILED)
            world.queue.ack(delivery.token)
            await other.track()
            await other.retries.retry(api.RetryExecution(id=run.id, expected_drive=0))
            world.take()
            world.start(run.id, 2)
            await other.track()
            happened.append(await world.record(run.id))
            return await fold(changes)

        liveness._folder.fold = overtaken  # type: ignore[method-assign,assignment]  # the very order
        assert await liveness.check([silent]) == 0
        (running,) = happened
        assert (running.state, running.attempt, running.drive) == (State.RUNNING, 2, 1)
        assert await world.record(run.id) == running
        assert len(world.tasks()) == 1
