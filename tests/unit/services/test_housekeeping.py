"""The copy of the watermark, and what is left of deleted schedules: kept as long as needed, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.model.status import StatusRow
from scheduler.core.triggers import EPOCH
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import START
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.timeline import Watermark
from scheduler.services import one_shots
from scheduler.services.calendars import CalendarCache
from scheduler.services.housekeeping import MARKERS_MAX, Housekeeper
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.one_shots import OneShots
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.watermarks import WatermarkCopy
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.names import WATERMARK_KEY
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.status import encode_status
from tests.unit.services.planning_world import PlanningReplica, World
from tests.unit.services.processes import Process

HOUR = 3600.0


class House:
    """A replica's housekeeper; `lead` and `follow` run it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process(world.clock)
        around = self.process.around
        self.control = world.control.replica()
        self.copy = WatermarkCopy(around(self.control), self.process.clock)
        calendars = world.calendars or MemoryBucket(world.server, world.names.calendars)
        self.calendars = CalendarCache(around(calendars.replica()), self.process.clock)
        self.schedules = ScheduleCache(
            around(world.schedules.replica()), self.process.clock, ScheduleLimits(), self.calendars
        )
        self.executions = MemoryBucket(world.server, world.names.executions)
        bucket, rows = around(world.schedules), StatusRows(around(world.status))
        self.telemetry = RecordingTelemetry()
        self.keeper = Housekeeper(
            copy=self.copy,
            schedules=self.schedules,
            bucket=bucket,
            rows=rows,
            one_shots=OneShots(
                schedules=self.schedules,
                bucket=bucket,
                executions=around(self.executions.replica()),
                rows=rows,
                clock=self.process.clock,
                telemetry=self.telemetry,
                claim_floor_s=1800,
            ),
            clock=self.process.clock,
            every_s=10.0,
        )

    @contextlib.asynccontextmanager
    async def lead(self, mark: Watermark | None = None) -> AsyncIterator[Tenure]:
        await self.schedules.start()
        tenure = await PlanningReplica(self.world).take_office(first=mark)
        tenure.office = msgspec.structs.replace(tenure.office, watermark=mark or tenure.office.watermark)
        task = asyncio.create_task(self.keeper.run(tenure))
        try:
            yield tenure
        finally:
            task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            await self.schedules.stop()
        assert isinstance(end, asyncio.CancelledError | Deposed), end

    async def copied(self) -> dict[str, Any]:
        entry = await self.world.control.get(WATERMARK_KEY)
        assert entry is not None
        found: dict[str, Any] = msgspec.json.decode(entry.value)
        return found


def markers(world: World) -> set[str]:
    """Keys of the schedules bucket that hold a delete marker."""
    prefix = f"$KV.{world.names.schedules}."
    stored = world.schedules.stream.messages.values()
    return {each.subject.removeprefix(prefix) for each in stored if each.headers.get("KV-Operation")}


# --- the copy


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


# --- what is left of deleted schedules


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


# --- one-shots that are over


KEEPS: dict[str, Any] = {"retention": {"age": "2h"}, "catch_up": {"window": "9h"}}
AT = format_instant(START + timedelta(seconds=60))
ONCE: dict[str, Any] = {"at": AT, **KEEPS}
"""Nothing of it is kept for longer than two hours."""


async def test_a_one_shot_goes_when_nothing_of_it_can_come_or_is_left() -> None:
    """After its records, and when it would be too late to fire even if it were put again; counted, as a deletion."""
    world = World()
    world.put("a", **ONCE)
    applied = world.put("alive", every="1h")
    house = House(world)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(60 + 2 * HOUR - 30)
        assert markers(world) == set()
        await world.clock.advance(60)
        assert markers(world) == {"a"}
        assert house.schedules.live_ids() == ["alive"]
        assert house.telemetry.count("dropped", what="schedule", reason="over") == 1


KEPT: dict[str, dict[str, Any]] = {
    "a longer retention": {**ONCE, "retention": {"age": "3h"}},
    "a later instant": {**ONCE, "at": [AT, format_instant(START + timedelta(hours=1))]},
    "a delay": {**ONCE, "start_delay": "1h"},
    "a pause": {**ONCE, "paused": True},
    "a rule that is over": {**KEEPS, "rrule": "FREQ=SECONDLY;COUNT=2", "anchor": AT},
    "by hand only": {**KEEPS, "manual": True},
}


@pytest.mark.parametrize("definition", KEPT.values(), ids=KEPT)
async def test_what_may_still_be_wanted_stays(definition: dict[str, Any]) -> None:
    """What can still fire, is kept for longer, is paused, recurs or waits for somebody to trigger it."""
    world = World()
    applied = world.put("a", **definition)
    house = House(world)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(2 * HOUR + 120)
        known = house.schedules.get("a")
        assert known is not None
        assert known.in_force is not None
        assert markers(world) == set()


async def test_what_is_left_of_a_one_shot_keeps_it() -> None:
    """A record that is there still, a slot, somebody who puts it again at the same moment, an edit nobody applied."""
    world = World()
    for schedule_id in ("recorded", "running", "again"):
        world.put(schedule_id, **ONCE)
    applied = world.schedules.stream.last_seq
    world.put("not-applied", **ONCE)
    house = House(world)
    house.executions.put_raw("recorded.20261121T080100000Z", b"{}")
    running = StatusRow(active=("running.20261121T080100000Z",))
    await StatusRows(world.status).change({"running": lambda _: running})
    house.process.on_call = lambda name: world.put("again", **ONCE) if name == "delete" else None
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(2 * HOUR + 120)
    assert markers(world) == set()
    assert len(await world.schedules.keys()) == 4


async def test_many_that_are_kept_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at in turn, so many each round."""
    monkeypatch.setattr(one_shots, "LOOKED_AT", 3)
    world = World()
    house = House(world)
    for number in range(7):
        world.put(f"a{number}", **ONCE)
        house.executions.put_raw(f"a{number}.20261121T080100000Z", b"{}")
    applied = world.put("b", **ONCE)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(2 * HOUR + 120)
        assert markers(world) == {"b"}
