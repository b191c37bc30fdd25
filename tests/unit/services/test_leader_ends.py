"""How terms end: releasing, stopping, a duty that breaks; and who may not lead, and what may not block."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from scheduler.core.errors import Internal, Unavailable
from scheduler.core.leadership import LEASE_MAX_S
from scheduler.memory.buckets import MemoryBucket
from scheduler.services.hearing import deaf_after_s
from scheduler.services.leader import Deposed, Tenure
from scheduler.wire.names import LEADER_KEY
from tests.unit.services.planning_world import (
    TIMINGS,
    World,
)
from tests.unit.services.standing import DEAF_AFTER_S, TAKEN_OVER_S, Candidate, leaders, once, standing


async def test_a_release_finds_the_revision_of_a_renewal_that_was_never_answered() -> None:
    """Renewed unseen, the lease is at a revision we never heard of: it is read back and released all the same."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        once(a.process, "put", lambda: a.process.hanging.update({"put", "get"}))
        await world.clock.advance(2.2)
        a.process.hanging.clear()
        a.leader.stop()
        await world.clock.advance(0.2)
        assert b.leads


@pytest.mark.parametrize("fault", ["lose_next", "lose_ack_next"])
async def test_a_release_whose_answer_is_lost_is_made_sure(fault: str) -> None:
    """The release itself may get lost: read back, and repeated if it did."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        once(a.process, "put", getattr(world.server, fault))
        a.leader.stop()
        await world.clock.advance(0.2)
        assert b.leads


async def test_a_deposed_leader_overwrites_nobody() -> None:
    """Stopped until another leads: waking up, it leaves the other's lease as it is."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.process.stop()
        await world.clock.advance(TAKEN_OVER_S + 1)
        assert b.leads
        a.process.cont()
        a.leader.stop()
        await world.clock.advance(10)
        assert await world.holder() == "b"
        assert len(b.tenures) == 1


async def _full(*_: object, **__: object) -> int:
    raise Unavailable("no space left on device")


async def test_storage_that_takes_no_write_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the leader says so after some seconds, the others once they tried; with room again nobody does."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        assert (a.leader.problem, b.leader.problem) == (None, None)
        with monkeypatch.context() as full:
            full.setattr(MemoryBucket, "put", _full)
            await world.clock.advance(TAKEN_OVER_S + 10)
            assert "NATS stores nothing" in (a.leader.problem or "")
            assert "no space left" in (b.leader.problem or "")
        await world.clock.advance(TAKEN_OVER_S)
        assert (a.leader.problem, b.leader.problem) == (None, None)


@pytest.mark.parametrize("skew_s", [31.0, -31.0])
async def test_a_skewed_clock_does_not_lead(skew_s: float) -> None:
    """More than 30 s off the server: no candidate, and out of office at the next renewal."""
    world = World()
    a = Candidate(world, "a")
    a.process.clock.skew_s = skew_s
    async with a, Candidate(world, "b") as b:
        await world.clock.advance(60)
        assert leaders([a, b]) == ["b"]
        a.process.clock.skew_s, b.process.clock.skew_s = 0.0, skew_s
        await world.clock.advance(TIMINGS.retry_s + 0.5)
        assert not b.leads
        await world.clock.advance(2.2 * TIMINGS.retry_s)
        assert leaders([a, b]) == ["a"]


async def test_a_leader_that_hears_nothing_where_it_plans_lets_another_lead() -> None:
    """It goes on renewing, on a connection of its own, and could plan nothing: it steps down, and stands no more until
    it hears again."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        a.hears = False
        await world.clock.advance(DEAF_AFTER_S - TIMINGS.retry_s)
        assert leaders([a, b]) == ["a"]
        await world.clock.advance(2 * TIMINGS.retry_s + 0.1)
        assert leaders([a, b]) == ["b"]
        b.leader.stop()
        await world.clock.advance(20)
        assert not a.leads
        a.hears = True
        await world.clock.advance(2.2 * TIMINGS.retry_s)
        assert a.leads


@pytest.mark.parametrize(("lease_s", "horizon_s", "after_s"), [(15, 120, 30), (3, 60, 15), (0.5, 2, 5), (30, 30, 30)])
def test_deaf_well_within_the_horizon(lease_s: float, horizon_s: float, after_s: float) -> None:
    """A leader may hear nothing for a quarter of what it has armed, never for less than a lease."""
    assert deaf_after_s(lease_s, horizon_s) == after_s


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\x00 garbage",
        b"[]",
        b'{"holder": 5}',
        b'{"holder": "x", "nonce": "n", "lease_s": 15, "since": "yesterday"}',
        b'{"holder": "x", "nonce": "n", "lease_s": 1e300, "since": "2026-11-21T08:00:00Z"}',
        b'{"holder": "x", "nonce": "n", "lease_s": -5, "since": "2026-11-21T08:00:00Z"}',
    ],
)
async def test_a_foreign_value_in_the_lease_does_not_block_for_ever(value: bytes) -> None:
    """Whatever somebody put there, before the start or under a leader's feet: somebody leads again."""
    world = World()
    world.control.put_raw(LEADER_KEY, value)
    async with Candidate(world, "a") as a:
        await world.clock.advance(LEASE_MAX_S + 10)
        assert a.leads
        world.control.put_raw(LEADER_KEY, value)
        await world.clock.advance(LEASE_MAX_S + 10)
        assert a.leads


