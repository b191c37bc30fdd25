"""Streams that vanish under running replicas: made anew, definitions put back, nothing overwritten."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from scheduler.core.errors import Unavailable
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.services.calendars import CalendarCache
from scheduler.services.restoring import Restoring
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.schedule import ScheduleLimits

SCHEDULES, CALENDARS, TASKS = "KV_schedd-schedules", "KV_schedd-calendars", "SCHEDD_TASKS"
HELLO = json.dumps({"every": "1m", "queue": "q", "type": "t"}).encode()


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        server = MemoryServer(self.clock)
        self.schedules = MemoryBucket(server, "schedd-schedules")
        self.telemetry = RecordingTelemetry()
        calendars = CalendarCache(MemoryBucket(server, "schedd-calendars"), self.clock)
        self.cache = ScheduleCache(self.schedules.replica(), self.clock, ScheduleLimits(), calendars)
        self.born: dict[str, str | None] = dict.fromkeys((SCHEDULES, CALENDARS, TASKS), "monday")
        self.restoring = Restoring(
            births=self.births, ensure=self.ensure, schedules=self.cache, calendars=calendars,
            clock=self.clock, telemetry=self.telemetry,
        )  # fmt: skip

    async def births(self) -> dict[str, str | None]:
        return dict(self.born)

    async def ensure(self) -> list[str]:
        gone = [name for name, born in self.born.items() if born is None]
        self.born |= dict.fromkeys(gone, "tuesday")
        return [f"created stream {name}" for name in gone]

    def lose(self, *, made_by_another: bool = False) -> None:
        """The bucket of the schedules, and with `made_by_another` it is back already."""
        self.schedules.stream.lose(10_000)
        self.born[SCHEDULES] = "tuesday" if made_by_another else None

    async def live(self) -> dict[str, bytes]:
        found = await self.schedules.get_many(await self.schedules.keys())
        return {entry.key: entry.value for entry in found if entry is not None and not entry.deleted}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    for key, value in (("a", HELLO), ("b.c", HELLO), ("typo", b'{"evry": 1}'), ("gone", HELLO)):
        made.schedules.put_raw(key, value)
    await made.schedules.delete("gone")
    await made.cache.start()
    await made.restoring.look()
    yield made
    await made.cache.stop()


@pytest.mark.parametrize("made_by_another", [False, True])
async def test_definitions_are_put_back(world: World, made_by_another: bool) -> None:
    """All that were there as they were, invalid ones too, deleted ones not; whoever made the bucket anew."""
    before = await world.live()
    world.lose(made_by_another=made_by_another)
    await world.restoring.look()
    assert await world.live() == before
    assert set(before) == {"a", "b.c", "typo"}
    assert world.born[SCHEDULES] == "tuesday"
    assert world.telemetry.count("repaired", kind="consumers") == 1
    revision = await world.schedules.last_revision()
    await world.restoring.look()
    assert await world.schedules.last_revision() == revision


async def test_what_was_put_meanwhile_stays(world: World) -> None:
    """Somebody who was faster, a person or another replica, is not overwritten."""
    world.lose(made_by_another=True)
    world.schedules.put_raw("a", b'{"every": "5m", "queue": "q", "type": "t"}')
    await world.restoring.look()
    assert json.loads((await world.live())["a"])["every"] == "5m"
    assert set(await world.live()) == {"a", "b.c", "typo"}


async def test_it_goes_on_after_a_failure(world: World) -> None:
    """What could not be put back is put back by the next look."""
    before = await world.live()
    world.lose()
    world.cache.mirror.bucket.fail_next(Unavailable("electing"))  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        await world.restoring.look()
    await world.restoring.look()
    assert await world.live() == before


async def test_a_start_puts_nothing_back(world: World) -> None:
    """What it has never seen before it takes as it is: an empty bucket at the start is empty."""
    world.lose(made_by_another=True)
    fresh = Restoring(
        births=world.births, ensure=world.ensure, schedules=world.cache, calendars=world.restoring._calendars,
        clock=world.clock, telemetry=world.telemetry,
    )  # fmt: skip
    await fresh.look()
    assert await world.live() == {}


async def test_other_streams_are_made_anew(world: World) -> None:
    """Asked by the reconciler: the names of what was made, or repaired, come back."""
    world.born[TASKS] = None
    await world.restoring.restored()
    assert world.born[TASKS] == "tuesday"
