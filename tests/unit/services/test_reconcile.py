"""Every repair on the memory twins: what it closes, what it leaves alone, and that it stops with its term."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from msgspec import structs

from scheduler.core.errors import Unavailable
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Overlap
from scheduler.core.reconciling import REPAIR_KINDS
from scheduler.memory.messages import Write
from scheduler.ports.timeline import Watermark
from scheduler.services.leader import Deposed
from scheduler.services.reconcile.arms import ArmsRepair
from scheduler.services.reconcile.consumers import ConsumersRepair
from scheduler.wire.reports import Outcome
from tests.unit.services.dispatch_stage import due, due_left
from tests.unit.services.tracking_stage import EVERY_DAY, QUEUE, Replica, Tripwire, World


def lose_signals(world: World) -> None:
    """The server's signals are sent at most once: these never arrived."""
    for seq in list(world.server.advisories.messages):
        world.server.advisories.delete(seq)
    world.server.signals.take(100)


async def test_nothing_to_repair() -> None:
    """A healthy world: rounds repair nothing, write nothing and count nothing."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        for number in range(3):
            await replica.launched(number)
        await world.schedules.put("a", EVERY_DAY)
        running = await replica.launched(4)
        world.start(running.id)
        await replica.track()
        before = (world.executions.stream.last_seq, world.status.stream.last_seq, world.server.tasks.last_seq)
        for _ in range(5):
            await world.beat((running.id, 1))
            await replica.reconcile(every_s=9)
        assert replica.telemetry.count("repaired") == 0
        after = (world.executions.stream.last_seq, world.status.stream.last_seq, world.server.tasks.last_seq)
        assert after == before


# --- claimed


@pytest.mark.parametrize("is_paired", [False, True])
async def test_claimed_is_rolled_forward(is_paired: bool) -> None:
    """Its dispatcher died before or after the pair: after the grace it is queued, once."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        execution = replica.execution()
        if is_paired:
            await replica.launched()
        await world.store(execution)
        await world.clock.settle()
        await replica.reconcile(every_s=29)
        assert (await world.record(execution.id)).state is State.CLAIMED
        await replica.reconcile(every_s=10)
        queued = await world.record(execution.id)
        assert (queued.state, queued.task_seq) == (State.QUEUED, world.tasks()[0])
        assert len(world.tasks()) == 1
        assert replica.telemetry.of("repaired") == [{"kind": "claimed"}]


async def test_claimed_of_a_deleted_schedule_is_rolled_forward() -> None:
    """It was due before the delete: the record alone says what to run."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)
        await replica.reconcile(every_s=40)
        assert (await world.record(execution.id)).state is State.QUEUED
        assert len(world.tasks()) == 1


async def test_claimed_too_long_is_lost() -> None:
    """Older than half the claim floor: lost rather than doubled, on record, and its slot is free."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)
        await world.hold(execution.id)
        await replica.reconcile(every_s=901)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "claimed_too_long")
        assert world.tasks() == []
        assert (await world.row()).active == ()


# --- gone


async def test_an_ack_that_nobody_told() -> None:
    """Gone without a signal: succeeded, inferred, only after a grace and after every signal told so far is folded."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.queue.ack(world.take().token)
        lose_signals(world)
        world.server.advisories.store([Write("$JS.EVENT.x", b"told to somebody, not folded yet")])
        await replica.reconcile(every_s=31)
        await replica.reconcile(rounds=3)
        assert (await world.record(execution.id)).state is State.QUEUED
        await replica.track()  # now it is folded (as poison)
        await replica.reconcile()
        done = await world.record(execution.id)
        assert (done.state, done.reason) == (State.SUCCEEDED, "inferred")
        assert (await world.row()).active == ()
        assert replica.telemetry.of("repaired") == [{"kind": "gone"}]


async def test_a_task_that_the_server_lost_behind_its_claim() -> None:
    """Its disk was damaged right between the two: the claim does not make it a success that nobody worked on."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        seq = execution.task_seq or 0
        world.server.tasks.delete(seq)
        replica.lost_tasks.note(seq - 1, seq)
        await replica.reconcile(rounds=3, every_s=31)
    record = await world.record(execution.id)
    assert (record.state, record.reason) == (State.LOST, "stream_lost")


