"""What is in force is told again before what was told of it is gone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from scheduler.memory.clock import START
from scheduler.ports.timeline import Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.remembering import Remembering
from tests.unit.services.planning_world import PlanningReplica, World

DAY_S = 86_400.0


async def test_every_definition_is_told_again_in_time() -> None:
    """However old it is, its newest evidence is never older than twenty days; what is young or gone is left alone."""
    world = World()
    for number in range(30):
        world.put(f"s{number}", every="1h")
    world.put("gone", every="1h")
    world.delete("gone")
    replica = PlanningReplica(world)
    await replica.schedules.start()
    mark = Watermark(world.clock.now(), applied=world.schedules.stream.last_seq)
    tenure = await replica.take_office(first=mark)
    world.put("later", every="1h")  # not applied in this term
    remembering = Remembering(Announcer(world.events), replica.schedules, world.clock)
    task = asyncio.create_task(remembering.run(tenure))
    for _ in range(45):
        await world.clock.advance(DAY_S)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await replica.schedules.stop()
    for number in range(30):
        told = world.events.of("applied", f"s{number}")
        times = [START, *(event.at for event in told)]
        assert max((b - a).total_seconds() for a, b in pairwise(times)) <= 20 * DAY_S
        assert 3 <= len(told) <= 5
        assert {event.data["generation"] for event in told} == {number + 1}
        assert len({event.id for event in told}) == len(told)
        assert told[0].data["definition"] == {"queue": "Q", "type": "t", "every": "1h"}
    assert world.events.of("applied", "gone") == world.events.of("applied", "later") == []
