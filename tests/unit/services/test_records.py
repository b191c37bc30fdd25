"""Records: created, moved, read back; whoever wrote is told so and counts it, once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.errors import Conflict, ScheddError, Unavailable, Unsure
from scheduler.core.lifecycle import Event, Finish, Queue, Resume, Retry, advance
from scheduler.core.model.execution import Execution, State
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.stores import Write
from scheduler.services.records import ROUNDS_MAX, Change, Changed, Records, Stored
from scheduler.wire.record import encode_execution
from tests.unit.core.executions import QUEUED, STARTED, after, at, claimed, in_state
from tests.unit.services.dispatch_stage import Mingling
from tests.unit.services.tracking_stage import Tripwire, World

DONE = Finish(at=at(5), state=State.SUCCEEDED, attempt=1)
SKIPPED = Finish(at=at(1), state=State.SKIPPED, reason="overlap")
FLOOR_S = 1800.0


def office(world: World, wire: Tripwire | None = None) -> tuple[Records, RecordingTelemetry]:
    telemetry = RecordingTelemetry()
    bucket = (wire or Tripwire()).around(world.executions.replica())
    return Records(bucket, telemetry, claim_floor_s=FLOOR_S), telemetry


def known(result: Stored | ScheddError) -> Stored:
    assert isinstance(result, Stored), result
    return result


def changed(result: Changed | ScheddError) -> Changed:
    assert isinstance(result, Changed), result
    return result


async def one_of_each(world: World) -> Stored:
    records, _ = office(world)
    (stored,) = await records.create_many([claimed()])
    return known(stored)


# --- creating


async def test_create_and_conflict() -> None:
    """The first creates it; the second is told that it is there."""
    world = World()
    records, telemetry = office(world)
    assert known((await records.create_many([claimed()]))[0]).revision == 1
    (again,) = await records.create_many([claimed()])
    assert isinstance(again, Conflict)
    assert telemetry.calls == []


@pytest.mark.parametrize("fault", ["lose_ack", "lose", "late", "refuse"])
async def test_a_claim_without_an_answer_is_nobodys(fault: str) -> None:
    """Whether it landed or not: Unsure, for the record that is there may be somebody else's, with the same words."""
    world = World()
    records, _ = office(world)
    world.server._faults.append(fault)
    (result,) = await records.create_many([claimed()])
    assert isinstance(result, Unavailable)
    assert isinstance(result, Unsure) is (fault != "refuse")


@pytest.mark.parametrize("fault", ["", "lose_ack"])
async def test_a_verdict_without_a_run_is_counted(fault: str) -> None:
    """Born terminal: its verdict and its end, once, also when it had to be read back."""
    world = World()
    records, telemetry = office(world)
    world.server._faults.append(fault)
    execution = structs.replace(in_state(State.PAUSED), reason="paused")
    assert isinstance((await records.create_many([execution]))[0], Stored)
    assert telemetry.of("verdict") == [{"verdict": "paused", "reason": "paused", "count": 1}]
    assert telemetry.of("finished") == [{"queue": "Q", "state": "paused", "duration_s": None}]
    (again,) = await records.create_many([execution])
    assert isinstance(again, Conflict)
    assert telemetry.count("verdict") == telemetry.count("finished") == 1


async def test_a_lost_verdict_is_not_counted() -> None:
    """It did not land, as far as anybody knows."""
    world = World()
    records, telemetry = office(world)
    world.server.lose_next()
    (result,) = await records.create_many([in_state(State.PAUSED)])
    assert isinstance(result, Unsure)
    assert telemetry.calls == []


async def test_an_orphan_has_a_verdict_and_no_queue() -> None:
    """Without a queue it counts for none."""
    world = World()
    records, telemetry = office(world)
    await records.create_many([structs.replace(in_state(State.SUPERSEDED), queue="", type="", reason="deleted")])
    assert telemetry.of("verdict") == [{"verdict": "superseded", "reason": "deleted", "count": 1}]
    assert telemetry.count("finished") == 0


@pytest.mark.parametrize(
    ("execution", "ttl_s"),
    [
        (claimed(), None),
        (in_state(State.RUNNING), None),
        (in_state(State.SUCCEEDED), 604_800),
        (in_state(State.FAILED, retention_s=60.0), 1800),
        (in_state(State.SKIPPED, retention_s=7200.5), 7200),
    ],
)
def test_only_what_has_ended_goes(execution: Execution, ttl_s: int | None) -> None:
    """An open record has no TTL; a terminal one its retention, never less than the claim floor."""
    records, _ = office(World())
    assert records.write_of(execution, 3) == Write(execution.id, encode_execution(execution), expect=3, ttl_s=ttl_s)


