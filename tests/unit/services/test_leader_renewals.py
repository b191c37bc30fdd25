"""Renewals of the lease that are lost, late, refused or slow, and the deadline up to which a term holds."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.leadership import LeaseTimings, Term, later
from scheduler.services.leader import Tenure
from scheduler.wire.names import LEADER_KEY
from tests.unit.services.planning_world import (
    TIMINGS,
    World,
)
from tests.unit.services.standing import Candidate, idle, leaders, once, standing


async def test_a_renewal_whose_answer_is_lost_is_adopted_by_its_nonce() -> None:
    """The write landed: the term goes on with the revision that was read back."""
    world = World()
    async with Candidate(world, "a", duty=idle) as a:
        await world.clock.advance(1)
        for _ in range(20):
            world.server.lose_ack_next()
            await world.clock.advance(TIMINGS.retry_s)
            assert a.leads
        assert len(a.telemetry.of("leadership")) == 1


async def test_a_renewal_that_lands_late_does_not_end_the_term() -> None:
    """Read back as not there, it changes the revision afterwards: ours all the same, though the deadline stands."""
    world = World()
    async with Candidate(world, "a", duty=idle) as a:
        await world.clock.advance(1)
        world.server.land_late(after_s=0.5)
        await world.clock.advance(30)
        assert a.leads
        assert len(a.telemetry.of("leadership")) == 1


@pytest.mark.parametrize("refusals", [1, 3])
async def test_renewals_refused_for_now_are_repeated_until_the_deadline(refusals: int) -> None:
    """10164 is no loss of the lease."""
    world = World()
    async with Candidate(world, "a", duty=idle) as a:
        await world.clock.advance(1)
        world.server.refuse_in_flight_next(refusals)
        await world.clock.advance(30)
        assert a.leads
        assert len(a.telemetry.of("leadership")) == 1


async def test_renewals_refused_beyond_the_deadline_end_the_term() -> None:
    """The deadline counts from before the last renewal that was stored, and is never passed."""
    world = World()
    async with Candidate(world, "a", duty=idle) as a:
        await world.clock.advance(1)
        world.server.refuse_in_flight_next(10)
        await world.clock.advance(TIMINGS.renew_deadline_s - 1.5)
        assert a.leads
        await world.clock.advance(1.5)
        assert not a.leads


async def test_renewals_that_hang_for_a_while_do_not_end_the_term() -> None:
    """An answer that takes a time-out of 5 s to be missed must not cost the renewals after it; and the one that landed
    unseen counts from when it was sent."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.process.hanging |= {"put", "get"}
        await world.clock.advance(6.2)
        a.process.hanging.clear()
        await world.clock.advance(60)
        assert leaders([a, b]) == ["a"]
        assert len(a.tenures) == 1


@pytest.mark.parametrize(
    ("timings", "way_s"),
    [(LeaseTimings(3.0, 2.0, 0.4), 0.25), (LeaseTimings(15.0, 10.0, 2.0), 1.5), (LeaseTimings(30.0, 20.0, 3.0), 4.0)],
)
async def test_an_answer_that_takes_longer_than_a_retry_period_keeps_the_office(
    timings: LeaseTimings, way_s: float
) -> None:
    """A slow link: the office is taken over it and kept, and no renewal is taken for lost that is only on its way."""
    world = World()
    async with Candidate(world, "a", timings=timings) as a, Candidate(world, "b", timings=timings) as b:
        a.process.way_s = b.process.way_s = way_s
        await world.clock.advance(10 * timings.lease_s)
        assert len(leaders([a, b])) == 1
        assert sum(len(each.tenures) for each in (a, b)) == 1


async def test_the_lease_is_renewed_while_the_office_is_being_taken() -> None:
    """Reading what the timeline holds takes longer than the deadline: the lease is held meanwhile, by us alone."""
    world = World()
    a = Candidate(world, "a")
    once(a.process, "epoch", lambda: a.process.hanging.add("epoch"))
    async with a, Candidate(world, "b") as b:
        await world.clock.advance(TIMINGS.renew_deadline_s + 5.5)
        a.process.hanging.clear()
        await world.clock.advance(6)
        assert a.leads
        assert (len(a.tenures), len(b.tenures)) == (1, 0)
        assert (await world.control.get(LEADER_KEY)).revision > 5


async def test_answers_in_any_order_turn_no_term_back() -> None:
    """The answer to an older renewal comes after that to a newer one: revision and deadline stay the newer one's."""
    newer, older = Term(7, 30.0), Term(6, 20.0)
    assert later(newer, older) == later(older, newer) == newer


@pytest.mark.parametrize("is_lost", [False, True], ids=["late", "lost"])
@pytest.mark.parametrize("slow", ["campaign", "renewal"])
async def test_the_deadline_counts_from_before_the_write_was_sent(slow: str, is_lost: bool) -> None:
    """An answer that takes 1.5 s, or is missed by then and read back, is 1.5 s less of trust: others count from when
    the write was stored."""
    world = World()
    async with Candidate(world, "a", duty=idle) as a:
        if slow == "renewal":
            await world.clock.advance(1)
        if is_lost:
            world.server.lose_ack_next()
        once(a.process, "put", a.process.stop)
        while not a.process.is_stopped:
            await world.clock.advance(0.1)
        await world.clock.advance(1.5)
        a.process.cont()
        await world.clock.advance(0.1)
        assert a.leader.tenure is not None
        assert a.leader.tenure.remaining_s < TIMINGS.renew_deadline_s - 1.5


async def test_the_deadline_is_kept_while_a_renewal_hangs() -> None:
    """Not only the writes stop: the duty itself is over within a second of the deadline."""
    world = World()
    ended: list[float] = []

    async def duty(tenure: Tenure) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(world.clock.boottime_s())

    async with Candidate(world, "a", duty=duty) as a:
        await world.clock.advance(1)
        began_s = world.clock.boottime_s()
        a.process.hanging |= {"put", "get"}
        await world.clock.advance(20)
        assert len(ended) == 1
        assert ended[0] <= began_s + TIMINGS.renew_deadline_s + 1.1
        a.process.hanging.clear()
