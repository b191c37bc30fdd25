"""Streams that vanish under running replicas: made anew, definitions put back, nothing overwritten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar

import pytest

from scheduler.core.errors import ScheddError, Unavailable
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.stores import StreamSeen, Write
from scheduler.services.calendars import CalendarCache
from scheduler.services.executions import ExecutionIndex
from scheduler.services.lost_tasks import LostTasks
from scheduler.services.restoring import Restoring
from scheduler.services.schedules import OUT_OF_TOUCH_S, ScheduleCache
from scheduler.wire.keys import CUT_KEY
from scheduler.wire.schedule import ScheduleLimits

SCHEDULES, CALENDARS, TASKS = "KV_schedd-schedules", "KV_schedd-calendars", "SCHEDD_TASKS"
EXECUTIONS = "KV_schedd-executions"
HELLO = json.dumps({"every": "1m", "queue": "q", "type": "t"}).encode()
RECORD = {
    "id": "s.20260101T000000000Z", "schedule": "s", "generation": 1, "epoch": 1, "kind": "auto", "max_tries": 1,
    "nominal_at": "2026-01-01T00:00:00.000Z", "fire_at": "2026-01-01T00:00:00.000Z", "queue": "q", "type": "t",
    "payload": None, "headers": {}, "attempt": 0, "drive": 1, "attempts_before": 0, "history": [],
}  # fmt: skip

T = TypeVar("T")


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        server = MemoryServer(self.clock)
        self.schedules = MemoryBucket(server, "schedd-schedules")
        self.telemetry = RecordingTelemetry()
        calendars = CalendarCache(MemoryBucket(server, "schedd-calendars"), self.clock)
        self.cache = ScheduleCache(self.schedules.replica(), self.clock, ScheduleLimits(), calendars)
        self.born: dict[str, str | None] = dict.fromkeys((SCHEDULES, CALENDARS, TASKS, EXECUTIONS), "monday")
        self.executions = MemoryBucket(server, "schedd-executions")
        self.index = ExecutionIndex(self.executions.replica(), self.clock, self.telemetry)
        self.calendars = calendars
        self.lost_tasks, self.tasks_last = LostTasks(), 0
        self.reconnects = 0
        self.raised: list[tuple[str, int]] = []
        self.restoring = self.restore()

    def restore(self) -> Restoring:
        return Restoring(
            births=self.births,
            ensure=self.ensure,
            raise_above=self.raise_above,
            reconnects=lambda: self.reconnects,
            schedules=self.cache,
            calendars=self.calendars,
            index=self.index,
            lost_tasks=self.lost_tasks,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    async def births(self) -> dict[str, StreamSeen | None]:
        last = {
            SCHEDULES: await self.schedules.last_revision(),
            EXECUTIONS: await self.executions.last_revision(),
            TASKS: self.tasks_last,
        }
        return {name: born and StreamSeen(born, last.get(name, 0)) for name, born in self.born.items()}

    async def raise_above(self, stream: str, above: int) -> int:
        if stream == TASKS:
            self.tasks_last = above + 1
            return 1
        bucket = {SCHEDULES: self.schedules, EXECUTIONS: self.executions}[stream]
        self.raised.append((stream, above))
        while await bucket.last_revision() <= above:
            await bucket.delete(CUT_KEY)
        return 1

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
    await look(world)
    assert await world.live() == before
    assert set(before) == {"a", "b.c", "typo"}
    assert world.born[SCHEDULES] == "tuesday"
    assert world.telemetry.count("repaired", kind="consumers") == 1
    revision = await world.schedules.last_revision()
    await look(world)
    assert await world.schedules.last_revision() == revision


async def test_what_was_put_meanwhile_stays(world: World) -> None:
    """Somebody who was faster, a person or another replica, is not overwritten."""
    world.lose(made_by_another=True)
    world.schedules.put_raw("a", b'{"every": "5m", "queue": "q", "type": "t"}')
    await look(world)
    assert json.loads((await world.live())["a"])["every"] == "5m"
    assert set(await world.live()) == {"a", "b.c", "typo"}


async def test_who_puts_between_the_look_and_the_repair_stays(world: World) -> None:
    """A definition of now stands over the one from memory, which is on its way already."""
    world.lose()
    bucket = world.cache.mirror.bucket
    put_many = bucket.put_many

    async def overtaken(writes: Sequence[Write]) -> list[int | ScheddError]:
        world.schedules.put_raw("a", b'{"every": "5m", "queue": "q", "type": "t"}')
        return await put_many(writes)

    bucket.put_many = overtaken  # type: ignore[method-assign]  # the very order
    await look(world)
    assert json.loads((await world.live())["a"])["every"] == "5m"
    assert set(await world.live()) == {"a", "b.c", "typo"}


async def test_who_is_behind_for_a_moment_has_lost_nothing(world: World) -> None:
    """A node that was just elected tells of fewer writes than there were, and a second later of all of them."""
    births, told = world.births, [StreamSeen("monday", 1)]

    async def behind() -> dict[str, StreamSeen | None]:
        return await births() | ({SCHEDULES: told.pop()} if told else {})

    world.restoring._births = behind
    await look(world)
    assert told == []
    assert (world.raised, world.telemetry.count("repaired", kind="consumers")) == ([], 0)


async def test_it_goes_on_after_a_failure(world: World) -> None:
    """What could not be put back is put back by the next look."""
    before = await world.live()
    world.lose()
    world.cache.mirror.bucket.fail_next(Unavailable("electing"))  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        await look(world)
    await look(world)
    assert await world.live() == before


async def test_what_was_deleted_while_we_were_away_stays_deleted(world: World) -> None:
    """Its mark was removed before we were back: the bucket has lost nothing, our memory is old."""
    world.schedules.stall_watches()
    await world.schedules.delete("a")
    marker = await world.schedules.get("a")
    assert marker is not None
    await world.schedules.expire(marker.revision)
    world.schedules.put_raw("later", HELLO)
    await world.clock.advance(OUT_OF_TOUCH_S + 1)
    world.reconnects += 1
    await timely(world, world.restoring.look())
    assert set(await world.live()) == {"b.c", "typo", "later"}
    assert world.raised == []
    assert world.cache.get("a") is None


async def test_a_start_puts_nothing_back(world: World) -> None:
    """What it has never seen before it takes as it is: an empty bucket at the start is empty."""
    world.lose(made_by_another=True)
    await world.restore().look()
    assert await world.live() == {}


async def test_other_streams_are_made_anew(world: World) -> None:
    """Asked by the reconciler: the names of what was made, or repaired, come back."""
    world.born[TASKS] = None
    await world.restoring.restored()
    assert world.born[TASKS] == "tuesday"


async def timely(world: World, answer: Awaitable[T]) -> T:
    """The answer of what may wait a moment, in virtual time."""
    task = asyncio.ensure_future(answer)
    await world.clock.advance(2)
    return await asyncio.wait_for(task, 5)


async def look(world: World) -> None:
    await timely(world, world.restoring.look())


def cut(bucket: MemoryBucket, last: int) -> None:
    """What a server does that finds a damaged block: everything behind it is gone, and its sequences come again."""
    for seq in [each for each in bucket.stream.messages if each > last]:
        bucket.stream.delete(seq)
    bucket.stream.last_seq = last


async def test_a_bucket_that_lost_its_end(world: World) -> None:
    """Definitions behind the damage come back, edits and deletions among them, and above all sequences that were."""
    was = dict(world.schedules.stream.messages), {key: dict(x) for key, x in world.schedules.stream._by_subject.items()}
    await world.clock.advance(1)
    await world.schedules.delete("a")
    world.schedules.put_raw("b.c", b'{"every": "5m", "queue": "q", "type": "t"}')
    world.schedules.put_raw("new", HELLO)
    await timely(world, world.cache.fresh())
    await look(world)
    before, last = await world.live(), await world.schedules.last_revision()
    assert set(before) == {"b.c", "typo", "new"}
    world.schedules.stream.messages = dict(was[0])
    world.schedules.stream._by_subject = dict(was[1])
    world.schedules.stream.last_seq = 5
    await look(world)
    assert await world.live() == before
    assert world.raised == [(SCHEDULES, last + 1000)]
    assert min([entry.revision for entry in await world.schedules.changes_since(5)]) > last
    await timely(world, world.cache.fresh())
    assert world.cache.live_ids() == sorted(before)
    revision = await world.schedules.last_revision()
    await look(world)
    assert await world.schedules.last_revision() == revision, "once is enough"


async def test_what_was_put_with_a_sequence_that_was_given_before(world: World) -> None:
    """After a reconnect: a write that no mirror can hear of, since its sequence is known, is written once more."""
    last = await world.schedules.last_revision()
    await world.clock.advance(1)
    cut(world.schedules, last - 2)
    world.schedules.put_raw("typo", HELLO)  # somebody repairs it right then
    world.schedules.put_raw("other", HELLO)
    assert await world.schedules.last_revision() == last
    assert await timely(world, world.cache.fresh()) == last
    assert world.cache.get("other") is None
    await look(world)
    assert world.cache.get("other") is None, "sequences alone do not tell"
    world.reconnects += 1
    await look(world)
    await timely(world, world.cache.fresh())
    assert (await world.live())["typo"] == HELLO
    assert world.cache.get("other") is not None
    assert world.cache.get("typo").in_force is not None  # type: ignore[union-attr]


async def test_a_gap_in_the_middle(world: World) -> None:
    """After a reconnect a key that is gone without a marker is put back; one that was deleted is not."""
    before = await world.live()
    world.schedules.stream.delete(2)
    world.reconnects += 1
    await look(world)
    assert await world.live() == before
    world.reconnects += 1
    revision = await world.schedules.last_revision()
    await look(world)
    assert await world.schedules.last_revision() == revision


async def test_tasks_that_went_with_the_end_of_their_stream_are_remembered(world: World) -> None:
    """All that may have been given and is lost, and nothing that is left or comes after."""
    world.tasks_last = 120
    await look(world)
    world.tasks_last = 61
    await look(world)
    assert [each in world.lost_tasks for each in (61, 62, 120, 1120, 1121)] == [False, True, True, True, False]


async def test_tasks_that_were_given_since_the_last_look_and_lost(world: World) -> None:
    """No look had seen so many: records tell how far the tasks had come."""
    world.tasks_last = 100
    await look(world)
    world.executions.put_raw(str(RECORD["id"]), json.dumps({**RECORD, "state": "queued", "task_seq": 120}).encode())
    await world.index.start()
    world.tasks_last = 109
    world.reconnects += 1
    await look(world)
    assert [each in world.lost_tasks for each in (109, 110, 1120)] == [False, True, True]
    assert world.tasks_last > 1120


async def test_a_definition_that_nats_does_not_keep_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes each write of that key and drops it: memory still has it, and whoever looks after NATS has to know."""
    put_many = world.cache.mirror.bucket.put_many

    async def forgotten(writes: Any) -> Any:
        results = await put_many(writes)
        world.schedules.stream.delete(world.schedules.stream.last_seq)
        return results

    monkeypatch.setattr(world.cache.mirror.bucket, "put_many", forgotten)
    world.schedules.stream.delete(2)
    world.reconnects += 1
    await look(world)
    (told,) = [each for each in caplog.records if getattr(each, "event", "") == "definitions_not_kept"]
    assert (vars(told)["count"], vars(told)["keys"]) == (1, ["b.c"])
    assert world.cache.get("b.c") is not None


