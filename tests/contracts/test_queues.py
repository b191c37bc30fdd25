"""The task queues: a pair is in the stream once, however often it is published, whatever got lost."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.errors import ScheddError, Unavailable, Unsure
from scheduler.jetstream.provisioning import restore
from scheduler.ports.queues import Claim, Pair, Queued
from tests.contracts.memory_stage import MemoryStage
from tests.contracts.nats_stage import NatsStage
from tests.contracts.stages import Stage, Task, collected, nothing_more

TAIL = "20261121T080000000Z"


def pair(name: str, drive: int = 0, *, queue: str = "EMAIL", body: bytes = b'{"to":"all"}', ttl_s: int = 60) -> Pair:
    execution_id = f"{name}.{TAIL}"
    headers = {"Schedd-Execution-Id": execution_id, "Schedd-Note": "schön: grün"}
    return Pair(execution_id, drive, queue, body, headers, ttl_s)


def queued(results: list[Queued | ScheddError]) -> list[Queued]:
    """The results, all of which must be `Queued`."""
    assert all(isinstance(result, Queued) for result in results), results
    return [result for result in results if isinstance(result, Queued)]


async def pulled(stage: Stage, count: int, queue: str = "EMAIL") -> list[Task]:
    worker = await stage.worker(queue)
    return await collected(stage, worker.pull, count)


@pytest.fixture(autouse=True)
async def _queue(stage: Stage) -> None:
    await stage.queues.ensure("EMAIL")


async def test_queues_are_listed(stage: Stage) -> None:
    """A queue is made once, and listed with what waits in it and what is delivered."""
    await stage.queues.ensure("EMAIL")
    await stage.queues.ensure("SLOW")
    queued(await stage.queues.publish([pair("a"), pair("b"), pair("c"), pair("d", queue="SLOW")]))
    await stage.run((await stage.worker("EMAIL")).pull(1, 1.0))
    states = {state.queue: state for state in await stage.queues.queues()}
    assert states.keys() == {"EMAIL", "SLOW"}
    email = states["EMAIL"]  # on a busy machine a pull may be repeated before its answer has come
    assert email.pending + email.ack_pending == 3
    assert 1 <= email.ack_pending <= 2
    assert (states["SLOW"].pending, states["SLOW"].ack_pending) == (1, 0)
    assert states["EMAIL"].ack_wait_s == 30.0


async def test_pair(stage: Stage) -> None:
    """A worker gets body and headers as they were given; the claim stands right before the task."""
    (result,) = queued(await stage.queues.publish([pair("a.b")]))
    assert not result.already
    (task,) = await pulled(stage, 1)
    assert task.subject == stage.names.task("EMAIL", f"a.b.{TAIL}")
    assert (task.body, task.seq, task.delivered) == (b'{"to":"all"}', result.task_seq, 1)
    assert task.headers == pair("a.b").headers
    assert await stage.queues.claimed_seq(f"a.b.{TAIL}", 0) == result.task_seq - 1
    assert await stage.queues.claim_at([result.task_seq - 1]) == [Claim(f"a.b.{TAIL}", 0)]


async def test_many(stage: Stage) -> None:
    """Each of many pairs gets its own sequence, told in the order in which they were given."""
    pairs = [pair(f"s{number}", body=b"%d" % number) for number in range(700)]
    results = queued(await stage.queues.publish(pairs))
    assert len({result.task_seq for result in results}) == 700
    tasks = {task.seq: task for task in await pulled(stage, 700)}
    assert [tasks[result.task_seq].body for result in results] == [pair.body for pair in pairs]
    claims = await stage.queues.claim_at([result.task_seq - 1 for result in results])
    assert claims == [Claim(pair.execution_id, 0) for pair in pairs]


async def test_many_callers(stage: Stage) -> None:
    """More callers at once than a stream takes batches: all are served, each pair is there once."""
    calls = [stage.queues.publish([pair(f"c{number}")]) for number in range(150)]
    results = [result for each in await asyncio.gather(*calls) for result in queued(each)]
    assert len({result.task_seq for result in results}) == 150
    assert not any(result.already for result in results)


async def test_large_bodies(stage: Stage) -> None:
    """Pairs of the largest payload go through, however many come at once."""
    body = b'"' + b"x" * (64 * 1024 - 2) + b'"'
    results = queued(await stage.queues.publish([pair(f"s{number}", body=body) for number in range(80)]))
    assert await stage.queues.present([result.task_seq for result in results]) == [True] * 80


async def test_nothing(stage: Stage) -> None:
    """No pairs, no sequences: no answers, and nothing is asked of the server."""
    assert await stage.queues.publish([]) == []
    assert await stage.queues.claim_at([]) == []
    assert await stage.queues.present([]) == []


async def test_twice(stage: Stage) -> None:
    """A pair published again keeps its first sequence, and only one task is in the stream."""
    (first,) = queued(await stage.queues.publish([pair("x")]))
    (second,) = queued(await stage.queues.publish([pair("x", body=b"other")]))
    assert (second.task_seq, second.already) == (first.task_seq, True)
    assert [task.body for task in await pulled(stage, 2)] == [b'{"to":"all"}']


async def test_twice_in_one_call(stage: Stage) -> None:
    """The same pair twice in one call is queued once, and does not harm its neighbours."""
    results = queued(await stage.queues.publish([pair("x"), pair("y"), pair("x")]))
    assert results[2] == Queued(results[0].task_seq, results[2].at, already=True)
    assert [result.already for result in results] == [False, False, True]
    assert len(await pulled(stage, 3)) == 2


async def test_existing_claims(stage: Stage) -> None:
    """Claims that exist keep their tasks; every other pair of the same call is queued."""
    pairs = [pair(f"s{number}") for number in range(600)]
    old = {0, 7, 8, 299, 300, 599}
    before = dict(
        zip(sorted(old), queued(await stage.queues.publish([pairs[each] for each in sorted(old)])), strict=True)
    )
    results = queued(await stage.queues.publish(pairs))
    assert {number for number, result in enumerate(results) if result.already} == old
    assert all(results[number].task_seq == result.task_seq for number, result in before.items())
    assert len(await pulled(stage, 601)) == 600


async def test_next_drive(stage: Stage) -> None:
    """Another drive of an execution is another pair, also after its task was worked off."""
    (first,) = queued(await stage.queues.publish([pair("x")]))
    worker = await stage.worker("EMAIL")
    (task,) = await collected(stage, worker.pull, 1)
    await worker.ack(task.token)
    (again,) = queued(await stage.queues.publish([pair("x")]))
    assert again.already
    (second,) = queued(await stage.queues.publish([pair("x", drive=1)]))
    assert not second.already
    assert second.task_seq > first.task_seq
    assert await stage.queues.claimed_seq(f"x.{TAIL}", 1) == second.task_seq - 1


async def test_claims_of_ids_with_dots(stage: Stage) -> None:
    """Claims of `a` and `a.b` are told apart, those of manual and backfill runs are read too."""
    ids = [f"a.{TAIL}", f"a.b.{TAIL}", f"a.{TAIL}-mnonce_1", f"a.1.{TAIL}-bfill"]
    pairs = [Pair(execution_id, 3, "EMAIL", b"", {}, 60) for execution_id in ids]
    results = queued(await stage.queues.publish(pairs))
    seqs = [result.task_seq - 1 for result in results]
    assert await stage.queues.claim_at(seqs) == [Claim(execution_id, 3) for execution_id in ids]
    assert [await stage.queues.claimed_seq(each, 3) for each in ids] == seqs
    assert await stage.queues.claimed_seq(f"b.{TAIL}", 3) is None


async def test_what_is_no_claim(stage: Stage) -> None:
    """A task, a sequence that is gone and one that never was are no claims; a claim is no task."""
    (result,) = queued(await stage.queues.publish([pair("x")]))
    assert await stage.queues.claim_at([result.task_seq, 10_000_000]) == [None, None]
    assert await stage.queues.present([result.task_seq, result.task_seq - 1, 10_000_000]) == [True, False, False]


async def test_one_task_after_the_other(stage: Stage) -> None:
    """In the order of the stream, of any queue, delivered or not; claims are passed over, and what is gone."""
    first, second = queued(await stage.queues.publish([pair("a"), pair("b.c", queue="OTHER")]))
    await pulled(stage, 1)
    found = await stage.queues.next_task(0)
    assert found is not None
    assert (found.seq, found.execution_id) == (first.task_seq, f"a.{TAIL}")
    assert abs((stage.now() - found.at).total_seconds()) < 60
    found = await stage.queues.next_task(found.seq)
    assert found is not None
    assert (found.seq, found.execution_id) == (second.task_seq, f"b.c.{TAIL}")
    assert await stage.queues.next_task(found.seq) is None
    await stage.queues.remove(first.task_seq)
    found = await stage.queues.next_task(0)
    assert found is not None
    assert found.seq == second.task_seq


async def test_removed(stage: Stage) -> None:
    """A task that is removed is gone and told so once; its claim still stands."""
    (result,) = queued(await stage.queues.publish([pair("x")]))
    assert await stage.queues.remove(result.task_seq)
    assert not await stage.queues.remove(result.task_seq)
    assert not await stage.queues.remove(10_000_000)
    assert await stage.queues.present([result.task_seq]) == [False]
    assert (queued(await stage.queues.publish([pair("x")])))[0].already
    worker = await stage.worker("EMAIL")
    assert await nothing_more(stage, worker.pull, 0.3)


async def test_acknowledged(stage: Stage) -> None:
    """An acknowledged task leaves the stream, a delivered one is still there."""
    results = queued(await stage.queues.publish([pair("x"), pair("y")]))
    worker = await stage.worker("EMAIL")
    tasks = await collected(stage, worker.pull, 2)
    await worker.ack(tasks[0].token)
    await stage.sleep(0.2)
    assert await stage.queues.present([result.task_seq for result in results]) == [False, True]


async def test_claim_floor(stage: Stage) -> None:
    """Until its TTL has passed a claim keeps the pair from being queued again, from then on it does not."""
    (first,) = queued(await stage.queues.publish([pair("x", ttl_s=3)]))
    assert queued(await stage.queues.publish([pair("x", ttl_s=3)]))[0].already
    await stage.sleep(4.2)
    assert await stage.queues.claimed_seq(f"x.{TAIL}", 0) is None
    (second,) = queued(await stage.queues.publish([pair("x", ttl_s=3)]))
    assert not second.already
    assert second.task_seq > first.task_seq


async def test_lost_acknowledgement(stage: Stage) -> None:
    """When the answer is lost the claims are read back: what landed is queued, with its sequence."""
    stage.lose_ack_next()
    (result,) = queued(await stage.queues.publish([pair("x")]))
    assert await stage.queues.claimed_seq(f"x.{TAIL}", 0) == result.task_seq - 1
    (task,) = await pulled(stage, 1)
    assert task.seq == result.task_seq


async def test_late_landing(stage: Stage) -> None:
    """What has not arrived when it is read back is Unsure; once it has, publishing again finds it."""
    stage.land_late()
    (result,) = await stage.queues.publish([pair("x")])
    assert isinstance(result, Unsure)
    await stage.land()
    (again,) = queued(await stage.queues.publish([pair("x")]))
    assert again.already
    assert len(await pulled(stage, 2)) == 1


async def test_late_landing_behind_a_repeat(stage: Stage) -> None:
    """A pair that was repeated before its first try arrived is in the stream once."""
    stage.land_late()
    (unsure,) = await stage.queues.publish([pair("x")])
    assert isinstance(unsure, Unsure)
    (result,) = queued(await stage.queues.publish([pair("x")]))
    assert not result.already
    await stage.land()
    (task,) = await pulled(stage, 2)
    assert task.seq == result.task_seq


async def test_server_gone(stage: Stage) -> None:
    """Without a server each pair gets an error of its own, and nothing is raised."""
    await stage.cut_off()
    results = await stage.queues.publish([pair("x"), pair("y")])
    assert [isinstance(result, Unavailable) for result in results] == [True, True]


async def test_a_withheld_claim_lets_no_task_follow(stage: Stage) -> None:
    """Withheld, once and again; whoever sends the pair is refused, alone or among others, until the claim's time is
    over; and it proves no task."""
    for _ in range(2):
        assert await stage.queues.withhold(f"x.{TAIL}", 0, 1) is None
    assert await stage.queues.claimed_seq(f"x.{TAIL}", 0) is None
    refused, other = await stage.queues.publish([pair("x"), pair("y")])
    assert isinstance(refused, Unavailable)
    assert isinstance(other, Queued)
    (task,) = await pulled(stage, 1)
    assert task.seq == other.task_seq
    await stage.sleep(2.2)
    (late,) = queued(await stage.queues.publish([pair("x")]))
    assert not late.already


async def test_what_is_queued_cannot_be_withheld(stage: Stage) -> None:
    """The claim that proves the task is told instead, whether or not the task is still there; other drives are free."""
    (result,) = queued(await stage.queues.publish([pair("x")]))
    assert await stage.queues.withhold(f"x.{TAIL}", 0, 60) == result.task_seq - 1
    await stage.queues.remove(result.task_seq)
    assert await stage.queues.withhold(f"x.{TAIL}", 0, 60) == result.task_seq - 1
    assert await stage.queues.withhold(f"x.{TAIL}", 1, 60) is None


async def test_a_stream_that_was_lost_begins_above_all_that_was(stage: Stage) -> None:
    """Deleted and made anew: nothing of before is there, no sequence comes twice, and it tells where it begins."""
    assert await stage.queues.begins_at() == 0
    before = queued(await stage.queues.publish([pair("x"), pair("y")]))
    await lose_tasks(stage)
    begins_at = await stage.queues.begins_at()
    assert begins_at > before[-1].task_seq
    assert await stage.queues.present([each.task_seq for each in before]) == [False, False]
    await stage.queues.ensure("EMAIL")
    (again,) = queued(await stage.queues.publish([pair("x")]))
    assert not again.already
    assert again.task_seq > begins_at


async def lose_tasks(stage: Stage) -> None:
    """Somebody deletes the stream; a replica that remembers makes it anew."""
    if isinstance(stage, NatsStage):
        await stage.requests.api(f"STREAM.DELETE.{stage.names.tasks}")
        await restore(stage.requests, stage.names, clock=stage.clock)
    elif isinstance(stage, MemoryStage):
        stage.server.tasks.lose(stage.server.tasks.last_seq + 1000)
