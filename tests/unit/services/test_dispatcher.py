"""The dispatcher under attack: killed at every call, every fault at every write, rivals, repeats, edits, garbage."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.errors import ScheddError, Unavailable, Unsure
from scheduler.core.model.execution import State
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Write
from scheduler.wire.reports import Outcome
from tests.unit.core.executions import in_state
from tests.unit.services.dispatch_stage import (
    At,
    Dispatching,
    Failing,
    Mingling,
    Stoppable,
    due,
    due_left,
    execution,
    finish,
    id_of,
    nominal,
    put,
    states,
)
from tests.unit.services.tracking_stage import Replica, Tripwire, World

POLICIES: dict[str, dict[str, Any]] = {
    "skip": {},
    "allow": {"overlap": "allow"},
    "max_running": {"overlap": "allow", "max_running": 2},
    "paused": {"paused": True},
    "superseded": {"every": None, "cron": "30 * * * * *"},
}


async def check_once(world: World, policy: str) -> None:
    """The occurrence at 0 s came to its one verdict, and nothing of it is left but that."""
    world.server._faults.clear()
    done = await execution(world)
    assert list(await states(world)) == [done.id]
    assert due_left(world) == []
    assert world.server.due.ack_pending == 0
    if policy in ("paused", "superseded"):
        assert (done.state.value, world.tasks(), (await world.row()).active) == (policy, [], ())
        return
    assert (done.state, [done.task_seq]) == (State.QUEUED, world.tasks())
    assert [each.state for each in done.history if each.note is None] == [State.CLAIMED, State.QUEUED]
    assert (await world.row()).active == (() if policy == "allow" else (done.id,))
    await finish(world)
    assert (await execution(world)).state is State.SUCCEEDED
    assert (await world.row()).active == ()


# --- kills and faults


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_killed_anywhere(policy: str, late: bool) -> None:
    """Killed at its n-th call, for every n: whoever comes next gets to the same record and the same task."""
    number = 1
    while True:
        world = World()
        put(world, **POLICIES[policy])
        due(world)
        async with Dispatching(world, Tripwire(number, late=late)) as doomed:
            await doomed.run()
        async with Dispatching(world) as heir:
            await heir.run(15)
            await heir.settlement.flush()
        await check_once(world, policy)
        if not doomed.wire.tripped:
            break
        number += 1
    assert number > 6  # sometimes: at the pull, the proof of freshness, reads, writes, the pair, the ack


@pytest.mark.parametrize("fault", ["lose_ack", "lose", "refuse", "late"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_fault_at_every_write(policy: str, fault: str) -> None:
    """One write lands unheard, is lost, refused (10164) or lands late: one verdict, counted once, one lateness."""
    for number in range(6):
        world = World()
        put(world, **POLICIES[policy])
        due(world)
        async with Dispatching(world) as replica:
            world.server._faults.extend([""] * number + [fault])
            await replica.run(30)
            is_fired = policy not in ("paused", "superseded")
            reason = "auto" if is_fired else {"paused": "paused", "superseded": "edited"}[policy]
            expected = [("fired" if is_fired else policy, reason)]
            assert replica.verdicts() == expected or (fault == "late" and not is_fired)
            assert replica.telemetry.count("lateness") == (1 if is_fired else 0)
        await check_once(world, policy)


@pytest.mark.parametrize(
    ("problem", "late"),
    [(Unavailable("electing"), False), (Unsure("no answer"), False), (Unsure("no answer"), True)],
    ids=["refused", "lost", "unanswered"],
)
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_call_fails_once(policy: str, problem: ScheddError, late: bool) -> None:
    """The n-th call, read or write, pull or ack, is refused or gets no answer, for every n: the same verdict."""
    number = 3  # the first two fill the cache, before there is a dispatcher
    while True:
        world = World()
        put(world, **POLICIES[policy])
        due(world)
        async with Dispatching(world, Failing(number, problem, late=late)) as replica:
            await replica.run(20)
        await check_once(world, policy)
        if not replica.wire.tripped:
            break
        number += 1
    assert number > 7


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fault", ["lose_ack", "lose", "refuse", "late"])
async def test_a_storm_of_faults(policy: str, fault: str) -> None:
    """Many writes in a row go wrong: it only takes longer."""
    world = World()
    put(world, **POLICIES[policy])
    due(world)
    async with Dispatching(world) as replica:
        world.server._faults.extend([fault] * 8)
        await replica.run(60)
    await check_once(world, policy)


async def test_the_server_is_away() -> None:
    """For a minute nothing can be asked: then everything is dispatched, and nobody spun meanwhile."""
    world = World()
    put(world, overlap="allow", catch_up={"after": "5m"})
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(0.1)
        world.server.down = True
        ids = [due(world, seconds) for seconds in range(5)]
        calls = replica.wire.count
        await world.clock.advance(60)
        assert replica.wire.count - calls < 200
        world.server.down = False
        await world.clock.advance(10)
        assert await states(world) == dict.fromkeys(ids, State.QUEUED)


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


# --- what is due and when


async def test_poison_is_set_aside() -> None:
    """A due message that cannot be read is acknowledged and counted, and its batch goes on."""
    world = World()
    put(world)
    for body in (b"", b"{", b'{"v":2,"generation":1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1}'):
        world.server.timeline.store([Write(world.names.due("a", nominal(9)), body)])
    world.server.timeline.store([Write(f"{world.names.namespace}.due.a.never", b"{}")])
    due(world)
    async with Dispatching(world) as replica:
        await replica.run()
        assert replica.telemetry.count("dropped", what="due", reason="poison") == 4
    await check_once(world, "skip")


async def test_early_ones_wait() -> None:
    """A server's clock is ahead: handed back until it is time, and then neither lost nor early."""
    world = World()
    put(world, overlap="allow")
    early = [due(world, seconds) for seconds in (20, 20.001, 100)]
    on_time = due(world)
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(15)
        assert list(await states(world)) == [on_time]
        assert replica.telemetry.count("dropped", what="due", reason="early") == 3
        put(world, every=None, at=["2026-11-21T08:00:20Z", "2026-11-21T08:00:20.001Z", "2026-11-21T08:01:40Z"])
        await world.clock.advance(10)
        assert await states(world) == dict.fromkeys([on_time, *early[:2]], State.QUEUED) | {early[1]: State.SKIPPED}
        await finish(world)
        await world.clock.advance(100)
        assert (await states(world))[early[2]] is State.QUEUED
    queued_at = (await execution(world, 100)).queued_at
    assert queued_at is not None
    assert nominal(99) <= queued_at <= nominal(102)


