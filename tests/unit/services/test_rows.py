"""Status rows under contention and faults: no edit is lost, none is made twice, and rows go only when they are free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from scheduler.core.errors import Conflict, ScheddError, Unavailable, Unsure
from scheduler.core.model.status import ScheduleState, StatusRow
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.ports.stores import Entry
from scheduler.services.rows import ROUNDS_MAX, Edit, StatusRows
from scheduler.wire.status import encode_status


class Contended(MemoryBucket):
    """Somebody else writes between every read and the write that follows it."""

    meddle: Callable[[], object] = staticmethod(lambda: None)

    async def get_many(self, keys: object) -> list[Entry | None]:
        found = await super().get_many(keys)  # type: ignore[arg-type]  # as it was called
        self.meddle()
        return found


def stage() -> tuple[MemoryServer, Contended, StatusRows]:
    server = MemoryServer(VirtualClock())
    bucket = Contended(server, "schedd-status")
    return server, bucket, StatusRows(bucket)


def fires(count: int) -> Edit:
    return lambda row: structs.replace(row, fires=row.fires + count)


def same(row: StatusRow) -> StatusRow:
    return row


async def test_what_is_missing_or_unreadable_is_an_empty_row() -> None:
    """It is ours to rebuild, from whatever somebody put there."""
    _, bucket, rows = stage()
    bucket.put_raw("bad", b"\xff")
    await bucket.put("gone", encode_status(StatusRow(fires=3)))
    await bucket.delete("gone")
    assert await rows.get_many(["none", "bad", "gone"]) == [StatusRow()] * 3
    changed = await rows.change({key: fires(1) for key in ("none", "bad", "gone")})
    assert list(changed.values()) == [StatusRow(fires=1)] * 3
    assert [await rows.get(key) for key in ("none", "bad", "gone")] == [StatusRow(fires=1)] * 3


async def test_what_does_not_change_is_not_written() -> None:
    """A row that is there is left alone; one that is not is made, unless told otherwise."""
    _, bucket, rows = stage()
    await rows.change({"a": fires(1)})
    seq = bucket.stream.last_seq
    assert await rows.change({"a": same}) == {"a": StatusRow(fires=1)}
    assert await rows.change({"b": same}, create=False) == {"b": StatusRow()}
    assert await rows.change({"c": fires(1)}, create=False) == {"c": StatusRow(fires=1)}
    assert bucket.stream.last_seq == seq
    await rows.change({"b": same})
    assert bucket.stream.last_seq == seq + 1


async def test_an_edit_is_made_anew_on_what_another_wrote() -> None:
    """Lost compare-and-sets cost rounds, not edits, of either side."""
    server, bucket, rows = stage()
    other = StatusRows(MemoryBucket(server, "schedd-status", stream=bucket.stream))  # without the meddling
    left = 5

    def meddle() -> None:
        nonlocal left
        if left:
            left -= 1
            bucket.put_raw("a", encode_status(StatusRow(state=ScheduleState.PAUSED, fires=100 - left)))

    bucket.meddle = meddle
    assert await rows.change({"a": fires(1), "b": fires(1)}) == {
        "a": StatusRow(state=ScheduleState.PAUSED, fires=101),
        "b": StatusRow(fires=1),
    }
    assert (await other.get("a")).fires == 101


async def test_a_row_that_never_rests_is_given_up() -> None:
    """After so many rounds, in one sentence; another row in the same call is written."""
    _, bucket, rows = stage()
    count = 0

    def meddle() -> None:
        nonlocal count
        count += 1
        bucket.put_raw("a", encode_status(StatusRow(fires=count)))

    bucket.meddle = meddle
    found = await rows.try_change({"a": fires(1), "b": fires(1)})
    assert isinstance(found["a"], Unavailable)
    assert "'a' keeps changing" in found["a"].message
    assert found["b"] == StatusRow(fires=1)
    assert count == ROUNDS_MAX
    with pytest.raises(Unavailable):
        await rows.change({"a": fires(1)})


async def test_many_writers_lose_nothing() -> None:
    """Ten replicas count the same row up at once."""
    server, bucket, _ = stage()
    everybody = [StatusRows(MemoryBucket(server, "schedd-status", stream=bucket.stream)) for _ in range(10)]
    await asyncio.gather(*(each.change({"a": fires(1), "b": fires(2)}) for each in everybody for _ in range(3)))
    assert [row.fires for row in await everybody[0].get_many(["a", "b"])] == [30, 60]


@pytest.mark.parametrize(("fault", "expected"), [("lose_ack_next", 1), ("lose_next", 1)])
async def test_a_write_without_an_answer_is_read_back(fault: str, expected: int) -> None:
    """Stored unheard, it is not made again; lost, it is."""
    server, _, rows = stage()
    getattr(server, fault)()
    assert await rows.change({"a": fires(1)}) == {"a": StatusRow(fires=1)}
    assert (await rows.get("a")).fires == expected


@pytest.mark.parametrize("problem", [Unavailable("electing"), Unsure("no answer")])
async def test_what_cannot_be_read_is_told(problem: ScheddError) -> None:
    """Nothing is written on a guess."""
    _, bucket, rows = stage()
    bucket.fail_next(problem)
    with pytest.raises(type(problem)):
        await rows.change({"a": fires(1)})
    assert bucket.stream.last_seq == 0


async def test_an_edit_that_refuses_writes_nothing() -> None:
    """A term that is over says so from within the edit, right before the write."""

    def refuse(row: StatusRow) -> StatusRow:
        raise Conflict("the term is over")

    _, bucket, rows = stage()
    with pytest.raises(Conflict):
        await rows.change({"a": refuse})
    assert bucket.stream.last_seq == 0


# --- forgetting


async def test_a_free_row_is_forgotten() -> None:
    """It leaves a marker, for those who follow the rows; once more, or what was never there, is no change."""
    _, bucket, rows = stage()
    await rows.change({"a": fires(1)})
    assert await rows.forget("a")
    assert await rows.forget("a")
    assert await rows.forget("never")
    entry = await bucket.get("a")
    assert entry is not None
    assert entry.deleted
    assert bucket.stream.last_seq == 2


@pytest.mark.parametrize("row", [StatusRow(active=("a.1",)), StatusRow(waiting=("a.2",))])
async def test_a_row_in_use_is_kept(row: StatusRow) -> None:
    """Runs hold slots in it, or wait for one."""
    _, bucket, rows = stage()
    await bucket.put("a", encode_status(row))
    assert not await rows.forget("a")
    assert await rows.get("a") == row


async def test_a_row_that_comes_into_use_meanwhile_is_kept() -> None:
    """A run takes its slot between the read and the delete."""
    _, bucket, rows = stage()
    await rows.change({"a": fires(1)})

    def meddle() -> None:
        bucket.meddle = lambda: None
        bucket.put_raw("a", encode_status(StatusRow(active=("a.1",))))

    bucket.meddle = meddle
    assert not await rows.forget("a")
    assert (await rows.get("a")).active == ("a.1",)


async def test_forgetting_asks_before_it_writes() -> None:
    """Whoever may not write any more deletes nothing."""

    def refuse() -> None:
        raise Conflict("the term is over")

    _, _, rows = stage()
    await rows.change({"a": fires(1)})
    with pytest.raises(Conflict):
        await rows.forget("a", refuse)
    assert (await rows.get("a")).fires == 1
