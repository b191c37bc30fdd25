"""One-shots that are over: they go by themselves when nothing of theirs can come or is left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.model.status import StatusRow
from scheduler.memory.clock import START
from scheduler.ports.timeline import Watermark
from scheduler.services import one_shots
from scheduler.services.rows import StatusRows
from scheduler.wire.instants import format_instant
from tests.unit.services.housekeeping_stage import HOUR, House, markers
from tests.unit.services.planning_world import World

KEEPS: dict[str, Any] = {"retention": {"age": "2h"}, "catch_up": {"window": "9h"}}
AT = format_instant(START + timedelta(seconds=60))
ONCE: dict[str, Any] = {"at": AT, **KEEPS}
"""Nothing of it is kept for longer than two hours."""


async def test_a_one_shot_goes_when_nothing_of_it_can_come_or_is_left() -> None:
    """After its records, and when it would be too late to fire even if it were put again; counted, as a deletion."""
    world = World()
    world.put("a", **ONCE)
    applied = world.put("alive", every="1h")
    house = House(world)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(60 + 2 * HOUR - 30)
        assert markers(world) == set()
        await world.clock.advance(60)
        assert markers(world) == {"a"}
        assert house.schedules.live_ids() == ["alive"]
        assert house.telemetry.count("dropped", what="schedule", reason="over") == 1


KEPT: dict[str, dict[str, Any]] = {
    "a longer retention": {**ONCE, "retention": {"age": "3h"}},
    "a later instant": {**ONCE, "at": [AT, format_instant(START + timedelta(hours=1))]},
    "a delay": {**ONCE, "start_delay": "1h"},
    "a pause": {**ONCE, "paused": True},
    "a rule that is over": {**KEEPS, "rrule": "FREQ=SECONDLY;COUNT=2", "anchor": AT},
    "by hand only": {**KEEPS, "manual": True},
}


@pytest.mark.parametrize("definition", KEPT.values(), ids=KEPT)
async def test_what_may_still_be_wanted_stays(definition: dict[str, Any]) -> None:
    """What can still fire, is kept for longer, is paused, recurs or waits for somebody to trigger it."""
    world = World()
    applied = world.put("a", **definition)
    house = House(world)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(2 * HOUR + 120)
        known = house.schedules.get("a")
        assert known is not None
        assert known.in_force is not None
        assert markers(world) == set()


async def test_what_is_left_of_a_one_shot_keeps_it() -> None:
    """A record that is there still, a slot, somebody who puts it again at the same moment, an edit nobody applied."""
    world = World()
    for schedule_id in ("recorded", "running", "again"):
        world.put(schedule_id, **ONCE)
    applied = world.schedules.stream.last_seq
    world.put("not-applied", **ONCE)
    house = House(world)
    house.executions.put_raw("recorded.20261121T080100000Z", b"{}")
    running = StatusRow(active=("running.20261121T080100000Z",))
    await StatusRows(world.status).change({"running": lambda _: running})
    house.process.on_call = lambda name: world.put("again", **ONCE) if name == "delete" else None
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(2 * HOUR + 120)
    assert markers(world) == set()
    assert len(await world.schedules.keys()) == 4


async def test_many_that_are_kept_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at in turn, so many each round."""
    monkeypatch.setattr(one_shots, "LOOKED_AT", 3)
    world = World()
    house = House(world)
    for number in range(7):
        world.put(f"a{number}", **ONCE)
        house.executions.put_raw(f"a{number}.20261121T080100000Z", b"{}")
    applied = world.put("b", **ONCE)
    async with house.lead(Watermark(START, applied)):
        await world.clock.advance(2 * HOUR + 120)
        assert markers(world) == {"b"}
