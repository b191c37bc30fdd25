"""The dispatcher under attack: rivals, repeats, records that are old or garbage, much at once, and a stop."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.model.execution import State
from scheduler.wire.reports import Outcome
from tests.unit.core.executions import in_state
from tests.unit.services.dispatch_stage import (
    POLICIES,
    At,
    Dispatching,
    Mingling,
    Stoppable,
    check_once,
    due,
    due_left,
    execution,
    finish,
    id_of,
    nominal,
    put,
    states,
)
from tests.unit.services.tracking_stage import Replica, World

# --- rivals and repeats


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("policy", POLICIES)
async def test_two_replicas_at_the_same_time(policy: str, seed: int) -> None:
    """Both were handed the same due message: one record, one task, one verdict counted between them."""
    world, rng = World(), random.Random(seed)
    put(world, **POLICIES[policy])
    for _ in range(2):
        due(world)
    async with Dispatching(world, Mingling(rng)) as one, Dispatching(world, Mingling(rng)) as other:
        for each in (one, other):
            each.dispatcher._batch = 1
        async with one.running(), other.running():
            await world.clock.advance(20)
        assert len(one.verdicts() + other.verdicts()) == 1
    await check_once(world, policy)


@pytest.mark.parametrize("seed", range(60))
async def test_rivals_over_a_slot_that_comes_free(seed: int) -> None:
    """One finds the slot taken, the other finds it free a moment later: skipped without a task, or queued with one."""
    world, rng = World(), random.Random(seed)
    put(world)
    async with Replica(world) as holder:
        first = await holder.launched(-1)
        for _ in range(2):
            due(world)
        async with Dispatching(world, Mingling(rng)) as one, Dispatching(world, Mingling(rng)) as other:
            for each in (one, other):
                each.dispatcher._batch = 1
            async with one.running(), other.running():
                await world.clock.advance(rng.choice([0.0, 0.5, 3.0, 9.0, 12.0]))
                world.queue.ack(world.take().token)
                await holder.track()
                await world.clock.advance(30)
    assert (await world.record(first.id)).state is State.SUCCEEDED
    done = await execution(world)
    assert len(world.tasks()) == (done.state is State.QUEUED)
    assert done.state in (State.QUEUED, State.SKIPPED)
    assert (await world.row()).active == ((done.id,) if done.state is State.QUEUED else ())


async def test_twice_in_one_batch() -> None:
    """The same due message twice in a batch is one occurrence, and both are acknowledged."""
    world = World()
    put(world)
    for _ in range(3):
        due(world)
    async with Dispatching(world) as replica:
        await replica.run()
        assert replica.verdicts() == [("fired", "auto")]
    await check_once(world, "skip")


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLAIMED])
async def test_a_record_in_a_later_state(state: State) -> None:
    """Whatever it has become already: the due message is acknowledged, and the record untouched."""
    world = World()
    put(world)
    stored = structs.replace(in_state(state), id=id_of())
    await world.store(stored)
    due(world)
    async with Dispatching(world) as replica:
        await replica.run()
    assert await execution(world) == stored
    assert (world.tasks(), due_left(world)) == ([], [])


@pytest.mark.parametrize("worker", ["plain", "sdk"])
@pytest.mark.parametrize("policy", ["skip", "allow"])
async def test_a_worker_faster_than_our_last_write(policy: str, worker: str) -> None:
    """It is tracked to its end before `queued` is written: one verdict between all, no slot is left."""
    world = World()
    put(world, **POLICIES[policy])
    due(world)
    async with Replica(world) as tracker:

        async def work() -> None:
            delivery = world.take()
            if worker == "sdk":
                world.start(id_of())
                world.finish(id_of(), Outcome.SUCCEEDED, result=b"1")
            world.queue.ack(delivery.token)
            await tracker.track()

        async with Dispatching(world, checkpoints=At("launch.paired", work)) as replica:
            await replica.run()
            verdicts = replica.telemetry.count("verdict") + tracker.telemetry.count("verdict")
            ends = replica.telemetry.count("finished") + tracker.telemetry.count("finished")
            assert (verdicts, ends) == (1, 1)
    done = await execution(world)
    assert (done.state, done.task_seq) == (State.SUCCEEDED, 2)
    assert (world.tasks(), due_left(world), (await world.row()).active) == ([], [], ())
    assert len(world.finished_events()) == 1


# --- too old


@pytest.mark.parametrize("is_paired", [False, True])
async def test_claimed_for_half_the_claim_floor(is_paired: bool) -> None:
    """All were down that long: lost without a task, unless its claim proves that the task is there."""
    world = World()
    put(world)
    due(world)

    async def die() -> None:
        raise asyncio.CancelledError

    point = "launch.paired" if is_paired else "launch.slotted"
    async with Dispatching(world, checkpoints=At(point, die)) as doomed:
        await doomed.run(0.5)
    assert (await execution(world)).state is State.CLAIMED
    assert len(world.tasks()) == is_paired
    await world.clock.advance(901)
    async with Dispatching(world) as heir:
        await heir.run()
        done = await execution(world)
        if is_paired:
            assert (done.state, [done.task_seq]) == (State.QUEUED, world.tasks())
            assert heir.verdicts() == [("fired", "auto")]
        else:
            assert (done.state, done.reason, world.tasks()) == (State.LOST, "claimed_too_long", [])
            assert heir.verdicts() == [("lost", "claimed_too_long")]
            assert (await world.row()).active == ()
    assert due_left(world) == []


async def test_a_stop_right_before_the_pair() -> None:
    """The process was stopped for longer than its claim would have lived: it sends no pair when it wakes."""
    world = World()
    put(world, overlap="allow")
    due(world)

    process = Stoppable()

    async def stop() -> None:
        process.stop()
        await process.awake()

    async with Dispatching(world, process, checkpoints=At("launch.slotted", stop)) as sleeper, sleeper.running():
        await world.clock.advance(6)
        async with Dispatching(world) as heir:
            await heir.run()
        await finish(world)
        assert (await execution(world)).state is State.SUCCEEDED
        await world.clock.advance(1950)
        process.cont()
        await world.clock.advance(10)
        assert world.server.tasks.messages == {}
    assert world.server.tasks.last_seq == 2  # claim and task, once; the claim itself has gone


# --- what breaks


async def test_one_that_breaks_our_code_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set apart and counted, again and again; all others of its batch, and of the next, are dispatched."""
    world = World()
    put(world, overlap="allow")
    put(world, "broken")
    async with Dispatching(world) as replica:
        await replica.schedules.fresh()
        known = replica.schedules.get("broken")
        assert known is not None
        assert known.in_force is not None
        monkeypatch.setattr(type(known.in_force.trigger), "previous_before", _breaks_at_nine)
        ids = [due(world, seconds) for seconds in range(4)]
        due(world, 9, "broken")
        world.clock.call_at(nominal(9), lambda: None)
        await world.clock.advance(10)
        ids += [due(world, seconds) for seconds in range(4, 8)]
        await replica.run(70)
        assert 2 <= replica.telemetry.count("dropped", what="due", reason="broke") <= 4
        assert {key: state for key, state in (await states(world)).items() if key in ids} == dict.fromkeys(
            ids, State.QUEUED
        )
        assert len(due_left(world)) == 1
        monkeypatch.undo()
        await replica.run(40)
    assert due_left(world) == []
    assert (await execution(world, 9, "broken")).state is State.QUEUED