@pytest.mark.parametrize("signal", ["term", "nak", "max_deliveries"])
async def test_a_signal_is_never_inferred_away(signal: str) -> None:
    """The task is gone and its signal waits, for long: whatever the reconciler sees, it does not become a success."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched(max_tries=1)
        delivery = world.take()
        if signal == "term":
            world.queue.term(delivery.token, "no")
        elif signal == "nak":
            world.queue.nak(delivery.token)
        else:
            for _ in range(5):
                await world.clock.advance(31)
                world.queue.take(1)
        if signal != "term":  # somebody removed it by hand meanwhile
            world.server.tasks.delete(world.tasks()[0])
        await replica.reconcile(rounds=6)
        assert (await world.record(execution.id)).state is State.QUEUED
        await replica.track()
        await replica.reconcile(rounds=2)
        assert (await world.record(execution.id)).state is State.FAILED


async def test_gone_after_a_start() -> None:
    """Started, acknowledged, and never finished: lost, not succeeded; but not while its worker says that it runs."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.queue.ack(world.take().token)
        await replica.track()
        for _ in range(6):
            await world.beat((execution.id, 1))
            await replica.reconcile(every_s=20)
        assert (await world.record(execution.id)).state is State.RUNNING
        await replica.reconcile(rounds=3)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "worker_gone")


async def test_gone_with_a_report_that_nobody_folded() -> None:
    """The final report is in the stream and its message was lost to us: it decides."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        world.start(execution.id)
        world.finish(execution.id, Outcome.FAILED)
        world.queue.ack(world.take().token)
        for delivery in world.server.tracker.take(10):
            world.server.tracker.ack(delivery.token)
        lose_signals(world)
        await replica.reconcile(every_s=31)
        assert (await world.record(execution.id)).state is State.FAILED
        assert replica.telemetry.count("repaired") == 0


# --- leftovers


@pytest.mark.parametrize(
    ("state", "goes"), [(State.LOST, True), (State.FAILED, True), (State.SUCCEEDED, False), (State.QUEUED, False)]
)
async def test_a_task_that_outlived_its_execution(state: State, goes: bool) -> None:
    """The record was written and the task not removed: it goes after the grace. After a success its worker
    acknowledges it, and the task of an open execution is nobody's to remove."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.store(structs.replace(await world.record(execution.id), state=state))
        await replica.reconcile(every_s=29)
        assert len(world.tasks()) == 1
        await replica.reconcile(rounds=2)
        assert len(world.tasks()) == (0 if goes else 1)
        assert replica.telemetry.count("repaired", kind="leftovers") == (1 if goes else 0)


