"""The launcher: one candidate and the others of its batch, and what is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.services.launch_steps import FRESH
from scheduler.wire import headers as h
from tests.unit.services.dispatch_stage import (
    Dispatching,
    candidate,
    due,
    execution,
    finish,
    held,
    id_of,
    launch,
    nominal,
    put,
)
from tests.unit.services.tracking_stage import World

# --- one and the others


async def test_a_full_queue_refuses_new_ones_only() -> None:
    """queue_full skips what nobody launched before; what was claimed goes on: its task may be there already."""
    world = World()
    put(world, overlap="allow")
    async with Dispatching(world) as replica:
        older = candidate(replica, -5)
        await replica.records.create_many([older.execution])
        replica.full.add("Q")
        first, second = await launch(replica, candidate(replica), older)
        assert isinstance(first, Execution)
        assert isinstance(second, Execution)
        assert (first.state, first.reason, second.state) == (State.SKIPPED, "queue_full", State.QUEUED)
        assert sorted(replica.verdicts()) == [("fired", "auto"), ("skipped", "queue_full")]
        assert (await world.row()).active == ()


async def test_a_queue_that_cannot_be_made() -> None:
    """Its candidates are handed back; those for other queues go on."""
    world = World()
    put(world, overlap="allow")
    put(world, "b", queue="bad")
    async with Dispatching(world) as replica:
        ensure = replica.queues.ensure

        async def refuse(queue: str) -> None:
            if queue == "bad":
                raise Unavailable("too many consumers")
            await ensure(queue)

        replica.launcher._queues = Refusing(replica.queues, refuse)
        bad, good = await launch(replica, candidate(replica, 0, "b"), candidate(replica))
        assert isinstance(bad, Unavailable)
        assert isinstance(good, Execution)
        assert good.state is State.QUEUED
        replica.launcher._queues = replica.queues
        (again,) = await launch(replica, candidate(replica, 0, "b"))
        assert isinstance(again, Execution)
        assert again.state is State.QUEUED


class Refusing:
    def __init__(self, port: Any, ensure: Callable[[str], Awaitable[None]]) -> None:
        self._port, self.ensure = port, ensure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


async def test_a_row_that_fails_holds_up_its_own_schedule() -> None:
    """One schedule's row cannot be written: its runs are repeated, the others' are queued."""
    world = World()
    put(world)
    put(world, "b")
    async with Dispatching(world) as replica:
        candidates = [candidate(replica), candidate(replica, 0, "b")]
        world.server._faults.extend(["", "", "refuse"])
        bad, good = await launch(replica, *candidates)
        assert isinstance(bad, Unavailable)
        assert isinstance(good, Execution)
        assert good.state is State.QUEUED
        (again, _) = await launch(replica, *candidates)
        assert isinstance(again, Execution)
        assert again.state is State.QUEUED
    assert len(world.tasks()) == 2


async def test_consumers_are_looked_for_once() -> None:
    """A queue is ensured at its first launch, and again after somebody found one missing."""
    world = World()
    put(world, overlap="allow")
    async with Dispatching(world) as replica:
        ensured: list[str] = []
        ensure = replica.queues.ensure

        async def note(queue: str) -> None:
            ensured.append(queue)
            await ensure(queue)

        replica.launcher._queues = Refusing(replica.queues, note)
        for seconds in range(-3, 0):
            await launch(replica, candidate(replica, seconds))
        assert ensured == ["Q"]
        replica.launcher.forget_queues()
        await launch(replica, candidate(replica))
        assert ensured == ["Q", "Q"]


# --- what is sent


async def test_the_record_says_what_runs() -> None:
    """Edited between claim and task: payload, queue, headers and tries stay as they were claimed."""
    world = World()
    put(world, payload={"n": 1}, headers={"X-A": "1"}, max_tries=2, timeout="90s")
    async with Dispatching(world) as replica:
        first = candidate(replica)
        await replica.records.create_many([first.execution])
        put(world, payload={"n": 2}, headers={"X-A": "2"}, queue="other", max_tries=9)
        await world.clock.settle()
        (result,) = await launch(replica, candidate(replica, generation=9, payload=b"2", queue="other"))
        assert isinstance(result, Execution)
        assert result.generation == 1
    task = world.take().message
    assert task.data == b'{"n":1}'
    assert task.subject == world.names.task("Q", id_of())
    assert (task.headers["X-A"], task.headers[h.MAX_TRIES], task.headers[h.TIMEOUT]) == ("1", "2", "90")
    assert (task.headers[h.GENERATION], task.headers[h.DRIVE]) == ("1", "0")


@pytest.mark.parametrize("policy", [None, Overlap.ALLOW])
async def test_a_manual_run_may_name_its_policy(policy: Overlap | None) -> None:
    """Under the schedule's own policy it is skipped while another runs; under `allow` it runs, and takes no slot."""
    world = World()
    put(world)
    _, running = await held(world)
    async with Dispatching(world) as replica:
        (result,) = await launch(replica, candidate(replica, overlap=policy))
        assert isinstance(result, Execution)
        assert result.state is (State.SKIPPED if policy is None else State.QUEUED)
        assert (await world.row()).active == (running.id,)


async def test_a_slot_taken_under_another_policy_is_freed() -> None:
    """A manual run under `skip` of a schedule that allows everything: its slot is free once the rows follow."""
    world = World()
    put(world, overlap="allow")
    async with Dispatching(world) as replica:
        (result,) = await launch(replica, candidate(replica, overlap=Overlap.SKIP))
        assert isinstance(result, Execution)
        assert (await world.row()).active == (result.id,)
        ended = structs.replace(result, state=State.SUCCEEDED, finished_at=nominal(1))
        await replica.settlement.settle([ended])
        await replica.settlement.flush()
        assert (await world.row()).active == ()
        assert (await world.row()).last_outcome == "succeeded"


async def test_a_clock_behind_makes_nothing_negative() -> None:
    """Dispatched a moment before its fire time (the server's clock is ahead): a small negative lateness, on record."""
    world = World()
    put(world)
    due(world, 0.5)
    put(world, every=None, at=["2026-11-21T08:00:00.5Z"])
    async with Dispatching(world) as replica:
        await replica.run(0.2)
    assert (await execution(world, 0.5)).lateness_s == pytest.approx(-0.5, abs=0.01)
    assert timedelta(0) < FRESH
    await finish(world)
