"""Late ones that an edit takes away: superseded by what owed them, once, and nothing forgotten that was not told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scheduler.core.model.status import Deciding, StatusRow
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import START
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.calendars import CalendarCache
from tests.unit.services.dispatch_stage import At, put
from tests.unit.services.late_stage import LateReplica, at, note, ranges, recorded, tell_applied
from tests.unit.services.tracking_stage import Tripwire, World

EVERY = {"every": "1m", "overlap": "allow", "catch_up": {"mode": "all"}}
DELETED = {"KV-Operation": "DEL"}


class Meanwhile(Tripwire):
    """Kills nobody; something happens right after the first call of that name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.happens: Callable[[], Awaitable[object]] | None = None

    async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        result = await super().call(method, *args, **kwargs)
        if method.__name__ == self._name and self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()
        return result


async def late_world() -> World:
    """The minutes 1 to 5 were missed, 20 s have passed since, and it is on record what owed them."""
    world = World()
    put(world, **EVERY)
    await world.clock.advance(320)
    await note(world, 60)
    await tell_applied(world)
    return world


@pytest.mark.parametrize(("value", "reason"), [(b"", "deleted"), (b"{", "invalid"), (None, "edited")])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_an_edit_supersedes_what_is_late(value: bytes | None, reason: str, late: bool) -> None:
    """Edited, deleted or broken before it was decided: one range, once, whoever dies on the way; and nothing fires."""
    for number in range(1, 14):
        world = await late_world()
        if value is None:
            put(world, **EVERY, payload=1)
        else:
            world.schedules.put_raw("a", value, {} if value else DELETED)
        async with LateReplica(world, Tripwire(number, late=late)) as doomed:
            await doomed.lead(0.5)
        async with LateReplica(world) as successor:
            await successor.lead(3)
        assert ranges(world) == [(60, 300, 5, "superseded", reason)]
        assert (await recorded(world), world.tasks()) == ({}, [])
        row = await world.row()
        assert (row.late_from, row.deciding) == (None, None)


async def test_an_edit_that_is_applied_in_the_middle_of_a_look() -> None:
    """What was fixed before it is superseded at the next look, not closed as decided by the new definition, which has
    nothing to say of it."""
    world = await late_world()
    put(world, every=None, manual=True)

    async def applied_meanwhile() -> None:
        tenure.office = Office(7, 1, Watermark(START, 10**9))

    async with LateReplica(world, checkpoints=At("late.disowned", applied_meanwhile)) as leader:
        fixed = Deciding(at(60), at(300), world.clock.now(), 1)
        await leader.rows.change({"a": lambda _: StatusRow(deciding=fixed)})
        tenure = leader.tenure()
        tenure.office = Office(7, 1, Watermark(START, 1))
        await leader.late.decide(["a"], tenure)
        assert (await world.row()).deciding == fixed
        await leader.late.decide(["a"], tenure)
    assert (await world.row()).deciding is None
    assert ranges(world) == [(60, 300, 5, "superseded", "edited")]


async def test_another_edit_while_one_is_told() -> None:
    """What the edit owed itself stays in the row, and is superseded by the next one (seed 266 of upheavals)."""
    world = await late_world()
    put(world, **EVERY, anchor="2026-11-21T08:00:30Z")
    await tell_applied(world)
    await world.clock.advance(100)
    wire = Meanwhile("store")
    async with LateReplica(world, wire) as leader:
        await leader.rows.change({"a": lambda _: StatusRow(late_from=at(60), late_until=at(390))})

        async def deleted() -> None:
            world.schedules.put_raw("a", b"", DELETED)
            await world.clock.advance(0.1)

        wire.happens = deleted
        await leader.late.decide(["a"], leader.tenure())
        row = await world.row()
        assert (row.late_from, row.late_until) == (at(330), at(390))
        await leader.late.decide(["a"], leader.tenure())
    assert ranges(world) == [(60, 300, 5, "superseded", "edited"), (330, 390, 2, "superseded", "deleted")]
    assert (await world.row()).late_from is None


async def test_a_note_while_a_deletion_is_told() -> None:
    """A schedule that is there again may be late soon: what it notes is not forgotten with what was told."""
    world = await late_world()
    world.schedules.put_raw("a", b"", DELETED)
    await tell_applied(world)
    wire = Meanwhile("store")
    async with LateReplica(world, wire) as leader:

        async def noted() -> None:
            put(world, **EVERY)
            await world.clock.advance(100)
            await leader.rows.change({"a": lambda row: StatusRow(late_from=row.late_from, late_until=at(360))})

        wire.happens = noted
        await leader.late.decide(["a"], leader.tenure())
        assert (await world.row()).late_until == at(360)
        await leader.late.decide(["a"], leader.tenure())
    assert {each[:2] for each in ranges(world)} == {(60, 300)}
    assert await recorded(world) == {360: "fired"}


async def test_what_a_note_was_made_under_is_known() -> None:
    """The schedule is proven after the row was read: a leader whose watch lags takes nothing away in ignorance."""
    world = await late_world()
    world.schedules.put_raw("a", b"", DELETED)
    await tell_applied(world)
    async with LateReplica(world) as leader:
        leader.bucket.stall_watches()
        put(world, **EVERY)
        await world.clock.advance(100)
        await leader.rows.change({"a": lambda _: StatusRow(late_from=at(360), late_until=at(360))})
        await asyncio.gather(leader.late.decide(["a"], leader.tenure()), world.clock.advance(30))
    assert (ranges(world), await recorded(world)) == ([], {360: "fired"})


async def test_deleted_and_its_mark_gone() -> None:
    """The mark may go before what was late has its verdict: evidence tells what was deleted, and when."""
    world = await late_world()
    revision = world.schedules.put_raw("a", b"", DELETED)
    await tell_applied(world)
    async with LateReplica(world) as leader:
        leader.schedules.forget("a", revision)
        await world.clock.advance(100)
        await leader.late.decide(["a"], leader.tenure())
    assert ranges(world) == [(60, 300, 5, "superseded", "deleted")]
    assert (await world.row()).late_from is None


async def test_an_edit_of_a_calendar_supersedes_what_is_late() -> None:
    """It is an edit of all who use it: what was late before it is told up to that instant, not up to the last write."""
    world = World()
    calendars = MemoryBucket(world.server, "schedd-calendars")
    calendars.put_raw("x", b'{"dates": ["2027-01-01"]}')
    put(world, **EVERY, exclude=["x"])
    cache = CalendarCache(calendars.replica(), world.clock)
    await world.clock.advance(320)
    await note(world, 60)
    await tell_applied(world, calendars=cache)
    calendars.put_raw("x", b'{"dates": ["2027-01-02"]}')
    async with LateReplica(world, calendars=CalendarCache(calendars.replica(), world.clock)) as leader:
        await leader.late.decide(["a"], leader.tenure())
    assert ranges(world) == [(60, 300, 5, "superseded", "edited")]
    assert (await world.row()).late_from is None