async def test_a_task_that_a_crash_brought_back() -> None:
    """Its worker acknowledged it and it ended; the server has it again, and takes it for done: it goes by its record,
    and when that has expired, by its age. What waits for a worker stays."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        waiting = await replica.launched(1)
        ended = await replica.launched(2)
        await world.store(structs.replace(ended, state=State.SUCCEEDED, finished_at=world.clock.now()))
        forgotten = await replica.launched(3)
        await world.executions.expire((await world.executions.get(forgotten.id)).revision)  # type: ignore[union-attr]
        await replica.reconcile(every_s=29)
        assert len(world.tasks()) == 3
        await replica.reconcile(rounds=2)
        assert len(world.tasks()) == 2
        await replica.reconcile(every_s=1801)
    assert world.tasks() == [waiting.task_seq]


# --- slots


async def test_slots_of_ended_and_missing_holders() -> None:
    """Released after a grace; a holder that runs keeps its slot."""
    world = World()
    async with Replica(world, overlap=Overlap.ALLOW) as replica:
        running = await replica.launched(0)
        ended = await replica.launched(1)
        world.queue.ack(world.take().token)
        done = structs.replace(await world.record(ended.id), state=State.FAILED)
        await world.store(done)
        await world.hold(running.id, ended.id, "a.20200101T000000000Z")
        lose_signals(world)
        await world.clock.settle()
        await replica.reconciler.round(replica.tenure())
        assert len((await world.row()).active) == 3
        await replica.reconcile()
        assert (await world.row()).active == (running.id,)
        assert replica.telemetry.count("repaired", kind="slots") == 2


async def test_a_successor_starts_from_the_rows() -> None:
    """A new leader knows nothing and frees what its predecessor died over."""
    world = World()
    async with Replica(world) as replica:
        execution = await replica.launched()
        await world.store(structs.replace(await world.record(execution.id), state=State.FAILED))
    async with Replica(world) as heir:
        await heir.reconcile(rounds=2)
        assert (await world.row()).active == ()


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_holder_older_than_the_index_reaches(is_gone: bool) -> None:
    """A run of hours under a leader of minutes: it is looked at all the same, so its slot is not held for ever."""
    world = World()
    async with Replica(world) as replica:
        execution = await _running(world, replica, max_tries=1)
        if is_gone:
            world.server.tasks.delete(world.tasks()[0])
    async with Replica(world) as heir:
        heir.index._open.clear()
        heir.index._recent.clear()
        await heir.reconcile(rounds=6)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "worker_gone")
        assert (await world.row()).active == ()
        assert world.tasks() == []


# --- arms


async def test_arms_that_are_stuck() -> None:
    """Overdue by more than the grace and still yielded by its schedule: handed to the planner; nothing else is."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", b'{"every": "10s", "queue": "Q", "type": "t"}')
        await world.clock.settle()
        now = world.clock.now()
        mark = Watermark(now)
        office = await world.timeline.take_office(
            holder="h", lease_rev=1, at=now, expect_epoch=0, watermark=mark, expect_watermark=0
        )
        arms = [
            Occurrence("a", now + timedelta(seconds=each), now + timedelta(hours=1), 1) for each in (10, 13, 20, 60)
        ]
        gone = Occurrence("b", now + timedelta(seconds=10), now + timedelta(hours=1), 1)
        await world.timeline.commit(office, arms=[*arms, gone], disarms=[], watermark=mark)
        await replica.reconcile(every_s=45)
        assert [each.nominal_at for each in replica.rearmed] == [now + timedelta(seconds=10)]
        assert replica.rearmed[0].fire_at == replica.rearmed[0].nominal_at
        assert replica.telemetry.of("repaired") == [{"kind": "arms"}]


