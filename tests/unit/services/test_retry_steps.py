"""A retry whose replica dies before or after any of its calls, is slow, or not alone: one new drive, one task."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.errors import Conflict, Unavailable, Unsure
from scheduler.core.model.execution import Action, Asked, Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.wire import api
from scheduler.wire.reports import Outcome
from tests.unit.services.dispatch_stage import Failing, Stoppable
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


async def test_a_canceller_that_wakes_up_after_the_retry() -> None:
    """Stopped between the take and the record, it finds another drive: what it was about to write is not for that."""
    world, wire = World(), Stoppable()
    async with Replica(world, wire) as sleeper, Replica(world) as other:
        run = await other.launched()
        asked = Asked(Action.CANCEL, world.clock.now(), "requested")
        await other.canceller._folder.fold([])  # nothing yet
        wish = await world.record(run.id)
        sleeping = asyncio.ensure_future(sleeper.canceller.ask([run.id], asked))
        for _ in range(3):
            await asyncio.sleep(0)
        wire.stop()
        await other.canceller.ask([wish.id], asked)
        assert (await world.record(run.id)).state is State.CANCELLED
        await other.retries.retry(api.RetryExecution(id=run.id))
        wire.cont()
        await sleeping
        found = await world.record(run.id)
        assert (found.state, found.drive, found.attempts_before) == (State.QUEUED, 1, 1)
    await works(world, run)


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
