"""Buffers on the twins: who waits, whose turn comes, who is dropped; killed at every call and repaired."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from msgspec import structs

from scheduler.core.model.execution import State
from scheduler.core.model.schedule import Overlap
from scheduler.wire.record import encode_execution
from scheduler.wire.tasks import WITHHELD
from tests.unit.services.dispatch_stage import Dispatching, due, due_left, execution, id_of, put, states
from tests.unit.services.tracking_stage import Replica, Tripwire, World

N = 4
IDS = [id_of(number) for number in range(N)]


async def dispatched(world: World, policy: str, count: int = N, **fields: object) -> None:
    """So many come due while the first runs."""
    put(world, overlap=policy, **fields)
    async with Dispatching(world) as replica:
        for number in range(count):
            due(world, number)
        await replica.run(count + 1)
    assert due_left(world) == []


async def end_one(world: World, replica: Replica) -> None:
    """The plain worker ends what runs, and the replica tracks that."""
    world.queue.ack(world.take().token)
    await replica.track()


async def reasons(world: World) -> dict[str, str | None]:
    return {key: (await world.record(key)).reason for key in await world.executions.keys()}


async def test_buffer_all_runs_all_in_their_order() -> None:
    """One runs, three wait; each end is the turn of the next, whose task comes then and not before."""
    world = World()
    await dispatched(world, "buffer_all")
    row = await world.row()
    assert (row.active, row.waiting) == ((IDS[0],), tuple(IDS[1:]))
    assert await states(world) == {IDS[0]: State.QUEUED} | dict.fromkeys(IDS[1:], State.WAITING)
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        for number in range(N):
            assert len(world.tasks()) == 1
            assert (await world.row()).active == (IDS[number],)
            await end_one(world, replica)
    assert set((await states(world)).values()) == {State.SUCCEEDED}
    assert (await world.row()).waiting == ()


async def test_a_run_from_the_buffer_tells_how_long_it_waited() -> None:
    """Its history says when it waited and when its turn came; its lateness is counted from its fire time."""
    world = World()
    await dispatched(world, "buffer_all", 2)
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await world.clock.advance(10)
        await end_one(world, replica)
        found = await execution(world, 1)
    assert [each.state for each in found.history] == [State.CLAIMED, State.WAITING, State.WAITING, State.QUEUED]
    assert found.promoted_at is not None
    assert found.lateness_s is not None
    assert found.lateness_s >= 10
    assert found.verdict == "fired"


async def test_buffer_one_keeps_the_first() -> None:
    """The second waits, the others are skipped: buffer_full."""
    world = World()
    await dispatched(world, "buffer_one")
    assert (await world.row()).waiting == (IDS[1],)
    assert await reasons(world) == {IDS[0]: None, IDS[1]: None, IDS[2]: "buffer_full", IDS[3]: "buffer_full"}


async def test_latest_keeps_the_newest() -> None:
    """The newest waits; those before it are skipped: superseded_in_buffer."""
    world = World()
    await dispatched(world, "latest")
    assert (await world.row()).waiting == (IDS[3],)
    assert await reasons(world) == {
        IDS[0]: None, IDS[1]: "superseded_in_buffer", IDS[2]: "superseded_in_buffer", IDS[3]: None,
    }  # fmt: skip
    async with Replica(world, overlap=Overlap.LATEST) as replica:
        await end_one(world, replica)
    assert (await execution(world, 3)).state is State.QUEUED


async def test_latest_in_one_batch() -> None:
    """All at once are decided in one write: the first runs, the newest waits, nobody in between is lost."""
    world = World()
    put(world, overlap="latest")
    for number in range(N):
        due(world, number - N)
    async with Dispatching(world) as replica:
        await replica.run(2)
    found = await states(world)
    assert [found[id_of(number - N)] for number in range(N)] == [
        State.QUEUED, State.SKIPPED, State.SKIPPED, State.WAITING,
    ]  # fmt: skip


async def test_max_running_of_a_buffer() -> None:
    """So many at once, the others wait."""
    world = World()
    await dispatched(world, "buffer_all", max_running=2)
    row = await world.row()
    assert (row.active, row.waiting) == (tuple(IDS[:2]), tuple(IDS[2:]))


async def test_a_new_replica_knows_what_runs() -> None:
    """What runs is in the row, read before the first decision: nobody has to remember it."""
    world = World()
    await dispatched(world, "skip", 1)
    async with Dispatching(world) as stranger:
        due(world, 1)
        await stranger.run(3)
    assert (await execution(world, 1)).reason == "overlap"


async def test_what_waits_of_a_deleted_schedule() -> None:
    """It does not run any more: cancelled, reason deleted, once its turn comes."""
    world = World()
    await dispatched(world, "buffer_all", 3)
    await world.schedules.delete("a")
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await end_one(world, replica)
    assert await states(world) == {IDS[0]: State.SUCCEEDED, IDS[1]: State.CANCELLED, IDS[2]: State.CANCELLED}
    assert (await execution(world, 2)).reason == "deleted"
    assert (await world.row()).active == (await world.row()).waiting == ()
    assert world.tasks() == []


async def test_an_edit_that_makes_room() -> None:
    """max_running is raised while some wait: they move up with the next round, at the latest."""
    world = World()
    await dispatched(world, "buffer_all")
    put(world, overlap="allow")
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        await replica.reconcile(rounds=2)
    assert set((await states(world)).values()) == {State.QUEUED}


async def test_a_record_that_waits_in_no_row() -> None:
    """Its row was lost: it asks for a slot anew."""
    world = World()
    await dispatched(world, "buffer_all", 3)
    await world.hold(IDS[0])
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await replica.reconcile(rounds=3)
        assert (await world.row()).waiting == tuple(IDS[1:3])
        for _ in range(3):
            await end_one(world, replica)
    assert set((await states(world)).values()) == {State.SUCCEEDED}


async def test_whoever_waits_without_a_record() -> None:
    """Ids of records that are gone or over leave the buffer."""
    world = World()
    await dispatched(world, "buffer_all", 3)
    await world.executions.delete(IDS[1])
    gone = structs.replace(await execution(world, 2), state=State.CANCELLED, finished_at=world.clock.now())
    await world.executions.put(gone.id, encode_execution(gone))
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await replica.reconcile(rounds=3)
    assert (await world.row()).waiting == ()


async def test_the_policy_of_a_manual_run_outlives_its_launcher() -> None:
    """It was asked for with `allow` and its launcher died after the claim: the repair uses that policy, too."""
    world = World()
    await dispatched(world, "skip", 1)
    async with Replica(world) as replica:
        manual = structs.replace(replica.execution(5), overlap=Overlap.ALLOW)
        await replica.records.create_many([manual])
        await replica.reconcile(rounds=2)
        assert (await world.record(manual.id)).state is State.QUEUED


async def test_too_long_in_the_launch() -> None:
    """Its turn came half a claim floor ago, and no claim is there: lost, for nobody can tell whether it ran."""
    world = World()
    await dispatched(world, "buffer_all", 2)
    waits = await execution(world, 1)
    long_ago = world.clock.now() - timedelta(seconds=1000)
    await world.executions.put(waits.id, encode_execution(structs.replace(waits, promoted_at=long_ago)))
    await world.hold(waits.id)
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await replica.reconcile(rounds=2)
    found = await execution(world, 1)
    assert (found.state, found.reason) == (State.LOST, "claimed_too_long")


async def test_waiting_for_hours_costs_nothing() -> None:
    """Who waits longer than the claim lives is launched all the same: nobody had begun to."""
    world = World()
    await dispatched(world, "buffer_all", 2)
    async with Replica(world, overlap=Overlap.BUFFER_ALL) as replica:
        await world.clock.advance(7200)
        await end_one(world, replica)
    assert (await execution(world, 1)).state is State.QUEUED


# --- killed anywhere


async def _work_off(world: World, policy: Overlap) -> None:
    """An heir tracks, repairs and works until nothing is left."""
    async with Dispatching(world) as dispatcher, dispatcher.running():
        await world.clock.advance(8)
    async with Replica(world, overlap=policy) as heir:
        for _ in range(6):
            for delivery in world.queue.take(10):
                world.queue.ack(delivery.token)
            await heir.track()
            await heir.reconcile(rounds=2)


def _check(world: World, found: dict[str, State], most: int) -> None:
    stored = [each for each in world.server.tasks.messages.values() if ".claim." in each.subject]
    claims = [each.subject for each in stored if each.data != WITHHELD]
    assert len(claims) == len(set(claims))
    ran = {key for key, state in found.items() if state is State.SUCCEEDED}
    assert {each.split(".claim.")[1].rpartition(".")[0] for each in claims} == ran
    assert len(found) == N
    assert set(found.values()) <= {State.SUCCEEDED, State.SKIPPED}
    assert len(ran) >= most


@pytest.mark.parametrize(("policy", "least"), [("buffer_all", N), ("buffer_one", 2), ("latest", 2)])
@pytest.mark.parametrize("late", [False, True])
async def test_the_one_who_frees_the_slot_dies(policy: str, least: int, late: bool) -> None:
    """Before or after each of its calls: everybody still gets his turn, once, and the row is empty in the end."""
    at = 0
    while True:
        at += 1
        world, wire = World(), Tripwire(at, late=late)
        await dispatched(world, policy)
        async with Replica(world, wire, overlap=Overlap(policy)) as doomed:
            wire.count = 0
            with contextlib.suppress(asyncio.CancelledError):
                await end_one(world, doomed)
        died = wire.tripped
        await _work_off(world, Overlap(policy))
        _check(world, await states(world), least)
        row = await world.row()
        assert (row.active, row.waiting) == ((), ())
        if not died:
            break
    assert at > 6


@pytest.mark.parametrize(("policy", "least"), [("buffer_all", N), ("buffer_one", 2), ("latest", 2)])
@pytest.mark.parametrize("late", [False, True])
async def test_the_dispatcher_dies(policy: str, least: int, late: bool) -> None:
    """Before or after each of its calls, while some come to run and some to wait."""
    at = 0
    while True:
        at += 1
        world, wire = World(), Tripwire(late=late)
        put(world, overlap=policy)
        async with Dispatching(world, wire) as doomed:
            wire.count, wire.at = 0, at
            for number in range(N):
                due(world, number - N)
            with contextlib.suppress(asyncio.CancelledError):
                await doomed.dispatcher.dispatch(
                    [doomed.timeline._port._read(each) for each in world.server.due.take(N)]
                )
        died = wire.tripped
        await world.clock.advance(6)
        await _work_off(world, Overlap(policy))
        found = await states(world)
        _check(world, found, least)
        row = await world.row()
        assert (row.active, row.waiting) == ((), ())
        if not died:
            break
    assert at > 8
