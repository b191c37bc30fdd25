"""The dispatcher killed at every call, every fault at every write, no server: one record and one task all the same."""

from __future__ import annotations

import pytest

from scheduler.core.errors import ScheddError, Unavailable, Unsure
from scheduler.core.model.execution import State
from tests.unit.services.dispatch_stage import (
    POLICIES,
    Dispatching,
    Failing,
    check_once,
    due,
    put,
    states,
)
from tests.unit.services.tracking_stage import Tripwire, World


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_killed_anywhere(policy: str, late: bool) -> None:
    """Killed at its n-th call, for every n: whoever comes next gets to the same record and the same task."""
    number = 1
    while True:
        world = World()
        put(world, **POLICIES[policy])
        due(world)
        async with Dispatching(world, Tripwire(number, late=late)) as doomed:
            await doomed.run()
        async with Dispatching(world) as heir:
            await heir.run(15)
            await heir.settlement.flush()
        await check_once(world, policy)
        if not doomed.wire.tripped:
            break
        number += 1
    assert number > 6  # sometimes: at the pull, the proof of freshness, reads, writes, the pair, the ack


@pytest.mark.parametrize("fault", ["lose_ack", "lose", "refuse", "late"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_fault_at_every_write(policy: str, fault: str) -> None:
    """One write lands unheard, is lost, refused (10164) or lands late: one verdict, counted once, one lateness."""
    for number in range(6):
        world = World()
        put(world, **POLICIES[policy])
        due(world)
        async with Dispatching(world) as replica:
            world.server._faults.extend([""] * number + [fault])
            await replica.run(30)
            is_fired = policy not in ("paused", "superseded")
            reason = "auto" if is_fired else {"paused": "paused", "superseded": "edited"}[policy]
            expected = [("fired" if is_fired else policy, reason)]
            assert replica.verdicts() == expected or (fault == "late" and not is_fired)
            assert replica.telemetry.count("lateness") == (1 if is_fired else 0)
        await check_once(world, policy)


@pytest.mark.parametrize(
    ("problem", "late"),
    [(Unavailable("electing"), False), (Unsure("no answer"), False), (Unsure("no answer"), True)],
    ids=["refused", "lost", "unanswered"],
)
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_call_fails_once(policy: str, problem: ScheddError, late: bool) -> None:
    """The n-th call, read or write, pull or ack, is refused or gets no answer, for every n: the same verdict."""
    number = 3  # the first two fill the cache, before there is a dispatcher
    while True:
        world = World()
        put(world, **POLICIES[policy])
        due(world)
        async with Dispatching(world, Failing(number, problem, late=late)) as replica:
            await replica.run(20)
        await check_once(world, policy)
        if not replica.wire.tripped:
            break
        number += 1
    assert number > 7


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fault", ["lose_ack", "lose", "refuse", "late"])
async def test_a_storm_of_faults(policy: str, fault: str) -> None:
    """Many writes in a row go wrong: it only takes longer."""
    world = World()
    put(world, **POLICIES[policy])
    due(world)
    async with Dispatching(world) as replica:
        world.server._faults.extend([fault] * 8)
        await replica.run(60)
    await check_once(world, policy)


async def test_the_server_is_away() -> None:
    """For a minute nothing can be asked: then everything is dispatched, and nobody spun meanwhile."""
    world = World()
    put(world, overlap="allow", catch_up={"after": "5m"})
    async with Dispatching(world) as replica, replica.running():
        await world.clock.advance(0.1)
        world.server.down = True
        ids = [due(world, seconds) for seconds in range(5)]
        calls = replica.wire.count
        await world.clock.advance(60)
        assert replica.wire.count - calls < 200
        world.server.down = False
        await world.clock.advance(10)
        assert await states(world) == dict.fromkeys(ids, State.QUEUED)
