"""The dispatcher and what is late: noted for the leader, durably, once per schedule; records go on as always."""

from __future__ import annotations

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import State
from scheduler.core.model.status import Deciding, StatusRow
from scheduler.wire.instants import format_instant
from tests.unit.services.dispatch_stage import Dispatching, due, due_left, id_of, nominal, put, states
from tests.unit.services.tracking_stage import Tripwire, World


async def test_what_is_late_is_left_to_the_leader() -> None:
    """No record; the oldest is noted in the row, with one write for all of a batch, and the messages are gone."""
    world = World()
    put(world)
    put(world, "b")
    for seconds in (3, 1, 2):
        due(world, seconds)
    due(world, 2, "b")
    await world.clock.advance(60)
    async with Dispatching(world) as replica:
        await replica.run()
    assert (await world.row()).late_from == nominal(1)
    assert (await world.row("b")).late_from == nominal(2)
    assert await states(world) == {}
    assert due_left(world) == []
    assert world.status.stream.last_seq == 2


async def test_a_late_one_that_has_a_record_goes_on() -> None:
    """A replica had claimed it and died: however late, it is rolled forward to its task."""
    world = World()
    put(world)
    for count in range(1, 30):
        async with Dispatching(world, Tripwire(count)) as doomed:
            due(world, count)
            await doomed.run(1)
        claimed = [key for key, state in (await states(world)).items() if state is State.CLAIMED]
        if claimed:
            break
    assert claimed
    await world.clock.advance(120)
    async with Dispatching(world) as replica:
        await replica.run()
    assert (await states(world))[claimed[0]] is State.QUEUED
    assert due_left(world) == []


async def test_what_is_decided_is_only_acknowledged() -> None:
    """In a catch-up that is fixed or carried out: no record, no note; beside it: noted."""
    world = World()
    put(world)
    async with Dispatching(world) as replica:
        decided = StatusRow(
            decided_from=nominal(5), decided=nominal(9), deciding=Deciding(nominal(20), nominal(22), nominal(40))
        )
        await replica.rows.change({"a": lambda _: decided})
        for seconds in (5, 7, 9, 20, 21, 22):
            due(world, seconds)
        await world.clock.advance(60)
        await replica.run()
        assert await replica.rows.get("a") == decided
        assert (await states(world), due_left(world)) == ({}, [])
        due(world, 4)
        await replica.run()
    assert (await world.row()).late_from == nominal(4)


async def test_a_note_that_cannot_be_written_comes_again() -> None:
    """The row's bucket is away: the message is handed back, and noted when it is there."""
    world = World()
    put(world)
    due(world, 1)
    await world.clock.advance(60)
    async with Dispatching(world) as replica, replica.running():
        replica.rows.bucket._port.fail_next(*[Unavailable("electing")] * 3)
        await world.clock.advance(0.5)
        assert due_left(world)
        await world.clock.advance(20)
    assert (await world.row()).late_from == nominal(1)
    assert due_left(world) == []


async def test_an_edit_came_between() -> None:
    """What was late before the definition in force took effect is superseded, on record; a one-shot is owed."""
    world = World()
    put(world)
    put(world, "once", every=None, at=["2026-11-21T00:00:00Z"])
    await world.clock.advance(60)
    due(world, 5)
    put(world, payload=1)
    put(world, "once", every=None, at=[format_instant(nominal(5))])
    due(world, 5, "once")
    async with Dispatching(world) as replica:
        await replica.run()
    assert await states(world) == {id_of(5): State.SUPERSEDED}
    assert (await world.record(id_of(5))).reason == "edited"
    assert (await world.row()).late_from is None
    assert (await world.row("once")).late_from == nominal(5)
