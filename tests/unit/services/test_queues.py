"""The keeper of queues: edits at once, half-way and by other hands; what somebody deletes comes back as it was."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.core.queueing import QueueChanges
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.messages import Write
from scheduler.memory.queues import MemoryTaskQueues
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.services.queues import QueueKeeper
from scheduler.wire.names import queue_key
from scheduler.wire.queue import decode_edit

DEFAULTS = QueueSettings()
MINE = QueueSettings(max_deliver=4)


class Killed(BaseException):
    """The process is gone."""


class Port:
    """Any port, whose every call gives others a turn, and at the `last` one the process dies before or after it."""

    def __init__(self, world: World, port: Any) -> None:
        self._world, self._port = world, port

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._world.turn()
            result = await getattr(self._port, name)(*args, **kwargs)
            await self._world.turn()
            return result

        return call


class World:
    def __init__(self, seed: int = 0) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.control = MemoryBucket(self.server, "schedd-control")
        self.queues = MemoryTaskQueues(self.server)
        self.telemetry = RecordingTelemetry()
        self.rng = random.Random(seed)
        self.left = 10**9

    async def turn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)

    def keeper(self, *, plain: bool = False) -> QueueKeeper:
        queues, control = (self.queues, self.control) if plain else (Port(self, self.queues), Port(self, self.control))
        return QueueKeeper(
            queues=queues,
            control=control,
            clock=self.clock,
            telemetry=self.telemetry,
            defaults=DEFAULTS,
            max_pending=100,
        )

    async def run(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        await self.clock.settle()
        while not task.done():
            await self.clock.advance(0.01)
        return task.result()

    async def settings(self, queue: str = "Q") -> QueueSettings | None:
        state = await self.queues.queue(queue)
        return None if state is None else state.settings

    async def copy(self, queue: str = "Q") -> QueueEdit | None:
        entry = await self.control.get(queue_key(queue))
        return None if entry is None or entry.deleted else decode_edit(entry.value)

    async def keep_up(self, *used: str) -> list[str]:
        return await self.run(self.keeper(plain=True).keep_up(used, lambda: None))


async def test_an_edit_makes_the_queue() -> None:
    """It is there afterwards, set as asked, and its copy says the same; the same edit again writes nothing."""
    world = World()
    await world.run(world.keeper().change("Q", QueueChanges(max_deliver=4)))
    assert await world.settings() == MINE
    assert await world.copy() == QueueEdit(MINE, 1)
    revision = await world.control.last_revision()
    await world.run(world.keeper().change("Q", QueueChanges(max_deliver=4)))
    assert await world.control.last_revision() == revision


async def test_a_refused_edit_changes_nothing() -> None:
    """Neither the queue nor its copy; it is not even made."""
    world = World()
    with pytest.raises(InvalidArgument):
        await world.run(world.keeper().change("Q", QueueChanges(pause_note="x")))
    assert await world.settings() is None
    assert await world.copy() is None


@pytest.mark.parametrize("seed", range(30))
async def test_edits_at_once(seed: int) -> None:
    """Of many edits at once, by several replicas, none is lost: the consumer has them all, and so has the copy."""
    world = World(seed)
    edits = [
        QueueChanges(max_deliver=4),
        QueueChanges(max_ack_pending=1),
        QueueChanges(max_pending=7),
        QueueChanges(ack_wait=timedelta(seconds=5)),
        QueueChanges(paused=True, pause_note="x"),
    ]
    world.rng.shuffle(edits)
    await world.run(asyncio.gather(*(world.keeper().change("Q", each) for each in edits)))
    expected = QueueSettings(
        ack_wait=timedelta(seconds=5), max_deliver=4, max_ack_pending=1, max_pending=7, pause=Pause(note="x")
    )
    assert await world.settings() == expected
    copy = await world.copy()
    assert copy is not None
    assert copy == QueueEdit(expected, len(edits))
    assert await world.keep_up() == []


@pytest.mark.parametrize("dies_after", range(12))
async def test_a_replica_dies_during_an_edit(dies_after: int) -> None:
    """Whoever comes next finds the queue with the edit or without it; an acknowledged one before it is never lost."""
    world = World(dies_after)
    await world.run(world.keeper(plain=True).change("Q", QueueChanges(max_ack_pending=3)))
    world.left = dies_after
    died = False
    try:
        await world.run(world.keeper().change("Q", QueueChanges(max_deliver=4)))
    except Killed:
        died = True
    world.left = 10**9
    await world.keep_up()
    found = await world.settings()
    assert found is not None
    assert found.max_ack_pending == 3
    assert found.max_deliver in ((20, 4) if died else (4,))
    assert await world.copy() == QueueEdit(found, 1 if found.max_deliver == 20 else 2)
    assert await world.keep_up() == []


async def test_a_stale_write_is_made_good() -> None:
    """A replica that set the consumer to an older edit and died: the leader brings the newest back."""
    world = World()
    keeper = world.keeper(plain=True)
    await world.run(keeper.change("Q", QueueChanges(max_deliver=4)))
    await world.run(keeper.change("Q", QueueChanges(max_deliver=5)))
    await world.queues.configure("Q", QueueEdit(MINE, 1))
    assert await world.keep_up() == ["Q"]
    assert await world.settings() == QueueSettings(max_deliver=5)


async def test_what_somebody_deleted_comes_back_as_it_was() -> None:
    """By the leader's round, or by whoever needs the queue first; a pause with its note as well."""
    world = World()
    keeper = world.keeper(plain=True)
    await world.run(keeper.change("Q", QueueChanges(max_deliver=4, paused=True, pause_note="why")))
    expected = replace(MINE, pause=Pause(note="why"))
    await world.queues.drop("Q")
    assert await world.keep_up() == ["Q"]
    assert await world.settings() == expected
    await world.queues.drop("Q")
    await keeper.ensure("Q")
    assert await world.settings() == expected


