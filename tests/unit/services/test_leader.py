"""Standing for office and leading: every interleaving of mechanisms.md, part 1, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import timedelta

import pytest

from scheduler.core.errors import Fenced
from scheduler.core.leadership import LeaseTimings, Term, later
from scheduler.memory.buckets import MemoryBucket
from scheduler.services.leader import Deposed, Tenure
from scheduler.wire.names import LEADER_KEY
from scheduler.wire.status import decode_lease
from tests.unit.services.planning_world import (
    TIMINGS,
    World,
)
from tests.unit.services.standing import TAKEN_OVER_S, Candidate, idle, leaders, once, standing


def writes_of(candidates: list[Candidate]) -> list[tuple[float, int]]:
    return sorted(itertools.chain(*(each.writes for each in candidates)))


async def test_one_of_three_leads_and_keeps_leading() -> None:
    """The first to come leads, renews for ever, and the others wait without a write."""
    world = World()
    async with standing(world, "a", "b", "c") as candidates:
        await world.clock.advance(120)
        assert leaders(candidates) == ["a"]
        assert [len(each.tenures) for each in candidates] == [1, 0, 0]
        assert candidates[0].telemetry.of("leadership") == [{"leading": True, "epoch": candidates[0].epochs[0]}]


async def test_three_at_once_elect_one() -> None:
    """Candidates that start in the same instant do not collide for ever, and only one takes office."""
    world = World()
    async with Candidate(world, "a") as a, Candidate(world, "b") as b, Candidate(world, "c") as c:
        await world.clock.advance(5)
        assert len(leaders([a, b, c])) == 1
        assert sum(len(each.tenures) for each in (a, b, c)) == 1


async def test_a_release_hands_over_at_once() -> None:
    """After `stop` a candidate leads within a tenth of a second: it watches the key."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.leader.stop()
        await world.clock.advance(0.1)
        assert (a.leads, b.leads) == (False, True)
        assert b.epochs[0] > a.epochs[0]
        assert a.telemetry.of("leadership", leading=False) == [{"leading": False, "epoch": a.epochs[0]}]


async def test_a_silent_holder_loses_the_lease_after_a_whole_lease() -> None:
    """Not before the lease ran out without a change on the candidate's own clock, and soon after it."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        await world.clock.advance(2.5)
        a.process.stop()
        await world.clock.advance(TIMINGS.lease_s - TIMINGS.retry_s - 0.5)
        assert not b.leads
        await world.clock.advance(TAKEN_OVER_S - TIMINGS.lease_s + TIMINGS.retry_s)
        assert b.leads


async def test_without_a_watch_candidates_poll() -> None:
    """A watch that fell silent costs a retry period, not the hand-over."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        b.control.stall_watches()
        a.leader.stop()
        await world.clock.advance(2.2 * TIMINGS.retry_s)
        assert b.leads


async def test_since_is_when_this_term_began() -> None:
    """A candidate that lost a campaign long ago shows the instant at which it won, not that of its first attempt."""
    world = World()
    async with Candidate(world, "b") as b:
        once(b.process, "put", b.process.stop)
        await world.clock.advance(0.1)
        async with Candidate(world, "a") as a:
            await world.clock.advance(0.1)
            assert a.leads
            b.process.cont()
            await world.clock.advance(100)
        began = world.clock.now()
        await world.clock.advance(1)
        entry = await world.control.get(LEADER_KEY)
        assert entry is not None
        assert b.leads
        assert decode_lease(entry.value).since >= began - timedelta(seconds=2)


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


@pytest.mark.parametrize("slow", ["campaign", "renewal"])
async def test_the_deadline_counts_from_before_the_write_was_sent(slow: str) -> None:
    """An answer that takes 1.5 s is 1.5 s less of trust: others count from when the write was stored."""
    world = World()
    async with Candidate(world, "a", duty=idle) as a:
        if slow == "renewal":
            await world.clock.advance(1)
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


async def test_a_campaign_whose_answer_is_lost_is_read_back() -> None:
    """The lease was won: office is taken in the same go, without waiting for our own lease to run out."""
    world = World()
    world.server.lose_ack_next()
    async with Candidate(world, "a") as a:
        await world.clock.advance(0.5)
        assert a.leads


async def test_a_campaign_that_landed_unknown_to_us_blocks_nobody() -> None:
    """The lease carries our name though we never knew: nobody leads by it, so we take it at once."""
    world = World()
    async with Candidate(world, "a") as a:
        world.server.land_late(after_s=0.1)
        once(a.process, "put", lambda: once(a.process, "get", lambda: setattr(world.server, "down", True)))
        await world.clock.advance(0.5)
        world.server.down = False
        assert await world.holder() == "a"
        assert not a.leads
        await world.clock.advance(TIMINGS.retry_s)
        assert a.leads


@pytest.mark.parametrize("fault", ["lose_ack_next", "lose_next", "refuse_in_flight_next", "land_late"])
async def test_taking_office_survives_every_fault(fault: str) -> None:
    """The batch that takes office is refused, lost, stored unseen or late: the term writes with the epoch in force."""
    world = World()
    async with Candidate(world, "a") as a:
        once(a.process, "take_office", getattr(world.server, fault))
        await world.clock.advance(6)
        stored = await world.timeline.epoch()
        assert stored is not None
        assert a.leads
        assert a.epochs[-1] == stored.seq
        assert a.writes[-1][0] > world.clock.boottime_s() - 1


