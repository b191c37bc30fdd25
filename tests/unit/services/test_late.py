"""Catch-up on the leader: one decision per schedule and outage, the same one whoever dies where on the way."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from scheduler.core.errors import ScheddError, Unavailable, Unsure
from scheduler.services.late import SETTLE_S
from scheduler.services.leader import Deposed
from tests.unit.services.dispatch_stage import FLOOR_S, At, Dispatching, Failing, Mingling, die, due, finish, put
from tests.unit.services.late_stage import LateReplica, at, note, ranges, recorded, verdicts
from tests.unit.services.tracking_stage import Tripwire, World

EVERY = {"every": "1m", "overlap": "allow"}
WORDS = {"F": "fired", "c": "missed catch_up", "w": "missed window", "m": "missed cap"}
MODES: dict[str, tuple[dict[str, Any], str]] = {  # and what becomes of the minutes 1 to 5
    "latest": ({"mode": "latest"}, "ccccF"),
    "earliest": ({"mode": "earliest"}, "Fcccc"),
    "all": ({"mode": "all"}, "FFFFF"),
    "cap": ({"mode": "all", "max": 2}, "FFmmm"),
    "window": ({"mode": "earliest", "window": "170s"}, "wwFcc"),
    "none": ({"mode": "none"}, "ccccc"),
}


async def late_world(mode: str) -> World:
    """The minutes 1 to 5 were missed, and 20 s have passed since."""
    world = World()
    put(world, **EVERY, catch_up=MODES[mode][0])
    await world.clock.advance(320)
    await note(world, 60)
    return world


async def check(world: World, mode: str) -> None:
    words = [WORDS[letter] for letter in MODES[mode][1]]
    assert await verdicts(world, step_s=60) == dict(zip((60, 120, 180, 240, 300), words, strict=True))
    row = await world.row()
    assert (row.late_from, row.deciding, row.decided_from, row.decided) == (None, None, at(60), at(300))


@pytest.mark.parametrize("mode", MODES)
async def test_decided(mode: str) -> None:
    """Each late one gets the verdict that its policy says, oldest first, and each is counted once."""
    world = await late_world(mode)
    async with LateReplica(world) as leader:
        await leader.lead()
    await check(world, mode)
    assert sum(each["count"] for each in leader.telemetry.of("verdict")) == 5  # type: ignore[misc]  # they are numbers
    assert [each.history[0].note for each in [await world.record(key) for key in await world.executions.keys()]] == [
        "catch_up" for _ in await recorded(world)
    ]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", MODES)
async def test_killed_at_any_call(mode: str, late: bool) -> None:
    """Before or after any one call; the next leader comes half a minute later, and to the same verdicts."""
    number = 0
    while True:
        number += 1
        world = await late_world(mode)
        wire = Tripwire(number, late=late)
        async with LateReplica(world, wire) as doomed:
            await doomed.lead(SETTLE_S + 0.5)
        await world.clock.advance(20)
        async with LateReplica(world) as successor:
            await successor.lead(10)
        await check(world, mode)
        assert len(world.tasks()) == MODES[mode][1].count("F")
        if not wire.tripped:
            break
    assert number > 8


@pytest.mark.parametrize("mode", MODES)
async def test_notes_of_several_replicas_make_one_decision(mode: str) -> None:
    """After an outage each notes what it was handed, the newer ones maybe first: the outage is decided as a whole."""
    world = World()
    put(world, **EVERY, catch_up=MODES[mode][0])
    await world.clock.advance(320)
    async with LateReplica(world) as leader:
        deciding = asyncio.create_task(leader.late.run(leader.tenure()))
        await world.clock.advance(3)
        for second in (240, 120, 60):
            await note(world, second)
            await world.clock.advance(SETTLE_S / 4)
        await world.clock.advance(10)
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
    await check(world, mode)


@pytest.mark.parametrize("late", [False, True], ids=["lost", "landed"])
@pytest.mark.parametrize("problem", [Unavailable("electing"), Unsure("no answer")], ids=["unavailable", "unsure"])
@pytest.mark.parametrize("mode", ["all", "earliest"])
async def test_a_fault_at_any_call(mode: str, problem: ScheddError, late: bool) -> None:
    """Any one call is refused or finds no answer, landed or not: the same leader goes on to the same verdicts."""
    for number in range(1, 40):
        world = await late_world(mode)
        wire = Failing(number, problem, late=late)
        replica = LateReplica(world, wire)
        wire.count = 10_000  # not while it starts
        async with replica as leader:
            wire.count = 0
            await leader.lead(25)
            wire.count = 10_000
        await check(world, mode)
        assert len(world.tasks()) == MODES[mode][1].count("F")


@pytest.mark.parametrize("seed", range(20))
async def test_two_leaders_at_the_same_time(seed: int) -> None:
    """One does not know yet that his time is over: they do the same, once."""
    world, rng = await late_world("cap"), random.Random(seed)
    async with LateReplica(world, Mingling(rng)) as one, LateReplica(world, Mingling(rng)) as other:
        await one.schedules.fresh()
        await asyncio.gather(one.late.decide(["a"], one.tenure()), other.late.decide(["a"], other.tenure()))
        await one.lead(10)
    await check(world, "cap")
    assert len(world.tasks()) == 2


@pytest.mark.parametrize("point", ["late.disowned", "late.fixed", "late.fired", "late.told"])
async def test_nothing_is_written_once_the_term_is_over(point: str) -> None:
    """It ends between two steps: none of the following is taken, and the next leader comes to the same verdicts."""
    world = await late_world("cap")
    written: list[list[int]] = []

    async def over() -> None:
        tenure.end()
        written.append(writes_of(world))

    async with LateReplica(world, checkpoints=At(point, over)) as leader:
        tenure = leader.tenure()
        with pytest.raises(Deposed):
            await leader.late.decide(["a"], tenure)
    assert written == [writes_of(world)]
    async with LateReplica(world) as successor:
        await successor.lead()
    await check(world, "cap")


def writes_of(world: World) -> list[int]:
    streams = (world.executions.stream, world.status.stream, world.server.tasks, world.server.events)
    return [each.last_seq for each in streams]


async def test_what_has_a_record_is_left_out() -> None:
    """Dispatched on time, or claimed by whoever got it: it is not chosen, not counted, and not done again."""
    world = World()
    put(world, **EVERY, catch_up={"mode": "earliest"})
    await world.clock.advance(60)
    due(world, 60)
    async with Dispatching(world) as replica:
        await replica.run()
    await world.clock.advance(260)
    await note(world, 60)
    async with LateReplica(world) as leader:
        await leader.lead()
    assert ranges(world) == [(180, 300, 3, "missed", "catch_up")]
    assert await recorded(world) == {60: "fired", 120: "fired"}
    assert len(world.tasks()) == 2


async def test_overlap_has_its_say() -> None:
    """Chosen ones go the way of all: where one may run at a time, the oldest does."""
    world = World()
    put(world, every="1m", catch_up={"mode": "all", "max": 3})
    await world.clock.advance(320)
    await note(world, 60)
    async with LateReplica(world) as leader:
        await leader.lead()
    assert await recorded(world) == {60: "fired", 120: "skipped", 180: "skipped"}
    assert ranges(world) == [(240, 300, 2, "missed", "cap")]
    await finish(world)


async def test_pauses_are_told_not_missed() -> None:
    """Nominal times in a pause get one range of their own, however many, and their records are not asked for."""
    world = World()
    put(world, every="1s", paused=True, paused_until="2026-11-22T00:00:00Z", catch_up={"mode": "none"})
    await world.clock.advance(86_400)
    await note(world, 1)
    async with LateReplica(world) as leader:
        reads = leader.wire.count
        await leader.lead(5)
        assert leader.wire.count - reads < 40
    told = ranges(world)
    assert told[0][3:] == ("paused", "paused")
    assert sum(count for _, _, count, _, _ in told) >= 86_000


async def test_a_long_outage_reads_little() -> None:
    """A day of seconds: the newest one fires, all others are one range, and a handful of reads was enough."""
    world = World()
    put(world, every="1s")
    await world.clock.advance(86_000)
    await note(world, 1)
    async with LateReplica(world) as leader:
        reads = leader.wire.count
        await leader.lead(5)
        assert leader.wire.count - reads < 40
    ((first, last, count, verdict, reason),) = ranges(world)
    assert (first, count, verdict, reason) == (1, last, "missed", "catch_up")  # the successor is due
    assert 85_980 <= last <= 86_000


async def test_what_is_not_late_yet_waits() -> None:
    """A note is decided once it is late by the definition's own measure, and not a moment before."""
    world = World()
    put(world, **EVERY, start_delay="30s")
    await world.clock.advance(65)
    await note(world, 60)
    async with LateReplica(world) as leader:
        await leader.lead(30)
        assert (await world.row()).late_from == at(60)
        await leader.lead(10)
    assert await recorded(world) == {60: "fired"}


