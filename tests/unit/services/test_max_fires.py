"""max_fires: exact whoever counts, dies and repeats; once reached nothing is armed, until an edit raises it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from msgspec import structs

from scheduler.core.model.execution import State
from scheduler.core.model.status import StatusRow
from scheduler.wire.status import encode_status
from tests.unit.services.dispatch_stage import Dispatching, due, finish, put, states
from tests.unit.services.planning_world import PlanningReplica
from tests.unit.services.planning_world import World as PlanningWorld
from tests.unit.services.tracking_stage import Tripwire, World

N = 5


async def fired(world: PlanningWorld, schedule_id: str, count: int) -> None:
    """As if so many had got their slots."""
    row = await world.row(schedule_id) or StatusRow()
    await world.status.put(schedule_id, encode_status(structs.replace(row, fires=count)))


async def shown(world: PlanningWorld, schedule_id: str) -> str | None:
    row = await world.row(schedule_id)
    return None if row is None else row.state.value


async def test_a_spent_schedule_is_disarmed() -> None:
    """Its arms go, its row says exhausted, the others' stay; time passes and nothing of it is armed."""
    world = PlanningWorld()
    async with PlanningReplica(world) as replica:
        world.put("a", every="1s", max_fires=3)
        world.put("b", every="1s", max_fires=9)
        await replica.plans()
        assert len(world.armed()["a"]) > 3
        await fired(world, "a", 3)
        await world.clock.advance(4)
        assert not world.armed().get("a")
        assert len(world.armed()["b"]) > 3
        assert (await shown(world, "a"), await shown(world, "b")) == ("exhausted", "active")
        await world.clock.advance(30)
        assert not world.armed().get("a")


async def test_an_edit_that_raises_it_goes_on() -> None:
    """The count survives edits: raised, it fires again; an edit that leaves it, or lowers it, does not."""
    world = PlanningWorld()
    async with PlanningReplica(world) as replica:
        world.put("a", every="1s", max_fires=3)
        await replica.plans()
        await fired(world, "a", 3)
        await world.clock.advance(4)
        for most, is_armed in ((3, False), (5, True), (2, False), (None, True)):
            world.put("a", every="2s", **({} if most is None else {"max_fires": most}))
            await replica.plans()
            assert bool(world.armed().get("a")) is is_armed, most
            assert await shown(world, "a") == ("active" if is_armed else "exhausted")


async def test_a_new_leader_reads_the_rows() -> None:
    """What was spent before its term is not armed by it."""
    world = PlanningWorld()
    async with PlanningReplica(world) as first:
        world.put("a", every="1s", max_fires=3)
        await first.plans()
    await fired(world, "a", 3)
    async with PlanningReplica(world) as successor:
        await successor.plans()
        await world.clock.advance(3)
        assert not world.armed().get("a")
        assert await shown(world, "a") == "exhausted"


@pytest.mark.parametrize("policy", ["allow", "skip", "buffer_all", "latest"])
async def test_the_surplus_is_skipped(policy: str) -> None:
    """What comes due before it is disarmed: skipped, max_fires; skipped ones and manual runs do not count."""
    world = World()
    put(world, overlap=policy, max_fires=2)
    for number in range(N):
        due(world, number - N)
        async with Dispatching(world) as replica:
            await replica.run(1)
        await finish(world)
    found = list((await states(world)).values())
    assert (found.count(State.SUCCEEDED), found.count(State.SKIPPED)) == (2, 3)
    assert (await world.row()).fires == 2
    async with Dispatching(world) as replica:
        await replica.settlement.flush()
    assert (await world.row()).fires == 2


@pytest.mark.parametrize("late", [False, True])
async def test_the_dispatcher_dies(late: bool) -> None:
    """Before or after each of its calls: repeats do not count, exactly two fire."""
    at = 0
    while True:
        at += 1
        world, wire = World(), Tripwire(late=late)
        put(world, overlap="allow", max_fires=2)
        async with Dispatching(world, wire) as doomed:
            wire.count, wire.at = 0, at
            for number in range(N):
                due(world, number - N)
            with contextlib.suppress(asyncio.CancelledError):
                await doomed.dispatcher.dispatch(
                    [doomed.timeline._port._read(each) for each in world.server.due.take(N)]
                )
        died = wire.tripped
        async with Dispatching(world) as heir:
            await heir.run(25)
        found = list((await states(world)).values())
        assert (found.count(State.QUEUED), found.count(State.SKIPPED)) == (2, 3), at
        assert (await world.row()).fires == 2
        if not died:
            break
    assert at > 6
