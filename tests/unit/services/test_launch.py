"""The launcher: what one candidate does to others, who may refuse, who is turned away, and what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.errors import Unavailable, Unsure
from scheduler.core.lifecycle import Resume
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.services.dispatcher import SortedOut
from scheduler.services.launch_steps import FRESH, Candidate, Result
from scheduler.services.slots import Request
from scheduler.wire import headers as h
from tests.unit.services.dispatch_stage import At, Dispatching, Stoppable, due, execution, finish, id_of, nominal, put
from tests.unit.services.tracking_stage import Replica, World

Act = Callable[[], Awaitable[None]]


class Points:
    """Checkpoints that do something at several points, once each."""

    def __init__(self, **acts: Act) -> None:
        self._acts = {f"launch.{point}": act for point, act in acts.items()}

    async def reached(self, name: str) -> None:
        act = self._acts.pop(name, None)
        if act is not None:
            await act()


async def held(world: World) -> tuple[Replica, Execution]:
    """A run of schedule `a` that holds its slot."""
    holder = Replica(world)
    return holder, await holder.launched(-100)


async def let_go(world: World, holder: Replica) -> None:
    world.queue.ack(world.take().token)
    await holder.track()


def candidate(replica: Dispatching, seconds: float = 0, schedule_id: str = "a", **changes: Any) -> Candidate:
    """As the dispatcher would make it."""
    known = replica.schedules.get(schedule_id)
    assert known is not None
    assert known.in_force is not None
    found = SortedOut({}, {}, {})
    due(replica.world, seconds, schedule_id)
    (delivery,) = replica.world.server.due.take(1)
    replica.world.server.due.ack(delivery.token)
    read = replica.timeline._port._read(delivery)
    replica.dispatcher._decide(read, replica.world.clock.now(), found)
    (execution,) = [each.execution for each in (*found.fires.values(), *found.late.values())]
    return Candidate(structs.replace(execution, **changes), known.in_force.definition.schedule, known.in_force.trigger)


async def launch(replica: Dispatching, *candidates: Candidate) -> list[Result]:
    return await replica.launcher.launch(candidates)


def after_take(replica: Dispatching, act: Act) -> None:
    """Do something once, right after this replica was first refused a slot."""
    take = replica.slots.take

    async def taken(requests: Sequence[Request]) -> Any:
        admissions = await take(requests)
        if any(getattr(each, "verdict", "") == "skip" for each in admissions.values()):
            replica.slots.take = take  # type: ignore[method-assign]
            await act()
        return admissions

    replica.slots.take = taken  # type: ignore[method-assign]


# --- rivals


async def test_a_skip_turns_the_creator_away() -> None:
    """The creator stood still while a rival found the slot taken; it then gets the slot, but the skip is written."""
    world = World()
    put(world)
    holder, _ = await held(world)
    due(world)
    goes_on, sends, is_slotted = asyncio.Event(), asyncio.Event(), asyncio.Event()
    process = Stoppable()

    async def stand_still() -> None:
        process.stop()
        await goes_on.wait()

    async def before_the_pair() -> None:
        is_slotted.set()
        await sends.wait()

    async def creator_gets_the_slot() -> None:
        await let_go(world, holder)
        process.cont()
        goes_on.set()
        await is_slotted.wait()

    points = Points(claimed=stand_still, slotted=before_the_pair)
    async with Dispatching(world, process, checkpoints=points) as creator, creator.running():
        await world.clock.advance(10.5)  # redelivered at 5 s, too young to be refused until 10 s
        async with Dispatching(world) as rival:
            after_take(rival, creator_gets_the_slot)
            await rival.run(3)
        assert (await execution(world)).state is State.SKIPPED
        assert (await world.row()).active == (id_of(),)
        sends.set()
        await world.clock.advance(1)
    assert world.tasks() == []
    assert (await world.row()).active == ()


async def test_a_rival_turns_the_creators_skip_away() -> None:
    """The creator found the slot taken and is slow to say so; a rival gets the slot, and sends: no skip is written."""
    world = World()
    put(world)
    holder, _ = await held(world)
    due(world)
    process, goes_on = Stoppable(), asyncio.Event()

    async def creator_stands_still() -> None:
        process.stop()

    async def before_queued() -> None:
        process.cont()
        await goes_on.wait()

    async with Dispatching(world, process) as creator, creator.running():
        after_take(creator, creator_stands_still)
        await world.clock.advance(6)
        assert process._runs.is_set() is False
        await let_go(world, holder)
        async with Dispatching(world, checkpoints=Points(paired=before_queued)) as rival, rival.running():
            await world.clock.advance(0.5)
            assert (await execution(world)).state is State.CLAIMED
            assert len(world.tasks()) == 1
            goes_on.set()
            await world.clock.advance(2)
    assert (await execution(world)).state is State.QUEUED
    assert (await world.row()).active == (id_of(),)


async def test_a_rival_refuses_only_what_is_old_enough() -> None:
    """Its creator may be about to launch it: a rival that finds the slot taken asks again until that is over."""
    world = World()
    put(world)
    await held(world)
    async with Dispatching(world) as replica:
        wanted = candidate(replica)
        await replica.records.create_many([wanted.execution])
        for seconds in (1, 2 * FRESH.total_seconds() - 1.1):
            await world.clock.advance(seconds)
            (result,) = await launch(replica, wanted)
            assert isinstance(result, Unsure)
            assert (await execution(world)).state is State.CLAIMED
        await world.clock.advance(0.2)
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.reason) == (State.SKIPPED, "overlap")
        assert replica.verdicts() == [("skipped", "overlap")]


async def test_a_rival_is_too_late_for_a_task() -> None:
    """It stood still while it said that it goes on: half the claim floor later it sends no pair."""
    world = World()
    put(world, overlap="allow")
    process = Stoppable()
    async with Dispatching(world, process) as replica:
        wanted = candidate(replica)
        await replica.records.create_many([wanted.execution])
        move_many = replica.records.move_many

        async def slowly(moves: Any) -> Any:
            await world.clock.sleep(895)
            return await move_many(moves)

        replica.records.move_many = slowly  # type: ignore[method-assign]
        launching = asyncio.ensure_future(launch(replica, wanted))
        await world.clock.advance(900)
        (result,) = await launching
        assert isinstance(result, Unsure)
        replica.records.move_many = move_many  # type: ignore[method-assign]
        await world.clock.advance(10)
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.reason) == (State.LOST, "claimed_too_long")
    assert world.tasks() == []


async def test_what_was_queued_before_keeps_its_time() -> None:
    """Its first launcher died after the pair: queued at the time of the claim, late or not, by whoever noticed."""
    world = World()
    put(world)

    async with Dispatching(world, checkpoints=At("launch.paired", die)) as doomed:
        wanted = candidate(doomed)
        with pytest.raises(asyncio.CancelledError):
            await launch(doomed, wanted)
    await world.clock.advance(100)
    async with Dispatching(world) as heir:
        (result,) = await launch(heir, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.queued_at, result.lateness_s) == (State.QUEUED, nominal(), 0.0)
        assert heir.telemetry.of("lateness") == [{"seconds": 0.0}]


async def test_a_look_says_that_it_went_on() -> None:
    """Who goes on with somebody else's claim leaves a line in the history."""
    world = World()
    put(world)
    async with Dispatching(world) as replica:
        wanted = candidate(replica)
        await replica.records.create_many([wanted.execution])
        await world.clock.advance(20)
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Execution)
        assert [(each.state, each.note) for each in result.history] == [
            (State.CLAIMED, None),
            (State.CLAIMED, "taken up again"),
            (State.QUEUED, None),
        ]


