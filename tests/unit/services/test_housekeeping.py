"""What is left of deleted schedules and calendars: kept as long as needed, and no longer."""

from __future__ import annotations

import asyncio
from datetime import datetime

from scheduler.core.model.status import StatusRow
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import START
from scheduler.ports.timeline import Watermark
from scheduler.services.housekeeping import MARKERS_MAX
from scheduler.wire.status import encode_status
from tests.unit.services.housekeeping_stage import HOUR, House, markers
from tests.unit.services.planning_world import World


async def test_markers_go_after_an_hour_once_they_are_applied() -> None:
    """Not earlier, not beyond R, those of invalid keys too; what is alive stays."""
    world = World()
    world.put("alive", every="1s")
    for key in ("a", "b"):
        world.put(key, every="1s")
        world.delete(key)
    world.schedules.put_raw("-x", b"{}")
    world.delete("-x")
    applied = world.schedules.stream.last_seq
    world.delete("not-applied")
    house = House(world)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(HOUR - 20)
        assert markers(world) == {"a", "b", "-x", "not-applied"}
        await world.clock.advance(60)
        assert markers(world) == {"not-applied"}
        assert [known.id for known in house.schedules] == ["alive", "not-applied"]


async def test_a_schedule_put_again_keeps_its_place() -> None:
    """Deleted, an hour later put again in the very moment of the housekeeping: it lives."""
    world = World()
    world.put("a", every="1s")
    world.delete("a")
    house = House(world)
    house.process.on_call = lambda name: world.put("a", every="2s") if name == "expire" else None
    async with house.lead(Watermark(START, 2)):
        await world.clock.advance(HOUR + 60)
        assert markers(world) == set()
        assert house.schedules.live_ids() == ["a"]


async def test_a_server_that_crashes_brings_no_schedule_back() -> None:
    """Where a marker was removed there is a marker again, not the definition; its removal was no deletion of its own to
    anybody; and whoever leads after a start removes it again."""
    world = World()
    world.put("a", every="1s")
    world.put("-x", every="1s")
    for key in ("a", "-x"):
        world.delete(key)
    applied = world.schedules.stream.last_seq
    house = House(world)
    for _ in range(2):
        async with house.lead(Watermark(START, applied)):
            await world.clock.advance(HOUR + 60)
            assert await world.schedules.keys() == []
            assert [known.id for known in house.schedules.changed_after(applied)] == []
        assert world.schedules.stream.bring_back() == 2
        assert markers(world) == {"a", "-x"}
        house = House(world)
        await house.schedules.start()
        assert house.schedules.live_ids() == []
        await house.schedules.stop()


async def test_rows_of_deleted_schedules_go_when_they_are_free() -> None:
    """A row with runs stays, and with it the marker; once they have ended, row and markers go, each after its time."""
    world = World()
    world.put("a", every="1s")
    world.delete("a")
    await world.status.put("a", encode_status(StatusRow(active=("a.1",))))
    house = House(world)
    async with house.lead(Watermark(START, 2)):
        await world.clock.advance(3 * HOUR)
        assert await world.row("a") == StatusRow(active=("a.1",))
        assert markers(world) == {"a"}
        await world.status.put("a", encode_status(StatusRow(last_outcome="succeeded")))
        await world.clock.advance(20)
        assert await world.row("a") is None
        assert markers(world) == {"a"}, "whoever follows the rows is told by a marker first"
        await world.clock.advance(HOUR + 30)
        assert await world.status.keys() == []
        assert markers(world) == set()


async def test_rows_in_use_keep_nobody_waiting() -> None:
    """More of them than a round looks at: the markers behind them go all the same."""
    world = World()
    for number in range(MARKERS_MAX + 5):
        world.put(f"busy-{number}", every="1s")
        world.delete(f"busy-{number}")
        await world.status.put(f"busy-{number}", encode_status(StatusRow(active=("x",))))
    for number in range(MARKERS_MAX + 5):
        world.put(f"free-{number}", every="1s")
        world.delete(f"free-{number}")
    house = House(world)
    async with house.lead(Watermark(START, world.schedules.stream.last_seq)):
        await world.clock.advance(HOUR + 60)
        assert {key.partition("-")[0] for key in markers(world)} == {"busy"}


async def test_followers_forget_what_the_leader_removed() -> None:
    """Two hours after a deletion that is applied; one that nobody applied yet is remembered for a successor."""
    world = World()
    for key in ("a", "b"):
        world.put(key, every="1s")
    world.delete("a")
    leader, follower = House(world), House(world)
    await follower.schedules.start()
    async with leader.lead(Watermark(START, 3)):
        world.delete("b")
        following = asyncio.create_task(follower.keeper.follow())
        await world.clock.advance(1.5 * HOUR)
        assert {known.id for known in follower.schedules.markers()} == {"a", "b"}
        await world.clock.advance(HOUR)
        assert {known.id for known in follower.schedules.markers()} == {"b"}
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await follower.schedules.stop()


async def test_what_no_leader_removed_is_known_to_the_next() -> None:
    """Hours without a leader that stayed: a follower that leads at last removes the marker all the same."""
    world = World()
    world.schedules.put_raw("a", b'{"every": "1s", "queue": "q", "type": "t"}')
    await world.schedules.delete("a")
    house = House(world)
    async with house.lead(Watermark(START, world.schedules.stream.last_seq, 0)):
        await world.clock.advance(11)  # the copy says what is applied; the marker is too young to go
    await house.schedules.start()
    following = asyncio.create_task(house.keeper.follow())
    await world.clock.advance(3 * 3600)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert markers(world) == {"a"}
    assert {known.id for known in house.schedules.markers()} == {"a"}
    await house.schedules.stop()


async def test_nothing_is_removed_once_the_term_is_over() -> None:
    """A term that ends in the middle of a round removes nothing more, and is told."""
    world = World()
    for number in range(10):
        world.put(f"s{number}", every="1s")
        world.delete(f"s{number}")
    house = House(world)
    async with house.lead(Watermark(START, 20)) as tenure:
        removed: list[datetime] = []

        def on_call(name: str) -> None:
            if name == "expire":
                removed.append(world.clock.now())
                tenure.end()

        house.process.on_call = on_call
        await world.clock.advance(HOUR + 60)
        assert len(removed) == 1
        assert len(markers(world)) == 9


async def test_markers_of_calendars() -> None:
    """A deleted calendar's marker goes after an hour, once C has passed it; calendars that exist stay."""
    world = World()
    world.calendars = bucket = MemoryBucket(world.server, world.names.calendars)
    await bucket.put("kept", b'{"weekdays": ["sat"]}')
    revision = await bucket.put("gone", b'{"weekdays": ["sun"]}')
    await bucket.delete("gone")
    for applied, left in ((revision, 2), (revision + 1, 1)):
        house = House(world)
        async with house.lead(Watermark(world.clock.now(), 0, applied)):
            await world.clock.advance(2 * HOUR)
        assert len(bucket.stream.messages) == left
    assert house.calendars.live_names() == ["kept"]
    assert house.calendars.get("gone") is None
