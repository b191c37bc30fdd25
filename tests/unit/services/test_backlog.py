"""What is open, and older than the writes that a starting replica looks at: its task leads to its record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import State
from scheduler.ports.queues import Pair, Queued
from scheduler.services import backlog, executions
from scheduler.services.backlog import Backlog
from scheduler.services.executions import ExecutionIndex
from tests.unit.services.api.stage import Stage

DAY = timedelta(days=1)
WINDOW = 20


async def queued(stage: Stage, number: int, queue: str = "default") -> str:
    """An execution with its task in the queue."""
    execution_id = await stage.record("long", number, State.QUEUED, queue)
    await stage.queues.ensure(queue)
    (told,) = await stage.queues.publish([Pair(execution_id, 1, queue, b"{}", {}, 60)])
    assert isinstance(told, Queued)
    await stage.clock.advance(1)
    return execution_id


@asynccontextmanager
async def indexed(stage: Stage) -> AsyncIterator[ExecutionIndex]:
    """The index of a replica that starts now."""
    old = Backlog(stage.queues, stage.executions)
    index = ExecutionIndex(stage.executions, stage.clock, stage.telemetry, start_window=WINDOW, backlog=old)
    running = asyncio.create_task(index.run())
    try:
        await stage.clock.settle()
        yield index
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await index.stop()


def open_ids(index: ExecutionIndex, stage: Stage) -> list[str]:
    return index.open_ids(stage.clock.now() + DAY)


@pytest.mark.parametrize("page", [1, 3, 256])
async def test_what_has_been_open_for_long_is_known_after_a_start(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much was written since, in all queues, and in the order of their last writes."""
    monkeypatch.setattr(backlog, "PAGE", page)
    stage = Stage()
    old = [await queued(stage, number, f"queue-{number % 2}") for number in range(7)]
    for number in range(2 * WINDOW):
        await stage.record("short", number)
    young = await queued(stage, 7, "queue-0")
    async with indexed(stage) as index:
        assert open_ids(index, stage) == [*old, young]
        assert old[0] not in [seen.id for seen in index.recent()]
    await stage.applied.stop()


async def test_what_is_adopted_is_told_as_what_is_seen() -> None:
    """The agenda of deadlines hears of it, too."""
    stage, told = Stage(), list[str]()
    old = await queued(stage, 0)
    for number in range(2 * WINDOW):
        await stage.record("short", number)
    index = ExecutionIndex(
        stage.executions, stage.clock, stage.telemetry, start_window=WINDOW,
        backlog=Backlog(stage.queues, stage.executions),
    )  # fmt: skip
    index.on_seen = lambda seen: told.append(seen.id)
    running = asyncio.create_task(index.run())
    await stage.clock.settle()
    assert told.count(old) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await index.stop()
    await stage.applied.stop()


async def test_what_ended_meanwhile_or_is_nobody_s_is_left_out() -> None:
    """A task whose record is terminal or gone, and one that somebody put there, are no open executions."""
    stage = Stage()
    ended, gone = await queued(stage, 0), await queued(stage, 1)
    await stage.record("long", 0, State.SUCCEEDED)
    await stage.executions.delete(gone)
    await stage.queues.publish([Pair("not an id", 1, "default", b"{}", {}, 60)])
    for number in range(2 * WINDOW):
        await stage.record("short", number)
    await stage.clock.advance(1)
    await stage.record("short", 999)
    async with indexed(stage) as index:
        assert open_ids(index, stage) == []
        assert index.get(ended) is None
    await stage.applied.stop()


async def test_who_asks_while_it_is_read_waits_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that does not answer at the start keeps nobody from anything else; once it does, the index is read."""
    stage = Stage()
    known = await stage.record("a", 1)
    answers = stage.executions.last_revision

    async def no_answer() -> int:
        raise Unavailable("no answer")

    monkeypatch.setattr(stage.executions, "last_revision", no_answer)
    async with indexed(stage) as index:
        with pytest.raises(Unavailable, match="still reads the executions"):
            await stage.run(index.current(), within_s=executions.READ_S + 1)
        monkeypatch.setattr(stage.executions, "last_revision", answers)
        await stage.run(index.current(), within_s=executions.READ_S)
        assert index.get(known) is not None
    await stage.applied.stop()


async def test_what_is_read_again_is_read_as_at_a_start() -> None:
    """After the bucket lost its end, what has been open for long is known again, too."""
    stage = Stage()
    old = await queued(stage, 0)
    for number in range(2 * WINDOW):
        await stage.record("short", number)
    async with indexed(stage) as index:
        await index.reread()
        assert open_ids(index, stage) == [old]
        ends, _ = await index.ends_since(index.ends_after)
        assert len(ends) == WINDOW
    await stage.applied.stop()
