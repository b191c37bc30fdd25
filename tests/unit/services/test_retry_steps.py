"""A retry whose replica dies before or after any of its calls, is slow, or not alone: one new drive, one task."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.ending import Wish
from scheduler.core.errors import Conflict, Unavailable, Unsure
from scheduler.core.lifecycle import Finish
from scheduler.core.model.execution import Action, Asked, Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.services.records import Change, Stored
from scheduler.wire import api
from scheduler.wire.reports import Outcome
from tests.unit.services.dispatch_stage import Failing
from tests.unit.services.tracking_stage import Replica, Tripwire, World


async def failed(world: World, *, attempts: int = 1) -> Execution:
    """A dead letter: it has used up its tries, and its slot and its task are gone."""
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=attempts)
        delivery = world.take()
        world.start(run.id)
        world.finish(run.id, Outcome.FAILED)
        world.queue.ack(delivery.token)
        await replica.track()
        await replica.settlement.flush()
        return await world.record(run.id)


async def works(world: World, execution: Execution, attempt: int = 2) -> None:
    """The next drive is run by an SDK worker, and tracked; nothing is left."""
    delivery = world.take()
    assert delivery.message.headers["Schedd-Attempts-Before"] == str(attempt - 1)
    world.start(execution.id, attempt)
    world.finish(execution.id, attempt=attempt)
    world.queue.ack(delivery.token)
    async with Replica(world) as replica:
        await replica.track()
        await replica.reconcile(rounds=2)
        await replica.settlement.flush()
    done = await world.record(execution.id)
    assert (done.state, done.attempt, done.verdict) == (State.SUCCEEDED, attempt, "fired")
    assert (await world.row()).active == ()
    assert (await world.row()).drives == {}
    assert world.tasks() == []


def claims(world: World) -> list[str]:
    return [each.subject for each in world.server.tasks.messages.values() if ".claim." in each.subject]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_killed_anywhere(late: bool) -> None:
    """Killed at its n-th call, for every n: either nothing has happened, and the client asks again; or the reconciler
    comes to the same one task."""
    number, kills, opened = 1, 0, 0
    while True:
        world, wire = World(), Tripwire(number, late=late)
        run = await failed(world)
        async with Replica(world, wire) as doomed:
            try:
                await doomed.retries.retry(api.RetryExecution(id=run.id, expected_drive=0))
            except asyncio.CancelledError:
                assert wire.tripped
        async with Replica(world) as heir:
            if (await world.record(run.id)).drive == 0:
                await heir.retries.retry(api.RetryExecution(id=run.id, expected_drive=0))
            else:
                opened += 1
            await heir.reconcile(rounds=3)
            found = await world.record(run.id)
            assert (found.state, found.drive) == (State.QUEUED, 1), number
        assert len(world.tasks()) == 1
        assert claims(world)[-1].endswith(".1")
        await works(world, run)
        if not wire.tripped:
            break
        number, kills = number + 1, kills + 1
    assert kills >= 6
    assert 3 <= opened < kills  # sometimes before the record, sometimes after it


@pytest.mark.parametrize("late", [False, True], ids=["lost", "unheard"])
@pytest.mark.parametrize("problem", [Unsure("no answer"), Unavailable("refused")], ids=["unsure", "unavailable"])
async def test_one_call_fails(problem: Unavailable, late: bool) -> None:
    """Any call without an answer, landed or not: the same request again, and one drive comes of it."""
    number = 1
    while True:
        world, wire = World(), Failing(number, problem, late=late and isinstance(problem, Unsure))
        run = await failed(world)
        async with Replica(world, wire) as replica:
            request = api.RetryExecution(id=run.id, expected_drive=0)
            for _ in range(2):
                try:
                    await replica.retries.retry(request)
                except (Unsure, Unavailable):
                    continue
            await replica.reconcile(rounds=3)
        found = await world.record(run.id)
        assert (found.state, found.drive) == (State.QUEUED, 1), number
        assert len(world.tasks()) == 1
        await works(world, run)
        if wire.count < number:
            break
        number += 1
    assert number > 8


async def test_two_replicas_at_once() -> None:
    """One record, one compare-and-set: one drive; the other sees it."""
    world = World()
    run = await failed(world)
    async with Replica(world) as one, Replica(world) as other:
        asked = [each.retries.retry(api.RetryExecution(id=run.id)) for each in (one, other)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, Conflict) for each in answers) == 1
    assert (await world.record(run.id)).drive == 1
    assert len(world.tasks()) == 1
    await works(world, run)


async def test_the_lazy_row_of_the_drive_before() -> None:
    """Its row follows up to a second later, when the slot is the new drive's: that slot stays."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1)
        world.start(run.id)
        world.finish(run.id, Outcome.FAILED)
        await replica.track()
        await replica.retries.retry(api.RetryExecution(id=run.id))
        await replica.settlement.flush()
        assert (await world.row()).active == (run.id,)
        (second,) = await replica.launch(replica.execution(5))
        assert isinstance(second, Execution)
        assert (second.state, second.reason) == (State.SKIPPED, "overlap")


