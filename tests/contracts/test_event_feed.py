"""The event feed: every event of some kinds, in order, from a place on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from scheduler.core.errors import Unavailable
from scheduler.ports.feeds import Told
from scheduler.ports.queues import Fact
from tests.contracts.stages import Stage

KINDS = ("failed", "late")


async def tell(stage: Stage, *ids: str, kind: str = "failed", schedule: str = "a.b") -> None:
    for each in ids:
        await stage.events.store([Fact(each, kind, schedule, {"n": each})])


async def read_all(stage: Stage, after: int, *, most: int = 100) -> list[Told]:
    """Page after page, until one is empty."""
    found: list[Told] = []
    while items := (await stage.run(stage.feed.read(after, KINDS, most=most, wait_s=0.4))).items:
        found += items
        after = items[-1].seq
    return found


async def test_kinds(stage: Stage) -> None:
    """Only those asked for, of every schedule and of none, as they were told."""
    assert await stage.feed.newest() == 0
    await tell(stage, "one")
    await tell(stage, "x", kind="finished")
    await tell(stage, "two", kind="late", schedule="_")
    found = await read_all(stage, 0)
    assert [(told.event.id, told.event.kind) for told in found if told.event] == [("one", "failed"), ("two", "late")]
    assert found[0].body == (await stage.stored(stage.names.event("failed", "a.b")))[0]
    assert await stage.feed.newest() == found[-1].seq


@pytest.mark.parametrize("most", [1, 7, 100])
async def test_pages(stage: Stage, most: int) -> None:
    """However many at once, none is left out and none comes twice, also after a place in the middle, also later."""
    ids = [f"e{number}" for number in range(60)]
    await tell(stage, *ids)
    found = await read_all(stage, 0, most=most)
    assert [told.event.id for told in found if told.event] == ids
    again = await read_all(stage, found[29].seq, most=most)
    assert [told.event.id for told in again if told.event] == ids[30:]
    await tell(stage, "later")
    assert [told.event.id for told in await read_all(stage, found[-1].seq) if told.event] == ["later"]


async def test_pending(stage: Stage) -> None:
    """How many more there are."""
    await tell(stage, *(f"e{number}" for number in range(20)))
    page = await stage.run(stage.feed.read(0, KINDS, most=5, wait_s=0.4))
    assert (len(page.items), page.pending) == (5, 15)
    await stage.feed.close()
    assert await stage.feed.pending() == 15


async def test_another_place_or_other_kinds(stage: Stage) -> None:
    """A reader that changes its mind begins anew."""
    await tell(stage, "one", "two")
    await tell(stage, "three", kind="late")
    page = await stage.run(stage.feed.read(0, ("failed",), most=1, wait_s=0.4))
    assert [told.event.id for told in page.items if told.event] == ["one"]
    page = await stage.run(stage.feed.read(0, ("late",), most=9, wait_s=0.4))
    assert [told.event.id for told in page.items if told.event] == ["three"]
    await stage.feed.close()
    assert [told.event.id for told in await read_all(stage, 0) if told.event] == ["one", "two", "three"]


async def test_one_schedule(stage: Stage) -> None:
    """Exactly that one, not those whose ids begin with it; of some kinds, or of all; and where the newest of it is."""
    await tell(stage, "one", schedule="a")
    await tell(stage, "x", schedule="a.b")
    await tell(stage, "two", kind="paused", schedule="a")
    await tell(stage, "last", schedule="b")
    page = await stage.run(stage.feed.read(0, (), "a", most=9, wait_s=0.4))
    assert [told.event.id for told in page.items if told.event] == ["one", "two"]
    page = await stage.run(stage.feed.read(0, KINDS, "a", most=9, wait_s=0.4))
    assert [told.event.id for told in page.items if told.event] == ["one"]
    page = await stage.run(stage.feed.read(0, (), most=9, wait_s=0.4))
    assert [told.seq for told in page.items] == [1, 2, 3, 4]
    assert [await stage.feed.last(kinds, "a") for kinds in ((), KINDS, ("late",))] == [3, 1, 0]
    assert (await stage.feed.last(()), await stage.feed.last(KINDS), await stage.feed.last(("paused",))) == (4, 4, 3)


async def test_from_an_instant(stage: Stage) -> None:
    """The place behind which all was stored since then, whatever has been removed; of the future, the newest."""
    assert await stage.feed.before(stage.now()) == 0
    await tell(stage, "one", "two")
    await stage.sleep(0.05)
    middle = stage.now()
    await stage.sleep(0.05)
    await tell(stage, "three")
    assert await stage.feed.before(middle) == 2
    assert await stage.feed.before(middle - timedelta(hours=1)) == 0
    assert await stage.feed.before(stage.now() + timedelta(hours=1)) == 3


async def test_a_place_behind_the_newest(stage: Stage) -> None:
    """The stream was made anew: everything in it is news."""
    await tell(stage, "one")
    page = await stage.run(stage.feed.read(1000, KINDS, most=9, wait_s=0.4))
    assert [told.event.id for told in page.items if told.event] == ["one"]


async def test_a_reader_that_is_lost(stage: Stage) -> None:
    """A consumer that somebody deletes costs time, and nothing else."""
    await tell(stage, "one")
    (first,) = await read_all(stage, 0)
    await stage.lose_readers()
    await tell(stage, "two")
    found: list[Told] = []
    for _ in range(5):
        with suppress(Unavailable):
            found += (await stage.run(stage.feed.read(first.seq, KINDS, most=9, wait_s=0.4))).items
            break
    assert [told.event.id for told in found if told.event] == ["two"]


async def test_a_reader_that_is_cancelled(stage: Stage) -> None:
    """Whoever gives up waiting has missed nothing when it asks again."""
    await tell(stage, "one")
    (first,) = await read_all(stage, 0)
    for _ in range(3):
        waiting = asyncio.ensure_future(stage.feed.read(first.seq, KINDS, most=9, wait_s=30))
        await stage.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await tell(stage, "two")
    assert [told.event.id for told in await read_all(stage, first.seq) if told.event] == ["two"]


async def test_what_is_no_event(stage: Stage) -> None:
    """It has its place and nothing to say."""
    await stage.put(stage.names.event("failed", "x"), b"\xff{")
    (told,) = await read_all(stage, 0)
    assert (told.event, told.body) == (None, b"\xff{")


async def test_without_a_server(stage: Stage) -> None:
    """Reading raises Unavailable; closing does not."""
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.run(stage.feed.read(0, KINDS, most=1, wait_s=0.4))
    with pytest.raises(Unavailable):
        await stage.run(stage.feed.newest())
    await stage.feed.close()