# --- moving what was read


async def test_move_counts_what_it_makes() -> None:
    """Queued: the verdict fired and its lateness. Ended: once. Nothing else counts."""
    world = World()
    stored = await one_of_each(world)
    records, telemetry = office(world)
    for event in (Resume(at(1)), Queue(at(2), 11), STARTED, DONE):
        (result,) = await records.move_many([(stored, event)])
        stored = known(result)
    assert telemetry.of("verdict") == [{"verdict": "fired", "reason": "auto", "count": 1}]
    assert telemetry.of("lateness") == [{"seconds": 2.0}]
    assert telemetry.of("finished") == [{"queue": "Q", "state": "succeeded", "duration_s": 3.0}]


async def test_move_is_over_what_was_read() -> None:
    """Somebody wrote since: Conflict, even if what he wrote says the same."""
    world = World()
    stored = await one_of_each(world)
    records, telemetry = office(world)
    await records.move_many([(stored, Resume(at(1)))])
    (result,) = await records.move_many([(stored, SKIPPED)])
    assert isinstance(result, Conflict)
    assert telemetry.calls == []


@pytest.mark.parametrize("fault", ["lose_ack", "lose", "late"])
async def test_move_without_an_answer(fault: str) -> None:
    """Landed: read back, ours, counted. Not there: Unsure, and nothing is counted."""
    world = World()
    stored = await one_of_each(world)
    records, telemetry = office(world)
    world.server._faults.append(fault)
    (result,) = await records.move_many([(stored, SKIPPED)])
    assert isinstance(result, Stored if fault == "lose_ack" else Unsure)
    assert telemetry.count("verdict", verdict="skipped") == (fault == "lose_ack")


async def test_an_illegal_move_is_a_bug() -> None:
    """Whoever read the record knows what is legal."""
    world = World()
    stored = await one_of_each(world)
    records, _ = office(world)
    with pytest.raises(AssertionError, match="illegal"):
        await records.move_many([(stored, Retry(at(1)))])


# --- changing whatever there is


async def test_change_decides_anew_on_every_conflict() -> None:
    """Somebody is faster: the change is decided against what he made of it."""
    world = World()
    await one_of_each(world)
    records, telemetry = office(world)
    seen: list[State] = []

    def decide(execution: Execution) -> tuple[Event, ...]:
        seen.append(execution.state)
        if len(seen) == 1:
            world.executions.put_raw(execution.id, encode_execution(after(execution, QUEUED)))
        return (QUEUED, STARTED)

    result = changed((await records.try_advance_many([Change(claimed().id, decide)]))[0])
    assert seen == [State.CLAIMED, State.QUEUED]
    assert (result.moved, result.fired, result.ended) == (True, False, False)
    assert telemetry.count("verdict") == 0


async def test_a_record_that_never_stands_still() -> None:
    """Given up after some rounds, as something that may pass; other changes are made."""
    world = World()
    await one_of_each(world)
    await world.store(claimed(id="b"))
    records, _ = office(world)

    def decide(execution: Execution) -> tuple[Event, ...]:
        world.executions.put_raw(execution.id, encode_execution(execution))
        return (QUEUED,)

    bad, good = await records.try_advance_many([Change(claimed().id, decide), Change("b", (QUEUED,))])
    assert isinstance(bad, Unavailable)
    assert changed(good).fired
    assert world.executions.stream.last_seq == 2 + ROUNDS_MAX + 1


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("fault", ["lose_ack", "lose", "late", "refuse"])
async def test_change_through_faults(fault: str, number: int) -> None:
    """Whatever happens to a write: at the end it is told and counted by exactly one that won, or by none."""
    world = World()
    await one_of_each(world)
    records, telemetry = office(world)
    world.server._faults.extend([""] * number + [fault] * 2)
    told = [changed(each) for event in (QUEUED, STARTED, DONE) for each in await _until_made(records, world, event)]
    assert [(each.fired, each.ended) for each in told] == [(True, False), (False, False), (False, True)]
    assert (telemetry.count("verdict"), telemetry.count("lateness"), telemetry.count("finished")) == (1, 1, 1)
    assert (await world.record(claimed().id)).state is State.SUCCEEDED


async def _until_made(records: Records, world: World, event: Event) -> list[Changed | ScheddError]:
    for _ in range(5):
        results = await records.try_advance_many([Change(claimed().id, (event,))])
        if not isinstance(results[0], ScheddError):
            return results
        await world.clock.advance(0.5)
    raise AssertionError(results)


