"""The planner against its successors: whoever dies where, all is armed once, and nothing of yesterday."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from scheduler.core.errors import Unavailable, Unsure
from tests.unit.services.planning_world import (
    HALF,
    HORIZON,
    SECOND,
    PlanningReplica,
    World,
    check_mark,
    instant,
    planned_world,
)


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
    assert number > 20


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
    assert number > 20


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
    assert number > 20


def meddle(world: World) -> None:
    world.put("edited", every="2s")
    world.delete("every")
    world.put("later", cron="*/3 * * * * *")
    world.put("broken", every="2s")
    world.put("new", every="2s", paused=True)


def at_call(replica: PlanningReplica, number: int, do: Callable[[], object]) -> Callable[[str], object]:
    return lambda _: do() if replica.process.calls == number else None


async def test_any_history_keeps_the_watermark_true() -> None:
    """Edits, deaths, faults and outages at random: after every single batch, what the watermark says is applied and
    planned is exactly what is armed. Sometimes: leaders die, batches are refused, slices are large."""
    deaths = commits = 0
    for seed in range(30):
        dice, world = random.Random(seed), World()
        await world.clock.advance(HALF)
        for number in range(12):
            world.put(f"s{number}", **definition(dice))
        for _ in range(dice.randint(2, 5)):
            leader = PlanningReplica(world, kill_at=dice.choice([0, dice.randint(1, 120)]), late=dice.random() < 0.5)
            leader.process.on_call = partial(intervene, dice, world)
            leader.after_commit = partial(check_mark, world)
            async with leader:
                for _ in range(dice.randint(1, 12)):
                    world.server.down = dice.random() < 0.1
                    await world.clock.advance(dice.choice([0.05, 0.3, 1.0, 2.5]))
                world.server.down = False
                await world.clock.advance(0.5)
                commits += leader.commits
                deaths += leader.process.is_dead
            await world.clock.advance(dice.choice([0.0, 0.3, 1.0]))
        await finish(world)
        await check_mark(world)
    assert deaths > 20
    assert commits > 500


def definition(dice: random.Random) -> dict[str, Any]:
    when: list[dict[str, Any]] = [
        {"every": f"{dice.randint(1, 4)}s"},
        {"cron": f"*/{dice.randint(2, 9)} * * * * *"},
        {"at": sorted({instant(dice.randint(1, 60)) for _ in range(3)})},
        {"manual": True},
    ]
    found = dice.choice(when)
    if dice.random() < 0.2:
        found["paused"] = True
        if dice.random() < 0.5:
            found["paused_until"] = instant(dice.randint(1, 60))
    return found


def intervene(dice: random.Random, world: World, _: str) -> None:
    """Between any two calls of the leader."""
    name = f"s{dice.randrange(14)}"
    what = dice.random()
    if what < 0.04:
        world.put(name, **definition(dice))
    elif what < 0.05:
        world.delete(name)
    elif what < 0.06:
        world.put_raw(name, b"{")
    elif what < 0.065:
        world.server.lose_ack_next()
    elif what < 0.07:
        world.server.land_late(after_s=dice.choice([0.01, 0.3, 2.0]))
    elif what < 0.075:
        world.server.refuse_in_flight_next(dice.randint(1, 3))
