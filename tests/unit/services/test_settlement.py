"""Settlement: what follows a terminal record, and that nothing of it is forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.lifecycle import NEVER_QUEUED, OUTCOMES
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.core.model.status import StatusRow
from scheduler.memory.events import MemoryEvents
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.services import settlement as module
from scheduler.services.rows import StatusRows
from scheduler.services.settlement import ENDED_MAX, Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.wire.ids import execution_id
from scheduler.wire.instants import format_optional
from scheduler.wire.status import encode_status
from tests.unit.core.executions import T0, claimed, in_state
from tests.unit.services.tracking_stage import Tripwire, World


class Office:
    """A settlement on the twins. `slotted`: the schedules whose runs take slots now."""

    def __init__(self, world: World, wire: Tripwire | None = None) -> None:
        self.world, self.telemetry = world, RecordingTelemetry()
        self.slotted: set[str] = {"a"}
        rows = StatusRows((wire or Tripwire()).around(world.status.replica()))
        events, holds = MemoryEvents(world.server), self.slotted.__contains__
        self.settlement = Settlement(SlotKeeper(rows), events, world.clock, holds, self.telemetry)


def run(number: int = 0, schedule: str = "a", state: State = State.QUEUED, **changes: Any) -> Execution:
    moment = T0 + timedelta(seconds=number)
    key = {"id": execution_id(schedule, moment), "schedule": schedule, "nominal_at": moment}
    return structs.replace(in_state(state), **(key | changes))


async def make_row(world: World, schedule: str = "a", *active: str) -> None:
    await world.status.put(schedule, encode_status(StatusRow(active=active)))


@pytest.mark.parametrize("state", [*OUTCOMES, *NEVER_QUEUED])
async def test_every_end_is_told_once(state: State) -> None:
    """One event for each terminal execution; its slot is free at once; only what ran is an outcome."""
    world = World()
    ended = run(state=state)
    await make_row(world, "a", ended.id)
    office = Office(world)
    await office.settlement.settle([ended])
    ran = state not in NEVER_QUEUED
    assert (await world.row()).active == (() if ran else (ended.id,))
    await office.settlement.flush()
    assert (await world.row()).last_outcome == (state.value if ran else None)
    (event,) = world.finished_events()
    assert event == {
        "execution_id": ended.id, "state": state.value, "reason": ended.reason, "attempt": ended.attempt,
        "queue": "Q", "nominal_at": "2026-11-21T08:00:00.000Z", "kind": "auto", "type": ended.type, "drive": 0,
        "finished_at": format_optional(ended.finished_at), "lateness_s": ended.lateness_s,
        "duration_s": ended.duration_s, "error": None,
    }  # fmt: skip


async def test_what_expired_in_its_queue_held_a_slot() -> None:
    """Expired before it was queued it held none, after that it did."""
    world = World()
    ended = run(state=State.EXPIRED, queued_at=T0)
    await make_row(world, "a", ended.id)
    await Office(world).settlement.settle([ended])
    assert (await world.row()).active == ()


async def test_nothing_to_settle_costs_nothing() -> None:
    """No call, no event."""
    world, wire = World(), Tripwire()
    office = Office(world, wire)
    await office.settlement.settle([])
    await office.settlement.flush()
    assert (wire.count, world.finished_events()) == (0, [])


async def test_the_rows_follow_lazily() -> None:
    """However many fires and ends: one write of the row per second; `fires` counts what fired by itself."""
    world = World()
    await make_row(world, "b")
    office = Office(world)
    running = asyncio.ensure_future(office.settlement.run())
    for number in range(30):
        office.settlement.fired([run(number, "b"), run(number, "b", kind=Kind.MANUAL)])
        await office.settlement.settle([run(number, "b", state=State.FAILED if number == 29 else State.SUCCEEDED)])
        await world.clock.advance(0.1)
    await world.clock.advance(1)
    row = await world.row("b")
    assert (row.fires, row.last_outcome, row.previous_at) == (30, "failed", T0 + timedelta(seconds=29))
    assert world.status.stream.last_seq <= 5
    running.cancel()
    await asyncio.wait([running])


async def test_previous_at_never_goes_back() -> None:
    """A late fire of an earlier occurrence does not make the row older."""
    world = World()
    await make_row(world)
    office = Office(world)
    for number in (9, 3):
        office.settlement.fired([run(number)])
        await office.settlement.flush()
    assert (await world.row()).previous_at == T0 + timedelta(seconds=9)


@pytest.mark.parametrize("fault", ["lose", "refuse"])
async def test_what_cannot_be_written_is_kept(fault: str) -> None:
    """Refused or unanswered for long: nothing is lost, nothing counted twice, others are written."""
    world = World()
    for schedule in ("a", "b"):
        await make_row(world, schedule)
    office = Office(world)
    for schedule in ("a", "b"):
        office.settlement.fired([run(1, schedule)])
    world.server._faults.extend([fault, "", fault, fault])
    await office.settlement.flush()
    assert ((await world.row("a")).fires, (await world.row("b")).fires) == (0, 1)
    office.settlement.fired([run(2)])
    world.server._faults.clear()
    await office.settlement.flush()
    await office.settlement.flush()
    row = await world.row("a")
    assert (row.fires, row.previous_at, (await world.row("b")).fires) == (2, T0 + timedelta(seconds=2), 1)


async def test_a_landed_write_without_an_answer_counts_once() -> None:
    """It is read back."""
    world = World()
    await make_row(world)
    office = Office(world)
    office.settlement.fired([run(1)])
    world.server._faults.append("lose_ack")
    await office.settlement.flush()
    await office.settlement.flush()
    assert (await world.row()).fires == 1


async def test_the_server_is_away_for_long() -> None:
    """What happens meanwhile is added up and written when it is back."""
    world = World()
    await make_row(world)
    office = Office(world)
    running = asyncio.ensure_future(office.settlement.run())
    world.server.down = True
    for number in range(20):
        office.settlement.fired([run(number)])
        await office.settlement.settle([run(number, state=State.SUCCEEDED)])
        await world.clock.advance(1)
    world.server.down = False
    await world.clock.advance(2)
    row = await world.row()
    assert (row.fires, row.last_outcome) == (20, "succeeded")
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_loses_nothing(turns: int) -> None:
    """Cancelled at any turn, in the middle of a write too: all is written once when `run` has ended."""
    world = World()
    await make_row(world)

    class Slow(Tripwire):
        async def call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            result = await super().call(method, *args, **kwargs)
            await asyncio.sleep(0)
            return result

    office = Office(world, Slow())
    running = asyncio.ensure_future(office.settlement.run())
    office.settlement.fired([run(1)])
    await asyncio.sleep(0)
    world.clock._now += timedelta(seconds=1)
    for _, _, callback in world.clock._timers:
        callback()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    office.settlement.fired([run(2)])
    await asyncio.wait([running])
    assert running.cancelled()
    assert (await world.row()).fires == 2


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many schedules the last ones are not remembered, counted; of too many ended runs the last ones."""
    monkeypatch.setattr(module, "PENDING_MAX", 10)
    world = World()
    world.server.down = True
    office = Office(world)
    office.settlement.fired([run(0, f"s{number}") for number in range(15)])
    assert office.telemetry.count("dropped", what="status_row", reason="pending_full") == 5
    await office.settlement.flush()
    assert len(office.settlement._lazy) == 10
    await office.settlement.settle([run(number, "s1", State.SUCCEEDED) for number in range(ENDED_MAX + 50)])
    assert len(office.settlement._lazy["s1"].ended) == ENDED_MAX


