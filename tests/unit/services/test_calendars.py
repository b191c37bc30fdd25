"""Calendars on the leader's side, in virtual time: edits reach exactly their users, and survive any kill."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import START
from scheduler.services.calendars import CalendarCache
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.schedule import ScheduleLimits
from tests.unit.services.planning_world import HALF, SECOND, PlanningReplica, World

EVEN = {"cron": ["*/2 * * * * *"]}
ODD = {"cron": ["1-59/2 * * * * *"]}
NOTHING = {"dates": ["1970-01-01"]}


class CalendarWorld(World):
    """With a bucket of calendars, and who was planned anew."""

    def __init__(self) -> None:
        super().__init__()
        self.calendars: MemoryBucket = MemoryBucket(self.server, self.names.calendars)

    def calendar(self, name: str, document: Any) -> int:
        return self.calendars.put_raw(name, msgspec.json.encode(document))

    def drop_calendar(self, name: str) -> int:
        return self.calendars.put_raw(name, b"", {"KV-Operation": "DEL"})

    def seconds(self, schedule_id: str = "a", after: float = 0) -> set[float]:
        """Armed nominal times in seconds after START, those after an instant."""
        found = ((at - START) / SECOND for at in self.armed().get(schedule_id, []))
        return {each for each in found if each > after}


async def applied(replica: PlanningReplica, world: CalendarWorld) -> None:
    """Until every edit of schedules and calendars is applied, or the replica has died."""

    async def done() -> bool:
        mark = await world.mark()
        newest = world.calendars.stream.last_seq
        return mark.calendars >= newest and mark.applied >= world.schedules.stream.last_seq

    await replica.until(done)


def planned(replica: PlanningReplica) -> list[str]:
    """From now on, the ids of schedules that are planned anew."""
    ids: list[str] = []
    original = replica.timeline.armed

    async def armed(schedule_id: str) -> list[datetime]:
        ids.append(schedule_id)
        return await original(schedule_id)

    replica.timeline.armed = armed  # type: ignore[method-assign]
    return ids


def are(seconds: Iterable[float], remainder: int) -> bool:
    return all(each % 2 == remainder for each in seconds)


async def test_an_edit_reaches_exactly_its_users() -> None:
    """Those that use the calendar are planned anew, once each; no other schedule is touched."""
    world = CalendarWorld()
    world.calendar("x", EVEN)
    world.calendar("y", EVEN)
    for schedule_id, exclude in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"]), ("d", [])):
        world.put(schedule_id, every="1s", exclude=exclude)
    async with PlanningReplica(world) as replica:
        await applied(replica, world)
        ids = planned(replica)
        world.calendar("x", ODD)
        await applied(replica, world)
        assert sorted(ids) == ["a", "b"]
        await world.clock.advance(5)
        assert sorted(ids) == ["a", "b"]
        now = (world.clock.now() - START) / SECOND
        assert world.seconds("a", now)
        assert are(world.seconds("a", now), 0)
        assert not world.seconds("b", now), "x and y leave nothing"
        assert are(world.seconds("c", now), 1)
        assert {each % 2 for each in world.seconds("d", now)} == {0, 1}


async def test_an_edit_is_not_retroactive() -> None:
    """What a calendar lets through again from now on fires from now on."""
    world = CalendarWorld()
    world.calendar("x", {"cron": ["* * * * *"]})
    world.put("a", every="1s", exclude=["x"])
    async with PlanningReplica(world) as replica:
        await world.clock.advance(10 + HALF)
        assert not world.owed()
        world.calendar("x", NOTHING)
        await applied(replica, world)
        owed = [(at - START) / SECOND for at in world.owed()["a"]]
        assert min(owed) == 11


async def test_a_missing_calendar_makes_its_users_invalid_until_it_appears() -> None:
    """The row says why; with the calendar it is planned, without any write of the schedule."""
    world = CalendarWorld()
    world.put("a", every="1s", exclude=["x"])
    world.put("b", every="1s")
    async with PlanningReplica(world) as replica:
        await replica.plans()
        row = await world.row("a")
        assert row is not None
        assert (row.state.value, row.error) == ("invalid", "exclude: there is no calendar 'x'")
        assert not world.seconds("a")
        assert world.seconds("b")
        world.calendar("x", EVEN)
        await applied(replica, world)
        row = await world.row("a")
        assert row is not None
        assert (row.state.value, row.error) == ("active", None)
        assert are(world.seconds("a"), 1)
        world.drop_calendar("x")
        await applied(replica, world)
        row = await world.row("a")
        assert row is not None
        assert row.error == "exclude: there is no calendar 'x'"
        assert not world.seconds("a", (world.clock.now() - START) / SECOND)


async def test_a_calendar_that_cannot_be_read_is_quarantined() -> None:
    """Its users are invalid with its reason, it is counted and told, and everything else goes on."""
    world = CalendarWorld()
    world.calendar("x", EVEN)
    world.put("a", every="1s", exclude=["x"])
    world.put("b", every="1s")
    async with PlanningReplica(world) as replica:
        await applied(replica, world)
        world.calendars.put_raw("x", b"\xff{")
        world.calendars.put_raw("no name!", b"{}")
        await applied(replica, world)
        row = await world.row("a")
        assert row is not None
        assert row.error is not None
        assert "calendar 'x' is invalid: the value is not UTF-8" in row.error
        assert world.seconds("b", (world.clock.now() - START) / SECOND)
        assert {"what": "calendar", "reason": "invalid"} in replica.telemetry.of("dropped")
        told = [event.data for event in world.events.of("invalid") if "calendar" in event.data]
        assert {each["calendar"] for each in told} == {"x", "no name!"}


async def test_applied_events_name_the_calendars_revision() -> None:
    """An audit can tell which calendars a definition was planned with, and since when."""
    world = CalendarWorld()
    world.calendar("x", EVEN)
    world.put("a", every="1s", exclude=["x"])
    async with PlanningReplica(world) as replica:
        await applied(replica, world)
        await world.clock.advance(3)
        newest = world.calendar("x", ODD)
        await applied(replica, world)
    told = [event.data for event in world.events.of("applied") if "calendar" not in event.data]
    assert [each["calendars"] for each in told][-1] == newest
    assert told[-1]["effective_from"] > told[0]["effective_from"]


async def one_edit(kill_at: int, *, late: bool) -> int:
    """A replica is killed at a call after a calendar's edit, another takes over: the edit is applied, to the letter."""
    world = CalendarWorld()
    world.calendar("x", EVEN)
    world.put("a", every="1s", exclude=["x"])
    world.put("b", every="1s")
    first = PlanningReplica(world, late=late)
    await first.start()
    await applied(first, world)
    await world.clock.advance(2 + HALF)
    if kill_at:
        first.process._kill_at = first.process.calls + kill_at
    before = first.process.calls
    edited = (world.clock.now() - START) / SECOND
    world.calendar("x", ODD)
    await applied(first, world)
    calls = first.process.calls - before
    await first.end()
    await world.clock.advance(2)
    async with PlanningReplica(world) as second:
        await applied(second, world)
        await second.plans()
        mark = await world.mark()
        assert mark.calendars == world.calendars.stream.last_seq
        assert are(world.seconds("a", edited + 2), 0), "armed by the old calendar"
        until = (mark.until - START) / SECOND
        now = (world.clock.now() - START) / SECOND
        wanted = {float(each) for each in range(int(now) + 1, int(until) + 1) if each % 2 == 0}
        assert wanted <= world.seconds("a")
        assert {float(each) for each in range(int(now) + 1, int(until) + 1)} <= world.seconds("b")
    return calls