# --- past a deadline, claimed by another


async def die() -> None:
    raise asyncio.CancelledError


async def claimed_by_the_dead(world: World, point: str) -> Candidate:
    """Its creator died at this point of the launch; it had to start within five seconds."""
    async with Dispatching(world, checkpoints=At(point, die)) as doomed:
        wanted = candidate(doomed, start_by=nominal(5))
        with pytest.raises(asyncio.CancelledError):
            await launch(doomed, wanted)
    return wanted


async def test_a_task_that_is_there_is_no_expired_one() -> None:
    """Its creator died after the pair: whoever finds it past its deadline says queued first."""
    world = World()
    put(world)
    wanted = await claimed_by_the_dead(world, "launch.paired")
    await world.clock.advance(6)
    async with Dispatching(world) as heir:
        (result,) = await launch(heir, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.task_seq) == (State.QUEUED, world.tasks()[0])
    assert len(world.tasks()) == 1
    assert (await world.row()).active == (id_of(),)


async def test_without_a_task_it_expires() -> None:
    """Its creator died before the pair: ended at once, since whoever sends one from now on is refused."""
    world = World()
    put(world)
    wanted = await claimed_by_the_dead(world, "launch.slotted")
    async with Dispatching(world) as heir:
        await world.clock.advance(6)
        (result,) = await launch(heir, wanted)
        assert isinstance(result, Execution)
        assert (result.state, result.reason) == (State.EXPIRED, "start_deadline")
    assert world.tasks() == []
    async with Replica(world) as replica:
        await replica.reconcile(rounds=2)
    assert (await world.row()).active == ()