async def test_many_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush of thousands of rows goes in parts."""
    monkeypatch.setattr(module, "FLUSH_BATCH", 100)
    world, wire = World(), Tripwire()
    for number in range(950):
        await make_row(world, f"s{number}")
    office = Office(world, wire)
    office.settlement.fired([run(0, f"s{number}") for number in range(950)])
    await office.settlement.flush()
    assert wire.count == 20
    assert sum([(await world.row(f"s{number}")).fires for number in range(950)]) == 950


async def test_the_row_of_a_schedule_that_is_gone() -> None:
    """It is not made again by the last run that ends."""
    world = World()
    office = Office(world)
    office.settlement.fired([run()])
    await office.settlement.settle([run(state=State.SUCCEEDED), run(1, "b", State.SUCCEEDED)])
    await office.settlement.flush()
    assert world.status.stream.last_seq == 0
    assert claimed()


async def test_a_schedule_that_takes_no_slots_any_more() -> None:
    """Edited to `allow` while a run was active: its slot is freed when the rows follow."""
    world = World()
    ended = run(0, "b", State.SUCCEEDED)
    await make_row(world, "b", ended.id, "b.other")
    office = Office(world)
    await office.settlement.settle([ended])
    assert (await world.row("b")).active == (ended.id, "b.other")
    await office.settlement.flush()
    assert (await world.row("b")).active == ("b.other",)


async def test_a_release_that_fails_is_made_good() -> None:
    """The row could not be written when the run ended: the flush frees the slot, the event was sent all the same."""
    world = World()
    ended = run(state=State.SUCCEEDED)
    await make_row(world, "a", ended.id)
    office = Office(world)
    world.server._faults.append("refuse")
    await office.settlement.settle([ended])
    assert len(world.finished_events()) == 1
    assert (await world.row()).active == (ended.id,)
    await office.settlement.flush()
    assert (await world.row()).active == ()
