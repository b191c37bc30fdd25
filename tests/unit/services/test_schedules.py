"""The schedules in memory: what is valid, what is not, what changed, and what was deleted while nobody told us."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

from scheduler.core import zones
from scheduler.core.errors import InvalidArgument, NotFound, Unavailable
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.services import schedules
from scheduler.services.schedules import OUT_OF_TOUCH_S, Known, ScheduleCache, require_valid
from scheduler.wire.schedule import ScheduleLimits


class Stage:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.bucket = MemoryBucket(self.server, "schedd-schedules")
        self.own = self.bucket.replica()
        self.cache = ScheduleCache(self.own, self.clock, ScheduleLimits())

    def put(self, key: str, **definition: Any) -> int:
        body = {"every": "1s", "queue": "Q", "type": "t", **definition}
        return self.bucket.put_raw(key, msgspec.json.encode(body))

    def delete(self, key: str) -> int:
        return self.bucket.put_raw(key, b"", {"KV-Operation": "DEL"})

    async def fresh(self) -> int:
        asking = asyncio.create_task(self.cache.fresh())
        await self.clock.advance(0.2)
        return await asking

    def known(self, key: str) -> Known:
        found = self.cache.get(key)
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"", ""),
        (b"\xff\xfe\x00 garbage", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'{"every": "1s"', ""),
        (b"[" * 100_000, ""),
        (b"x" * 2_000_000, ""),
        (b'{"every": "1s", "queue": "Q", "type": "t", "qeue": 1}', "qeue"),
        (b'{"cron": "0 0 30 2 *", "queue": "Q", "type": "t"}', "cron"),
        (b'{"cron": "0 9 * * *", "timezone": "Mars/Base", "queue": "Q", "type": "t"}', "timezone"),
        (b'{"every": "1s", "type": "t"}', "queue"),
    ],
)
async def test_a_bad_value_is_kept_apart(value: bytes, field: str) -> None:
    """It has an error that names the field; every other schedule is as it was; a good value mends it."""
    stage = Stage()
    stage.put("good")
    stage.bucket.put_raw("bad", value)
    await stage.cache.start()
    assert stage.known("good").in_force is not None
    bad = stage.known("bad")
    assert bad.in_force is None
    assert bad.error is not None
    assert field in bad.error
    assert len(bad.error) < 500
    assert bad.absent_reason == "invalid"
    assert stage.cache.live_ids() == ["bad", "good"]
    with pytest.raises(InvalidArgument, match="invalid"):
        require_valid(bad, "bad")
    stage.put("bad")
    await stage.fresh()
    assert require_valid(stage.cache.get("bad"), "bad").definition.generation == 3
    await stage.cache.stop()


async def test_a_value_that_breaks_the_parser_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours is one schedule's error, not the end of the mirror."""

    def broken(key: str, *_: object) -> None:
        raise RuntimeError(key)

    stage = Stage()
    monkeypatch.setattr(schedules, "parse_schedule", broken)
    stage.put("a")
    await stage.cache.start()
    assert stage.known("a").error == "cannot be read: RuntimeError"
    monkeypatch.undo()
    stage.put("b")
    await stage.fresh()
    assert stage.known("b").in_force is not None
    await stage.cache.stop()


async def test_keys_that_are_no_schedule_ids() -> None:
    """They are known by name and newest revision, until they are deleted; no schedule comes of them."""
    stage = Stage()
    for key in ("-x", "y-", "z..z"):
        stage.put(key)
    await stage.cache.start()
    stage.put("-x")
    stage.delete("y-")
    await stage.fresh()
    assert stage.cache.invalid_keys == {"-x", "z..z"}
    assert stage.cache.invalid_keys_after(0) == [("z..z", 3), ("-x", 4)]
    assert stage.cache.invalid_keys_after(3) == [("-x", 4)]
    assert list(stage.cache) == []
    assert [known.id for known in stage.cache.markers()] == ["y-"]
    stage.cache.forget("y-", 5)
    assert list(stage.cache.markers()) == []
    await stage.cache.stop()


