"""The queues themselves: made, set, paused, listed and deleted, alike on the twin and on a real server."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from scheduler.core.errors import NotFound
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from tests.contracts.stages import Stage, Task, Worker, collected, nothing_more
from tests.contracts.test_queues import pair, queued

SET = QueueSettings(
    ack_wait=timedelta(seconds=7), max_deliver=3, max_ack_pending=5, max_pending=9, pause=Pause(note="grün\nzwei")
)


async def test_made_as_told(stage: Stage) -> None:
    """A queue is made with the settings given, paused from its first moment on, and reads back as it was made."""
    edit = QueueEdit(SET, 4)
    await stage.queues.ensure("Q", edit)
    queued(await stage.queues.publish([pair("a", queue="Q")]))
    state = await stage.queues.queue("Q")
    assert state is not None
    assert (state.settings, state.edit, state.pending) == (SET, 4, 1)
    assert [each for each in await stage.queues.queues() if each.queue == "Q"] == [state]
    assert await nothing_more(stage, (await stage.worker("Q")).pull, 0.5)


async def test_what_is_there_stays(stage: Stage) -> None:
    """Making a queue that is there changes nothing of it."""
    await stage.queues.ensure("Q", QueueEdit(SET, 4))
    await stage.queues.ensure("Q")
    await stage.queues.ensure("Q", QueueEdit(QueueSettings(), 9))
    state = await stage.queues.queue("Q")
    assert state is not None
    assert (state.settings, state.edit) == (SET, 4)


async def test_set(stage: Stage) -> None:
    """Every setting can be set and taken back, a backoff as well; one without a consumer is not found."""
    await stage.queues.ensure("Q")
    backoff = (timedelta(seconds=2), timedelta(seconds=2), timedelta(minutes=1))
    for settings in (
        SET,
        QueueSettings(ack_wait=backoff[0], backoff=backoff, max_deliver=3),
        QueueSettings(ack_wait=timedelta(seconds=4)),
        QueueSettings(),
    ):
        await stage.queues.configure("Q", QueueEdit(settings, 7))
        state = await stage.queues.queue("Q")
        assert state is not None
        assert (state.settings, state.edit) == (settings, 7)
    with pytest.raises(NotFound):
        await stage.queues.configure("NONE", QueueEdit(SET, 1))
    assert await stage.queues.queue("NONE") is None


async def test_paused(stage: Stage) -> None:
    """Nothing is delivered during a pause, to pulls that were open before it neither; then everything is."""
    await stage.queues.ensure("Q")
    worker = await stage.worker("Q")
    pull = asyncio.ensure_future(stage.run(worker.pull(10, 3.0)))
    await stage.sleep(0.2)
    await stage.queues.configure("Q", QueueEdit(QueueSettings(pause=Pause()), 1))
    queued(await stage.queues.publish([pair("a", queue="Q"), pair("b", queue="Q")]))
    await stage.sleep(0.5)
    assert not pull.done()
    await stage.queues.configure("Q", QueueEdit(QueueSettings(), 2))
    found = list(await pull)
    found += await collected(stage, worker.pull, 2 - len(found))
    assert len(found) == 2


async def test_a_pause_ends_by_itself(stage: Stage) -> None:
    """At its end deliveries go on, and the queue is not paused any more."""
    await stage.queues.ensure("Q")
    until = stage.now() + timedelta(seconds=1.5)
    await stage.queues.configure("Q", QueueEdit(QueueSettings(pause=Pause(until, "soon")), 1))
    queued(await stage.queues.publish([pair("a", queue="Q")]))
    state = await stage.queues.queue("Q")
    assert state is not None
    assert state.settings.pause == Pause(until, "soon")
    worker = await stage.worker("Q")
    assert await nothing_more(stage, worker.pull, 0.5)
    (task,) = await collected(stage, worker.pull, 1)
    assert task.delivered == 1
    assert stage.now() >= until - timedelta(milliseconds=100)
    state = await stage.queues.queue("Q")
    assert state is not None
    assert state.settings.pause is None


async def test_what_is_in_hand_goes_on(stage: Stage) -> None:
    """A task that was delivered before the pause can be acknowledged in it; handed back, it waits for its end."""
    await stage.queues.ensure("Q")
    queued(await stage.queues.publish([pair("a", queue="Q"), pair("b", queue="Q")]))
    worker = await stage.worker("Q")
    one, two = await collected(stage, worker.pull, 2)
    await stage.queues.configure("Q", QueueEdit(QueueSettings(pause=Pause()), 1))
    await worker.ack(one.token)
    await worker.nak(two.token, 0.0)
    assert await nothing_more(stage, worker.pull, 0.5)
    assert await stage.queues.present([one.seq, two.seq]) == [False, True]
    await stage.queues.configure("Q", QueueEdit(QueueSettings(), 2))
    (again,) = await collected(stage, worker.pull, 1)
    assert (again.seq, again.delivered) == (two.seq, 2)


async def test_one_at_a_time(stage: Stage) -> None:
    """`max_ack_pending` holds for all workers together."""
    await stage.queues.ensure("Q", QueueEdit(QueueSettings(max_ack_pending=1), 1))
    queued(await stage.queues.publish([pair(f"s{number}", queue="Q") for number in range(3)]))
    workers = [await stage.worker("Q"), await stage.worker("Q")]

    async def look(seconds: float) -> list[tuple[Worker, Task]]:
        async def one(worker: Worker) -> list[tuple[Worker, Task]]:
            return [(worker, task) for task in await worker.pull(5, seconds)]

        return [found for each in await asyncio.gather(*map(one, workers)) for found in each]

    for _ in range(3):
        ((worker, task),) = await stage.run(look(0.7))
        assert await stage.run(look(0.3)) == []
        await worker.ack(task.token)
    assert await stage.run(look(0.3)) == []


async def test_backoff_is_the_ack_wait_of_each_delivery(stage: Stage) -> None:
    """The first delivery is given up after the first entry, later ones after the last."""
    backoff = (timedelta(seconds=1), timedelta(seconds=2.5))
    await stage.queues.ensure("Q", QueueEdit(QueueSettings(ack_wait=backoff[0], backoff=backoff), 1))
    queued(await stage.queues.publish([pair("a", queue="Q")]))
    worker = await stage.worker("Q")
    seen = []
    for _ in range(3):
        (task,) = await stage.run(worker.pull(1, 6.0))
        seen.append(stage.now())
    assert task.delivered == 3
    first, second = (later - earlier for earlier, later in itertools.pairwise(seen))
    assert timedelta(seconds=0.7) < first < timedelta(seconds=2.2)
    assert timedelta(seconds=2.2) < second < timedelta(seconds=5)


async def test_a_shorter_ack_wait_holds_for_what_is_in_hand(stage: Stage) -> None:
    """A task that was delivered under a long ack wait is delivered again after the new, short one."""
    await stage.queues.ensure("Q")
    queued(await stage.queues.publish([pair("a", queue="Q")]))
    worker = await stage.worker("Q")
    await collected(stage, worker.pull, 1)
    await stage.queues.configure("Q", QueueEdit(QueueSettings(ack_wait=timedelta(seconds=1)), 1))
    (again,) = await stage.run(worker.pull(1, 5.0))
    assert again.delivered == 2


async def test_oldest(stage: Stage) -> None:
    """Since when the oldest task that nobody was given waits; a queue without one has none."""
    await stage.queues.ensure("Q")
    await stage.queues.ensure("EMPTY")
    before = stage.now()
    queued(await stage.queues.publish([pair("a", queue="Q")]))
    await stage.sleep(0.3)
    queued(await stage.queues.publish([pair("b", queue="Q"), pair("c", queue="OTHER")]))
    await stage.queues.ensure("OTHER")

    async def since() -> dict[str, float | None]:
        states = await stage.queues.queues()
        found = await stage.queues.waiting_since(states)
        return {
            state.queue: None if at is None else (at - before).total_seconds()
            for state, at in zip(states, found, strict=True)
        }

    first = await since()
    assert first["EMPTY"] is None
    assert first["Q"] is not None
    assert -0.1 <= first["Q"] < 0.3
    worker = await stage.worker("Q")
    await stage.run(worker.pull(1, 1.0))
    second = (await since())["Q"]
    assert second is None or second >= 0.3  # a pull may have been repeated, and have got both
    assert await stage.queues.waiting_since([]) == []


async def test_tasks_of_one_queue(stage: Stage) -> None:
    """In the order of their sequences, in portions, delivered or not; nothing of other queues."""
    await stage.queues.ensure("Q")
    await stage.queues.ensure("QQ")
    results = queued(
        await stage.queues.publish([pair(f"s{number}", queue="QQ" if number % 2 else "Q") for number in range(10)])
    )
    mine = [result.task_seq for number, result in enumerate(results) if number % 2 == 0]
    assert await stage.queues.newest("Q") == mine[-1]
    await stage.run((await stage.worker("Q")).pull(1, 1.0))
    portion = await stage.queues.tasks("Q", after=0, most=3)
    assert [task.task_seq for task in portion] == mine[:3]
    assert portion[0].execution_id == pair("s0").execution_id
    rest = await stage.queues.tasks("Q", after=portion[-1].task_seq, most=100)
    assert [task.task_seq for task in rest] == mine[3:]
    assert await stage.queues.tasks("NONE", after=0, most=5) == []
    assert await stage.queues.newest("NONE") == 0


async def test_deleted_and_made_anew(stage: Stage) -> None:
    """A deleted queue is gone, told so once; made anew it has the defaults, and delivers what still lies there."""
    await stage.queues.ensure("Q", QueueEdit(SET, 4))
    queued(await stage.queues.publish([pair("a", queue="Q")]))
    assert await stage.queues.drop("Q")
    assert not await stage.queues.drop("Q")
    assert await stage.queues.queue("Q") is None
    await stage.queues.ensure("Q")
    state = await stage.queues.queue("Q")
    assert state is not None
    assert (state.settings, state.edit, state.pending) == (QueueSettings(), 0, 1)
    assert len(await collected(stage, (await stage.worker("Q")).pull, 1)) == 1
