"""The planner against the storage and the end of its term: refusals, silences, outages, repairs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from scheduler.core.errors import Internal, Unavailable
from scheduler.core.model.occurrence import Occurrence
from scheduler.memory.clock import START
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.timeline import Watermark
from scheduler.services.committing import Committer
from scheduler.services.leader import Deposed
from tests.unit.services.planning_world import (
    HALF,
    HORIZON,
    SECOND,
    PlanningReplica,
    World,
    planned_world,
)


async def test_an_office_taken_by_another_is_refused_and_counted() -> None:
    """Planning goes on without a check (the lease says so): the storage refuses, nothing lands, and the term ends."""
    world = World()
    world.put("s", every="1s")
    async with PlanningReplica(world) as old, PlanningReplica(world) as new:
        await new.plans()
        seq = world.server.timeline.last_seq
        await world.clock.advance(3)
        assert old.task is not None
        with pytest.raises(Deposed, match="refused epoch"):
            await old.task
        assert old.telemetry.count("fenced") == 1
        assert new.telemetry.count("fenced") == 0
        assert world.server.timeline.last_seq > seq


async def test_a_refusal_that_is_on_its_way_when_the_term_ends_is_counted() -> None:
    """Stopped with a batch sent, continued after another took office: all that runs beside it ends at once, by its own
    clocks; the batch's answer is heard all the same."""
    world = World()
    world.put("s", every="1s")
    async with PlanningReplica(world) as old:
        await old.plans()
        old.slow_commit_s = 0.3
        while not old.committing:
            await world.clock.advance(0.05)
        async with PlanningReplica(world) as new:
            assert old.task is not None
            old.task.cancel()
            await world.clock.advance(1)
            assert old.task.done()
            assert old.telemetry.count("fenced") == 1
            await new.plans()


async def test_a_refusal_that_is_being_looked_into_when_the_term_ends_is_counted() -> None:
    """Refused, and while it is read whose epoch is in force, the lease tells that the term is over: counted once."""
    world = World()
    world.put("s", every="1s")
    async with PlanningReplica(world) as old:
        await old.plans()
        async with PlanningReplica(world) as new:
            old.slow_reading_s = 0.3
            while not old.reading:
                await world.clock.advance(0.05)
            assert old.task is not None
            old.task.cancel()
            await world.clock.advance(1)
            assert old.task.done()
            assert old.telemetry.count("fenced") == 1
            await new.plans()


@pytest.mark.parametrize("fault", ["lose_ack_next", "lose_next", "refuse_in_flight_next", "land_late"])
async def test_a_batch_that_finds_no_answer(fault: str) -> None:
    """Landed, lost, refused for now or landing late: the batch is stored once, and planning goes on."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        for _ in range(5):
            fresh_fault(leader, getattr(world.server, fault))
            await world.clock.advance(2)
        mark = await world.mark()
        assert mark.until > world.clock.now() + HORIZON - 4 * SECOND
        assert world.owed() == world.expected(mark.until)
        assert leader.telemetry.count("fenced") == 0


def fresh_fault(leader: PlanningReplica, do: Callable[[], None]) -> None:
    """Before the next commit."""

    def on_call(name: str) -> None:
        if name == "commit":
            leader.process.on_call = lambda _: None
            do()

    leader.process.on_call = on_call


async def test_a_batch_that_landed_unheard_is_not_sent_again() -> None:
    """Sent again, what has fired meanwhile would fire twice."""
    world = World()
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        commits: list[int] = []

        def on_call(name: str) -> None:
            if name == "commit":
                if not commits:
                    world.server.lose_ack_next()
                commits.append(world.server.timeline.last_seq)

        leader.process.on_call = on_call
        while not commits:
            await world.clock.advance(0.1)
        await world.clock.advance(0.3)
        assert len(commits) == 1
        assert world.server.timeline.last_seq > commits[0]


async def test_an_outage_is_waited_out() -> None:
    """NATS away for longer than the horizon: late, but everything, and by the same term."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    world.put("t", every="7s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        world.server.down = True
        await world.clock.advance(30)
        world.server.down = False
        world.put("t", every="5s")
        await leader.plans()
        mark = await world.mark()
        owed, expected = world.owed(), world.expected(mark.until)
        assert owed["s"] == expected["s"]
        assert leader.task is not None
        assert not leader.task.done()


@pytest.mark.parametrize("problem", [Internal("unreadable"), Unavailable("no more consumers")])
async def test_a_queue_that_cannot_be_made_holds_up_nothing(problem: Internal) -> None:
    """Every schedule is planned, those of that queue too; the drop is counted."""
    world = World()
    world.put("s", every="1s", queue="impossible")
    world.put("t", every="1s")
    async with PlanningReplica(world) as leader:
        leader.queue_problem = problem
        await leader.plans()
        assert world.owed() == world.expected((await world.mark()).until)
        assert leader.telemetry.count("dropped", what="queue", reason="not_made") == 2


async def test_what_no_repetition_mends_ends_the_term() -> None:
    """A batch that breaks the storage is not sent for ever: another replica may do better, and a person is told."""
    world = World()
    world.put("s", every="1s")
    leader = PlanningReplica(world)
    leader.timeline_problem = Internal("NATS refused it: maximum messages exceeded")
    await leader.start()
    await world.clock.advance(1)
    assert leader.task is not None
    assert leader.process.calls < 30
    with pytest.raises(Internal):
        await leader.task
    await leader.end()