async def _haunted(world: World, *, after: bool = False, forgotten: bool = True) -> None:
    """`gone` was put and deleted, its mark was removed, NATS was killed, and has the value again; `after`: all the rest
    was written before it; `forgotten`: no replica remembers the mark."""
    world.schedules.put_raw("gone", HELLO)
    message = world.schedules.stream.messages[world.schedules.stream.last_seq]
    await world.clock.advance(1)
    revision = await world.schedules.delete("gone")
    if not after:
        world.schedules.put_raw("later", HELLO)
    await timely(world, world.cache.fresh())
    world.restoring._note_calm()
    world.schedules.stream.delete(revision)
    if forgotten:
        world.cache.forget("gone", revision)
    world.schedules.stream.messages[message.seq] = message
    world.schedules.stream._by_subject[message.subject] = {message.seq: None}
    world.reconnects += 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("forgotten", [False, True])
async def test_what_was_deleted_long_ago_is_deleted_again(world: World, after: bool, forgotten: bool) -> None:
    """A crash brought it back, and nothing but its time tells: no sequence is raised for it."""
    await look(world)
    await _haunted(world, after=after, forgotten=forgotten)
    assert "gone" in await world.live()
    await look(world)
    assert "gone" not in await world.live()
    assert world.raised == []
    await timely(world, world.cache.fresh())
    assert "gone" not in world.cache.live_ids()
    revision = await world.schedules.last_revision()
    world.reconnects += 1
    await look(world)
    assert await world.schedules.last_revision() == revision, "a mark over a mark is written by nobody"


