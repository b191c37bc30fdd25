"""A type's own limit: who waits, who goes back, and that no delivery is wasted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scheduler.core.errors import Conflict, InvalidArgument
from scheduler.worker import Worker
from scheduler.worker.handlers import Handlers, make_handler
from scheduler.worker.slots import Slots
from scheduler.worker.turns import WAIT_S_MAX, AllTurns, Keep, Return, Turns, decide_full


def nothing(payload: Any) -> None: ...


def full(**given: Any) -> Keep | Return:
    return decide_full(**{"deliveries": 1, "max_deliver": 20, "max_tries": 3, "waiting": 0, "places": 2, **given})


def test_who_waits_and_who_goes_back() -> None:
    """As many as there are places wait, longer each time; more go back for as long."""
    assert full() == Keep(1)
    assert full(deliveries=4, waiting=1) == Keep(8)
    assert full(deliveries=12) == Keep(WAIT_S_MAX)
    assert full(waiting=2) == Return(1)
    assert full(waiting=9, deliveries=3) == Return(4)
    assert full(deliveries=10_000, max_deliver=-1, waiting=2) == Return(WAIT_S_MAX)


@pytest.mark.parametrize("max_deliver", [1, 3, 20, 50])
@pytest.mark.parametrize("max_tries", [1, 3, 19, 100])
def test_a_limit_takes_no_try_away(max_deliver: int, max_tries: int) -> None:
    """Handed back again and again, a task still has a delivery for each of its tries, as far as the queue has them."""
    deliveries = 1
    while full(deliveries=deliveries, max_deliver=max_deliver, max_tries=max_tries, waiting=9) != Keep(None):
        deliveries += 1
    assert max_deliver - deliveries + 1 >= min(max_tries, max_deliver)


async def test_the_place_of_the_worker_is_lent_meanwhile() -> None:
    """While a task waits for its type, others use its place; its own turn needs both."""
    slots, turns = Slots(1), Turns(1, asyncio.Event())
    assert await slots.reserve(1)
    assert turns.places.try_reserve()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waits = asyncio.create_task(turns.wait(slots, never, None))
    await asyncio.sleep(0)
    assert (slots.free, turns.waiting) == (1, 1)
    assert await slots.reserve(1)
    turns.release()
    await asyncio.sleep(0.01)
    assert not waits.done()
    slots.release()
    assert await waits
    assert (slots.free, turns.places.free, turns.waiting) == (0, 0, 0)


@pytest.mark.parametrize("how", ["time", "end", "cancel"])
@pytest.mark.parametrize("place_is_free", [True, False])
async def test_who_waits_in_vain_leaves_everything_as_it_was(how: str, place_is_free: bool) -> None:
    """Out of time, told to end or cancelled: the worker's place is its again, the type's is not."""
    slots, turns = Slots(1), Turns(1, asyncio.Event())
    await slots.reserve(1)
    ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if not place_is_free:
        turns.places.try_reserve()
    else:
        asyncio.get_running_loop().call_soon(slots.take_back)  # the type has a place, the worker has none
    waits = asyncio.create_task(turns.wait(slots, ends, 0.02 if how == "time" else None))
    await asyncio.sleep(0.01)
    if how == "end":
        ends.set_result(None)
    if how == "cancel":
        waits.cancel()
    (result,) = await asyncio.gather(waits, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError) if how == "cancel" else result is False
    assert turns.waiting == 0
    assert turns.places.free == (1 if place_is_free else 0)
    assert slots.free == (-1 if place_is_free else 0)


async def test_a_queue_is_asked_for_what_its_types_have_room_for() -> None:
    """All types limited: the free places, and a wait while there are none; one without a limit: no end of them."""
    handlers, turns = Handlers(), AllTurns()
    handlers.add(make_handler("a", nothing, concurrency=2))
    handlers.add(make_handler("b", nothing, concurrency=1, queue="B"))
    handlers.add(make_handler("c", nothing, queue="C"))
    assert await turns.room(handlers.of_queue("A")) == 2
    assert await turns.room(handlers.of_queue("B")) == 3
    assert await turns.room(handlers.of_queue("C")) is None
    assert await turns.room([]) is None
    a = turns.of(handlers.of_queue("A")[0])
    assert a is not None
    assert a.places.try_reserve()
    assert a.places.try_reserve()
    waits = asyncio.create_task(turns.room(handlers.of_queue("A")))
    await asyncio.sleep(0)
    assert not waits.done()
    a.release()
    assert await waits == 1


def test_a_task_of_one_queue() -> None:
    """`queue=` is one of the worker's; a type may have a function per queue, not two in one."""
    worker = Worker("A", "B")
    worker.task("t", queue="A")(nothing)
    worker.task("t")(repr)
    found = [worker.handlers.find(queue, "t") for queue in ("A", "B")]
    assert [each and each.function for each in found] == [nothing, repr]
    assert worker.handlers.find("A", "u") is None
    with pytest.raises(Conflict, match="'t' in queue 'A'"):
        worker.task("t", queue="A")(len)
    with pytest.raises(InvalidArgument, match=r"Worker\('A', 'B', 'C'\)"):
        worker.task("t", queue="C")
    with pytest.raises(InvalidArgument, match="concurrency"):
        worker.task("x", concurrency=0)(nothing)


def test_a_method_may_be_task_and_schedule() -> None:
    """Each look at a method is another object: it is the same function all the same."""

    class Mails:
        def send(self, payload: Any) -> None: ...

    worker, mails = Worker("A"), Mails()
    worker.task("send")(mails.send)
    worker.schedule("nightly", every="1d")(mails.send)
    (declared,) = worker.declared()
    assert (declared.definition["type"], worker.types) == ("send", ["send"])


def test_a_schedule_in_code_follows_the_queue_of_its_task() -> None:
    """What is declared for a task of one queue is put into that queue."""
    worker = Worker("A", "B")
    worker.schedule("s", every="1m")(worker.task("t", queue="B")(lambda payload: None))
    (declared,) = worker.declared()
    assert declared.definition["queue"] == "B"