@pytest.mark.parametrize(
    ("edit", "state", "reason"),
    [
        ({"paused": True}, State.PAUSED, "paused"),
        ({"paused": True, "paused_until": "2026-11-21T08:00:01Z"}, State.PAUSED, "paused"),
        ({"paused": True, "paused_until": "2026-11-21T08:00:00Z"}, State.QUEUED, None),
        ({"every": None, "cron": "30 * * * * *"}, State.SUPERSEDED, "edited"),
        ({"every": "2s", "payload": {"n": 2}}, State.QUEUED, None),
        ({"every": None}, State.SUPERSEDED, "invalid"),
        ({"typo": 1}, State.SUPERSEDED, "invalid"),
        (None, State.SUPERSEDED, "deleted"),
    ],
)
@pytest.mark.parametrize("is_stalled", [False, True], ids=["watching", "stalled"])
async def test_decided_by_what_is_stored_now(
    edit: dict[str, Any] | None, state: State, reason: str | None, is_stalled: bool
) -> None:
    """Edited, paused or deleted between arm and fire, with a watch that says nothing: the newest definition decides."""
    world = World()
    put(world)
    async with Dispatching(world) as replica:
        if is_stalled:
            replica.bucket.stall_watches()
        if edit is None:
            await world.schedules.delete("a")
        else:
            put(world, **edit)
        due(world)
        await replica.run()
        done = await execution(world)
        assert (done.state, done.reason) == (state, reason)
        assert len(world.tasks()) == (state is State.QUEUED)
        fired = state is State.QUEUED
        assert replica.verdicts() == [("fired", "auto") if fired else (state.value, reason)]
        ended = [each["state"] for each in MemoryEvents(world.server).of("finished", "a") for each in [each.data]]
        assert ended == ([] if fired else [state.value])
        is_known = reason not in ("deleted", "invalid")
        assert replica.telemetry.count("finished") == (not fired and is_known)
    assert due_left(world) == []


async def test_a_schedule_that_was_never_there() -> None:
    """Its due message ends as superseded, and makes neither a task nor a row."""
    world = World()
    due(world, 0, "ghost")
    async with Dispatching(world) as replica:
        await replica.run()
        await replica.settlement.flush()
    assert await states(world) == {id_of(0, "ghost"): State.SUPERSEDED}
    assert await world.status.keys() == []


async def test_an_edit_that_wants_it_later() -> None:
    """A start_delay was added before its nominal time, and the old arm fired all the same: it waits."""
    world = World()
    put(world)
    put(world, start_delay="5s", overlap="allow")
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(1)
        due(world, 1)
        await world.clock.advance(4.8)
        assert await states(world) == {}
        await world.clock.advance(1)
        done = await execution(world, 1)
        assert (done.state, done.fire_at) == (State.QUEUED, nominal(6))
        assert done.queued_at is not None
        assert done.queued_at >= nominal(6)


async def test_no_decision_without_proof_of_freshness() -> None:
    """The bucket does not answer: the batch is handed back as it is, and decided when it does."""
    world = World()
    put(world, catch_up={"after": "1m"})
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(0.1)
        replica.bucket.fail_next(*[Unavailable("electing")] * 2)
        due(world)
        await world.clock.advance(1)
        assert await states(world) == {}
        await world.clock.advance(14)
    await check_once(world, "skip")


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
    """It takes twice the ack wait and longer, and one sign of life is refused: nobody else gets its messages."""
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
            assert other.telemetry.count("dispatched") == 0
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