async def test_what_is_put_right_after_a_crash_is_no_ghost(world: World) -> None:
    """Under a sequence that was given before, so that no mirror hears of it: it is written anew, not deleted."""
    await look(world)
    world.restoring._note_calm()
    last = await world.schedules.last_revision()
    await world.clock.advance(1)
    cut(world.schedules, last - 3)
    world.schedules.put_raw("other", HELLO)
    for _ in range(3):
        world.schedules.put_raw("later", HELLO)
    await timely(world, world.cache.fresh())
    assert world.cache.get("later") is not None
    world.restoring._note_calm()  # a reconnect that nobody has counted yet
    world.reconnects += 1
    await look(world)
    await timely(world, world.cache.fresh())
    assert (await world.live())["other"] == HELLO
    assert world.cache.get("other") is not None


async def test_executions_that_went_back_are_read_again(world: World) -> None:
    """The index forgets what the bucket lost, and what went back to an earlier state is open again."""
    for state in ("queued", "succeeded"):
        body = {**RECORD, "state": state}
        world.executions.put_raw(str(RECORD["id"]), json.dumps(body).encode())
    await world.index.start()
    assert world.index.open_count == 0
    world.executions.stream.messages = {}
    world.executions.stream._by_subject = {}
    world.executions.stream.last_seq = 0
    world.executions.put_raw(str(RECORD["id"]), json.dumps({**RECORD, "state": "queued"}).encode())
    world.reconnects += 1
    await look(world)
    assert world.index.open_count == 1
    assert await world.executions.last_revision() > 1000
    await world.index.stop()
