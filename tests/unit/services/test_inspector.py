"""Looking at a slot's holder before a skip: what has ended frees its slot now, what runs keeps it."""

from __future__ import annotations

import pytest
from msgspec import structs

from scheduler.core.errors import Unavailable, Unsure
from scheduler.core.model.execution import Execution, State
from scheduler.wire.reports import Outcome
from tests.unit.services.tracking_stage import Replica, World


async def _next_fire(replica: Replica, number: int = 9) -> Execution:
    (result,) = await replica.launch(replica.execution(number))
    assert isinstance(result, Execution), result
    return result


async def _ask(replica: Replica, execution: Execution) -> State | None:
    """Launch it; None where the launcher says to ask again in a moment."""
    (result,) = await replica.launch(execution)
    return None if isinstance(result, Unsure) else (await replica.world.record(execution.id)).state


async def _asks_again(replica: Replica, number: int) -> bool:
    """Whether the launch ends without a verdict, to be repeated."""
    (result,) = await replica.launch(replica.execution(number))
    return isinstance(result, Unsure)


async def test_a_run_that_goes_on_keeps_its_slot() -> None:
    """Its task is in the queue and nothing is on record: the next fire is skipped, reason overlap."""
    world = World()
    async with Replica(world) as replica:
        await replica.launched()
        skipped = await _next_fire(replica)
        assert (skipped.state, skipped.reason) == (State.SKIPPED, "overlap")


async def test_a_final_report_that_waits_to_be_folded() -> None:
    """A dead replica holds the report: it is read, folded, and the next fire runs."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.finish(execution.id, Outcome.FAILED)
        assert world.server.tracker.take(10)  # whoever pulled these has died
        assert (await _next_fire(replica)).state is State.QUEUED
        assert (await world.record(execution.id)).state is State.FAILED


async def test_an_ended_record_whose_slot_was_not_freed() -> None:
    """The tracker died between record and slot: the next fire runs at once."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.store(structs.replace(await world.record(execution.id), state=State.SUCCEEDED))
        assert (await _next_fire(replica)).state is State.QUEUED


async def test_a_holder_without_a_record() -> None:
    """Its record has expired or was deleted: it holds nothing."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.executions.delete(execution.id)
        fired = await _next_fire(replica)
        assert fired.state is State.QUEUED
        assert (await world.row()).active == (fired.id,)


async def test_a_task_that_vanished() -> None:
    """Acknowledged, and the server's word about it got lost: asked again for a grace, then believed, and counted."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.queue.ack(world.take().token)
        for seq in list(world.server.advisories.messages):
            world.server.advisories.delete(seq)
        world.server.signals.take(10)
        following = replica.execution(9)
        assert await _ask(replica, following) is None
        assert (await world.record(execution.id)).state is State.QUEUED
        await world.clock.advance(6)
        assert await _ask(replica, following) is State.QUEUED
        done = await world.record(execution.id)
        assert (done.state, done.reason) == (State.SUCCEEDED, "inferred")
        assert replica.telemetry.count("repaired", kind="gone") == 1


async def test_a_signal_on_its_way_is_waited_for() -> None:
    """The task has left its queue and the word about it is not folded yet: no skip, but asked again; then it runs."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.queue.term(world.take().token, "no")
        following = replica.execution(9)
        assert await _ask(replica, following) is None
        await world.clock.advance(2)
        assert await _ask(replica, following) is None
        await replica.track()
        assert (await world.record(execution.id)).state is State.FAILED
        assert await _ask(replica, following) is State.QUEUED


async def test_a_backlog_of_signals_is_not_waited_for_without_end() -> None:
    """Nobody folds signals for long: the next fires are skipped then, and still nothing is inferred."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.queue.term(world.take().token, "no")
        following = replica.execution(9)
        assert await _ask(replica, following) is None
        await world.clock.advance(60)
        assert await _ask(replica, following) is State.SKIPPED
        assert (await world.record(execution.id)).state is State.QUEUED


async def test_a_look_that_fails_skips_nothing() -> None:
    """Nobody could say whether the holder runs: the launch is an error, to be repeated, and no verdict is written."""
    world = World()
    async with Replica(world) as replica:
        await replica.launched()
        execution = replica.execution(9)
        get_many = replica.records.get_many

        async def unavailable(ids: list[str]) -> object:
            if execution.id not in ids:
                raise Unavailable("electing")
            return await get_many(ids)

        replica.records.get_many = unavailable  # type: ignore[method-assign,assignment]
        (result,) = await replica.launch(execution)
        assert isinstance(result, Unavailable)
        assert (await world.record(execution.id)).state is State.CLAIMED


@pytest.mark.parametrize("count", [0, 1, 40])
async def test_it_reads_only_what_it_has_to(count: int) -> None:
    """The cost of a look grows with the holders, by a few reads each, and no writes."""
    world = World()
    async with Replica(world) as replica:
        executions = [replica.execution(number) for number in range(count)]
        for number, execution in enumerate(executions):
            await world.store(structs.replace(execution, state=State.QUEUED, task_seq=10_000 + number))
        revision = world.executions.stream.last_seq
        calls = replica.wire.count
        await replica.tracker.inspector.inspect([each.id for each in executions])
        assert replica.wire.count - calls <= 5 + count
        assert world.executions.stream.last_seq == revision
