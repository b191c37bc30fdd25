"""Places: never more taken than there are, first come first served."""

from __future__ import annotations

import asyncio

from scheduler.worker.slots import Slots


async def test_places_are_taken_as_far_as_they_are_free() -> None:
    """A reservation takes what is free, at most what was asked, and waits only when nothing is."""
    slots = Slots(3)
    assert await slots.reserve(2) == 2
    assert await slots.reserve(9) == 1
    waiting = asyncio.create_task(slots.reserve(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.release(2)
    assert await waiting == 2
    assert slots.free == 0


async def test_who_came_first_is_served_first() -> None:
    """Two that wait are served in their order, and one that gives up loses nothing."""
    slots = Slots(1)
    await slots.reserve(1)
    order: list[str] = []

    async def take(name: str) -> None:
        await slots.reserve(1)
        order.append(name)

    first, given_up, last = (asyncio.create_task(take(name)) for name in ("first", "given up", "last"))
    await asyncio.sleep(0)
    given_up.cancel()
    slots.release()
    await first
    slots.release()
    await last
    assert order == ["first", "last"]
    await asyncio.gather(given_up, return_exceptions=True)