async def test_one_that_comes_after_all_is_decided_by_itself() -> None:
    """Older than what was decided: its own span, up to there."""
    world = await late_world("all")
    row = await world.row()
    assert row.late_from == at(60)
    await note(world, 60, decided_from=at(180), decided=at(240))
    async with LateReplica(world) as leader:
        await leader.lead()
    assert await recorded(world) == {60: "fired", 120: "fired", 300: "fired"}
    row = await world.row()
    assert (row.decided_from, row.decided, row.late_from) == (at(60), at(300), None)


async def test_a_note_of_nothing_goes() -> None:
    """An edit left nothing behind it: the note is taken away."""
    world = World()
    put(world, every=None, at="2026-11-21T08:00:00Z")
    await world.clock.advance(320)
    await note(world, 60)
    async with LateReplica(world) as leader:
        await leader.lead()
    assert (await world.row()).late_from is None
    assert ranges(world) == []


async def test_a_decision_that_lay_for_longer_than_records_live_fires_nothing() -> None:
    """A leader died between firing and telling, and nobody led until what he fired was forgotten: it is not fired
    again, and the reason says which setting would have kept it."""
    world = World()
    put(world, **EVERY, retention={"age": "0s"})
    await world.clock.advance(320)
    await note(world, 60)
    async with LateReplica(world, checkpoints=At("late.fired", die)) as doomed:
        await doomed.lead()
        await finish(world)
    assert await recorded(world) == {300: "fired"}
    assert ranges(world) == []
    await world.clock.advance(FLOOR_S + 60)
    assert await world.executions.keys() == []
    async with LateReplica(world) as leader:
        await leader.lead()
    assert (await world.executions.keys(), world.tasks()) == ([], [])
    assert ranges(world) == [(60, 300, 5, "missed", "retention")]
