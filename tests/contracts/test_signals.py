"""What the server tells about tasks: one signal for each thing a worker does with one."""

from __future__ import annotations

import pytest

from scheduler.ports.queues import Pair, Poison, Progress, Queued, Signal
from scheduler.wire.advisories import REMOVED_REASON
from tests.contracts.stages import Stage, Task, Worker, collected, nothing_more


async def delivered(stage: Stage, count: int = 1) -> tuple[Worker, list[Task]]:
    """A worker that has pulled that many tasks of queue Q."""
    await stage.queues.ensure("Q")
    pairs = [Pair(f"x{number}.20261121T080000000Z", 0, "Q", b"", {}, 60) for number in range(count)]
    assert all(isinstance(result, Queued) for result in await stage.queues.publish(pairs))
    worker = await stage.worker("Q")
    return worker, await collected(stage, worker.pull, count)


async def signals(stage: Stage, count: int) -> list[Signal]:
    found = await collected(stage, stage.signals.pull, count)
    assert all(isinstance(each, Signal) for each in found), found
    return [each for each in found if isinstance(each, Signal)]


async def test_ack_nak_and_term(stage: Stage) -> None:
    """Each answer of a worker is told with its queue, the task's sequence and the number of deliveries."""
    worker, tasks = await delivered(stage, 4)
    await worker.ack(tasks[0].token)
    await worker.nak(tasks[1].token, 60.0)
    await worker.term(tasks[2].token, "no such customer")
    await worker.term(tasks[3].token, "")
    found = {each.task_seq: each for each in await signals(stage, 4)}
    told = [(found[task.seq].kind, found[task.seq].reason, found[task.seq].deliveries) for task in tasks]
    assert told == [("ack", None, 1), ("nak", None, 1), ("term", "no such customer", 1), ("term", None, 1)]
    assert {each.queue for each in found.values()} == {"Q"}
    assert all(abs((stage.now() - each.at).total_seconds()) < 5 for each in found.values())


async def test_nak_comes_again(stage: Stage) -> None:
    """A task handed back is delivered again after the delay, and each answer counts the deliveries."""
    worker, (task,) = await delivered(stage)
    await worker.nak(task.token, 0.2)
    (again,) = await collected(stage, worker.pull, 1)
    assert again.delivered == 2
    await worker.ack(again.token)
    assert [(each.kind, each.deliveries) for each in await signals(stage, 2)] == [("nak", 1), ("ack", 2)]


async def test_max_deliveries(stage: Stage) -> None:
    """A task that nobody answers is told once its deliveries are used up, and stays in the stream."""
    await stage.queues.ensure("Q")
    await stage.set_limits("Q", ack_wait_s=0.3, max_deliver=2)
    worker, (task,) = await delivered(stage)
    await collected(stage, worker.pull, 1)
    assert await nothing_more(stage, worker.pull, 1.0)
    (signal,) = await signals(stage, 1)
    assert (signal.kind, signal.task_seq, signal.deliveries) == ("max_deliveries", task.seq, 2)
    assert await stage.queues.present([task.seq]) == [True]
    assert await stage.queues.remove(task.seq)


async def test_ack_wait_tells_nothing(stage: Stage) -> None:
    """A redelivery after the ack wait is no signal."""
    await stage.queues.ensure("Q")
    await stage.set_limits("Q", ack_wait_s=0.3)
    worker, _ = await delivered(stage)
    (again,) = await collected(stage, worker.pull, 1)
    assert again.delivered == 2
    assert await nothing_more(stage, stage.signals.pull, 0.2)


async def test_removal(stage: Stage) -> None:
    """The removal of a delivered task is told as a TERM whose reason marks it as ours; of a waiting one, not at all."""
    _, (task,) = await delivered(stage)
    await stage.queues.ensure("IDLE")
    (waiting,) = await stage.queues.publish([Pair("y.20261121T080000000Z", 0, "IDLE", b"", {}, 60)])
    assert isinstance(waiting, Queued)
    assert await stage.queues.remove(waiting.task_seq)
    assert await stage.queues.remove(task.seq)
    (signal,) = await signals(stage, 1)
    assert (signal.kind, signal.task_seq, signal.reason) == ("term", task.seq, REMOVED_REASON)
    assert await nothing_more(stage, stage.signals.pull, 0.2)


async def test_acknowledged_signals_are_done(stage: Stage) -> None:
    """An acknowledged signal is not delivered again."""
    worker, (task,) = await delivered(stage)
    await worker.ack(task.token)
    (signal,) = await signals(stage, 1)
    await stage.signals.ack([signal.ack])
    assert await nothing_more(stage, stage.signals.pull, 0.3)


async def test_other_streams_are_not_heard(stage: Stage) -> None:
    """What happens on other streams of the same server is no signal."""
    await stage.put(stage.names.report("Q", "x.20261121T080000000Z", 1, "started"), b'{"worker":"w"}')
    reports = await collected(stage, stage.reports.pull, 1)
    await stage.reports.ack([report.ack for report in reports])
    assert await nothing_more(stage, stage.signals.pull, 0.3)


@pytest.mark.parametrize(
    "body",
    [
        b"\x00",
        b"{}",
        (
            b'{"type":"io.nats.jetstream.advisory.v1.api_audit","timestamp":"2026-11-21T08:00:00Z","stream":"S",'
            b'"consumer":"Q","stream_seq":1}'
        ),
        (
            b'{"type":"io.nats.jetstream.advisory.v1.nak","timestamp":"2026-11-21T08:00:00Z","stream":"OTHER",'
            b'"consumer":"Q","stream_seq":1,"deliveries":1}'
        ),
    ],
)
async def test_poison(stage: Stage, body: bytes) -> None:
    """What is no signal of a task of ours comes out as poison, and can be acknowledged."""
    await stage.put(f"$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.{stage.names.tasks}.Q", body)
    (poison,) = await collected(stage, stage.signals.pull, 1)
    assert isinstance(poison, Poison)
    assert poison.problem
    await stage.signals.ack([poison.ack])
    assert await nothing_more(stage, stage.signals.pull, 0.2)


async def test_progress(stage: Stage) -> None:
    """The progress tells what all replicas have acknowledged, whether or not the rest was pulled."""
    assert await stage.signals.progress() == Progress(0, 0)
    worker, tasks = await delivered(stage, 3)
    for task in tasks:
        await worker.ack(task.token)
    await stage.sleep(0.1)
    assert await stage.signals.progress() == Progress(0, 3)
    found = await signals(stage, 3)
    assert await stage.signals.progress() == Progress(0, 3)
    await stage.signals.ack([found[0].ack, found[2].ack])
    await stage.sleep(0.1)
    assert await stage.signals.progress() == Progress(1, 3)
    await stage.signals.ack([found[1].ack])
    await stage.sleep(0.1)
    assert await stage.signals.progress() == Progress(3, 3)
