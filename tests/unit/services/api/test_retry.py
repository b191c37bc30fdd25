"""execution.retry over the API: once per request, whatever state, whatever is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, PayloadTooLarge
from scheduler.core.lifecycle import Finish, advance
from scheduler.core.model.execution import Failure, State
from scheduler.memory.messages import Message
from scheduler.wire.record import decode_execution, encode_execution
from scheduler.wire.reports import Outcome
from tests.unit.services.api.stage import HELLO, Stage


def tasks(stage: Stage) -> list[Message]:
    return [each for each in stage.server.tasks.messages.values() if each.subject.startswith("schedd.task.")]


async def ended(stage: Stage, state: State = State.FAILED, schedule: dict[str, Any] | None = None) -> str:
    """A manual run that ended so; its task is gone, its record expires."""
    await stage.put("hello", schedule or HELLO)
    execution_id = str((await stage.ask("schedule.trigger", id="hello"))["execution_id"])
    await end(stage, execution_id, state)
    return execution_id


async def end(stage: Stage, execution_id: str, state: State = State.FAILED) -> None:
    entry = await stage.executions.get(execution_id)
    assert entry is not None
    before = decode_execution(entry.value)
    done = Finish(at=stage.clock.now(), state=state, attempt=before.attempt + 1, error=Failure("E", "x"))
    after = advance(before, done)
    assert after is not None
    await stage.executions.put(execution_id, encode_execution(after), ttl_s=3600)
    await stage.status.put("hello", b"{}")
    for message in tasks(stage):
        await stage.queues.remove(message.seq)


async def test_a_retry(stage: Stage) -> None:
    """Queued again under its id, with its payload and headers; the claim is that of the next drive."""
    execution_id = await ended(stage, schedule=HELLO | {"headers": {"X-Tenant": "7"}})
    record = await stage.ask("execution.retry", id=execution_id)
    assert (record["id"], record["state"], record["drive"]) == (execution_id, "queued", 1)
    assert (record["attempt"], record["attempts_before"], record["error"]) == (1, 1, None)
    (task,) = tasks(stage)
    assert task.data == b'{"n": 1}'
    assert (task.headers["Schedd-Drive"], task.headers["Schedd-Attempts-Before"]) == ("1", "1")
    assert (task.headers["Schedd-Max-Tries"], task.headers["X-Tenant"]) == ("3", "7")
    assert [each["state"] for each in record["history"]][-3:] == ["failed", "claimed", "queued"]
    assert stage.telemetry.count("redriven", queue="default") == 1
    assert stage.telemetry.count("verdict") == 1, "the verdict was given by the first drive"


async def test_it_outlives_its_retention(stage: Stage) -> None:
    """The time to live of the ended record is over long before the new drive is: it stays."""
    execution_id = await ended(stage)
    await stage.ask("execution.retry", id=execution_id)
    await stage.clock.advance(7200)
    assert (await stage.ask("execution.get", id=execution_id))["state"] == "queued"


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELLED, State.TIMED_OUT, State.LOST, State.EXPIRED])
async def test_every_end_of_what_was_queued(stage: Stage, state: State) -> None:
    """Run it again with the same input: whatever it came to."""
    assert (await stage.ask("execution.retry", id=await ended(stage, state)))["state"] == "queued"


async def test_what_has_not_ended(stage: Stage) -> None:
    """A conflict, and nothing changes."""
    await stage.put("hello")
    execution_id = (await stage.ask("schedule.trigger", id="hello"))["execution_id"]
    with pytest.raises(Conflict, match="has not ended, it is queued"):
        await stage.ask("execution.retry", id=execution_id)
    assert len(tasks(stage)) == 1


async def test_what_was_never_queued(stage: Stage) -> None:
    """Its verdict stays; the sentence names the command that helps."""
    missed = await stage.record("hello", 5, State.MISSED)
    with pytest.raises(Conflict, match="schedctl backfill"):
        await stage.ask("execution.retry", id=missed)


@pytest.mark.parametrize("execution_id", ["", "x", "hello.20261121T080000000Z", "a b.20261121T080000000Z", "*", ">"])
async def test_what_there_is_not(stage: Stage, execution_id: str) -> None:
    with pytest.raises(NotFound):
        await stage.ask("execution.retry", id=execution_id)


test_what_there_is_not.__doc__ = "An unknown id, and what can be none."


async def test_another_payload(stage: Stage) -> None:
    """In place of its own, on record as well; what is too large or too deep is refused before anything happens."""
    execution_id = await ended(stage)
    with pytest.raises(PayloadTooLarge):
        await stage.ask("execution.retry", id=execution_id, payload="x" * 70_000)
    with pytest.raises(InvalidArgument):
        await stage.ask("execution.retry", id=execution_id, expected_drive=-1)
    record = await stage.ask("execution.retry", id=execution_id, payload={"n": 2})
    assert record["payload"] == {"n": 2}
    assert tasks(stage)[0].data == b'{"n": 2}'


async def test_many_at_once(stage: Stage) -> None:
    """Ten requests: one drive, one task. Who said which drive he saw is answered, others meet what has not ended."""
    execution_id = await ended(stage)
    knowing = [stage.ask("execution.retry", id=execution_id, expected_drive=0) for _ in range(5)]
    blind = [stage.ask("execution.retry", id=execution_id) for _ in range(5)]
    answers = await stage.run(asyncio.gather(*knowing, *blind, return_exceptions=True))
    assert len(tasks(stage)) == 1
    assert all(each["drive"] == 1 for each in answers[:5])
    assert sum(isinstance(each, Conflict) for each in answers[5:]) >= 4


async def test_repeated_after_it_ended_again(stage: Stage) -> None:
    """With the drive that was seen the old request is not another retry; one that saw the new drive is."""
    execution_id = await ended(stage)
    await stage.ask("execution.retry", id=execution_id, expected_drive=0)
    await end(stage, execution_id)
    again = await stage.ask("execution.retry", id=execution_id, expected_drive=0)
    assert (again["drive"], again["state"]) == (1, "failed")
    assert (await stage.ask("execution.retry", id=execution_id, expected_drive=1))["drive"] == 2
    with pytest.raises(Conflict, match="in drive 2, not 5"):
        await stage.ask("execution.retry", id=execution_id, expected_drive=5)


async def test_the_schedule_is_gone(stage: Stage) -> None:
    """The record alone says what to run; the queue is made again if it has to be."""
    execution_id = await ended(stage)
    await stage.ask("schedule.delete", id="hello")
    assert (await stage.ask("execution.retry", id=execution_id))["state"] == "queued"


async def test_the_queue_is_full(stage: Stage) -> None:
    """Refused before anything is written: a dead letter stays one."""
    execution_id = await ended(stage)
    stage.full.add("default")
    with pytest.raises(Conflict, match="'default' is full"):
        await stage.ask("execution.retry", id=execution_id)
    assert (await stage.ask("execution.get", id=execution_id))["state"] == "failed"


async def test_another_one_runs(stage: Stage) -> None:
    """Though its schedule says skip it waits for its turn; with a full buffer it is refused, and stays as it was."""
    execution_id = await ended(stage)
    await stage.ask("schedule.trigger", id="hello")
    assert (await stage.ask("execution.retry", id=execution_id))["state"] == "waiting"
    await end(stage, execution_id, State.CANCELLED)
    ids = ", ".join(f'"hello.20261121T{number:09d}Z"' for number in range(100))
    await stage.status.put("hello", f'{{"waiting": [{ids}]}}'.encode())
    with pytest.raises(Conflict, match="100 runs of schedule 'hello' wait"):
        await stage.ask("execution.retry", id=execution_id)
    assert (await stage.ask("execution.get", id=execution_id))["state"] == "cancelled"


async def test_its_old_task_is_taken_away(stage: Stage) -> None:
    """Whoever ended it died before the removal: two tasks of one execution would be two runs."""
    await stage.put("hello")
    execution_id = (await stage.ask("schedule.trigger", id="hello"))["execution_id"]
    (old,) = tasks(stage)
    entry = await stage.executions.get(execution_id)
    assert entry is not None
    lost = advance(decode_execution(entry.value), Finish(at=stage.clock.now(), state=State.LOST))
    assert lost is not None
    await stage.executions.put(execution_id, encode_execution(lost))
    await stage.ask("execution.retry", id=execution_id)
    (new,) = tasks(stage)
    assert new.seq > old.seq


def test_outcomes_are_states() -> None:
    """What a worker can report is what can be retried, but for the wish to try again."""
    assert {each.value for each in Outcome} - {"retry"} <= {each.value for each in State}