async def test_a_planner_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the planner ends: the arms are left to the next round."""
    monkeypatch.setattr("scheduler.services.reconcile.arms.REARM_TIMEOUT_S", 0.01)
    world = World()
    async with Replica(world) as replica:
        repair = next(each for each in replica.reconciler.repairs if isinstance(each, ArmsRepair))
        monkeypatch.setattr(repair, "_rearm", lambda occurrences: asyncio.Event().wait())
        late = Occurrence("a", world.clock.now() - timedelta(minutes=2), world.clock.now() - timedelta(minutes=2), 1)
        monkeypatch.setattr(repair, "_occurrences", lambda armed: iter([late]))
        with pytest.raises(Unavailable):
            await repair.repair(replica.tenure())


# --- due


async def test_due_messages_that_the_server_brought_back_below_its_floor() -> None:
    """Acknowledged, and there again after a crash: delivered once more as soon as two looks agree, and never while the
    consumer has them in hand."""
    world = World()
    async with Replica(world) as replica:
        await world.timeline.deliver_from(1)
        due(world, 1)
        (held,) = await world.timeline.pull_due(10, 1)
        await replica.reconcile(rounds=3)
        assert replica.telemetry.count("repaired") == 0
        await world.timeline.deliver_from(world.server.timeline.last_seq + 1)
        await replica.reconcile(rounds=1)
        assert await world.timeline.pull_due(10, 0) == []
        await replica.reconcile(rounds=2)
        assert replica.telemetry.of("repaired") == [{"kind": "due"}]
        (again,) = await world.timeline.pull_due(10, 1)
        assert again.ack == held.ack
        await world.timeline.ack([again.ack])
        assert due_left(world) == []


# --- workers


async def _running(world: World, replica: Replica, **changes: int) -> Execution:
    execution = await replica.launched(**changes)
    world.take()
    await world.beat((execution.id, 1))
    world.start(execution.id)
    await replica.track()
    return execution


async def test_a_worker_that_dies_with_the_last_try() -> None:
    """Its row expires: after a whole ack wait of silence the run is lost, and then its task is gone."""
    world = World()
    async with Replica(world) as replica:
        execution = await _running(world, replica, max_tries=1)
        await replica.reconcile(every_s=20)
        assert (await world.record(execution.id)).state is State.RUNNING
        await replica.reconcile(rounds=2, every_s=20)  # the row went after 30 s
        assert (await world.record(execution.id)).state is State.RUNNING
        await replica.reconcile(every_s=31)
        lost = await world.record(execution.id)
        assert (lost.state, lost.reason) == (State.LOST, "worker_gone")
        assert world.tasks() == []
        assert (await world.row()).active == ()
        assert replica.telemetry.of("repaired") == [{"kind": "workers"}]


async def test_a_worker_that_dies_with_tries_left() -> None:
    """The redelivery deals with it: another worker starts the second attempt."""
    world = World()
    async with Replica(world) as replica:
        execution = await _running(world, replica, max_tries=2)
        await replica.reconcile(rounds=5)
        assert (await world.record(execution.id)).state is State.RUNNING
        assert len(world.tasks()) == 1
        world.start(execution.id, 2, worker="w2")
        await replica.track()
        assert (await world.record(execution.id)).attempt == 2


@pytest.mark.parametrize("life", ["row", "report"])
async def test_a_worker_that_lives(life: str) -> None:
    """A row that lists the run, or a final report that nobody has folded yet, keeps it from being lost."""
    world = World()
    async with Replica(world) as replica:
        execution = await _running(world, replica, max_tries=1)
        if life == "report":
            world.finish(execution.id)
        for _ in range(6):
            if life == "row":
                await world.beat((execution.id, 1))
            await replica.reconcile(every_s=20)
        expected = State.RUNNING if life == "row" else State.SUCCEEDED
        assert (await world.record(execution.id)).state is expected


async def test_a_row_that_forgot_the_run() -> None:
    """The worker lives and does not list the run (it lost the end of it): as good as gone."""
    world = World()
    async with Replica(world) as replica:
        execution = await _running(world, replica, max_tries=1)
        for _ in range(5):
            await world.beat()
            await replica.reconcile(every_s=20)
        assert (await world.record(execution.id)).state is State.LOST


# --- consumers


async def test_missing_consumers() -> None:
    """A schedule's queue gets its deleted consumer back; what the daemon's own assets needed is counted, too."""
    world = World()
    async with Replica(world) as replica:
        await world.schedules.put("a", EVERY_DAY)
        await world.clock.settle()
        del world.server.tasks.consumers[QUEUE]
        replica.restored = ["consumer dispatcher"]
        await replica.reconcile()
        assert QUEUE in world.server.tasks.consumers
        assert replica.telemetry.count("repaired", kind="consumers") == 2


async def test_a_queue_whose_schedule_is_not_applied_yet_is_the_planners() -> None:
    """What was put a moment ago has no consumer yet: nothing to repair, nothing to warn of."""
    world = World()
    async with Replica(world) as replica:
        first = await world.schedules.put("a", EVERY_DAY)
        await world.schedules.put("b", EVERY_DAY.replace(QUEUE.encode(), b"later"))
        await world.clock.settle()
        await replica.reconciler.round(replica.tenure(applied=first))
        assert replica.telemetry.count("repaired", kind="consumers") == 0
        assert "later" not in world.server.tasks.consumers


# --- the rounds


async def test_one_repair_that_breaks_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first repairs raise: the others still run, in the same round."""
    world = World()
    async with Replica(world) as replica:
        execution = replica.execution()
        await world.store(execution)

        async def broken() -> list[str]:
            raise RuntimeError("a bug")

        async def unavailable(*_: object, **__: object) -> int:
            raise Unavailable("electing")

        (consumers,) = [each for each in replica.reconciler.repairs if isinstance(each, ConsumersRepair)]
        monkeypatch.setattr(consumers, "_ensure", broken)
        monkeypatch.setattr(replica.tracker.liveness, "check", unavailable)
        await replica.reconcile(every_s=40)
        assert (await world.record(execution.id)).state is State.QUEUED