async def test_the_end_turns_a_slow_creator_away() -> None:
    """It stood still before the pair until a rival had ended the record: it sends nothing."""
    world = World()
    put(world)
    goes_on = asyncio.Event()

    async def stand_still() -> None:
        await goes_on.wait()

    async with Dispatching(world, checkpoints=Points(slotted=stand_still)) as creator, Dispatching(world) as rival:
        wanted = candidate(creator, start_by=nominal(5))
        launching = asyncio.ensure_future(launch(creator, wanted))
        await world.clock.advance(11)
        (result,) = await launch(rival, wanted)
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
        goes_on.set()
        (result,) = await launching
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
    assert world.tasks() == []
    assert (await world.row()).active == ()


async def test_a_creator_stopped_right_before_its_pair_sends_nothing() -> None:
    """It stood still after its last look, for as long as you like: a rival has ended the record, and the pair that
    comes after all is refused (seeds 4848 and 5823 of the simulation)."""
    world = World()
    put(world)
    async with Dispatching(world) as creator, Dispatching(world) as rival:
        goes_on, publish = asyncio.Event(), creator.queues.publish

        async def stand_still(pairs: Any) -> Any:
            await goes_on.wait()
            return await publish(pairs)

        creator.queues.publish = stand_still
        wanted = candidate(creator, start_by=nominal(5))
        launching = asyncio.ensure_future(launch(creator, wanted))
        await world.clock.advance(60)
        (result,) = await launch(rival, wanted)
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
        goes_on.set()
        (result,) = await launching
        assert isinstance(result, Unavailable)
    assert world.tasks() == []


async def test_who_takes_it_up_turns_the_end_away() -> None:
    """A third one goes on between the withheld claim and the end: no end yet, and no task; the next look ends it."""
    world = World()
    put(world)
    wanted = await claimed_by_the_dead(world, "launch.claimed")
    await world.clock.advance(11)
    async with Dispatching(world) as replica, Dispatching(world) as third:
        withhold = replica.queues.withhold

        async def overtaken(execution_id: str, drive: int, ttl_s: int) -> int | None:
            seq: int | None = await withhold(execution_id, drive, ttl_s)
            await third.records.advance(execution_id, Resume(world.clock.now()))
            return seq

        replica.queues.withhold = overtaken
        (result,) = await launch(replica, wanted)
        assert isinstance(result, Unsure)
        assert (await execution(world)).state is State.CLAIMED
        (result,) = await launch(third, wanted)
        assert isinstance(result, Execution)
        assert result.state is State.EXPIRED
    assert world.tasks() == []


# --- one and the others


async def test_a_full_queue_refuses_new_ones_only() -> None:
    """queue_full skips what nobody launched before; what was claimed goes on: its task may be there already."""
    world = World()
    put(world, overlap="allow")
    async with Dispatching(world) as replica:
        older = candidate(replica, -5)
        await replica.records.create_many([older.execution])
        replica.full.add("Q")
        first, second = await launch(replica, candidate(replica), older)
        assert isinstance(first, Execution)
        assert isinstance(second, Execution)
        assert (first.state, first.reason, second.state) == (State.SKIPPED, "queue_full", State.QUEUED)
        assert sorted(replica.verdicts()) == [("fired", "auto"), ("skipped", "queue_full")]
        assert (await world.row()).active == ()


async def test_a_queue_that_cannot_be_made() -> None:
    """Its candidates are handed back; those for other queues go on."""
    world = World()
    put(world, overlap="allow")
    put(world, "b", queue="bad")
    async with Dispatching(world) as replica:
        ensure = replica.queues.ensure

        async def refuse(queue: str) -> None:
            if queue == "bad":
                raise Unavailable("too many consumers")
            await ensure(queue)

        replica.launcher._queues = Refusing(replica.queues, refuse)
        bad, good = await launch(replica, candidate(replica, 0, "b"), candidate(replica))
        assert isinstance(bad, Unavailable)
        assert isinstance(good, Execution)
        assert good.state is State.QUEUED
        replica.launcher._queues = replica.queues
        (again,) = await launch(replica, candidate(replica, 0, "b"))
        assert isinstance(again, Execution)
        assert again.state is State.QUEUED