async def test_late_words_about_the_drive_before() -> None:
    """Reports and signals of it, folded late by another replica, are not about this one."""
    world = World()
    async with Replica(world) as replica:
        run = await replica.launched(max_tries=1)
        delivery = world.take()
        world.start(run.id)
        world.finish(run.id, Outcome.FAILED)
        world.queue.ack(delivery.token)  # its signal is folded only after the retry
        await replica.turn(replica.tracker.reports.turn())
        await replica.retries.retry(api.RetryExecution(id=run.id))
        world.finish(run.id, Outcome.SUCCEEDED, 1)
        await replica.track()
        await replica.track()
        assert (await world.record(run.id)).state is State.QUEUED
    await works(world, run)


async def retried(world: World, replica: Replica) -> tuple[Execution, Execution]:
    """A run as somebody saw it in its first drive, and as it is now, queued in its second."""
    run = await replica.launched()
    seen = await world.record(run.id)
    await replica.canceller.ask([run.id], Asked(Action.CANCEL, world.clock.now(), "requested"))
    await replica.retries.retry(api.RetryExecution(id=run.id))
    return seen, await world.record(run.id)


async def test_an_end_that_was_meant_for_the_drive_before() -> None:
    """Who took its attempt, was stopped, and wakes up after the retry writes nothing over the new drive."""
    world = World()
    async with Replica(world) as replica:
        seen, now = await retried(world, replica)
        await replica.canceller._end(seen, Wish(State.CANCELLED, "requested"))
        assert await world.record(now.id) == now
        assert replica.telemetry.count("dropped", what="transition", reason="past_drive") == 1
        assert len(world.tasks()) == 1
    await works(world, now, now.attempts_before + 1)


async def test_a_task_of_the_drive_before_that_has_vanished() -> None:
    """That one was gone says nothing about this one: no success is inferred."""
    world = World()
    async with Replica(world) as replica:
        seen, now = await retried(world, replica)
        for _ in range(3):
            await replica.tracker.inspector.look_at([seen])
            await world.clock.advance(10)
        assert await world.record(now.id) == now


async def test_a_signal_that_is_judged_while_it_is_retried() -> None:
    """Its record was read in the first drive, and is in the second when the judgement is written: it does not hold."""
    world = World()
    async with Replica(world) as slow, Replica(world) as other:
        run = await other.launched()
        world.queue.ack(world.take().token)
        seen = await slow.records.get_many([run.id])
        await other.tracker.folder.fold([Change(run.id, (Finish(at=world.clock.now(), state=State.LOST),))])
        await other.retries.retry(api.RetryExecution(id=run.id))
        now = await world.record(run.id)

        async def as_it_was(ids: object) -> list[Stored | None]:
            slow.records.get_many = read  # type: ignore[method-assign]
            return seen

        read = slow.records.get_many
        slow.records.get_many = as_it_was  # type: ignore[method-assign,assignment]
        await slow.turn(slow.tracker.signals.turn())
        assert await world.record(run.id) == now


async def test_who_waits_is_launched_though_its_schedule_is_gone() -> None:
    """A retry waits for a run that is under way; the end of that starts it, schedule or no schedule."""
    world = World()
    run = await failed(world)
    async with Replica(world) as replica:
        second = await replica.launched(5)
        await replica.retries.retry(api.RetryExecution(id=run.id))
        assert (await world.record(run.id)).state is State.WAITING
        world.queue.ack(world.take().token)
        await replica.track()
        assert (await world.record(second.id)).state is State.SUCCEEDED
        assert (await world.record(run.id)).state is State.QUEUED
    await works(world, run)


async def test_cancelled_while_it_waits_and_retried_again() -> None:
    """A retry can be cancelled like any other run, and retried once more."""
    world = World()
    run = await failed(world)
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await replica.launched(5)
        await replica.retries.retry(api.RetryExecution(id=run.id))
        await replica.canceller.ask([run.id], Asked(Action.CANCEL, world.clock.now(), "requested"))
        cancelled = await world.record(run.id)
        assert (cancelled.state, cancelled.verdict, cancelled.drive) == (State.CANCELLED, "fired", 1)
        await replica.retries.retry(api.RetryExecution(id=run.id))
        assert (await world.record(run.id)).drive == 2
        assert (await world.row()).waiting == (run.id,)
