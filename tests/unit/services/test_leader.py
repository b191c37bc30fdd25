"""Standing for office and leading: every interleaving of mechanisms.md, part 1, in virtual time."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta

import pytest

from scheduler.core.errors import Fenced
from scheduler.memory.buckets import MemoryBucket
from scheduler.services.leader import Deposed
from scheduler.wire.names import LEADER_KEY
from scheduler.wire.status import decode_lease
from tests.unit.services.planning_world import (
    TIMINGS,
    World,
)
from tests.unit.services.standing import TAKEN_OVER_S, Candidate, leaders, once, standing


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