async def test_an_operators_hand_holds() -> None:
    """What other tools set is what holds, is noted, and comes back after a deletion; `max_pending` stays ours."""
    world = World()
    await world.run(world.keeper(plain=True).change("Q", QueueChanges(max_deliver=4, max_pending=7)))
    world.server.tasks.consumers["Q"].limits = replace(world.server.tasks.consumers["Q"].limits, max_deliver=9)
    assert await world.keep_up() == []
    assert await world.copy() == QueueEdit(QueueSettings(max_deliver=9, max_pending=7), 1)
    await world.queues.drop("Q")
    world.server.queue("Q", world.server.due.limits)  # made anew by other hands: nothing of ours on it
    assert await world.keep_up() == []
    found = await world.settings()
    assert found is not None
    assert (found.max_pending, found.ack_wait) == (7, timedelta(seconds=5))
    assert await world.keep_up() == []


async def test_a_queue_in_use_is_made() -> None:
    """What a schedule or an open execution names and nobody has put, by the defaults; others are left alone."""
    world = World()
    assert await world.keep_up("USED") == ["USED"]
    assert await world.settings("USED") == QueueSettings()
    assert await world.keep_up("USED") == []
    assert await world.copy("USED") == QueueEdit(QueueSettings(), 0)


async def test_the_leaders_term_is_over() -> None:
    """Then it writes nothing more."""
    world = World()
    await world.run(world.keeper(plain=True).change("Q", QueueChanges(max_deliver=4)))
    await world.queues.drop("Q")

    def over() -> None:
        raise Conflict("deposed")

    with pytest.raises(Conflict):
        await world.keeper(plain=True).keep_up((), over)
    assert await world.settings() is None


