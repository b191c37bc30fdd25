"""Rows of schedules that are gone: removed when nothing of theirs runs any more, and never one that is needed."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.model.status import StatusRow
from scheduler.services.leader import Deposed
from scheduler.services.reconcile.rows import RowsRepair
from scheduler.wire.status import encode_status
from tests.unit.services.tracking_stage import EVERY_DAY, Replica, World


def repair_of(replica: Replica) -> RowsRepair:
    (found,) = [each for each in replica.reconciler.repairs if isinstance(each, RowsRepair)]
    return found


async def round_of(replica: Replica, after_s: float = 31) -> int:
    """One round, `after_s` seconds later; how many rows were removed."""
    await replica.world.clock.advance(after_s)
    return await repair_of(replica).repair(replica.tenure())


async def test_the_row_of_a_live_schedule_stays() -> None:
    """Round after round."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        await world.status.put("a", encode_status(StatusRow(fires=3)))
        assert [await round_of(replica) for _ in range(3)] == [0, 0, 0]
        assert (await world.row()).fires == 3


async def test_the_row_goes_when_its_last_run_has_ended() -> None:
    """Deleted with a run active: the row is kept until the slot is free, and then goes without leaving a marker."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        execution = await replica.launched()
        await world.schedules.delete("a")
        assert await round_of(replica) == 0
        assert (await world.row()).active == (execution.id,)
        world.queue.ack(world.take().token)
        await replica.track()
        assert (await world.row()).active == ()
        assert await round_of(replica, 5) == 0  # younger than the grace
        assert await round_of(replica) == 1
        assert await world.status.keys() == []
        assert await round_of(replica) == 0


async def test_a_marker_goes_too() -> None:
    """Whoever deleted the row left one; it is no repair to speak of."""
    world = World()
    async with Replica(world) as replica:
        await world.status.put("a", encode_status(StatusRow()))
        await world.status.delete("a")
        assert await round_of(replica) == 0
        assert await world.status.keys() == []


async def test_an_invalid_schedule_keeps_its_row() -> None:
    """It is not gone: its row shows the error."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", b"{")
        await world.status.put("a", encode_status(StatusRow(error="x")))
        assert await round_of(replica) == 0
        assert (await world.row()).error == "x"


async def test_a_schedule_that_comes_back() -> None:
    """Its row is written between the look and the removal: the new one stays, whatever the old look said."""
    world = World()
    async with Replica(world) as replica:
        await world.status.put("a", encode_status(StatusRow()))
        rows = repair_of(replica)._bucket
        get_many = rows.get_many

        async def come_back(keys: list[str]) -> object:
            found = await get_many(keys)
            await world.schedules.put("a", EVERY_DAY)
            await world.status.put("a", encode_status(StatusRow(fires=1)))
            return found

        rows.get_many = come_back  # type: ignore[method-assign,assignment]
        await round_of(replica)
        rows.get_many = get_many  # type: ignore[method-assign]
        assert (await world.row()).fires == 1
        assert await round_of(replica) == 0


async def test_a_new_leader_looks_at_all_of_them() -> None:
    """Rows that were left before its time."""
    world = World()
    for number in range(300):
        await world.status.put(f"s{number}", encode_status(StatusRow()))
    await world.schedules.put("s7", EVERY_DAY)
    async with Replica(world) as replica:
        assert await round_of(replica) == 299
        assert await world.status.keys() == ["s7"]


async def test_nothing_is_removed_after_the_term() -> None:
    """The lease has run out: it stops before the removal."""
    world = World()
    await world.status.put("a", encode_status(StatusRow()))
    async with Replica(world) as replica:
        await world.clock.advance(31)
        with pytest.raises(Deposed):
            await repair_of(replica).repair(replica.tenure(lasts_s=-1))
        assert await world.status.keys() == ["a"]
        assert asyncio.get_running_loop().is_running()