async def test_nothing_is_written_once_the_term_is_over() -> None:
    """Whichever call it ends before: only that call may still be a write, since its check came first."""
    number = 0
    while True:
        number += 1
        world = await planned_world()
        async with PlanningReplica(world) as leader:
            written: list[list[int]] = []

            def on_call(
                _: str, leader: PlanningReplica = leader, written: list[list[int]] = written, number: int = number
            ) -> None:
                if leader.process.calls == number and leader.tenure is not None:
                    leader.tenure.end()
                if leader.process.calls > number and leader.tenure is not None:
                    written.append(writes_of(leader.world))

            leader.process.on_call = on_call
            if leader.process.calls >= number:
                continue  # it was not in office yet
            await leader.plans()
            if leader.process.calls < number:
                break
            await world.clock.advance(3)
            assert leader.task is not None
            assert leader.task.done()
            written.append(writes_of(world))
            assert all(each == written[0] for each in written), number
    assert number > 20


def writes_of(world: World) -> list[int]:
    return [
        sum(len(nominals) for nominals in world.owed().values()),
        world.status.stream.last_seq,
        world.server.events.last_seq,
    ]


async def test_the_watermark_never_moves_back() -> None:
    """Whatever somebody who plans by a clock that was set back takes for the end of a slice, or for applied."""
    world = World()
    mark = Watermark(START + HORIZON, 7, 3)
    tenure = await PlanningReplica(world).take_office(first=mark)
    committer = Committer(world.timeline, world.clock, RecordingTelemetry())
    await committer.commit(tenure, [], until=START + SECOND, applied=2, calendars=1)
    assert await world.mark() == tenure.office.watermark == mark


async def test_stuck_arms_are_armed_again() -> None:
    """Through the one batch in flight, when it is committed; what is not wanted any more is left out."""
    world = World()
    await world.clock.advance(HALF)
    for name in ("s", "gone", "resting"):
        world.put(name, every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        world.delete("gone")
        world.put("resting", every="1s", paused=True)
        await leader.plans()
        await world.clock.advance(2)
        before = world.due()
        old = [Occurrence(name, START + SECOND, START + SECOND, 1) for name in ("s", "gone", "resting", "unknown")]
        asking = asyncio.create_task(leader.planner.rearm([*old, Occurrence("s", START + HALF * SECOND, START, 1)]))
        await world.clock.advance(1)
        await asking
        after = world.due()
        fired_again = {
            name
            for name, nominals in after.items()
            if nominals.count(START + SECOND) > before.get(name, []).count(START + SECOND)
        }
        assert before["s"].count(START + SECOND) == 1
        assert fired_again == {"s"}


async def test_rearm_never_hangs() -> None:
    """The term ends, before or while it is asked, or there is none: Deposed, not silence."""
    world = World()
    world.put("s", every="1s")
    occurrence = Occurrence("s", START + SECOND, START + SECOND, 1)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        world.server.down = True
        await world.clock.advance(3)
        asking = asyncio.create_task(leader.planner.rearm([occurrence]))
        await world.clock.advance(0.1)
        assert not asking.done()
        await leader.end()
        with pytest.raises(Deposed):
            await asking
    with pytest.raises(Deposed):
        await leader.planner.rearm([occurrence])


async def test_whoever_asked_for_a_rearm_may_give_up() -> None:
    """A time-out of the reconciler leaves nothing behind that keeps the planner from its work."""
    world = World()
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        asking = asyncio.create_task(leader.planner.rearm([Occurrence("s", START + SECOND, START + SECOND, 1)]))
        await asyncio.sleep(0)
        asking.cancel()
        await world.clock.advance(5)
        assert leader.task is not None
        assert not leader.task.done()


@pytest.mark.parametrize("claim_floor_s", [1800, 120])
async def test_what_fired_before_a_long_outage_is_armed_again_only_while_its_record_lasts(
    claim_floor_s: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Three minutes without NATS: beyond half the claim floor a record may be gone, and nobody would know that it
    fired."""
    caplog.set_level("INFO", "scheduler")
    world = World()
    world.put("s", every="1s")
    async with PlanningReplica(world, claim_floor=timedelta(seconds=claim_floor_s)) as replica:
        await replica.plans()
        await world.clock.advance(5)
        mark = await world.timeline.watermark()
        assert mark is not None
        assert mark.watermark is not None
        planned_until = mark.watermark.until
        world.server.down = True
        await world.clock.advance(180)
        replica.reconnects += 1
        world.server.down = False
        await world.clock.advance(5)
    [begins] = [vars(each)["from"] for each in caplog.records if vars(each).get("event") == "planning_again"]
    assert (begins < planned_until) == (claim_floor_s == 1800)


async def test_arms_that_a_damaged_disk_has_cost_are_armed_again() -> None:
    """Below W, in the middle, unnoticed by the server: after a reconnect all that is owed stands again."""
    world = World()
    for number in range(5):
        world.put(f"s{number}", every="1s")
    async with PlanningReplica(world) as replica:
        await replica.plans()
        whole = {key: list(nominals) for key, nominals in world.armed().items()}
        arms = [seq for seq, each in world.server.timeline.messages.items() if ".arm.s" in each.subject]
        for seq in arms[len(arms) // 3 : len(arms) // 2]:
            world.server.timeline.delete(seq)
        assert world.armed() != whole
        await world.clock.advance(1)
        assert any(set(whole[key][2:]) - set(world.armed()[key]) for key in whole), "and nobody notices"
        replica.reconnects += 1
        await world.clock.advance(3)
        after = world.clock.now() + SECOND
        for key, nominals in whole.items():
            assert {at for at in nominals if at > after} <= set(world.armed()[key]), key
