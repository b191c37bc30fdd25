"""Definitions that were replaced before any leader applied them: the next leader tells of those that it saw itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from scheduler.core.auditing import Case, Change, OnItsWay, judged
from scheduler.memory.clock import START
from scheduler.services import schedules
from scheduler.wire.evidence import CHANGES, read_change
from tests.unit.services.planning_world import HALF, SECOND, PlanningReplica, World, instant

MINUTE = timedelta(minutes=1)


def at(seconds: float) -> datetime:
    return START + seconds * SECOND


@asynccontextmanager
async def following(world: World) -> AsyncIterator[PlanningReplica]:
    """A replica that sees all writes; `lead` makes it the leader."""
    replica = PlanningReplica(world)
    await replica.schedules.start()
    try:
        yield replica
    finally:
        await replica.end()


async def lead(replica: PlanningReplica) -> None:
    replica.tenure = await replica.take_office()
    replica.task = asyncio.create_task(replica.planner.run(replica.tenure))
    await replica.plans()


async def applied_once(world: World) -> None:
    """Revision 1, every ten minutes, applied by a leader who is gone then."""
    await world.clock.advance(HALF)
    world.put("s", every="10m")
    async with PlanningReplica(world) as leader:
        await leader.plans()


def changes(world: World) -> tuple[Change, ...]:
    told = [(kind, event) for kind in CHANGES for event in world.events.of(kind, "s")]
    found = {event.id: read_change("s", kind, event.data) for kind, event in told}
    return tuple(sorted(found.values(), key=lambda each: each.generation))


async def audited(world: World) -> dict[float, tuple[str, str | None]]:
    """Verdicts of the first minutes by what is told of definitions alone: nothing is on record of any occurrence."""
    mark, now = await world.mark(), world.clock.now()
    case = Case(changes=changes(world), on_its_way=OnItsWay(planned_until=mark.until, applied=mark.applied), now=now)
    return {
        (each.nominal_at - START).total_seconds(): (each.verdict, each.reason)
        for each in judged(case, START, START + 5 * MINUTE)
    }


@pytest.mark.parametrize("end", ["edited", "deleted", "invalid"])
async def test_what_it_owed_is_superseded(end: str) -> None:
    """Each nominal time up to the write that took its place, and by that one; then the newest says what is owed."""
    world = World()
    await applied_once(world)
    async with following(world) as replica:
        await world.clock.advance(29.5)
        world.put("s", every="20s")
        await world.clock.advance(60)
        if end == "deleted":
            world.delete("s")
        elif end == "invalid":
            world.put_raw("s", b"{")
        await world.clock.advance(30)
        world.put("s", manual=True)
        await lead(replica)
    last = 80 if end != "edited" else 120
    assert await audited(world) == dict.fromkeys(map(float, range(40, last + 1, 20)), ("superseded", end))
    assert [each.applied_until for each in changes(world)[1:]] == [1] * (2 if end == "edited" else 3)


async def test_at_any_revision_that_counts_as_applied() -> None:
    """However far R has come among several that were never applied: none of them was planned."""
    world = World()
    await applied_once(world)
    async with following(world) as replica:
        for every in ("10s", "20s"):
            await world.clock.advance(40)
            world.put("s", every=every)
        await world.clock.advance(30)
        world.put("s", manual=True)
        await lead(replica)
    told = changes(world)
    assert [each.generation for each in told] == [1, 2, 3, 4]
    for applied in range(1, 5):
        way = OnItsWay(planned_until=at(1000), applied=applied)
        found = judged(Case(changes=told, on_its_way=way, now=world.clock.now()), START, START + 3 * MINUTE)
        assert {each.verdict for each in found} == {"superseded"}, applied


async def test_what_owed_nothing_is_not_told() -> None:
    """A storm of edits costs one event for each that anybody could have missed something of."""
    world = World()
    await applied_once(world)
    async with following(world) as replica:
        for _ in range(50):
            world.put("s", every="1m")
            await world.clock.advance(0.1)
        await lead(replica)
    assert [each.generation for each in changes(world)] == [1, 51]


async def test_what_was_applied_is_told_once() -> None:
    """A follower remembers what was replaced, applied or not; as the leader it tells of what nobody did."""
    world = World()
    await world.clock.advance(HALF)
    async with following(world) as replica:
        async with PlanningReplica(world) as leader:
            for every in ("2s", "3s", "4s"):
                world.put("s", every=every)
                await leader.plans()
                await world.clock.advance(10)
        before = len(world.events.of("applied", "s"))
        world.put("s", every="5s")
        await lead(replica)
    assert (before, len(world.events.of("applied", "s"))) == (3, 4)


async def test_a_one_shot_is_owed_by_whoever_has_it_last() -> None:
    """That the edit before had it, too, is no reason to take it for dealt with: it was never applied."""
    world = World()
    await applied_once(world)
    async with following(world) as replica:
        world.put("s", at=instant(5))
        await world.clock.advance(8)
        world.put("s", at=instant(5), payload=1)
        await world.clock.advance(8)
        await lead(replica)
        await world.clock.advance(2)
    assert [each.generation for each in changes(world)] == [1, 2, 3]
    assert world.due()["s"] == [at(5)]
    assert await audited(world) == {5: ("unexplained", None)}, "it is the last one that owes it: here nobody dispatches"


@pytest.mark.parametrize(("bound", "most"), [("REPLACED_MAX", 3), ("REPLACED_BYTES_MAX", 3 * 41)])
async def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    """Of more than fit, by number and by size, the oldest are forgotten, and what they owed with them."""
    monkeypatch.setattr(schedules, bound, most)
    world = World()
    await applied_once(world)
    async with following(world) as replica:
        for _ in range(6):
            world.put("s", every="1s")
            await world.clock.advance(2)
        await lead(replica)
    assert [each.generation for each in changes(world)] == [1, 4, 5, 6, 7]
