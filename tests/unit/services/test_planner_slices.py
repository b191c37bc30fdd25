"""What a slice and an edit may plan, in any number, and what they may cost."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from scheduler.core.triggers.cron import CronTrigger
from scheduler.core.triggers.interval import Interval
from scheduler.memory.clock import START
from scheduler.memory.messages import Limits
from tests.unit.services.planning_world import (
    HALF,
    HORIZON,
    SECOND,
    PlanningReplica,
    World,
    check_mark,
    instant,
    revision_of,
)


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

        async def check() -> None:
            await check_mark(world)
            assert "herd-2990" not in world.armed(), "deleted before its batch was due"

        leader.process.on_call, leader.after_commit = on_call, check
        await leader.plans(until=START + (midnight + 1) * SECOND)
        mark = await world.mark()
        assert commits[-1] > 3000
        assert world.owed() == world.expected(mark.until)
        assert len(world.owed()) == 3000 - 3 - 3 + 1
        assert world.generations("herd-2993") == {revision_of(world, "herd-2993")}


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
        assert world.owed() == {}
        row = await world.row("daily")
        assert row is not None
        assert row.late_from == START.replace(hour=12)
        assert leader.telemetry.count("planned") < 60


async def test_after_an_outage_what_is_late_is_not_armed() -> None:
    """W lies an hour back: what is late is noted with one write per schedule, the rest is armed once."""
    world = World()
    for number in range(4):
        world.put(f"s{number}", every="1s")
    async with PlanningReplica(world) as first:
        await first.plans()
        until = first.mark.until
    world.server.due.limits = Limits(max_ack_pending=100_000)
    await world.clock.advance(3600)
    world.put("new", every="1s", start_delay="3s")
    await world.clock.advance(60)
    since, rows = world.clock.now(), world.status.stream.last_seq
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await leader.plans(until=world.clock.now() + HORIZON - 3 * SECOND)
        assert sum(call["armed"] for call in leader.telemetry.of("planned")) < 300  # type: ignore[misc]  # numbers
        assert leader.commits < 30
    assert world.status.stream.last_seq - rows <= 6
    mark = await world.mark()
    for name in ("s0", "s1", "s2", "s3", "new"):
        row = await world.row(name)
        assert row is not None
        assert row.late_from is not None
        expected = world.expected(mark.until)[name]
        assert row.late_from == (until + SECOND if name != "new" else expected[0])
        delay = 3 * SECOND if name == "new" else 0 * SECOND
        on_time = [at for at in expected if at <= until or at + delay >= since - 10 * SECOND]
        assert world.owed()[name] == on_time


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_killed_while_late_ones_are_handed_over(late: bool) -> None:
    """W moves on only after what is late is noted: whoever dies where, nothing is neither armed nor noted."""
    number = 0
    while True:
        number += 1
        world = World()
        world.put("s", every="1s")
        async with PlanningReplica(world) as first:
            await first.plans()
            until = first.mark.until
        await world.clock.advance(300)
        async with PlanningReplica(world, kill_at=number, late=late) as doomed:
            await doomed.plans()
        async with PlanningReplica(world) as successor:
            await successor.plans()
        row = await world.row("s")
        assert row is not None
        assert row.late_from == until + SECOND
        owed = set(world.owed()["s"])
        assert [at for at in world.expected((await world.mark()).until)["s"] if at not in owed and at <= until] == []
        gap = [at for at in world.expected((await world.mark()).until)["s"] if at > START + 290 * SECOND]
        assert set(gap) <= owed
        if not doomed.process.is_dead:
            break
    assert number > 10


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


async def test_a_silent_watch_is_noticed_between_slices() -> None:
    """Catching up takes hundreds of slices: an edit in the middle is applied after the slice that is under way."""
    world = World()
    await world.clock.advance(HALF)
    for number in range(4):
        world.put(f"s{number}", every="1s", catch_up={"after": "2h"})
    async with PlanningReplica(world) as first:
        await first.plans()
    world.server.due.limits = Limits(max_ack_pending=100_000)
    await world.clock.advance(3600)
    async with PlanningReplica(world) as leader:
        behind: list[int] = []

        async def edit_in_the_middle() -> None:
            leader.bucket.stall_watches()
            if leader.commits == 20:
                world.put("s0", every="7s")
            behind.append(world.schedules.stream.last_seq - leader.mark.applied)

        leader.after_commit = edit_in_the_middle
        await leader.plans(until=world.clock.now() + HORIZON - 3 * SECOND)
        assert leader.commits > 40
        assert sum(behind) <= 3


async def test_a_slice_leaves_alone_what_is_edited_but_not_applied() -> None:
    """The watch delivered it after the cache was proven fresh: it is the next edit, its one-shots are still late."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", at=[instant(25), instant(70)])
    async with PlanningReplica(world) as leader:
        await leader.plans()
        original = leader.bucket.last_revision

        async def last_revision() -> int:
            newest = await original()
            if world.clock.now() >= START + 5 * SECOND:
                leader.bucket.last_revision = original  # type: ignore[method-assign]
                world.put("s", at=[instant(-20), instant(25), instant(70)])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert leader.schedules.mirror.applied > newest
            return newest

        leader.bucket.last_revision = last_revision  # type: ignore[method-assign]  # as the watch may have it
        await world.clock.advance(8)
        assert world.owed()["s"] == [START - 20 * SECOND, START + 25 * SECOND]


async def test_r_moves_with_the_last_batch_of_an_edit() -> None:
    """Sixty schedules change at once, 1200 arms and disarms: after every batch the watermark tells the truth."""
    world = World()
    await world.clock.advance(HALF)
    for number in range(60):
        world.put(f"s{number}", every="1s")
    async with PlanningReplica(world, horizon=timedelta(seconds=40)) as leader:
        await leader.plans(until=START + 35 * SECOND)
        for number in range(60):
            world.put(f"s{number}", every="2s", start_delay="1s")
        leader.after_commit = partial(check_mark, world)
        before = leader.commits
        await leader.plans()
        assert leader.commits - before >= 4


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
