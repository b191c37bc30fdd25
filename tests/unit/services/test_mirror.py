"""A mirror of a bucket: proven fresh, whatever its watch does."""

from __future__ import annotations

import asyncio
import random
from unittest import mock

import pytest

from scheduler.core.errors import ScheddError, Unavailable, Unsure
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.ports.stores import Entry, Watch
from scheduler.services.mirror import PATIENCE_S, Mirror


class Stage:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.bucket = MemoryBucket(self.server, "schedd-schedules")
        self.own = self.bucket.replica()
        self.applied: list[Entry] = []
        self.mirror = Mirror(self.own, self.clock, self.applied.append)

    @property
    def watch(self) -> Watch | None:
        return self.mirror._watch

    @property
    def values(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for entry in self.applied:
            found[entry.key] = entry.value
            if entry.deleted:
                del found[entry.key]
        return found

    async def fresh(self) -> int:
        asking = asyncio.create_task(self.mirror.fresh())
        await self.clock.advance(PATIENCE_S * 2)
        return await asking


async def test_it_starts_with_everything_and_keeps_up() -> None:
    """What was there, markers included, then every change by the watch, each once and in order."""
    stage = Stage()
    await stage.bucket.put("a", b"1")
    await stage.bucket.delete("b")
    await stage.mirror.start()
    await stage.bucket.put("a", b"2")
    await stage.bucket.put("c", b"1")
    await stage.bucket.delete("c")
    await stage.clock.settle()
    assert stage.values == {"a": b"2"}
    revisions = [entry.revision for entry in stage.applied]
    assert revisions == sorted(set(revisions))
    assert stage.mirror.applied == await stage.bucket.last_revision() == 5
    await stage.mirror.stop()


async def test_fresh_costs_one_read_when_the_watch_keeps_up() -> None:
    """And no waiting: the dispatcher asks before each batch."""
    stage = Stage()
    await stage.bucket.put("a", b"1")
    await stage.mirror.start()
    asking = asyncio.create_task(stage.mirror.fresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asking.done()
    assert await asking == 1
    await stage.mirror.stop()


async def test_fresh_reads_past_a_silent_watch_and_wakes_it() -> None:
    """What was written before the call is applied when it returns, and the watch delivers again afterwards."""
    stage = Stage()
    await stage.mirror.start()
    stage.own.stall_watches()
    await stage.bucket.put("a", b"1")
    await stage.bucket.put("b", b"1")
    await stage.clock.advance(10)
    assert stage.values == {}
    assert await stage.fresh() == 2
    assert stage.values == {"a": b"1", "b": b"1"}
    await stage.bucket.put("a", b"2")
    await stage.clock.settle()
    assert stage.values["a"] == b"2"
    assert [entry.revision for entry in stage.applied] == [1, 2, 3]
    await stage.mirror.stop()


async def test_it_tells_that_something_changed() -> None:
    """Whoever waits for changes wakes, by the watch or by somebody else's `fresh`."""
    stage = Stage()
    await stage.mirror.start()
    stage.mirror.changed.clear()
    await stage.bucket.put("a", b"1")
    await stage.clock.settle()
    assert stage.mirror.changed.is_set()
    stage.mirror.changed.clear()
    stage.own.stall_watches()
    await stage.bucket.put("a", b"2")
    await stage.fresh()
    assert stage.mirror.changed.is_set()
    await stage.mirror.stop()


@pytest.mark.parametrize("problem", [Unavailable("electing"), Unsure("no answer")])
async def test_what_cannot_be_proven_is_not_claimed(problem: ScheddError) -> None:
    """A read that fails fails the call; the next one makes up for it."""
    stage = Stage()
    await stage.mirror.start()
    stage.own.stall_watches()
    await stage.bucket.put("a", b"1")
    stage.own.fail_next(problem)
    with pytest.raises(type(problem)):
        await stage.fresh()
    assert stage.mirror.applied == 0
    assert await stage.fresh() == 1
    assert stage.values == {"a": b"1"}
    await stage.mirror.stop()


async def test_a_node_that_tells_the_past_proves_nothing() -> None:
    """Between two answers of the leader one of a node that was cut off: what was written is not passed over."""
    stage = Stage()
    await stage.mirror.start()
    stage.own.stall_watches()
    await stage.bucket.put("a", b"1")
    last_seq, stage.bucket.stream.last_seq = stage.bucket.stream.last_seq, 0
    newest = mock.patch.object(stage.own, "last_revision", mock.AsyncMock(return_value=last_seq))
    with newest, pytest.raises(Unavailable, match="past"):
        await stage.fresh()
    stage.bucket.stream.last_seq = last_seq
    assert stage.mirror.applied == 0
    assert await stage.fresh() == 1
    assert stage.values == {"a": b"1"}
    await stage.mirror.stop()


async def test_many_may_ask_at_once() -> None:
    """Whatever is read twice is applied once, in order."""
    stage = Stage()
    await stage.mirror.start()
    stage.own.stall_watches()
    for number in range(20):
        await stage.bucket.put(f"k{number}", b"1")
    asking = [asyncio.create_task(stage.mirror.fresh()) for _ in range(10)]
    await stage.clock.advance(1)
    assert await asyncio.gather(*asking) == [20] * 10
    assert [entry.revision for entry in stage.applied] == list(range(1, 21))
    await stage.mirror.stop()


async def test_what_is_read_does_not_undo_what_was_delivered() -> None:
    """While a read is under way the watch delivers something newer of the same key: the newer one stands."""
    stage = Stage()
    await stage.mirror.start()
    stage.own.stall_watches()
    await stage.bucket.put("a", b"old")
    original = stage.own.changes_since

    async def changes_since(revision: int, until: int = 0) -> list[Entry]:
        found = await original(revision, until)
        await stage.bucket.put("a", b"new")
        assert stage.watch is not None
        stage.watch.restart(0)
        await stage.clock.settle()
        return found

    stage.own.changes_since = changes_since  # type: ignore[method-assign]  # a bucket that is written to meanwhile
    await stage.fresh()
    assert stage.values == {"a": b"new"}
    assert [entry.revision for entry in stage.applied] == [2]
    await stage.mirror.stop()


async def test_any_history_ends_in_what_is_stored() -> None:
    """Writes, deletes, stalls and outages in any order: once proven fresh, it is what the bucket is."""
    for seed in range(40):
        dice, stage = random.Random(seed), Stage()
        await stage.mirror.start()
        for _ in range(60):
            await step(dice, stage)
        stage.server.down = False
        await stage.fresh()
        stored = {key: await stage.bucket.get(key) for key in await stage.bucket.keys()}
        live = {key: entry.value for key, entry in stored.items() if entry is not None and not entry.deleted}
        assert stage.values == live, seed
        revisions = [entry.revision for entry in stage.applied]
        assert revisions == sorted(set(revisions)), seed
        await stage.mirror.stop()


async def step(dice: random.Random, stage: Stage) -> None:
    key = f"k{dice.randrange(4)}"
    what = dice.randrange(8)
    if what <= 2:
        stage.bucket.put_raw(key, str(dice.random()).encode())
    elif what == 3:
        stage.bucket.put_raw(key, b"", {"KV-Operation": "DEL"})
    elif what == 4:
        stage.own.stall_watches()
    elif what == 5:
        stage.server.down = dice.random() < 0.3
    elif what == 6:
        await stage.clock.advance(dice.random() * 3)
    else:
        asking = asyncio.create_task(stage.mirror.fresh())
        await stage.clock.advance(PATIENCE_S * 2)
        await asyncio.gather(asking, return_exceptions=True)