async def test_a_deleted_schedule_is_remembered_as_such() -> None:
    """Its marker is a change like any other; it is no live id, and may be forgotten at that revision only."""
    stage = Stage()
    stage.put("a")
    await stage.cache.start()
    revision = stage.delete("a")
    await stage.fresh()
    assert (stage.known("a").deleted, stage.known("a").absent_reason) == (True, "deleted")
    assert stage.cache.live_ids() == []
    with pytest.raises(NotFound):
        require_valid(stage.cache.get("a"), "a")
    stage.cache.forget("a", revision - 1)
    assert stage.cache.get("a") is not None
    stage.cache.forget("a", revision)
    assert stage.cache.get("a") is None
    stage.put("a")
    await stage.fresh()
    stage.cache.forget("a", stage.known("a").revision)
    assert stage.cache.get("a") is not None, "what is alive is not forgotten"
    await stage.cache.stop()


@pytest.mark.parametrize("changes_max", [100_000, 7])
async def test_what_changed_after_any_revision(monkeypatch: pytest.MonkeyPatch, changes_max: int) -> None:
    """Every key whose newest write is later, in order, whether the recent changes reach back that far or not."""
    monkeypatch.setattr(schedules, "CHANGES_MAX", changes_max)
    dice, stage = random.Random(1), Stage()
    for _ in range(10):
        stage.put(f"s{dice.randrange(6)}")
    await stage.cache.start()
    for _ in range(30):
        key = f"s{dice.randrange(6)}"
        stage.delete(key) if dice.random() < 0.3 else stage.put(key)
        await stage.fresh()
    newest = {known.id: known.revision for known in stage.cache}
    for revision in range(42):
        expected = sorted((written, key) for key, written in newest.items() if written > revision)
        assert [(known.revision, known.id) for known in stage.cache.changed_after(revision)] == expected
    await stage.cache.stop()


async def test_a_deletion_that_was_never_heard_of() -> None:
    """Cut off until the marker itself was removed from the bucket: once back, the schedule is gone here as well."""
    stage = Stage()
    stage.put("gone")
    stage.put("kept")
    stage.bucket.put_raw("-gone-", b"{}")
    await stage.cache.start()
    stage.own.stall_watches()
    await stage.bucket.expire(stage.delete("gone"))
    await stage.bucket.expire(stage.delete("-gone-"))
    stage.put("new")
    await stage.clock.advance(OUT_OF_TOUCH_S - 60)
    await stage.fresh()
    assert stage.cache.get("gone") is not None, "not out of touch for long enough to look"
    await stage.clock.advance(OUT_OF_TOUCH_S + 1)
    stage.own.fail_next(Unavailable("still away"))
    with pytest.raises(Unavailable):
        await stage.fresh()
    assert await stage.fresh() == 6
    assert stage.cache.live_ids() == ["kept", "new"]
    assert stage.cache.invalid_keys == frozenset()
    await stage.cache.stop()


async def test_what_is_put_while_the_keys_are_listed_is_kept() -> None:
    """Back after long, with new schedules coming in at that very moment."""
    stage = Stage()
    stage.put("kept")
    await stage.cache.start()
    await stage.clock.advance(OUT_OF_TOUCH_S + 1)
    original = stage.own.keys

    async def keys(pattern: str = ">") -> list[str]:
        found = await original(pattern)
        stage.put("late")
        await stage.clock.settle()
        return found

    stage.own.keys = keys  # type: ignore[method-assign]  # a bucket that is written to meanwhile
    assert await stage.fresh() == 1
    assert stage.cache.live_ids() == ["kept", "late"]
    await stage.cache.stop()


@pytest.mark.parametrize("definition", [{"timezone": "Asia/Tokyo"}, {"cron": "CRON_TZ=Asia/Tokyo 0 9 * * *"}])
async def test_a_zone_that_vanishes_takes_only_its_schedules(
    definition: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica whose tzdata has a zone no more keeps the schedules in it apart, with the reason; others go on."""
    before = Stage()
    for stage in (before, Stage()):
        for key, more in (("here", definition), ("there", {"timezone": "Europe/Berlin"})):
            body = {"cron": "0 9 * * *", "queue": "Q", "type": "t", **more}
            stage.bucket.put_raw(key, msgspec.json.encode(body))
        await stage.cache.start()
        assert stage.known("there").in_force is not None
        if stage is before:
            assert stage.known("here").in_force is not None
            monkeypatch.setattr(zones, "zone_names", lambda: frozenset({"UTC", "Europe/Berlin"}))
    assert stage.known("here").in_force is None
    assert "'Asia/Tokyo' is not a time zone of tzdata" in str(stage.known("here").error)
