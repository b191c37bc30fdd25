"""A due message on its way to a task, and what comes between two of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.model.execution import State
from scheduler.memory.clock import START
from scheduler.memory.messages import Write
from scheduler.memory.streams import MemoryStream
from scheduler.wire.instants import format_instant
from scheduler.wire.record import decode_execution
from scheduler.wire.status import decode_status
from tests.unit.services.dispatch_stage import (
    FLOOR_S,
    At,
    Dispatching,
    candidate,
    die,
    due,
    due_left,
    execution,
    finish,
    held,
    id_of,
    launch,
    let_go,
    nominal,
    put,
)
from tests.unit.services.late_stage import LateReplica, ranges
from tests.unit.services.tracking_stage import Replica, World

TWO_HOURS = 7200


def _paused(world: World) -> None:
    put(world, paused=True)


def _deleted(world: World) -> None:
    world.schedules.put_raw("a", b"", {"KV-Operation": "DEL"})


def _edited(world: World) -> None:
    put(world, every="7s", starts_at="2026-11-21T08:00:01Z")


@pytest.mark.parametrize(
    ("write", "state"),
    [(_paused, State.PAUSED), (_deleted, State.SUPERSEDED), (_edited, State.SUPERSEDED)],
)
async def test_a_write_between_the_pull_and_the_decision_counts(write: Callable[[World], None], state: State) -> None:
    """The watch is silent, the batch has arrived, and only then somebody writes: how far the bucket is, is asked after
    that."""
    world = World()
    put(world)
    due(world)
    happened: list[bool] = []

    async def written() -> None:
        write(world)
        happened.append(True)

    async with Dispatching(world, checkpoints=At("dispatch.pulled", written)) as replica:
        replica.bucket.stall_watches()
        replica.dispatcher._checkpoints = replica.launcher._checkpoints
        await replica.run()
    assert happened
    assert (await execution(world)).state is state
    assert world.tasks() == []
    assert due_left(world) == []


@pytest.mark.parametrize("heir", ["dispatcher", "reconciler"])
async def test_the_claim_floor_counts_from_the_record(heir: str) -> None:
    """An occurrence of two hours ago is made up for and whoever launches it dies after the claim: a minute later that
    is young, however old its nominal time; it is rolled forward, not lost."""
    world = World()
    put(world)
    async with Dispatching(world, checkpoints=At("launch.claimed", die)) as doomed:
        wanted = candidate(doomed, -TWO_HOURS)
        with pytest.raises(asyncio.CancelledError):
            await launch(doomed, wanted)
    assert (await execution(world, -TWO_HOURS)).state is State.CLAIMED
    if heir == "dispatcher":
        await world.clock.advance(60)
        async with Dispatching(world) as other:
            await launch(other, wanted)
    else:
        async with Replica(world) as leader:
            await leader.reconcile(rounds=2)
    done = await execution(world, -TWO_HOURS)
    assert (done.state, done.claimed_at) == (State.QUEUED, START)
    assert len(world.tasks()) == 1


async def test_a_schedule_that_is_created_again_inherits_its_runs() -> None:
    """Deleted while a run is active and put again: the row was kept, so the next fire is an overlap until it ends."""
    world = World()
    put(world)
    holder, run = await held(world)
    async with holder, Dispatching(world) as replica:
        _deleted(world)
        await world.clock.advance(1)
        put(world)
        due(world, 1)
        await replica.run()
        skipped = await execution(world, 1)
        assert (skipped.state, skipped.reason) == (State.SKIPPED, "overlap")
        assert (await world.row()).active == (run.id,)
        await let_go(world, holder)
        due(world, 2)
        await replica.run()
        assert (await execution(world, 2)).state is State.QUEUED


async def test_the_same_occurrence_fires_again_after_its_run_has_ended() -> None:
    """Re-armed as stuck while it fired after all, or handed back by a dead replica: its record says what became of it,
    and it is acknowledged without a second task."""
    world = World()
    put(world)
    due(world)
    async with Dispatching(world) as replica:
        await replica.run()
        await finish(world)
        before = await execution(world)
        assert before.state is State.SUCCEEDED
        due(world)
        await replica.run()
        assert replica.telemetry.count("verdict") == 1
    assert await execution(world) == before
    assert world.tasks() == []
    assert due_left(world) == []


async def test_a_due_message_that_outlived_the_record_fires_nothing_again() -> None:
    """NATS was killed, and has a message again that was acknowledged long ago; the record of what came of it has
    expired by then. However generous the catch-up, it is missed on record, and its reason says what to do about it."""
    world = World()
    put(world, every="1h", anchor=format_instant(nominal(60)), overlap="allow", retention={"age": "0s"},
        catch_up={"after": "10h", "window": "10h", "mode": "all"})  # fmt: skip
    await world.clock.advance(60)
    due(world, 60)
    async with Dispatching(world) as replica:
        await replica.run()
        await finish(world)
    await world.clock.advance(FLOOR_S + 60)
    assert await world.executions.keys() == []
    due(world, 60)
    async with Dispatching(world) as replica:
        await replica.run()
    assert due_left(world) == []
    async with LateReplica(world) as leader:
        await leader.lead()
    assert (await world.executions.keys(), world.tasks()) == ([], [])
    assert ranges(world) == [(60, 60, 1, "missed", "retention")]


@pytest.mark.parametrize("point", ["launch.claimed", "launch.slotted", "launch.paired"])
async def test_an_edit_between_the_claim_and_the_task_changes_nothing_of_it(point: str) -> None:
    """Repair only rolls forward: deleted, paused or edited after its claim, it still comes to the pair that its record
    says, whoever goes on with it."""
    for write in (_paused, _deleted, _edited):
        world = World()
        put(world, payload={"n": 1})
        due(world)
        async with Dispatching(world, checkpoints=At(point, die)) as doomed:
            await doomed.run(0.5)
        claimed = await execution(world)
        assert claimed.state is State.CLAIMED
        write(world)
        async with Replica(world) as leader:
            await leader.reconcile(rounds=2)
        done = await execution(world)
        assert (done.state, done.payload) == (State.QUEUED, claimed.payload), write
        assert [world.take().message.data] == [b'{"n":1}']


async def test_a_terminal_record_frees_the_slot_and_nothing_else_does() -> None:
    """A task vanishes and its schedule is deleted: until the record has ended the slot is held; with each single write
    the record ends first, then the slot is free, and then the next one gets its task."""
    world = World()
    put(world, overlap="buffer_all")
    holder, run = await held(world)
    order: list[str] = []
    write = world.server.write

    def noted(stream: MemoryStream, batch: Sequence[Write]) -> int:
        seq = write(stream, batch)
        subject = batch[-1].subject
        if subject.endswith(run.id) and decode_execution(batch[-1].data).finished_at is not None:
            order.append("ended")
        elif stream is world.status.stream and run.id not in decode_status(batch[-1].data).active:
            order.append("freed")
        elif stream is world.server.tasks:
            order.append("task")
        return seq

    async with holder, Dispatching(world) as replica:
        due(world)
        await replica.run()
        assert (await world.row()).waiting == (id_of(),)
        _deleted(world)
        world.server.write = noted  # type: ignore[method-assign]
        await replica.queues.remove(world.take().message.seq)
        await holder.track()
        await holder.reconcile(rounds=1, every_s=4)
        assert (await world.row()).active == (run.id,)
        put(world, overlap="buffer_all")
        await holder.reconcile(rounds=4, every_s=31)
    assert order[:3] == ["ended", "freed", "task"]
    assert (await world.row()).active == (id_of(),)


async def test_the_oldest_of_two_notes_stands() -> None:
    """Two replicas find late ones at the same time, and the one with the younger reads the row before the other wrote:
    `late_from` is the older of both, and neither has made a record."""
    world = World()
    put(world)
    await world.clock.advance(30)
    for seconds in (3, 5):
        due(world, seconds)
    async with Dispatching(world) as one, Dispatching(world) as other:
        older, younger = [one.timeline._port._read(each) for each in world.server.due.take(2)]
        put_row: Callable[..., Awaitable[Any]] = one.rows.bucket._port.put_many

        async def overtaken(*args: Any, **kwargs: Any) -> Any:
            one.rows.bucket._port.put_many = put_row
            await other.dispatcher.dispatch([older])
            return await put_row(*args, **kwargs)

        one.rows.bucket._port.put_many = overtaken
        await one.dispatcher.dispatch([younger])
        assert one.rows.bucket._port.put_many == put_row
    assert (await world.row()).late_from == nominal(3)
    assert await world.executions.keys() == []
    assert due_left(world) == []
    assert timedelta(0) < world.clock.now() - nominal(5)


@pytest.mark.parametrize("overlap", ["skip", "buffer_all"])
async def test_an_edit_of_the_policy_takes_no_task_back(overlap: str) -> None:
    """Under `allow` its launcher died after the pair; now a slot is needed, and another run has it: its task is in the
    queue, so it is neither skipped nor put down as waiting."""
    world = World()
    put(world, overlap="allow")
    due(world)
    async with Dispatching(world, checkpoints=At("launch.paired", die)) as doomed:
        await doomed.run(0.5)
    assert len(world.tasks()) == 1
    put(world, overlap=overlap)
    holder, _ = await held(world)
    async with holder, Dispatching(world) as heir:
        await heir.run(25)
    done = await execution(world)
    assert (done.state, done.task_seq) == (State.QUEUED, world.tasks()[0])
    assert due_left(world) == []