def _breaks_at_nine(self: object, at: Any) -> None:
    if at == nominal(9):
        raise ZeroDivisionError


@pytest.mark.parametrize("value", [b"not a record", b"{}", b""])
async def test_a_record_that_cannot_be_read(value: bytes) -> None:
    """Somebody overwrote it, or it has gone: never run twice, never overwritten; counted, and the next ones fire."""
    world = World()
    put(world, overlap="allow")
    if value:
        await world.executions.put(id_of(), value)
    else:
        await world.executions.put(id_of(), b"x")
        await world.executions.delete(id_of())
    due(world)
    other = due(world, 1)
    async with Dispatching(world) as replica:
        await replica.run()
        assert replica.telemetry.count("dropped", what="due", reason="no_record") == 1
    entry = await world.executions.get(id_of())
    assert entry is not None
    assert entry.value == value
    assert (await world.record(other)).state is State.QUEUED
    assert due_left(world) == []


# --- much at once, and the end


async def test_a_hundred_schedules_in_a_batch() -> None:
    """256 due messages of 100 schedules: one run each, the surplus skipped, a row is written once for the batch."""
    world = World()
    ids = [f"s{number}" for number in range(100)]
    for each in ids:
        put(world, each)
    for number in range(256):
        due(world, number // 100 - 2, ids[number % 100])
    async with Dispatching(world) as replica:
        await replica.run(1)
        found = await states(world)
        assert len(found) == 256
        assert sum(state is State.QUEUED for state in found.values()) == len(world.tasks()) == 100
        assert sum(state is State.SKIPPED for state in found.values()) == 156
        assert all(state is State.QUEUED for key, state in found.items() if key.endswith("075958000Z"))
        assert world.status.stream.last_seq == 100
        assert replica.telemetry.of("dispatched") == [{"batch": 256}]


async def test_a_slow_batch_is_kept() -> None:
    """It takes twice the ack wait and longer, and one sign of life is refused: nobody gets its messages again, nor it
    itself, whose other pulls wait for work."""
    world = World()
    put(world)
    due(world)

    async def slow() -> None:
        await world.clock.sleep(2.5 * world.server.due.limits.ack_wait_s)

    async with Dispatching(world, checkpoints=At("launch.paired", slow)) as replica, replica.running():
        await world.clock.advance(1.4)
        world.server.down = True
        await world.clock.advance(0.3)  # the first sign of life, at 1.5 s
        world.server.down = False
        async with Dispatching(world) as other, other.running():
            await world.clock.advance(12)
            assert (replica.telemetry.count("dispatched"), other.telemetry.count("dispatched")) == (1, 0)
        assert world.server.due._deliveries == {}
    await check_once(world, "skip")


async def test_a_stop_ends_what_is_under_way() -> None:
    """Cancelled in the middle of a batch: the batch is finished, nothing waits for an ack wait."""
    world = World()
    put(world)
    due(world)
    at_work = asyncio.Event()
    go_on = asyncio.Event()

    async def wait() -> None:
        at_work.set()
        await go_on.wait()

    async with Dispatching(world, checkpoints=At("launch.claimed", wait)) as replica:
        task = asyncio.ensure_future(replica.dispatcher.run())
        await at_work.wait()
        task.cancel()
        await world.clock.settle()
        assert not task.done()
        go_on.set()
        await asyncio.wait([task])
        await replica.settlement.flush()
    await check_once(world, "skip")


async def test_late_but_not_too_late() -> None:
    """Up to `catch_up.after` it fires all the same, and its lateness is told."""
    world = World()
    put(world, catch_up={"after": "1h"})
    due(world)
    await world.clock.advance(3600)
    async with Dispatching(world) as replica:
        await replica.run()
        assert replica.telemetry.of("lateness") == [{"seconds": 3600.0}]
    assert (await execution(world)).lateness_s == 3600.0
