"""How many tasks of one type run at once in a worker, and what becomes of those that are too many.

A queue delivers its tasks in their order, whatever their type. So a type that is full must neither fill the worker's
places (other types would starve) nor keep tasks that an idle peer could run, and each task that is handed back costs
one of the queue's deliveries (`max_deliver`, 20), after which nobody gets it any more. Therefore:

- a queue all of whose types are full is not asked for more: this is the common case, and costs nothing;
- as many tasks of a full type as it has places wait here, without a place of the worker and unclaimed, for a second the
  first time and twice as long each further time (at most a minute); a place that becomes free is theirs, in order;
- what waited in vain, and what is more than that, goes back to the queue, where a peer may get it;
- but what has no delivery to spare (its tries need one each) is not handed back any more: it keeps its turn here.

So no task dies of a limit, whatever the backlog. The price: tasks that wait count as in progress for the queue, which
delivers nothing beyond `max_ack_pending` of them (1000). A type with a low limit and a long backlog wants a queue of
its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from scheduler.worker.handlers import Handler
from scheduler.worker.slots import Slots

WAIT_S_MAX = 60.0


class Keep(Struct, frozen=True):
    """Let it wait here for so long; None: until it is its turn."""

    for_s: float | None


class Return(Struct, frozen=True):
    """Hand it back, to be delivered again after so long."""

    delay_s: float


def decide_full(*, deliveries: int, max_deliver: int, max_tries: int, waiting: int, places: int) -> Keep | Return:
    """What to do with a task whose type is full. Pure. `waiting`: those of its type that wait here already."""
    spare = max_deliver - deliveries - max_tries
    if max_deliver >= 1 and spare <= 0:
        return Keep(None)
    wait_s = min(WAIT_S_MAX, 2.0 ** min(deliveries - 1, 10))
    return Keep(wait_s) if waiting < places else Return(wait_s)


class Turns:
    """The places of one type."""

    def __init__(self, count: int, freed: asyncio.Event) -> None:
        self.places = Slots(count)
        self.waiting = 0
        self._freed = freed

    def release(self) -> None:
        """The function has really ended."""
        self.places.release()
        self._freed.set()

    async def wait(self, slots: Slots, ends: asyncio.Future[Any], within_s: float | None) -> bool:
        """Wait for a place of the type, and for one of the worker, which is lent to others meanwhile.

        False if that took too long, or `ends` came first; then the worker's place is ours as before.
        """
        slots.release()
        self.waiting += 1
        turn = asyncio.create_task(self._turn(slots), name="turn")
        try:
            await asyncio.wait({turn, ends}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            return turn.done()
        finally:
            self.waiting -= 1
            if not turn.done():
                turn.cancel()
                await asyncio.gather(turn, return_exceptions=True)
            if turn.cancelled():
                slots.take_back()

    async def _turn(self, slots: Slots) -> None:
        await self.places.reserve(1)
        try:
            await slots.reserve(1)
        except BaseException:
            self.release()
            raise


class AllTurns:
    """Those of every type that has a limit."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str | None, str], Turns] = {}
        self._freed = asyncio.Event()

    def of(self, handler: Handler) -> Turns | None:
        """None where the type has no limit of its own."""
        if handler.concurrency is None:
            return None
        key = (handler.queue, handler.type)
        if key not in self._turns:
            self._turns[key] = Turns(handler.concurrency, self._freed)
        return self._turns[key]

    async def room(self, handlers: Iterable[Handler]) -> int | None:
        """Wait until one of them could start a task; how many they could. None: no end of them."""
        limits = [self.of(handler) for handler in handlers]
        limited = [each for each in limits if each is not None]
        if not limits or len(limited) < len(limits):
            return None
        while True:
            self._freed.clear()
            free = sum(max(0, each.places.free - each.waiting) for each in limited)
            if free > 0:
                return free
            await self._freed.wait()
