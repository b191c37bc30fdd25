"""The copy of the watermark: written by the leader, read by whoever leads after the timeline was lost."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.triggers import EPOCH
from scheduler.memory.clock import START
from scheduler.ports.timeline import Watermark
from scheduler.services.leader import Deposed
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.names import WATERMARK_KEY
from tests.unit.services.housekeeping_stage import House
from tests.unit.services.planning_world import World


async def test_the_copy_follows_the_watermark() -> None:
    """Every few seconds, with the epoch and the first start, which stays what it was."""
    world = World()
    house = House(world)
    first = await house.copy.first()
    await world.clock.advance(5)
    async with house.lead() as tenure:
        await world.clock.advance(1)
        tenure.office = msgspec.structs.replace(tenure.office, watermark=Watermark(START + timedelta(minutes=2), 7, 3))
        await world.clock.advance(10)
        assert await house.copied() == {
            "until": format_instant(START + timedelta(minutes=2)),
            "applied": 7,
            "calendars": 3,
            "epoch": tenure.office.epoch,
            "since": format_instant(first.until),
        }
        assert await house.copy.applied() == 7


async def test_without_any_watermark_it_begins_now_and_remembers_when() -> None:
    """A first start: nothing is planned before it, whoever of the first leaders dies, and `since` never moves."""
    world = World()
    house = House(world)
    assert await house.copy.since() == EPOCH
    assert await house.copy.first() == Watermark(START)
    await world.clock.advance(30)
    other = House(world)
    assert await other.copy.first() == Watermark(START)
    assert await other.copy.since() == START


async def test_a_first_start_is_noted_before_anybody_leads() -> None:
    """What is put between the start of the first replica and its taking office is owed; a later start notes nothing."""
    world = World()
    house = House(world)
    world.server.down = True
    await house.copy.begin(world.timeline)
    world.server.down = False
    await house.copy.begin(world.timeline)
    await world.clock.advance(3)
    await House(world).copy.begin(world.timeline)
    assert await house.copy.first() == Watermark(START)
    async with house.lead(await house.copy.first()):
        await world.clock.advance(1)
    await world.control.delete(WATERMARK_KEY)
    await house.copy.begin(world.timeline)
    assert await house.copy.since() == EPOCH


async def test_a_lost_timeline_is_planned_again_from_when_the_copy_was_written() -> None:
    """What the copy says is planned beyond its own age may not have fired; edits are taken as it says."""
    world = World()
    house = House(world)
    async with house.lead(Watermark(START + timedelta(minutes=2), 7)):
        await world.clock.advance(25)
    copied_at = START + timedelta(seconds=20)
    await world.clock.advance(300)
    assert await house.copy.first() == Watermark(copied_at, 7)


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"\xff", b'{"applied": 5}', b'{"until": "tomorrow"}', b'{"until": 5}', b"[" * 100_000],
)
async def test_a_copy_that_cannot_be_read_is_none(value: bytes) -> None:
    """It is ours to rebuild: planning begins now, and the next copy is good."""
    world = World()
    house = House(world)
    world.control.put_raw(WATERMARK_KEY, value)
    assert await house.copy.since() == EPOCH
    assert await house.copy.first() == Watermark(START)
    assert parse_instant((await house.copied())["since"]) == START
    async with house.lead():
        await world.clock.advance(1)
        assert (await house.copied())["epoch"] > 0


async def test_two_first_leaders_note_one_start() -> None:
    """Of two that find nothing at once one is told to look again."""
    world = World()
    one, other = House(world), House(world)
    one.process.on_call = lambda name: world.control.put_raw(WATERMARK_KEY, b"") if name == "put" else None
    with pytest.raises(Unavailable, match="another replica"):
        await one.copy.first()
    assert await other.copy.first() == Watermark(START)


async def test_a_stalled_leader_does_not_overwrite_the_copy_of_a_later_term() -> None:
    """Stopped between check and write, it finds another's epoch, or loses the compare-and-set."""
    world = World()
    old, new = House(world), House(world)
    async with old.lead() as stale:
        await world.clock.advance(1)
        old.process.stop()
        async with new.lead() as current:
            await world.clock.advance(15)
            old.process.cont()
            with pytest.raises(Deposed):
                await old.copy.keep(stale)
            assert (await new.copied())["epoch"] == current.office.epoch


async def test_an_outage_does_not_end_the_term() -> None:
    """What cannot be copied now is copied later."""
    world = World()
    house = House(world)
    async with house.lead(Watermark(START, 9)):
        world.server.down = True
        await world.clock.advance(60)
        world.server.down = False
        await world.clock.advance(11)
        assert (await house.copied())["applied"] == 9