async def test_an_outage_shorter_than_the_deadline_changes_nothing() -> None:
    """NATS away for less than the deadline: the same term goes on."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.duty_survives = b.duty_survives = True
        world.server.down = True
        await world.clock.advance(TIMINGS.renew_deadline_s - 2 * TIMINGS.retry_s - 0.5)
        world.server.down = False
        await world.clock.advance(30)
        assert leaders([a, b]) == ["a"]
        assert len(a.tenures) == 1


async def test_an_outage_beyond_the_deadline_ends_the_term_and_one_leads_after_it() -> None:
    """NATS away for longer: nobody leads until it is back, then exactly one does, with a later epoch."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.duty_survives = b.duty_survives = True
        world.server.down = True
        await world.clock.advance(TIMINGS.renew_deadline_s)
        assert leaders([a, b]) == []
        await world.clock.advance(30)
        assert leaders([a, b]) == []
        world.server.down = False
        await world.clock.advance(2.2 * TIMINGS.retry_s + 0.5)
        assert len(leaders([a, b])) == 1
        assert max(a.epochs + b.epochs) > a.epochs[0]


async def test_a_stopped_leader_steps_down_before_it_writes() -> None:
    """SIGSTOP for longer than the lease (BOOTTIME goes on): on SIGCONT not one write is tried."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.process.stop()
        await world.clock.advance(40)
        assert b.leads
        tried = a.refused + len(a.writes)
        a.process.cont()
        await world.clock.advance(5)
        assert a.refused + len(a.writes) == tried
        assert leaders([a, b]) == ["b"]
        assert a.leader.tenure is None


async def test_a_stopped_leader_that_nobody_replaced_leads_again() -> None:
    """Alone, it steps down all the same, and takes office anew without waiting for its own lease to run out."""
    world = World()
    async with standing(world, "a") as [a]:
        a.process.stop()
        await world.clock.advance(12)
        a.process.cont()
        await world.clock.advance(2.2 * TIMINGS.retry_s + 1.5)
        assert a.leads
        assert len(a.tenures) == 2
        assert a.epochs[1] > a.epochs[0]


async def test_what_an_old_holder_still_sends_is_refused() -> None:
    """A duty that does not check (it was stopped between check and write) is refused by the storage."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.leader.stop()
        await world.clock.advance(0.1)
        assert b.leads
        with pytest.raises(Fenced):
            await a.write(a.tenures[0], checked=False)
        with pytest.raises(Deposed):
            await a.write(a.tenures[0])


async def test_an_older_lease_does_not_take_office_after_a_later_one() -> None:
    """Epochs follow the order of leases: stopped between winning the lease and taking office, it gives up."""
    world = World()
    a = Candidate(world, "a")
    once(a.process, "epoch", a.process.stop)
    async with a, Candidate(world, "b") as b:
        await world.clock.advance(TAKEN_OVER_S + 1)
        assert b.leads
        a.process.cont()
        await world.clock.advance(30)
        assert b.leads
        assert a.tenures == []


async def test_a_lost_control_bucket_does_not_bar_everybody_from_office() -> None:
    """Re-created, its revisions begin anew, far below the lease revision of the epoch in force."""
    world = World()
    for number in range(100):
        await world.control.put("watermark", str(number).encode())
    async with standing(world, "a"):
        await world.clock.advance(60)
    world.control = MemoryBucket(world.server, world.names.control)
    async with Candidate(world, "b") as b:
        await world.clock.advance(1)
        assert b.leads


async def test_two_tenures_never_both_write() -> None:
    """Whatever stops, outages and lost answers there are: fenced writes that succeed come in the order of epochs, and
    nobody writes beyond its deadline. Sometimes: the office changes hands, and what an old holder sends is refused."""
    terms = refused = 0
    for seed in range(25):
        dice, world = random.Random(seed), World()
        async with Candidate(world, "a") as a, Candidate(world, "b") as b, Candidate(world, "c") as c:
            candidates = [a, b, c]
            for _ in range(25):
                await misfortune(dice, world, candidates)
                await world.clock.advance(dice.choice([0.2, 1.0, 3.0, 8.0, 17.0]))
                assert len(leaders(candidates)) <= 1
            for each in candidates:
                each.process.cont()
            world.server.down = False
            await world.clock.advance(60)
            assert len(leaders(candidates)) == 1, seed
            epochs = [epoch for _, epoch in writes_of(candidates)]
            assert epochs == sorted(epochs), seed
            terms += sum(len(each.tenures) for each in candidates)
            refused += sum(each.refused for each in candidates)
    assert terms > 100
    assert refused > 10


async def misfortune(dice: random.Random, world: World, candidates: list[Candidate]) -> None:
    """Something goes wrong, or comes right."""
    victim, server = dice.choice(candidates), world.server
    server.down = dice.random() < 0.15
    what = dice.randrange(7)
    if what == 0:
        victim.process.stop()
    elif what in {1, 2}:
        victim.process.cont()
    elif what == 3:
        server.lose_ack_next(dice.randint(1, 3))
    elif what == 4:
        server.land_late(dice.randint(1, 3), after_s=dice.choice([0.1, 2.5, 16.0]))
    elif what == 5:
        victim.process.clock.skew_s = dice.choice([0.0, 0.0, 31.0])
    else:
        server.refuse_in_flight_next(dice.randint(1, 4))