async def test_a_deletion() -> None:
    """Queue, settings and copy are gone; one put again has the defaults; twice is not found."""
    world = World()
    keeper = world.keeper(plain=True)
    await world.run(keeper.change("Q", QueueChanges(max_deliver=4)))
    await keeper.delete("Q", lambda state: None)
    assert await world.settings() is None
    with pytest.raises(NotFound):
        await keeper.delete("Q", lambda state: None)
    assert await world.keep_up() == []
    await world.clock.advance(1)
    await world.run(keeper.change("Q", QueueChanges(max_ack_pending=2)))
    assert await world.settings() == QueueSettings(max_ack_pending=2)
    assert await world.keep_up() == []
    assert await world.settings() == QueueSettings(max_ack_pending=2)


@pytest.mark.parametrize("dies_after", range(10))
async def test_a_replica_dies_during_a_deletion(dies_after: int) -> None:
    """The queue is there as it was, or gone for good: never back with other settings."""
    world = World(dies_after)
    await world.run(world.keeper(plain=True).change("Q", QueueChanges(max_deliver=4)))
    await world.clock.advance(1)
    world.left = dies_after
    died = False
    try:
        await world.run(world.keeper().delete("Q", lambda state: None))
    except Killed:
        died = True
    world.left = 10**9
    await world.keep_up()
    found = await world.settings()
    assert found in ((None, MINE) if died else (None,))
    assert (await world.copy() is None) == (found is None)


@pytest.mark.parametrize("seed", range(20))
async def test_a_deletion_and_an_edit_at_once(seed: int) -> None:
    """In the end the queue is there with the edit, or it is not there, and copy and consumer agree."""
    world = World(seed)
    await world.run(world.keeper(plain=True).change("Q", QueueChanges(max_deliver=4)))
    await world.clock.advance(1)
    edit = world.keeper().change("Q", QueueChanges(max_ack_pending=2))
    results = await world.run(
        asyncio.gather(edit, world.keeper().delete("Q", lambda state: None), return_exceptions=True)
    )
    assert all(result is None or isinstance(result, int | ScheddError) for result in results), results
    await world.keep_up()
    copy, found = await world.copy(), await world.settings()
    assert found == (None if copy is None else copy.settings)
    if results[0] is None and isinstance(results[1], ScheddError):
        assert found is not None
        assert found.max_ack_pending == 2


async def test_tasks_in_it_keep_a_half_deleted_queue() -> None:
    """A deletion that stopped half-way is not finished over a task that came meanwhile."""
    world = World()
    await world.run(world.keeper(plain=True).change("Q", QueueChanges(max_deliver=4)))
    await world.control.delete(queue_key("Q"))
    world.server.tasks.store([Write("schedd.task.Q.x")])
    assert await world.keep_up() == []
    assert await world.settings() == MINE
    assert await world.copy() == QueueEdit(MINE, 1)


@pytest.mark.parametrize("fault", ["lose_ack_next", "lose_next", "refuse_in_flight_next"])
async def test_lost_answers(fault: str) -> None:
    """An edit whose write found no answer is repeated, and holds once; or it is told, and nothing half is left."""
    world = World()
    keeper = world.keeper(plain=True)
    await world.run(keeper.change("Q", QueueChanges(max_ack_pending=3)))
    getattr(world.server, fault)()
    try:
        await world.run(keeper.change("Q", QueueChanges(max_deliver=4)))
    except (Unavailable, Unsure):
        await world.keep_up()
        await world.run(keeper.change("Q", QueueChanges(max_deliver=4)))
    assert await world.settings() == QueueSettings(max_deliver=4, max_ack_pending=3)


async def test_a_copy_that_cannot_be_read() -> None:
    """It is counted, and written anew from the consumer."""
    world = World()
    await world.queues.ensure("Q", QueueEdit(MINE, 2))
    world.control.put_raw(queue_key("Q"), b"\xff")
    assert await world.keep_up() == []
    assert world.telemetry.count("dropped", what="queue_copy", reason="unreadable") == 1
    assert await world.copy() == QueueEdit(MINE, 2)