async def test_landed_and_gone_on() -> None:
    """Ours landed unheard, and somebody went on from it before we looked: it was ours all the same, counted once."""
    world = World()
    await one_of_each(world)
    records, telemetry = office(world)
    write_many = world.executions.put_many

    class Busy:
        """The bucket, on which somebody goes on from our write before our answer would come."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.executions, name)

        async def put_many(self, writes: list[Write]) -> list[int | ScheddError]:
            await write_many(writes)
            going_on = after(await world.record(claimed().id), STARTED)
            world.executions.put_raw(claimed().id, encode_execution(going_on))
            records.bucket = world.executions
            return [Unsure("no answer")]

    records.bucket = Busy()  # type: ignore[assignment]
    (result,) = await records.try_advance_many([Change(claimed().id, (QUEUED,))])
    assert changed(result).fired
    assert changed(result).execution == await world.record(claimed().id)
    assert telemetry.count("verdict") == telemetry.count("lateness") == 1


async def test_two_changes_of_one_record() -> None:
    """The second sees what the first made of it."""
    world = World()
    await one_of_each(world)
    records, _ = office(world)
    results = await records.advance_many([Change(claimed().id, (each,)) for each in (QUEUED, STARTED, DONE)])
    assert [each.execution and each.execution.state for each in results] == [
        State.QUEUED,
        State.RUNNING,
        State.SUCCEEDED,
    ]


async def test_illegal_events_change_nothing_and_are_counted() -> None:
    """An end is final; being told twice that it is queued is no fault."""
    world = World()
    await world.store(in_state(State.SUCCEEDED))
    records, telemetry = office(world)
    result = await records.advance(claimed().id, SKIPPED, QUEUED, STARTED)
    assert (result.moved, result.ended, result.execution) == (False, False, in_state(State.SUCCEEDED))
    assert telemetry.of("dropped") == [{"what": "transition", "reason": "succeeded"}] * 2
    assert world.executions.stream.last_seq == 1


async def test_no_record() -> None:
    """There is nothing to change."""
    records, _ = office(World())
    assert await records.advance("nobody", QUEUED) == Changed(None)
    assert await records.get("nobody") is None


@pytest.mark.parametrize("value", [b"", b"garbage", b"[]", b'{"id":"x"}', b"\xff\xfe", b"{" * 5000])
async def test_unreadable_records_survive(value: bytes) -> None:
    """Reported and counted, read as none, changed by nothing; the others of the same read are fine."""
    world = World()
    world.executions.put_raw("bad", value)
    await world.store(claimed())
    records, telemetry = office(world)
    found = await records.get_many(["bad", claimed().id])
    assert found == [None, Stored(claimed(), 2)]
    assert telemetry.of("dropped") == [{"what": "record", "reason": "unreadable"}]
    assert await records.advance("bad", QUEUED) == Changed(None)
    entry = await world.executions.get("bad")
    assert entry is not None
    assert entry.value == value


async def test_the_first_error_is_raised_after_all_were_tried() -> None:
    """`advance_many` raises; what could be made was made."""
    world = World()
    for each in ("a", "b"):
        await world.store(claimed(id=each))
    records, _ = office(world)
    world.server._faults.extend(["refuse"])
    with pytest.raises(Unavailable):
        await records.advance_many([Change(each, (QUEUED,)) for each in ("a", "b")])
    assert (await world.record("b")).state is State.QUEUED


@pytest.mark.parametrize("fault", ["lose_ack", "refuse", "lose"])
@pytest.mark.parametrize("seed", range(12))
async def test_rivals_count_once_between_them(seed: int, fault: str) -> None:
    """Three replicas tell the same record the same story, mingled, with faults: each step is made and counted once.

    Of a write that was lost without an answer nobody knows that a rival's, with the same words, was not it: then twice.
    """
    world, rng = World(), random.Random(seed)
    await one_of_each(world)
    offices = [office(world, Mingling(rng)) for _ in range(3)]
    world.server._faults.extend(rng.choice(["", "", fault]) for _ in range(6))

    async def tell(records: Records) -> None:
        for event in (QUEUED, STARTED, DONE):
            await _until_made(records, world, event)

    telling = asyncio.gather(*(tell(records) for records, _ in offices))
    await world.clock.advance(20)
    await telling
    calls = [call.name for _, telemetry in offices for call in telemetry.calls]
    counts = [calls.count(name) for name in ("verdict", "lateness", "finished")]
    assert counts == [1, 1, 1] or (fault == "lose" and min(counts) >= 1)
    assert [each.state for each in (await world.record(claimed().id)).history] == [
        State.CLAIMED,
        State.QUEUED,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    final = await world.record(claimed().id)
    assert final == after(claimed(), QUEUED, STARTED, DONE)
    assert advance(final, DONE) is None
