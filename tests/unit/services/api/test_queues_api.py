"""queue.put, get, list, delete and purge, over the memory twins."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, Unavailable
from scheduler.core.model.execution import State
from scheduler.memory.messages import Write
from scheduler.wire.record import decode_execution
from scheduler.wire.reports import Finished, Outcome, Started, encode
from tests.unit.services.api.stage import HELLO, Stage


async def trigger(stage: Stage, schedule: str = "a", **fields: object) -> str:
    """An execution whose task is in the queue `default`."""
    await stage.put(schedule, {**HELLO, "overlap": "allow", **fields})
    return str((await stage.ask("schedule.trigger", id=schedule))["execution_id"])


async def state_of(stage: Stage, execution_id: str) -> tuple[State, str | None]:
    entry = await stage.executions.get(execution_id)
    assert entry is not None
    found = decode_execution(entry.value)
    return found.state, found.reason


async def test_put_get(stage: Stage) -> None:
    """What was put is what is shown; what was not given has the defaults; it can be put back as it is."""
    item = await stage.ask("queue.put", id="Q", queue={"ack_wait": "10s", "max_ack_pending": 1, "paused": True})
    assert item == await stage.ask("queue.get", id="Q")
    assert item == {
        "id": "Q",
        "queue": {
            "ack_wait": "10s", "max_ack_pending": 1, "max_deliver": 20, "max_pending": 100_000, "backoff": [],
            "paused": True, "pause_note": None, "paused_until": None,
        },
        "status": {"pending": 0, "ack_pending": 0, "oldest_s": None, "paused": True, "schedules": []},
    }  # fmt: skip
    assert await stage.ask("queue.put", id="Q", queue=item["queue"]) == item


@pytest.mark.parametrize(
    ("queue", "field"),
    [
        ({"nope": 1}, "nope"),
        ({"ack_wait": "10ms"}, "ack_wait"),
        ({"max_deliver": 1, "backoff": ["1s", "2s"]}, "backoff"),
        ({"paused_until": "2020-01-01T00:00:00Z"}, "paused_until"),
    ],
)
async def test_put_refused(stage: Stage, queue: dict[str, object], field: str) -> None:
    """The field is named, and no queue is made by the way."""
    with pytest.raises(InvalidArgument) as refused:
        await stage.ask("queue.put", id="Q", queue=queue)
    assert refused.value.field == field
    with pytest.raises(NotFound):
        await stage.ask("queue.get", id="Q")


@pytest.mark.parametrize("verb", ["put", "get", "delete", "purge"])
async def test_impossible_names(stage: Stage, verb: str) -> None:
    """A name that no queue can have is refused before anything is asked of the server."""
    for name in ("", "a.b", "a b", "x" * 65, "*", ">"):
        with pytest.raises(InvalidArgument):
            await stage.ask(f"queue.{verb}", id=name)


@pytest.mark.parametrize("verb", ["get", "delete", "purge"])
async def test_not_found(stage: Stage, verb: str) -> None:
    """One sentence."""
    with pytest.raises(NotFound, match="there is no queue 'NOPE'"):
        await stage.ask(f"queue.{verb}", id="NOPE")


async def test_list(stage: Stage) -> None:
    """By name, in pages, by prefix, with who uses them; an invalid schedule uses its queue, too."""
    for number in range(5):
        await stage.ask("queue.put", id=f"q{number}", queue={})
    await stage.ask("queue.put", id="other", queue={})
    await stage.put("b", {**HELLO, "queue": "q1"})
    stage.schedules.put_raw("a", b'{"queue": "q1", "cron": "nonsense"}')
    page = await stage.ask("queue.list", prefix="q", limit=3)
    assert [item["id"] for item in page["items"]] == ["q0", "q1", "q2"]
    assert page["items"][1]["status"]["schedules"] == ["a", "b"]
    rest = await stage.ask("queue.list", prefix="q", limit=3, cursor=page["cursor"])
    assert ([item["id"] for item in rest["items"]], rest["cursor"]) == (["q3", "q4"], None)
    with pytest.raises(InvalidArgument):
        await stage.ask("queue.list", limit=0)


async def test_delete_in_use(stage: Stage) -> None:
    """Refused, naming the schedules; afterwards it can be deleted, and is gone."""
    await stage.queues.ensure("default")
    for number in range(7):
        await stage.put(f"s{number}")
    with pytest.raises(Conflict, match="used by s0, s1, s2, s3, s4 and 2 more: change or delete them first"):
        await stage.ask("queue.delete", id="default")
    for number in range(7):
        await stage.ask("schedule.delete", id=f"s{number}")
    assert (await stage.ask("queue.delete", id="default"))["id"] == "default"
    with pytest.raises(NotFound):
        await stage.ask("queue.get", id="default")


async def test_delete_with_tasks(stage: Stage) -> None:
    """Refused, with their number, delivered or not; after a purge it is deleted."""
    await trigger(stage)
    await stage.ask("schedule.delete", id="a")
    with pytest.raises(Conflict, match="holds 1 task: purge it first"):
        await stage.ask("queue.delete", id="default")
    stage.server.queue("default").take(1)
    with pytest.raises(Conflict, match="holds 1 task"):
        await stage.ask("queue.delete", id="default")
    assert (await stage.ask("queue.purge", id="default"))["purged"] == 1
    await stage.ask("queue.delete", id="default")


# --- purge


async def test_purge(stage: Stage) -> None:
    """What waits ends as cancelled, reason purged, and its tasks are gone; a dry run only counts."""
    ids = [await trigger(stage, f"s{number}") for number in range(40)]
    dry = await stage.ask("queue.purge", id="default", dry_run=True)
    assert dry == {"id": "default", "purged": 40, "running": 0, "remaining": 40, "dry_run": True}
    assert await state_of(stage, ids[0]) == (State.QUEUED, None)
    done = await stage.ask("queue.purge", id="default")
    assert done == {"id": "default", "purged": 40, "running": 0, "remaining": 0, "dry_run": False}
    assert {await state_of(stage, each) for each in ids} == {(State.CANCELLED, "purged")}
    assert (await stage.ask("queue.purge", id="default"))["purged"] == 0
    assert not stage.server.cancelled


async def test_purge_leaves_what_runs(stage: Stage) -> None:
    """An SDK run goes on; one between two attempts, and what a plain worker has in hand, ends."""
    running, between, plain = [await trigger(stage, name) for name in ("a", "b", "c")]
    stage.server.queue("default").take(3)
    for each in (running, between):
        subject = stage.server.names.report("default", each, 1, "started")
        stage.server.report(subject, encode(Started(worker="w", at=stage.clock.now())), claim=True)
    subject = stage.server.names.report("default", between, 1, "finished")
    stage.server.report(subject, encode(Finished(outcome=Outcome.RETRY)))
    assert (await stage.ask("queue.purge", id="default", dry_run=True))["running"] == 1
    done = await stage.ask("queue.purge", id="default")
    assert (done["purged"], done["running"], done["remaining"]) == (2, 1, 1)
    assert (await state_of(stage, running))[0] is State.QUEUED  # nobody tracks here
    assert await state_of(stage, plain) == (State.CANCELLED, "purged")
    assert await state_of(stage, between) == (State.CANCELLED, "purged")
    assert not stage.server.cancelled


async def test_purge_of_what_is_nobodys(stage: Stage) -> None:
    """Tasks without a record, of executions that are over, and foreign ones are removed, too."""
    over = await trigger(stage)
    entry = await stage.executions.get(over)
    assert entry is not None
    body = msgspec.json.decode(entry.value) | {"state": "succeeded"}
    await stage.executions.put(over, msgspec.json.encode(body))
    for name in ("x.20261121T080000000Z", "foreign", "a.b.c.d"):
        stage.server.tasks.store([Write(f"schedd.task.default.{name}")])
    assert (await stage.ask("queue.purge", id="default"))["purged"] == 4
    assert await state_of(stage, over) == (State.SUCCEEDED, None)


async def test_purge_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes so many, oldest first, and says what is left."""
    monkeypatch.setattr("scheduler.services.purging.MOST", 4)
    ids = [await trigger(stage, f"s{number}") for number in range(6)]
    purger = stage.purger
    first = await stage.run(purger.purge("default", most=4))
    assert (first.count, first.remaining) == (4, 2)
    assert await state_of(stage, ids[3]) == (State.CANCELLED, "purged")
    assert await state_of(stage, ids[4]) == (State.QUEUED, None)
    second = await stage.run(purger.purge("default", most=4))
    assert (second.count, second.remaining) == (2, 0)


@pytest.mark.parametrize("fault", ["lose_ack_next", "lose_next", "refuse_in_flight_next", "land_late"])
async def test_purge_through_lost_answers(stage: Stage, fault: str) -> None:
    """Whatever gets lost on the way, a second purge finishes it, and no record is left open without its task."""
    ids = [await trigger(stage, f"s{number}") for number in range(5)]
    for _ in range(8):
        getattr(stage.server, fault)()
        with contextlib.suppress(Unavailable, Conflict):
            await stage.ask("queue.purge", id="default")
        stage.server._faults.clear()
    await stage.clock.advance(5)
    assert (await stage.ask("queue.purge", id="default"))["remaining"] == 0
    assert {await state_of(stage, each) for each in ids} == {(State.CANCELLED, "purged")}
