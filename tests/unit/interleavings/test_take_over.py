"""One leader ends anywhere, another begins: what the second one must not believe, forget or plan twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.errors import Fenced, ScheddError
from scheduler.memory.clock import START
from scheduler.ports.timeline import Office
from scheduler.services.leader import Deposed
from scheduler.wire.instants import parse_instant
from tests.unit.services.planning_world import HALF, SECOND, PlanningReplica, World, instant


def killed_at(leader: PlanningReplica, call: str, when: Any) -> None:
    """The process is gone before the first such call for which `when()` holds; nothing of it happens any more."""

    def on_call(name: str) -> None:
        if name == call and when():
            leader.process.stop()
            raise asyncio.CancelledError

    leader.process.on_call = on_call


async def gone(leader: PlanningReplica) -> None:
    """Wait until it really was killed, and take its remains away."""

    async def never() -> bool:
        return False

    await leader.until(never)
    assert leader.process.is_stopped
    leader.process.cont()
    await leader.end()


async def test_a_batch_that_lands_between_the_look_and_the_repeat_is_not_the_end_of_a_term() -> None:
    """No answer, not there when it is looked for, and there when it is sent again: refused by its own watermark. The
    epoch is ours, so the watermark is read anew and planning goes on."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        answers: list[str] = []
        commit = leader.timeline.commit

        async def heard(*args: Any, **kwargs: Any) -> Office:
            if not answers:
                world.server.land_late(after_s=0.01)
            try:
                office = await commit(*args, **kwargs)
            except ScheddError as problem:
                answers.append(type(problem).__name__)
                raise
            answers.append("stored")
            return office

        leader.timeline.commit = heard  # type: ignore[method-assign]  # the very order
        await world.clock.advance(6)
        assert answers[:2] == ["Unsure", Fenced.__name__]
        assert set(answers[2:]) == {"stored"}
        assert leader.task is not None
        assert not leader.task.done()
        assert leader.telemetry.count("fenced") == 0
        mark = await world.mark()
        assert mark.until > world.clock.now() + 15 * SECOND
        assert world.owed() == world.expected(mark.until)


