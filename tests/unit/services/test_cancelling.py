"""Ending executions from outside: asked and ousted, wherever they are, and whoever dies over it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from scheduler.core.errors import Conflict
from scheduler.core.model.execution import Action, Asked, Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.wire import api
from scheduler.wire.reports import Outcome
from tests.unit.services.cancelling_stage import sent, state, watching
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, Tripwire, World


def asked(world: World, action: Action = Action.CANCEL, grace_s: float | None = None) -> Asked:
    return Asked(action, world.clock.now(), "requested", grace_s)


# --- asked


async def test_queued_is_cancelled_at_once() -> None:
    """Nobody has started it: its attempt is the daemon's, cancelled on record, then the task gone, the slot free."""
    world = World()
    removals = world.note_removals()
    async with Replica(world) as replica:
        run = await replica.launched()
        await replica.canceller.ask([run.id], asked(world))
        assert await state(world, run) == (State.CANCELLED, "requested")
        assert world.tasks() == []
        assert removals == [State.CANCELLED]
        assert (await world.row()).active == ()
        assert sent(world) == []
        await replica.track()
        assert await state(world, run) == (State.CANCELLED, "requested")


async def test_running_is_told_to_end() -> None:
    """Its worker has it in hand: a message goes to it, and again, until its report is folded."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await replica.launched()
        world.start(run.id)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world, grace_s=3.0))
        found = await world.record(run.id)
        assert (found.state, found.asked and found.asked.reason) == (State.RUNNING, "requested")
        assert world.server.cancelled[0][1].grace_s == 3.0
        await world.clock.advance(10)
        assert len(sent(world)) == 5  # at 0, then the leader at 0, 1, 3, 7
        assert set(sent(world)) == {(run.id, "cancel")}
        world.finish(run.id, Outcome.CANCELLED)
        await replica.track()
        assert await state(world, run) == (State.CANCELLED, "requested")
        await world.clock.advance(100)
        assert len(sent(world)) == 5
        assert (await world.row()).active == ()


@pytest.mark.parametrize(("grace_s", "over_s"), [(3.0, 8), (None, 15)])
async def test_who_does_not_listen_is_told_to_terminate(grace_s: float | None, over_s: float) -> None:
    """A worker that has not ended it a while after its grace: from then on the message says at once."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await replica.launched()
        world.start(run.id)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world, grace_s=grace_s))
        await world.clock.advance(over_s - 0.1)
        assert {action for _, action in sent(world)} == {"cancel"}
        await world.clock.advance(20)
        action, grace = world.server.cancelled[-1][1].action, world.server.cancelled[-1][1].grace_s
        assert (action.value, grace) == ("terminate", 0.0)
        assert (await world.record(run.id)).state is State.RUNNING


async def test_a_message_names_the_drive() -> None:
    """What was sent before a retry is not about what runs after it: the worker can tell."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1)
        world.start(run.id)
        world.finish(run.id, Outcome.FAILED)
        await replica.track()
        await replica.retries.retry(api.RetryExecution(id=run.id))
        world.start(run.id, 2)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world))
        assert [cancel.drive for _, cancel in world.server.cancelled] == [1]


async def test_between_two_attempts() -> None:
    """It failed and would be tried again: the next attempt is the daemon's, so no worker begins it."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched()
        world.start(run.id)
        world.finish(run.id, Outcome.RETRY)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world))
        assert await state(world, run) == (State.CANCELLED, "requested")
        assert world.tasks() == []
        with pytest.raises(Conflict):
            world.start(run.id, 2)


async def test_a_started_report_that_nobody_has_folded() -> None:
    """The record still says queued, the worker's claim is there: it is told, not ended behind its back."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched()
        world.start(run.id)
        await replica.canceller.ask([run.id], asked(world))
        assert sent(world) == [(run.id, "cancel")]
        assert (await world.record(run.id)).state is State.QUEUED


async def test_who_waits_is_cancelled() -> None:
    """It leaves the buffer; what runs goes on."""
    world = World()
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await replica.launch(replica.execution(0), replica.execution(1), replica.execution(2))
        row = await world.row()
        await replica.canceller.ask([row.waiting[0]], asked(world))
        assert (await world.record(row.waiting[0])).state is State.CANCELLED
        after = await world.row()
        assert (after.active, after.waiting) == (row.active, row.waiting[1:])


async def test_a_worker_that_died_with_it() -> None:
    """Asked to end and never heard of again: cancelled after an ack wait, though tries are left."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched()
        await world.beat((run.id, 1))
        world.start(run.id)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world))
        await replica.reconcile(rounds=5)
        assert await state(world, run) == (State.CANCELLED, "requested")
        assert world.tasks() == []