@pytest.mark.parametrize("late", [False, True])
async def test_a_leader_dies_at_any_call_of_an_edit(late: bool) -> None:
    """Before or after each call that applying the edit takes: the successor goes on from the stored C."""
    calls = await one_edit(0, late=late)
    assert calls > 5
    for kill_at in range(1, calls + 1):
        await one_edit(kill_at, late=late)


async def test_backwards_moves_are_planned_ahead_and_survive_a_take_over() -> None:
    """What fires days before its nominal time is armed with the horizon of its fire time, once, whoever leads."""
    world = CalendarWorld()
    day = (START + timedelta(days=3)).date()
    world.calendar("x", {"ranges": [{"from": str(day - timedelta(days=2)), "to": str(day)}]})
    nominal = START + timedelta(days=3, seconds=40)
    world.put("a", at=[f"{nominal:%Y-%m-%dT%H:%M:%SZ}"], exclude=["x"], on_excluded="previous_business_day")
    async with PlanningReplica(world) as first:
        await first.plans()
        assert world.armed() == {"a": [nominal]}
    async with PlanningReplica(world) as second:
        await second.plans()
        await world.clock.advance(45)
    assert world.due() == {"a": [nominal]}, "it fired at the same time of day, three days before"
    async with PlanningReplica(world) as third:
        await third.plans()
        world.calendar("x", {"ranges": [{"from": str(day - timedelta(days=1)), "to": str(day)}]})
        await applied(third, world)
        fires = [each.headers for each in world.server.timeline.messages.values() if ".arm.a." in each.subject]
    assert len(fires) == 1, "the edit moves it to a day that is still to come"


async def test_slices_move_on_with_the_lead() -> None:
    """A daily schedule that may move backwards is armed a month ahead, day after day, without a hole."""
    world = CalendarWorld()
    world.calendar("x", {"weekdays": ["sun"]})
    world.put("a", every="24h", anchor="2026-01-01T08:00:05Z", exclude=["x"], on_excluded="previous_business_day")
    async with PlanningReplica(world) as replica:
        await replica.plans()
        first = world.armed()["a"]
        assert len(first) in {32, 33}
        await world.clock.advance(2 * 86_400 / 24)
    async with PlanningReplica(world) as replica:
        await world.clock.advance(10)
        await replica.plans()
        owed = sorted({*world.owed()["a"]})
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(owed))


async def test_a_cache_reads_users_again_only_when_asked_for() -> None:
    """`fresh` proves calendars, too: a stalled watch cannot make a replica decide by yesterday's holidays."""
    world = CalendarWorld()
    world.calendar("x", EVEN)
    world.put("a", every="1s", exclude=["x"])
    cache = ScheduleCache(
        world.schedules.replica(), world.clock, ScheduleLimits(), CalendarCache(world.calendars.replica(), world.clock)
    )
    await cache.start()
    try:
        await asyncio.gather(cache.fresh(), world.clock.advance(1))
        known = cache.get("a")
        assert known is not None
        assert known.in_force is not None
        assert not known.in_force.trigger.yields(START)
        newest = world.calendar("x", ODD)
        await asyncio.gather(cache.fresh(), world.clock.advance(1))
        known = cache.get("a")
        assert known is not None
        assert known.in_force is not None
        assert known.in_force.trigger.yields(START)
        assert known.in_force.definition.calendars == newest
        assert cache.calendars_applied == newest
    finally:
        await cache.stop()