async def test_a_deleted_lease_is_anybodys() -> None:
    """Somebody deletes the key: the term ends, and one leads again."""
    world = World()
    async with standing(world, "a", "b") as [a, b]:
        await world.control.delete(LEADER_KEY)
        await world.clock.advance(10)
        assert len(leaders([a, b])) == 1
        assert len(a.tenures) + len(b.tenures) == 2


@pytest.mark.parametrize("problem", [RuntimeError("a bug"), Internal("cannot be"), Deposed("found out"), None])
async def test_a_duty_that_ends_hands_over_and_does_not_spin(problem: Exception | None) -> None:
    """Returning or raising ends the term; others get their chance first, and terms stay rare."""
    world = World()
    terms: list[float] = []

    async def duty(tenure: Tenure) -> None:
        terms.append(world.clock.boottime_s())
        if problem is not None:
            raise problem

    async with Candidate(world, "a", duty=duty) as a:
        await world.clock.advance(1)
        async with Candidate(world, "b") as b:
            await world.clock.advance(60)
            assert b.leads
            assert not a.leads
            assert len(terms) <= 2
        await world.clock.advance(60)
    assert 10 <= len(terms) <= 35


async def test_nothing_may_be_written_once_the_term_is_over() -> None:
    """From the moment on at which renewing ends, every check of the duty raises, though its deadline has not come."""
    world = World()
    checks: list[bool] = []

    async def duty(tenure: Tenure) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(Deposed):
                tenure.check()
                checks.append(True)

    async with Candidate(world, "a", duty=duty) as a:
        await world.clock.advance(1)
        world.control.put_raw(LEADER_KEY, b'{"holder": "x", "lease_s": 1}')
        await world.clock.advance(TIMINGS.retry_s + 1.5)
        assert not a.leads
    assert checks == []


@pytest.mark.parametrize("name", ["last_revision", "get", "put", "epoch", "take_office", "commit"])
async def test_stop_at_any_call_ends_soon_and_leaves_the_lease_free(name: str) -> None:
    """Stopped while starting, campaigning, taking office or leading: over within half a second, and released."""
    world = World()
    candidate = Candidate(world, "a")
    once(candidate.process, name, candidate.leader.stop)
    async with candidate:
        await world.clock.advance(0.5)
        assert candidate.has_ended
    assert await world.holder() == ""
    if name in {"last_revision", "get"}:
        assert world.control.stream.last_seq == 0, "who stops does not stand any more"


async def test_stop_while_the_timeline_is_away() -> None:
    """Taking office fails for ever: a stop does not wait for the deadline."""
    world = World()

    async def away() -> None:
        raise Unavailable("electing")

    candidate = Candidate(world, "a")
    candidate.timeline_fault = away
    async with candidate:
        await world.clock.advance(3)
        candidate.leader.stop()
        await world.clock.advance(0.5)
        assert candidate.has_ended
    assert await world.holder() == ""


async def test_a_watermark_that_cannot_be_read_ends_no_replica() -> None:
    """Whatever breaks, the replica goes on standing, slowly, and leads once it is repaired."""
    world = World()
    breaks = True

    async def broken() -> None:
        if breaks:
            raise Internal("schedd.watermark, sequence 7: unreadable")

    candidate = Candidate(world, "a")
    candidate.timeline_fault = broken
    async with candidate:
        await world.clock.advance(30)
        assert not candidate.leads
        breaks = False
        await world.clock.advance(2.2 * TIMINGS.retry_s + 0.5)
        assert candidate.leads
