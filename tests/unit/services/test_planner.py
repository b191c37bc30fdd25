"""The planner against its successors: whoever dies where, every occurrence is armed once, and nothing of yesterday."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from scheduler.core.errors import Internal, Unavailable, Unsure
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.status import ScheduleState, StatusRow
from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.interval import Interval
from scheduler.memory.clock import START
from scheduler.memory.streams import Limits
from scheduler.services.leader import Deposed
from scheduler.wire.instants import format_instant
from scheduler.wire.status import encode_status
from tests.unit.services.planning_world import HORIZON, PlanningReplica, World

SECOND = timedelta(seconds=1)
HALF = 0.5  # a moment after START at which nothing is due


def instant(seconds: float) -> str:
    return format_instant(START + timedelta(seconds=seconds))


async def planned_world() -> World:
    """One leader planned schedules of every kind; then it was gone, and half of them were edited."""
    world = World()
    await world.clock.advance(HALF)
    world.put("every", every="1s")
    world.put("cron", cron="*/5 * * * * *")
    world.put("at", at=[instant(-60), instant(6), instant(12)])
    world.put("manual", manual=True)
    world.put("paused", every="2s", paused=True)
    world.put("delayed", every="3s", start_delay="5s")
    for name in ("edited", "gone", "broken", "resting", "back", "a", "a.b"):
        world.put(name, every="1s")
    async with PlanningReplica(world) as first:
        await first.plans()
    await world.clock.advance(HALF / 4)
    world.put("edited", every="3s")
    world.delete("gone")
    world.put_raw("broken", b'{"every": "1s", "qeue": "Q"}')
    world.put("resting", every="1s", paused=True, paused_until=instant(9.5))
    world.put("paused", every="2s")
    world.delete("back")
    world.put("back", every="4s")
    world.delete("a")
    world.put("new", every="2s")
    world.put("at", at=[instant(-60), instant(6), instant(14)])
    world.schedules.put_raw("no schedule.", b"{}")
    return world


# --- somebody dies


async def finish(world: World) -> PlanningReplica:
    """A successor plans everything there is."""
    async with PlanningReplica(world) as successor:
        await successor.plans()
    return successor


async def check(world: World) -> None:
    """The timeline holds what the definitions say, up to the watermark; rows and events tell of every edit."""
    mark = await world.mark()
    beyond = {name: [at for at in nominals if at > mark.until] for name, nominals in world.armed().items()}
    assert not any(beyond.values())
    owed = world.owed()
    owed["at"] = sorted(set(owed["at"]))  # what its dead planner knew of a past one-shot is gone: the record dedupes it
    assert owed == world.expected(mark.until)
    assert mark.applied == world.schedules.stream.last_seq
    await check_notes(world)


async def check_notes(world: World) -> None:
    for name in ("edited", "new", "resting", "broken", "paused", "back"):
        newest = await world.schedules.get(name)
        assert newest is not None
        kind = "invalid" if name == "broken" else "applied"
        assert newest.revision in {event.data["generation"] for event in world.events.of(kind, name)}
    assert world.events.of("deleted", "gone")
    assert world.events.of("resumed", "paused")
    assert world.events.of("paused", "resting")
    assert [event.data["key"] for event in world.events.of("invalid") if event.schedule_id is None]
    rows = {name: await world.row(name) for name in ("gone", "broken", "resting", "new")}
    states = {name: None if row is None else row.state.value for name, row in rows.items()}
    assert states == {"gone": None, "broken": "invalid", "resting": "paused", "new": "active"}


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_killed_at_any_call(late: bool) -> None:
    """A leader dies before or after any one of its calls; its successor comes to the same timeline, rows and events."""
    number = 0
    while True:
        number += 1
        world = await planned_world()
        async with PlanningReplica(world, kill_at=number, late=late) as doomed:
            await doomed.plans()
        await finish(world)
        await check(world)
        if not doomed.process.is_dead:
            break
    assert number > 30


@pytest.mark.parametrize("late", [False, True], ids=["lost", "landed"])
@pytest.mark.parametrize("problem", [Unavailable("electing"), Unsure("no answer")], ids=["unavailable", "unsure"])
async def test_a_fault_at_any_call(problem: Unavailable, late: bool) -> None:
    """Any one call is refused or finds no answer, landed or not: the same leader goes on and ends where it should."""
    number = 0
    while True:
        number += 1
        world = await planned_world()
        leader = PlanningReplica(world, kill_at=number, late=late)
        leader.process.problem = problem
        await leader.start_through_faults()
        await leader.plans()
        assert leader.task is not None
        assert not leader.task.done(), number
        await check(world)
        await leader.end()
        if leader.process.calls < number:
            break
    assert number > 30


async def test_time_goes_on_after_a_takeover() -> None:
    """The successor of a successor, seconds later: still everything once, up to the newest watermark."""
    world = await planned_world()
    for number in range(5, 60, 9):
        async with PlanningReplica(world, kill_at=number) as doomed:
            await doomed.plans()
        await world.clock.advance(0.3)
    async with PlanningReplica(world) as last:
        await last.plans()
        await world.clock.advance(8)
        mark = await world.mark()
        assert mark.until >= world.clock.now() + HORIZON - 3 * SECOND
        owed, expected, now = world.owed(), world.expected(mark.until), world.clock.now()
        assert future(owed, now) == future(expected, now)
        assert {name for name, nominals in expected.items() if not set(nominals) <= set(owed[name])} == set()


def future(nominals: dict[str, list[datetime]], now: datetime) -> dict[str, list[datetime]]:
    """What of it is still to come. Before that there may be more than is owed: what fired while nobody led, which the
    dispatcher decides about."""
    found = {name: [at for at in each if at > now + SECOND] for name, each in nominals.items()}
    return {name: each for name, each in found.items() if each}


async def test_what_is_written_while_planning_at_any_call() -> None:
    """Before any one call somebody edits, deletes and adds: it is applied in the next round, and R never lies."""
    number = 0
    while True:
        number += 1
        world = await planned_world()
        async with PlanningReplica(world) as leader:
            leader.process.on_call = at_call(leader, number, partial(meddle, world))
            await leader.plans()
            await leader.plans()
            leader.process.on_call = lambda _: None
            mark = await world.mark()
            assert mark.applied == world.schedules.stream.last_seq
            owed = world.owed()
            owed["at"] = sorted(set(owed["at"]))
            assert owed == world.expected(mark.until), number
        if leader.process.calls < number:
            break
    assert number > 30


def meddle(world: World) -> None:
    world.put("edited", every="2s")
    world.delete("every")
    world.put("later", cron="*/3 * * * * *")
    world.put("broken", every="2s")
    world.put("new", every="2s", paused=True)


def at_call(replica: PlanningReplica, number: int, do: Callable[[], object]) -> Callable[[str], object]:
    return lambda _: do() if replica.process.calls == number else None


# --- large numbers


async def test_edits_between_the_batches_of_a_herd() -> None:
    """3000 at one instant go as batches of 500; after the second some are deleted, moved, paused, added, restored."""
    world = World()
    midnight = 30
    for number in range(3000):
        world.put(f"herd-{number:04}", at=instant(midnight))
    async with PlanningReplica(world, horizon=timedelta(seconds=20)) as leader:
        await leader.plans(until=START + 20 * SECOND)
        await world.clock.advance(8)
        assert "herd-0000" not in world.armed()
        commits: list[int] = []

        def on_call(name: str) -> None:
            if name == "commit":
                commits.append(world.schedules.stream.last_seq)
                if len(world.armed()) == 1000 and commits[-1] == 3000:
                    interfere()

        def interfere() -> None:
            for place in (0, 10, 2990):
                world.delete(f"herd-{place:04}")
            for place in (1, 11, 2991):
                world.put(f"herd-{place:04}", at=instant(midnight + 1))
            for place in (2, 12, 2992):
                world.put(f"herd-{place:04}", at=instant(midnight), paused=True)
            for place in (3, 2993):
                world.put(f"herd-{place:04}", at=instant(midnight), description="still there")
            world.put("herd-new", at=instant(midnight))

        leader.process.on_call = on_call
        await leader.plans(until=START + (midnight + 1) * SECOND)
        mark = await world.mark()
        assert commits[-1] > 3000
        assert world.owed() == world.expected(mark.until)
        assert len(world.owed()) == 3000 - 3 - 3 + 1
        assert world.generations("herd-2993") == {revision_of(world, "herd-2993")}


def revision_of(world: World, schedule_id: str) -> int:
    entry = world.schedules.stream.last_of(f"$KV.{world.names.schedules}.{schedule_id}")
    assert entry is not None
    return entry.seq


async def test_a_thousand_edits_at_once() -> None:
    """All are applied, by bounded rounds; nothing of the old definitions stays; R moves monotonously."""
    world = World()
    for number in range(1000):
        world.put(f"s{number}", at=[instant(9), instant(10)])
    async with PlanningReplica(world) as leader:
        await leader.plans()
        for number in range(1000):
            world.put(f"s{number}", at=[instant(10), instant(11)])
        marks: list[int] = []
        leader.process.on_call = lambda _: marks.append(leader.mark.applied)
        await leader.plans()
        assert world.owed() == world.expected((await world.mark()).until)
        assert world.generations("s0") | world.generations("s999") == {1001, 2000}
        assert marks == sorted(marks)
        assert len(set(marks)) >= 10


async def test_planning_costs_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3000 schedules 10 are due: only those triggers are asked, twice for each slice that they are due in."""
    world = World()
    for number in range(3000):
        world.put(f"far-{number}", cron="0 9 1 1 *")
    for number in range(10):
        world.put(f"near-{number}", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        asked = counted(monkeypatch, CronTrigger), counted(monkeypatch, Interval)
        before = (await world.mark()).until
        await world.clock.advance(20)
        seconds = ((await world.mark()).until - before).total_seconds()
        assert seconds > 17
        assert not asked[0]
        assert len(asked[1]) <= 10 * seconds * 2


def counted(monkeypatch: pytest.MonkeyPatch, trigger: type[Any]) -> list[datetime]:
    """Every instant after which a trigger of that kind was asked for the next."""
    asked: list[datetime] = []
    original = trigger.next_after

    def next_after(self: Any, at: datetime) -> datetime | None:
        asked.append(at)
        found: datetime | None = original(self, at)
        return found

    monkeypatch.setattr(trigger, "next_after", next_after)
    return asked


async def test_an_outage_of_days_is_not_walked_in_seconds() -> None:
    """W lies three days back and little is due: planning is back at the horizon after a few dozen batches."""
    world = World()
    world.put("daily", cron="0 12 * * *")
    async with PlanningReplica(world) as first:
        await first.plans()
    await world.clock.advance(3 * 86_400)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        assert world.owed() == world.expected((await world.mark()).until)
        assert len(world.owed()["daily"]) == 3
        assert leader.telemetry.count("planned") < 60


async def test_after_an_outage_of_a_busy_hour_everything_is_planned() -> None:
    """W lies an hour back and a lot is due: every occurrence is armed once, in slices of bounded size."""
    world = World()
    for number in range(4):
        world.put(f"s{number}", every="1s")
    async with PlanningReplica(world) as first:
        await first.plans()
    world.server.due.limits = Limits(max_ack_pending=100_000)
    await world.clock.advance(3600)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await leader.plans(until=world.clock.now() + HORIZON - 3 * SECOND)
        assert world.owed() == world.expected((await world.mark()).until)
        slices = [call["armed"] for call in leader.telemetry.of("planned")]
        assert all(isinstance(count, int) and count <= 5000 for count in slices)


async def test_a_pause_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules that are paused without end, or for long, are not planned second by second."""
    world = World()
    for number in range(100):
        world.put(f"s{number}", every="1s", paused=True)
        world.put(f"t{number}", every="1s", paused=True, paused_until=instant(3600))
    async with PlanningReplica(world) as leader:
        await leader.plans()
        asked = counted(monkeypatch, Interval)
        await world.clock.advance(20)
        assert not asked


async def test_the_smallest_horizon() -> None:
    """Two seconds: what is due is armed before, and W stays within the horizon."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world, horizon=timedelta(seconds=2)) as leader:
        for _ in range(20):
            await world.clock.advance(0.5)
            mark = await world.mark()
            assert world.clock.now() + 1.4 * SECOND <= mark.until <= world.clock.now() + 2 * SECOND
            assert world.owed() == world.expected(mark.until)
        assert leader.task is not None
        assert not leader.task.done()


# --- what it must not plan


async def test_a_stalled_watch_plans_nothing_stale() -> None:
    """The watch is silent: an edit is applied within a step, and no slice arms what the old definition said."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        for every in ("2s", "3s", "5s"):
            leader.bucket.stall_watches()
            world.put("s", every=every)
            until = (await world.mark()).until
            await world.clock.advance(2.2)
            assert (await world.mark()).applied == world.schedules.stream.last_seq
            beyond = [at for at in world.armed()["s"] if at > until]
            assert all(at.second % int(every[0]) == 0 for at in beyond)


async def test_a_first_start_owes_nothing_for_the_time_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules put a year ago are planned from now on, one-shots within their window; and it takes no year."""
    world = World()
    world.put("every", every="1s")
    world.put("resting", every="1s", paused=True)
    world.put("missed", at=instant(86_400))
    world.put("recent", at=instant(300 * 86_400 - 60))
    await world.clock.advance(300 * 86_400)
    first = world.clock.now()
    asked = counted(monkeypatch, Interval)
    async with PlanningReplica(world, not_before=first, kill_at=12) as leader:
        await leader.plans()
        assert leader.process.is_dead
        assert (await world.mark()).applied == 0
    async with PlanningReplica(world, not_before=first) as leader:
        await leader.plans()
        mark = await world.mark()
        assert len(asked) < 200
    owed = world.owed()
    assert owed.keys() == {"every", "recent"}
    assert owed["every"] == world.expected_of("every", first, mark.until)


async def test_a_past_one_shot_is_late_once() -> None:
    """Put when it was already past, it is armed; whatever edit comes then, its instant is dealt with."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", at=[instant(-30), instant(60)])
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(1)
        assert world.due() == {"s": [START - 30 * SECOND]}
        world.put("s", at=[instant(-30), instant(60)], description="edited")
        await leader.plans()
        world.put("s", at=[instant(-30), instant(60)], paused=True)
        await leader.plans()
        world.put("s", at=[instant(-30), instant(60)])
        await leader.plans()
        world.put_raw("s", b"{")
        await leader.plans()
        world.put("s", at=[instant(-30), instant(60)])
        await leader.plans()
        await world.clock.advance(1)
        assert world.owed() == {"s": [START - 30 * SECOND]}
        world.put("s", at=[instant(-30), instant(-20)])
        await leader.plans()
        await world.clock.advance(1)
        assert world.owed() == {"s": [START - 30 * SECOND, START - 20 * SECOND]}


async def test_a_one_shot_that_passed_in_a_pause_is_not_made_up_for() -> None:
    """Taking a pause back fires nothing of the time between, in this term or the next."""
    world = World()
    world.put("s", at=instant(5), paused=True)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(10)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        world.put("s", at=instant(5))
        await leader.plans()
        await world.clock.advance(2)
        assert world.owed() == {}


async def test_an_edit_that_was_never_applied_is_no_previous_one() -> None:
    """Put, due, edited, and nobody led: the one-shot is late, it was not dealt with by anybody."""
    world = World()
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(1)
        leader.process.stop()
        world.put("s", at=instant(5))
        await world.clock.advance(10)
        world.put("s", at=instant(5), description="again")
        leader.process.cont()
        await leader.plans()
        await world.clock.advance(1)
        assert world.owed() == {"s": [START + 5 * SECOND]}


# --- faults of the storage


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
        commits: list[str] = []
        seqs = world.server.timeline.last_seq
        fresh_fault(leader, world.server.lose_ack_next)
        while world.server.timeline.last_seq == seqs:
            await world.clock.advance(0.1)
        leader.process.on_call = lambda name: commits.append(name) if name == "commit" else None
        await world.clock.advance(0.3)
        assert commits == []


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
    assert number > 30


def writes_of(world: World) -> list[int]:
    return [
        sum(len(nominals) for nominals in world.owed().values()),
        world.status.stream.last_seq,
        world.server.events.last_seq,
    ]


# --- repairs


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
        fired_again = {name for name, nominals in world.due().items() if nominals.count(START + SECOND) > 1}
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


# --- rows and events


async def test_an_invalid_key_is_announced_once_per_write() -> None:
    """Event `invalid` about `_`, with the key and its revision; whatever else has to be repeated."""
    world = World()
    keys = ["-x", "y-", "z..z", "k" * 200]
    for key in keys:
        world.schedules.put_raw(key, b"{}")
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        fault_once(leader, "change", "put_many")
        await leader.plans()
        again = world.schedules.put_raw("-x", b"again")
        await leader.plans()
        world.schedules.put_raw("-x", b"", {"KV-Operation": "DEL"})
        await leader.plans()
    found = [event.data for event in world.events.of("invalid")]
    assert sorted(each["key"] for each in found) == sorted([*keys, "-x"])
    assert {"key": "-x", "revision": again} in found
    assert all(event.schedule_id is None for event in world.events.of("invalid"))
    assert leader.schedules.invalid_keys == frozenset(keys[1:])


def fault_once(leader: PlanningReplica, *names: str) -> None:
    def on_call(name: str) -> None:
        if name in names:
            leader.process.on_call = lambda _: None
            raise Unavailable("for once")

    leader.process.on_call = on_call


async def test_the_row_tells_when_the_last_occurrence_has_passed() -> None:
    """`exhausted` and nothing next, within a few seconds; a schedule that goes on stays active."""
    world = World()
    await world.clock.advance(HALF)
    world.put("once", at=[instant(3), instant(30)])
    world.put("soon", at=instant(8))
    world.put("past", at=instant(-3))
    world.put("last", cron="0 0 8 21 11 * 2026")
    world.put("year", cron="30 0 8 21 11 * 2026")
    world.put("every", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        assert await states(world) == {
            "once": "active", "soon": "active", "past": "exhausted", "last": "exhausted", "year": "active",
            "every": "active",
        }  # fmt: skip
        row = await world.row("once")
        assert row is not None
        assert row.next_nominal == START + 3 * SECOND
        await world.clock.advance(10)
        assert (await states(world))["soon"] == "exhausted"
        await world.clock.advance(25)
        found = await states(world)
        assert found.pop("every") == "active"
        assert set(found.values()) == {"exhausted"}
        row = await world.row("once")
        assert row is not None
        assert row.next_nominal is None


async def test_the_row_tells_when_a_pause_ran_out() -> None:
    """Active again, with an event, and exhausted after that; a leader change around the instant changes nothing."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", at=instant(20), paused=True, paused_until=instant(10))
    world.put("t", every="1s", paused=True, paused_until=instant(10))
    world.put("u", every="1s", paused=True)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(9)
        assert await states(world) == {"s": "paused", "t": "paused", "u": "paused"}
    await world.clock.advance(6)
    async with PlanningReplica(world) as leader:
        await world.clock.advance(3)
        assert await states(world) == {"s": "active", "t": "active", "u": "paused"}
        await world.clock.advance(6)
        assert (await states(world))["s"] == "exhausted"
        assert len(world.events.of("resumed", "s")) == len(world.events.of("resumed", "t")) == 1
        assert world.events.of("resumed", "u") == []
        assert world.owed() == world.expected((await world.mark()).until)


