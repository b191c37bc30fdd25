"""What is buried stays dead: no crash of the server brings a value back, and no burial takes a newer one along."""

from __future__ import annotations

import pytest

from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.ports.stores import Entry
from scheduler.services.burying import bury


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket(MemoryServer(VirtualClock()), "schedd-schedules")


async def entry_of(bucket: MemoryBucket, key: str = "a") -> Entry:
    found = await bucket.get(key)
    assert found is not None
    return found


async def test_a_removed_marker_brings_its_value_back(bucket: MemoryBucket) -> None:
    """Why there is a burial at all: this is what the server does."""
    await bucket.put("a", b"1")
    await bucket.expire(await bucket.delete("a"))
    assert bucket.stream.bring_back() == 1
    assert (await entry_of(bucket)).value == b"1"


@pytest.mark.parametrize("deleted", [False, True])
async def test_what_is_buried_comes_back_as_deleted(bucket: MemoryBucket, deleted: bool) -> None:
    """A value as well as a marker; and burying what came back ends the same."""
    await bucket.put("a", b"1")
    await bucket.put("a", b"2")
    if deleted:
        await bucket.delete("a")
    for _ in range(3):
        await bury(bucket, await entry_of(bucket))
        assert await bucket.get("a") is None
        assert bucket.stream.bring_back() == 1
        assert (await entry_of(bucket)).deleted


async def test_a_newer_write_stands(bucket: MemoryBucket) -> None:
    """Before the burial, or between its steps."""
    await bucket.put("a", b"1")
    old = await entry_of(bucket)
    await bucket.put("a", b"2")
    await bury(bucket, old)
    assert (await entry_of(bucket)).value == b"2"
    expire = bucket.expire

    async def come_back(revision: int) -> None:
        await bucket.put("a", b"3")
        await expire(revision)

    bucket.expire = come_back  # type: ignore[method-assign]
    await bury(bucket, await entry_of(bucket))
    assert (await entry_of(bucket)).value == b"3"
