"""What a leader told and died over: the next one passes over it, and tells what that means."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.memory.clock import START
from scheduler.memory.events import MemoryEvents
from scheduler.ports.timeline import Watermark
from scheduler.services.announcing import Announcer
from scheduler.wire.instants import format_instant
from tests.unit.services.dispatch_stage import Dispatching, put
from tests.unit.services.late_stage import tell_applied
from tests.unit.services.tracking_stage import World

UNTIL = START + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("applied", "newest", "is_told"),
    [(0, 1, True), (1, 2, False), (0, 0, False)],
    ids=["passed over", "applied before", "not passed over yet"],
)
async def test_what_r_passes_over_is_superseded(applied: int, newest: int, is_told: bool) -> None:
    """Up to the watermark, of the definition that was told and replaced before it was applied; of no other (seed 116
    of the simulation with retries)."""
    world = World()
    assert put(world) == 1
    await tell_applied(world)
    assert put(world, every="7s") == 2
    async with Dispatching(world) as replica:
        known = replica.schedules.get("a")
        assert known is not None
        facts = await Announcer(MemoryEvents(world.server)).overtaken(known, Watermark(UNTIL, applied), newest)
    told = [(each.kind, each.data["verdict"], each.data["generation"], each.data["to"]) for each in facts]
    assert told == ([("verdicts", "superseded", 1, format_instant(UNTIL))] if is_told else [])