async def test_asked_twice() -> None:
    """The first word holds; to end at once goes over to end soon."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched()
        world.start(run.id)
        await replica.track()
        for action in (Action.CANCEL, Action.CANCEL, Action.TERMINATE, Action.CANCEL):
            await replica.canceller.ask([run.id], asked(world, action))
        found = await world.record(run.id)
        assert found.asked is not None
        assert found.asked.action is Action.TERMINATE
        assert [each.note for each in found.history if each.note and each.note.startswith("asked")] == [
            "asked to end: requested",
            "asked to end at once: requested",
        ]


async def test_it_ends_by_itself_meanwhile() -> None:
    """The first end wins."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await replica.launched()
        world.start(run.id)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world))
        world.finish(run.id)
        await replica.track()
        assert (await world.record(run.id)).state is State.SUCCEEDED


async def test_it_gives_up_some_time() -> None:
    """A worker that does not listen is not told for ever; that is counted."""
    world = World()
    async with Replica(world) as replica, watching(replica):
        run = await replica.launched()
        world.start(run.id)
        await replica.track()
        await replica.canceller.ask([run.id], asked(world))
        await world.clock.advance(30)
        count = len(sent(world))
        assert 5 < count < 10
        replica.deadlines._looks[run.id] = 10**6
        await world.clock.advance(60)
        assert len(sent(world)) <= count + 2
        assert replica.telemetry.count("dropped", what="cancel", reason="given_up") == 1


# --- ousted


@pytest.mark.parametrize("policy", [Overlap.CANCEL_OTHER, Overlap.TERMINATE_OTHER])
async def test_ousted_from_the_queue(policy: Overlap) -> None:
    """What nobody has started ends at once; the newcomer runs."""
    world = World()
    async with Replica(world, overlap=policy) as replica:
        first = await replica.launched(0)
        await replica.launch(replica.execution(1))
        assert await state(world, first) == (State.CANCELLED, "overlap")
        row = await world.row()
        assert (len(row.active), row.waiting) == (1, ())
        assert (await world.record(row.active[0])).state is State.QUEUED


async def test_cancel_other_waits_for_the_end() -> None:
    """The worker is asked; the newcomer's turn comes with its report, not before."""
    world = World()
    world.schedules.put_raw("a", EVERY_DAY)
    async with Replica(world, overlap=Overlap.CANCEL_OTHER) as replica, watching(replica):
        first = await replica.launched(0)
        world.start(first.id)
        await replica.track()
        (second,) = await replica.launch(replica.execution(1))
        assert isinstance(second, Execution)
        assert second.state is State.WAITING
        assert sent(world)[0] == (first.id, "cancel")
        await world.clock.advance(3)
        assert (await world.record(second.id)).state is State.WAITING
        world.finish(first.id, Outcome.CANCELLED)
        await replica.track()
        assert await state(world, first) == (State.CANCELLED, "overlap")
        assert (await world.record(second.id)).state is State.QUEUED


async def test_terminate_other_does_not_wait() -> None:
    """Both hold a slot until the terminated one is over; it is told to end at once."""
    world = World()
    async with Replica(world, overlap=Overlap.TERMINATE_OTHER) as replica, watching(replica):
        first = await replica.launched(0)
        world.start(first.id)
        await replica.track()
        second = await replica.launched(1)
        assert second.state is State.QUEUED
        assert sent(world)[0] == (first.id, "terminate")
        assert (await world.row()).active == (first.id, second.id)
        world.finish(first.id, Outcome.CANCELLED)
        await replica.track()
        assert (await world.row()).active == (second.id,)


# --- killed anywhere


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("where", ["queued", "retrying", "waiting"])
async def test_the_canceller_dies(where: str, late: bool) -> None:
    """Before or after each of its calls: once it is on record that it shall end, it does, and never runs."""
    at = 0
    while True:
        at += 1
        world, wire = World(), Tripwire(late=late)
        async with Replica(world, wire, overlap=Overlap.BUFFER_ALL) as doomed:
            run = await doomed.launched()
            if where == "retrying":
                world.start(run.id)
                world.finish(run.id, Outcome.RETRY)
                await doomed.track()
            if where == "waiting":
                (waits,) = await doomed.launch(doomed.execution(1))
                assert isinstance(waits, Execution)
                run = waits
            wire.count, wire.at = 0, at
            with contextlib.suppress(asyncio.CancelledError):
                await doomed.canceller.ask([run.id], asked(world))
        died = wire.tripped
        is_asked = (await world.record(run.id)).asked is not None
        async with Replica(world, overlap=Overlap.BUFFER_ALL) as heir, watching(heir):
            await world.clock.advance(3)
            await heir.track()
            await heir.reconcile(rounds=4)
        found = await world.record(run.id)
        assert (found.state is State.CANCELLED) == is_asked, at
        assert not is_asked or run.id not in (*(await world.row()).active, *(await world.row()).waiting)
        assert not is_asked or not world.tasks() or where == "waiting"
        if not died:
            break
    assert at > 4
    assert is_asked