@pytest.mark.parametrize("state", ["claimed", "gone", "slots", "running"])
async def test_a_term_that_is_over_writes_nothing(state: str) -> None:
    """The lease has run out while the process slept: Deposed before any write."""
    world = World()
    async with Replica(world) as replica:
        if state == "claimed":
            await world.store(replica.execution())
        elif state == "running":
            await _running(world, replica, max_tries=1)
        else:
            execution = await replica.launched()
            world.queue.ack(world.take().token)
            lose_signals(world)
            if state == "slots":
                await world.store(structs.replace(await world.record(execution.id), state=State.FAILED))
        tenure = replica.tenure(lasts_s=90)
        await world.clock.advance(91)
        before = (world.executions.stream.last_seq, world.status.stream.last_seq, world.server.tasks.last_seq)
        for repair in replica.reconciler.repairs:
            for _ in range(3):
                with contextlib.suppress(Deposed):
                    await repair.repair(tenure)
                await world.clock.advance(35)
        with pytest.raises(Deposed):
            await replica.reconciler.round(tenure)
        assert before == (world.executions.stream.last_seq, world.status.stream.last_seq, world.server.tasks.last_seq)


async def test_it_runs_until_cancelled() -> None:
    """Rounds at the given pace, through a server that goes away and comes back."""
    world = World()
    async with Replica(world) as replica:
        task = asyncio.create_task(replica.reconciler.run(replica.tenure()))
        await world.clock.advance(10)
        world.server.down = True
        await world.clock.advance(60)
        world.server.down = False
        execution = replica.execution()
        await world.store(execution)
        await world.clock.advance(100)
        assert (await world.record(execution.id)).state is State.QUEUED
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_kinds_are_registered() -> None:
    """Every repair counts under a kind that the metrics know beforehand."""
    world = World()
    async with Replica(world) as replica:
        assert sorted(each.kind.value for each in replica.reconciler.repairs) == sorted(REPAIR_KINDS)


# --- killed anywhere


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_a_reconciler_killed_anywhere(late: bool) -> None:
    """One of each kind of wreck, and a leader that dies at its n-th call, for every n: its successor ends the same."""
    number = 1
    while True:
        wire = Tripwire(number, late=late)
        world = World()
        ids = await _wrecks(world)
        async with Replica(world, wire, overlap=Overlap.ALLOW) as doomed:
            try:
                await doomed.reconcile(rounds=5)
            except asyncio.CancelledError:
                assert wire.tripped
        async with Replica(world, overlap=Overlap.ALLOW) as heir:
            for _ in range(6):
                await heir.reconcile()
                await heir.track()
        states = [(await world.record(each)).state for each in ids]
        assert states == [State.QUEUED, State.SUCCEEDED, State.LOST, State.FAILED], f"killed at call {number}"
        assert (await world.row()).active in ((ids[0],), ())
        assert len(world.tasks()) == 1
        if not wire.tripped:
            break
        number += 1
    assert number > 20


async def _wrecks(world: World) -> list[str]:
    """Claimed and not queued, acknowledged without a signal, run by a dead worker, ended with its slot."""
    async with Replica(world, overlap=Overlap.ALLOW) as dead:
        await world.schedules.put("a", EVERY_DAY)
        claimed = dead.execution(0)
        gone, silent, ended = [await dead.launched(number, max_tries=1) for number in (1, 2, 3)]
        for _ in range(3):
            delivery = world.take()
            if delivery.message.seq == gone.task_seq:
                world.queue.ack(delivery.token)
        world.start(silent.id)
        await dead.turn(dead.tracker.reports.turn())
        lose_signals(world)
        world.server.tasks.delete(ended.task_seq or 0)
        await world.store(structs.replace(await world.record(ended.id), state=State.FAILED))
        await world.store(claimed)
        await world.hold(claimed.id, gone.id, silent.id, ended.id)
        return [claimed.id, gone.id, silent.id, ended.id]