class Refusing:
    def __init__(self, port: Any, ensure: Callable[[str], Awaitable[None]]) -> None:
        self._port, self.ensure = port, ensure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


async def test_a_row_that_fails_holds_up_its_own_schedule() -> None:
    """One schedule's row cannot be written: its runs are repeated, the others' are queued."""
    world = World()
    put(world)
    put(world, "b")
    async with Dispatching(world) as replica:
        candidates = [candidate(replica), candidate(replica, 0, "b")]
        world.server._faults.extend(["", "", "refuse"])
        bad, good = await launch(replica, *candidates)
        assert isinstance(bad, Unavailable)
        assert isinstance(good, Execution)
        assert good.state is State.QUEUED
        (again, _) = await launch(replica, *candidates)
        assert isinstance(again, Execution)
        assert again.state is State.QUEUED
    assert len(world.tasks()) == 2


async def test_consumers_are_looked_for_once() -> None:
    """A queue is ensured at its first launch, and again after somebody found one missing."""
    world = World()
    put(world, overlap="allow")
    async with Dispatching(world) as replica:
        ensured: list[str] = []
        ensure = replica.queues.ensure

        async def note(queue: str) -> None:
            ensured.append(queue)
            await ensure(queue)

        replica.launcher._queues = Refusing(replica.queues, note)
        for seconds in range(-3, 0):
            await launch(replica, candidate(replica, seconds))
        assert ensured == ["Q"]
        replica.launcher.forget_queues()
        await launch(replica, candidate(replica))
        assert ensured == ["Q", "Q"]


# --- what is sent


async def test_the_record_says_what_runs() -> None:
    """Edited between claim and task: payload, queue, headers and tries stay as they were claimed."""
    world = World()
    put(world, payload={"n": 1}, headers={"X-A": "1"}, max_tries=2, timeout="90s")
    async with Dispatching(world) as replica:
        first = candidate(replica)
        await replica.records.create_many([first.execution])
        put(world, payload={"n": 2}, headers={"X-A": "2"}, queue="other", max_tries=9)
        await world.clock.settle()
        (result,) = await launch(replica, candidate(replica, generation=9, payload=b"2", queue="other"))
        assert isinstance(result, Execution)
        assert result.generation == 1
    task = world.take().message
    assert task.data == b'{"n":1}'
    assert task.subject == world.names.task("Q", id_of())
    assert (task.headers["X-A"], task.headers[h.MAX_TRIES], task.headers[h.TIMEOUT]) == ("1", "2", "90")
    assert (task.headers[h.GENERATION], task.headers[h.DRIVE]) == ("1", "0")


@pytest.mark.parametrize("policy", [None, Overlap.ALLOW])
async def test_a_manual_run_may_name_its_policy(policy: Overlap | None) -> None:
    """Under the schedule's own policy it is skipped while another runs; under `allow` it runs, and takes no slot."""
    world = World()
    put(world)
    _, running = await held(world)
    async with Dispatching(world) as replica:
        (result,) = await launch(replica, candidate(replica, overlap=policy))
        assert isinstance(result, Execution)
        assert result.state is (State.SKIPPED if policy is None else State.QUEUED)
        assert (await world.row()).active == (running.id,)


async def test_a_slot_taken_under_another_policy_is_freed() -> None:
    """A manual run under `skip` of a schedule that allows everything: its slot is free once the rows follow."""
    world = World()
    put(world, overlap="allow")
    async with Dispatching(world) as replica:
        (result,) = await launch(replica, candidate(replica, overlap=Overlap.SKIP))
        assert isinstance(result, Execution)
        assert (await world.row()).active == (result.id,)
        ended = structs.replace(result, state=State.SUCCEEDED, finished_at=nominal(1))
        await replica.settlement.settle([ended])
        await replica.settlement.flush()
        assert (await world.row()).active == ()
        assert (await world.row()).last_outcome == "succeeded"


async def test_a_clock_behind_makes_nothing_negative() -> None:
    """Dispatched a moment before its fire time (the server's clock is ahead): a small negative lateness, on record."""
    world = World()
    put(world)
    due(world, 0.5)
    put(world, every=None, at=["2026-11-21T08:00:00.5Z"])
    async with Dispatching(world) as replica:
        await replica.run(0.2)
    assert (await execution(world, 0.5)).lateness_s == pytest.approx(-0.5, abs=0.01)
    assert timedelta(0) < FRESH
    await finish(world)
