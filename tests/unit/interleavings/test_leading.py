"""Two believe that they lead, or one believes it for too long: what storage and order of epochs make of that."""

from __future__ import annotations

import asyncio

from scheduler.core.leadership import LeaseTimings
from scheduler.services.leader import Tenure
from tests.unit.services.planning_world import World
from tests.unit.services.standing import TAKEN_OVER_S, Candidate, once

UNEVEN = LeaseTimings(15.0, 9.0, 4.0)  # the deadline is at no multiple of the retry period


async def test_an_older_lease_that_is_still_believed_in_does_not_take_office() -> None:
    """Won, then stopped, and its clock with it (a machine that was suspended, a clock that runs slowly): another wins
    the lease and takes office. By its own clock the first one's term holds, and no check stops it; the epoch in force
    is of a later lease, so it gives up."""
    world = World()
    a = Candidate(world, "a")
    once(a.process, "epoch", a.process.stop)
    async with a, Candidate(world, "b") as b:
        await world.clock.advance(0.1)
        assert a.process.is_stopped
        stopped_s = world.clock.boottime_s()
        a.process.clock.boottime_s = lambda: stopped_s  # type: ignore[method-assign]  # as CLOCK_MONOTONIC may do
        await world.clock.advance(TAKEN_OVER_S + 1)
        assert b.leads
        a.process.cont()
        await world.clock.advance(10)
        assert a.tenures == []
        assert b.leads
        assert len(b.tenures) == 1
        assert b.refused == 0


async def test_a_term_ends_at_its_deadline_whatever_hangs() -> None:
    """A renewal has no answer when the deadline comes, and the next one is not due yet: the duty is over all the same,
    in that very moment."""
    world = World()
    ended: list[float] = []

    async def duty(_: Tenure) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(world.clock.boottime_s())

    began_s = world.clock.boottime_s()
    async with Candidate(world, "a", timings=UNEVEN, duty=duty) as a:
        await world.clock.advance(1)
        assert a.leads
        a.process.hanging |= {"put", "get"}
        await world.clock.advance(20)
        assert len(ended) == 1
        assert abs(ended[0] - (began_s + UNEVEN.renew_deadline_s)) < 0.2
        a.process.hanging.clear()