async def test_a_watermark_of_a_successor_is_not_taken_for_ones_own() -> None:
    """A batch finds no answer and did not land; between the two reads about it another takes office, and so writes the
    watermark: that the epoch was ours a moment before does not make it ours. The term ends, nothing is sent again."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        sent, reads = 0, 0
        commit, epoch, watermark = leader.timeline.commit, leader.timeline.epoch, leader.timeline.watermark

        async def lost(*args: Any, **kwargs: Any) -> Office:
            nonlocal sent
            sent += 1
            world.server.lose_next()
            return await commit(*args, **kwargs)

        async def looked(read: Any) -> Any:
            nonlocal reads
            found, reads = await read(), reads + 1
            if reads == 1:
                await PlanningReplica(world).take_office()
            return found

        leader.timeline.commit = lost  # type: ignore[method-assign]  # the very order
        leader.timeline.epoch = lambda: looked(epoch)  # type: ignore[method-assign]
        leader.timeline.watermark = lambda: looked(watermark)  # type: ignore[method-assign]
        await world.clock.advance(3)
        assert leader.task is not None
        with pytest.raises(Deposed, match="refused epoch"):
            await leader.task
        assert (sent, reads) == (1, 2)


async def test_a_candidate_with_a_silent_watch_plans_nothing_stale() -> None:
    """Its watch fell silent while another led, an edit was applied meanwhile, so R covers it: only a read after taking
    office tells the new leader what it stands for."""
    world = World()
    await world.clock.advance(HALF)
    for name in ("edited", "gone"):
        world.put(name, every="1s")
    async with PlanningReplica(world) as first:
        await first.plans()
        second = PlanningReplica(world)
        await second.schedules.start()
        second.bucket.stall_watches()
        world.put("edited", every="3s")
        world.delete("gone")
        await first.plans()
        assert first.mark.applied == 4
        known = second.schedules.get("edited")
        assert known is not None
        assert known.revision == 1
    second.tenure = await second.take_office()
    second.task = asyncio.create_task(second.planner.run(second.tenure))
    await world.clock.advance(8)
    await second.end()
    mark = await world.mark()
    assert mark.until > world.clock.now() + 15 * SECOND
    assert world.owed() == world.expected(mark.until)


async def test_a_leader_dies_between_the_batches_of_a_slice() -> None:
    """Only the last batch moves W, so arms stand beyond it. The successor replaces them, and what was edited or deleted
    meanwhile is disarmed though no memory knows of it: the server lists what is armed."""
    world = World()
    midnight = 30
    names = [f"herd-{number:04}" for number in range(1200)]
    for name in names:
        world.put(name, at=instant(midnight))
    async with PlanningReplica(world) as doomed:
        killed_at(doomed, "commit", lambda: len(world.armed()) == 1000)
        await doomed.plans(until=START + 10 * SECOND)
        await gone(doomed)
    assert len(world.armed()) == 1000
    assert (await world.mark()).until < START + midnight * SECOND
    armed = sorted(world.armed())
    world.delete(armed[0])
    world.put(armed[1], at=instant(midnight + 5))
    world.put(armed[2], at=instant(midnight), paused=True)
    world.put_raw(armed[3], b"{")
    world.put("a", at=instant(midnight))
    async with PlanningReplica(world) as successor:
        await successor.plans(until=START + (midnight + 6) * SECOND)
        mark = await world.mark()
        assert world.owed() == world.expected(mark.until)
        assert len(world.owed()) == 1200 - 3 + 1
        await world.clock.advance(20)
    assert {name: len(nominals) for name, nominals in world.due().items()} == dict.fromkeys(world.due(), 1)
    assert len(world.due()) == 1200 - 3 + 1


async def test_what_was_written_after_the_last_applied_edit_is_not_forgotten() -> None:
    """An edit, a delete (its marker counts), a pause and a new one come after R and before the leader's death: the
    successor applies each, and goes on from W with the rest."""
    world = World()
    await world.clock.advance(HALF)
    for name in ("s", "edited", "gone", "resting"):
        world.put(name, every="1s")
    async with PlanningReplica(world) as doomed:
        await doomed.plans()
        applied, until = doomed.mark.applied, doomed.mark.until
        killed_at(doomed, "commit", lambda: True)
        world.put("edited", every="4s")
        world.delete("gone")
        world.put("resting", every="1s", paused=True)
        world.put("new", every="2s")
        await gone(doomed)
    stored = await world.mark()
    assert (stored.applied, stored.until) == (applied, until)
    async with PlanningReplica(world) as successor:
        await successor.plans()
        assert successor.mark.applied == world.schedules.stream.last_seq
        assert world.owed() == world.expected(successor.mark.until)
        assert world.armed().keys() == {"s", "edited", "new"}


@pytest.mark.parametrize("passes_over", [True, False], ids=["overtaken", "in time"])
async def test_a_leader_dies_over_an_edit_and_the_next_write_overtakes_it(passes_over: bool) -> None:
    """The first leader tells that generation 2 is applied and dies before it arms it; right before the successor gets
    there somebody writes it again, so R passes over generation 2: what that one owed is told as superseded."""
    world = World()
    world.put("other", every="5s")
    async with PlanningReplica(world) as doomed:
        await doomed.plans()
        killed_at(doomed, "commit", lambda: bool(world.events.of("applied", "s")))
        await world.clock.advance(HALF)
        world.put("s", every="1s")
        await gone(doomed)
    assert "s" not in world.owed()
    until = (await world.mark()).until
    async with PlanningReplica(world) as successor:
        if passes_over:
            _write_behind_the_newest(world, successor)
        await successor.plans(until=world.clock.now() + SECOND)
        await successor.plans()
    told = [event.data for event in world.events.of("verdicts", "s")]
    if not passes_over:
        assert told == []
        assert world.owed()["s"] == world.expected(successor.mark.until)["s"]
        return
    assert world.schedules.stream.last_seq == 3
    (verdict,) = told
    assert (verdict["verdict"], verdict["reason"], verdict["generation"]) == ("superseded", "edited", 2)
    assert parse_instant(verdict["from"]) == START + SECOND
    assert parse_instant(verdict["to"]) == until


def _write_behind_the_newest(world: World, leader: PlanningReplica) -> None:
    """The cache is proven fresh up to 2; before anything is made of that, the watch has brought 3."""
    fresh, calls = leader.schedules.fresh, 0

    async def overtaken(*, calendars: bool = False) -> int:
        nonlocal calls
        newest = await fresh(calendars=calendars)
        calls += 1
        if calls == 2:  # the first one only enters what is applied already
            world.put("s", every="1h")
            for _ in range(100):
                known = leader.schedules.get("s")
                if known is not None and known.revision == 3:
                    break
                await asyncio.sleep(0)
        return newest

    leader.schedules.fresh = overtaken  # type: ignore[method-assign]  # the very order


async def test_a_storm_of_writes_starves_no_slice() -> None:
    """Whenever the planner asks how far the bucket is, it is a write further right after the answer, and again before
    each batch: slices go on all the same, and R follows."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        enough, before = 3000, leader.mark.applied
        behind: list[bool] = []
        last_revision = leader.bucket.last_revision

        async def outrun() -> int:
            newest = await last_revision()
            if world.schedules.stream.last_seq < enough:
                world.put("noise", every="1h", description=str(newest))
            return newest

        async def look() -> None:
            behind.append(leader.mark.applied < world.schedules.stream.last_seq)

        leader.bucket.last_revision, leader.after_commit = outrun, look  # type: ignore[method-assign]
        for _ in range(10):
            await world.clock.advance(1)
            assert world.schedules.stream.last_seq < enough, "it never stopped asking"
        assert all(behind)
        assert len(behind) > 10
        assert leader.mark.until > world.clock.now() + timedelta(seconds=15)
        assert leader.mark.applied > before + 5
        assert world.owed()["s"] == world.expected(leader.mark.until)["s"]


async def test_repairing_an_invalid_value_is_not_retroactive() -> None:
    """Valid, then broken: everything of it is disarmed and nothing expected; repaired: it goes on from the repair."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(2)
        world.put_raw("s", b'{"every": "1s", "queue": "Q", "tpye": "t"}')
        await leader.plans()
        row = await world.row("s")
        assert row is not None
        assert row.state == "invalid"
        assert world.armed() == {}
        await world.clock.advance(5)
        world.put("s", every="1s")
        await leader.plans()
        owed = world.owed()["s"]
        assert owed == world.expected(leader.mark.until)["s"]
        missing = [second for second in range(1, 20) if START + second * SECOND not in owed]
        assert len(missing) >= 5
        assert missing == list(range(missing[0], missing[-1] + 1))


async def test_an_edit_takes_effect_at_the_servers_time() -> None:
    """The leader believes that it is three seconds later than it is: an edit holds from the server's timestamp on, so
    nothing between the two is left out, and nothing before it made up for."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", cron="0 0 1 1 *")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        leader.process.clock.now = lambda: world.clock.now() + 3 * SECOND  # type: ignore[method-assign]  # as said
        await world.clock.advance(2)
        world.put("s", every="1s")
        await leader.plans()
        owed = world.owed()["s"]
        assert owed == world.expected(leader.mark.until)["s"]
        assert owed[0] == START + 3 * SECOND