async def states(world: World) -> dict[str, str]:
    found = {}
    for key in await world.status.keys():
        row = await world.row(key)
        if row is not None:
            found[key] = row.state.value
    return found


async def test_a_deleted_schedule_keeps_its_row_while_runs_hold_slots() -> None:
    """Without runs the row goes with the schedule; with runs it stays as it is."""
    world = World()
    world.put("free", every="10s")
    world.put("busy", every="10s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        busy = StatusRow(active=("busy.1",))
        await world.status.put("busy", encode_status(busy))
        world.delete("free")
        world.delete("busy")
        await leader.plans()
        assert await world.row("free") is None
        assert await world.row("busy") == busy


async def test_a_row_that_changes_while_it_is_removed_ends_no_term() -> None:
    """A dispatcher writes it between the read and the delete: read again, decide again."""
    world = World()
    world.put("s", every="10s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        row = await world.row("s")
        assert row is not None

        def on_call(name: str) -> None:
            if name == "delete":
                leader.process.on_call = lambda _: None
                world.status.put_raw("s", encode_status(StatusRow(fires=7)))

        leader.process.on_call = on_call
        world.delete("s")
        await leader.plans()
        assert await world.row("s") is None
        assert leader.task is not None
        assert not leader.task.done()


async def test_a_pause_is_announced_though_the_first_leader_died_between_row_and_event() -> None:
    """Killed anywhere: `paused` and `resumed` come at least once each, in their order."""
    for number in range(1, 25):
        world = World()
        world.put("s", every="1s")
        async with PlanningReplica(world) as leader:
            await leader.plans()
        world.put("s", every="1s", paused=True)
        async with PlanningReplica(world, kill_at=number, late=True) as doomed:
            await doomed.plans()
        async with PlanningReplica(world) as successor:
            await successor.plans()
            world.put("s", every="1s")
            await successor.plans()
        assert world.events.of("paused", "s"), number
        assert world.events.of("resumed", "s"), number
        row = await world.row("s")
        assert row is not None
        assert row.state is ScheduleState.ACTIVE
