"""A chain (`after`) on whole replicas in virtual time: killed before or after any call to the server, it goes on."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from scheduler.core.model.execution import State
from scheduler.wire.instants import format_instant
from tests.unit.simulation.chain_stage import Stage, play
from tests.unit.simulation.site import Replica
from tests.unit.simulation.workers import TYPE

DELAY = timedelta(seconds=2)
FROM_S, SPAN_S, END_S = (
    4.0,
    4.0,
    45.0,
)  # when kills begin, how long they do (a whole run and the way to the next), the end
TOUCHED = frozenset({"put", "put_many", "get_many", "publish", "commit", "ack", "armed"})


class Deadly:
    """Kills a replica before or after its n-th call within a span of time."""

    def __init__(self, replica: Replica, number: int, *, late: bool) -> None:
        self.count, self.is_dead = 0, asyncio.Event()
        self._replica, self._number, self._late = replica, number, late
        self._since, self._call = replica.clock.boottime_s(), replica.network.call
        replica.network.call = self.call  # type: ignore[method-assign]

    async def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        now_s = self._replica.clock.boottime_s() - self._since
        if name in TOUCHED and FROM_S <= now_s < FROM_S + SPAN_S:
            self.count += 1
            if self.count == self._number:
                if self._late:
                    await method(*args, **kwargs)
                self.is_dead.set()
                await asyncio.sleep(3600)  # until `kill` cancels it
        return await self._call(name, method, *args, **kwargs)


async def _killed_at(number: int, late: bool, stage: Stage) -> bool:
    doomed = stage.site.start("r0")
    deadly = Deadly(doomed, number, late=late)
    await asyncio.sleep(0.5)
    stage.put()
    killing = asyncio.ensure_future(deadly.is_dead.wait())
    await asyncio.wait([killing], timeout=FROM_S + SPAN_S)
    killing.cancel()
    if deadly.is_dead.is_set():
        await doomed.kill()
        await asyncio.sleep(0.5)
        stage.site.start("r1")
    await asyncio.sleep(END_S - stage.site.clock.boottime_s() % 1000)
    await stage.until(lambda: stage.to_come() is not None and stage.armed() != [])
    _check(stage)
    return deadly.is_dead.is_set()


def _check(stage: Stage) -> None:
    """An unbroken chain: each occurrence the delay after the end of the one before, each queued once, one to come."""
    _check_steps(stage)
    runs = stage.runs()
    assert all(each.state is State.SUCCEEDED for each in runs[:-1])
    assert all(len(times) == 1 for times in stage.site.journal.pairs.values())
    assert len(runs) > 5
    assert stage.armed() == [stage.site.names.arm("c", stage.to_come() or runs[0].nominal_at)]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_killed_anywhere(late: bool) -> None:
    """The only replica, at its n-th call for every n of a whole round: nothing is doubled, left out or out of step."""
    number = 1
    while play(1, functools.partial(_killed_at, number, late)):
        number += 1
    assert number > 15  # sometimes: at the start, the record, slot, pair, end, row and arm


def scene(play_it: Callable[[Stage], Any]) -> Callable[[], None]:
    """A test of one replica that leads, and a chain that has had two runs and waits for its third."""

    @functools.wraps(play_it)
    def test() -> None:
        async def played(stage: Stage) -> None:
            stage.site.start("r0")
            stage.put()
            await stage.waits_after(2)
            await play_it(stage)

        play(1, played)

    del test.__wrapped__  # pytest would read its signature
    return test


@scene
async def test_another_payload_leaves_it_alone(stage: Stage) -> None:
    """What is armed fires when it would have."""
    due = stage.to_come()
    assert due is not None
    stage.put(payload={"n": 1})
    await asyncio.sleep(0.9 * (due - stage.site.now()).total_seconds())
    assert stage.to_come() == due
    await stage.until(lambda: len(stage.runs()) == 3)
    assert stage.runs()[-1].nominal_at == due
    assert stage.runs()[-1].payload == b'{"n":1}'


@scene
async def test_another_delay_counts_from_the_last_end(stage: Stage) -> None:
    """Longer, then so short that it would be past: then it is due at the edit."""
    ended = stage.runs()[-1].finished_at
    assert ended is not None
    stage.put(after="1h")
    await stage.until(lambda: stage.to_come() == ended + timedelta(hours=1))
    assert len(stage.armed()) == 1
    await asyncio.sleep(30)
    assert len(stage.runs()) == 2
    edited = stage.site.now()
    stage.put(after="1s")
    await stage.until(lambda: len(stage.runs()) == 3)
    assert stage.runs()[-1].nominal_at == edited


@scene
async def test_a_delay_that_changes_during_a_run(stage: Stage) -> None:
    """The end counts the delay in force then, whichever replica ends it."""
    await stage.until(lambda: stage.runs()[-1].state is State.QUEUED)
    stage.put(after="30s")
    await stage.until(lambda: stage.runs()[-1].finished_at is not None)
    end = stage.runs()[-1].finished_at
    assert end is not None
    await stage.until(lambda: stage.to_come() == end + timedelta(seconds=30))


@scene
async def test_a_pause_and_a_resume(stage: Stage) -> None:
    """It stands still, with nothing armed; resumed later than it was due it goes on at the resume."""
    stage.put(paused=True)
    await stage.until(lambda: stage.to_come() is None and stage.armed() == [])
    await asyncio.sleep(30)
    assert len(stage.runs()) == 2
    resumed = stage.site.now()
    stage.put()
    await stage.until(lambda: len(stage.runs()) == 3)
    assert stage.runs()[-1].nominal_at == resumed


@scene
async def test_a_pause_that_ends_by_itself(stage: Stage) -> None:
    """What was to come is due when the pause ends."""
    until = stage.site.later(20)
    stage.put(paused=True, paused_until=format_instant(until))
    await stage.until(lambda: len(stage.runs()) == 3)
    assert stage.runs()[-1].nominal_at == until


@scene
async def test_deleted_and_created_again(stage: Stage) -> None:
    """A new chain, which begins at its creation; nothing of the old one fires."""
    due = stage.to_come()
    stage.site.remove("c")
    await stage.until(lambda: stage.armed() == [] and stage.chain() is None)
    await asyncio.sleep(0.5)
    created = stage.site.now()
    stage.put(after="30s")
    await stage.until(lambda: len(stage.runs()) == 3)
    await asyncio.sleep(5)
    assert [each.nominal_at for each in stage.runs()[2:]] == [created]
    assert due is not None
    assert due > created


@scene
async def test_invalid_for_a_while(stage: Stage) -> None:
    """Nothing fires; repaired it goes on, not before the repair."""
    stage.site.put("c", b"{")
    await stage.until(lambda: stage.armed() == [])
    await asyncio.sleep(10)
    assert len(stage.runs()) == 2
    repaired = stage.site.now()
    stage.put()
    await stage.until(lambda: len(stage.runs()) == 3)
    assert stage.runs()[-1].nominal_at == repaired


@scene
async def test_another_trigger_ends_it(stage: Stage) -> None:
    """The row holds no chain any more, and its occurrence is disarmed."""
    stage.site.put("c", msgspec.json.encode({"manual": True, "queue": "plain", "type": TYPE}))
    await stage.until(lambda: stage.armed() == [] and stage.chain() is None)
    await asyncio.sleep(10)
    assert len(stage.runs()) == 2


@scene
async def test_skipped_because_of_a_manual_run(stage: Stage) -> None:
    """The chain goes on the delay after the verdict; the manual run and its end do not move it."""
    stage.workers.is_away = True
    answer = await stage.ask("schedule.trigger", id="c")
    await stage.until(lambda: len(stage.runs()) == 4)
    skipped = stage.runs()[2]
    assert (skipped.state, skipped.reason) == (State.SKIPPED, "overlap")
    assert skipped.finished_at is not None
    assert stage.runs()[3].nominal_at == skipped.finished_at + DELAY
    stage.workers.is_away = False
    await stage.until(lambda: stage.site.journal.last()[answer["execution_id"]].finished_at is not None)
    await stage.until(lambda: stage.runs()[-1].state is State.SUCCEEDED)
    _check_steps(stage)


@scene
async def test_a_record_that_is_gone(stage: Stage) -> None:
    """Half the claim floor after its start nobody can tell what became of it: the chain goes on from then."""
    stage.workers.is_away = True
    await stage.until(lambda: stage.runs()[-1].state is State.QUEUED)
    lost = stage.runs()[-1].id
    stage.site.buckets["executions"].put_raw(lost, b"", {"KV-Operation": "PURGE"})
    before = stage.site.now()
    await stage.until(lambda: stage.to_come() is not None, within_s=100)
    chain = stage.chain()
    assert chain is not None
    assert timedelta(seconds=58) < chain.counts_from - before < timedelta(seconds=80)  # it began before that
    await stage.until(lambda: stage.counted("repaired", kind="chains"))  # right after what it repairs


@scene
async def test_a_row_that_is_gone(stage: Stage) -> None:
    """It begins anew, now, and nothing runs twice."""
    stage.site.buckets["status"].put_raw("c", b"", {"KV-Operation": "PURGE"})
    lost = stage.site.now()
    await stage.until(lambda: stage.to_come() is not None)
    await asyncio.sleep(20)
    assert lost <= stage.runs()[2].nominal_at < lost + timedelta(seconds=1)
    assert all(len(times) == 1 for times in stage.site.journal.pairs.values())


@scene
async def test_a_run_that_ends_while_nobody_leads(stage: Stage) -> None:
    """The next leader arms what its row says: late, and not moved."""
    stage.workers.is_away = True
    await stage.until(lambda: stage.runs()[-1].state is State.QUEUED)
    (leader,) = stage.site.alive
    await leader.kill()
    stage.workers.is_away = False
    await asyncio.sleep(5)
    stage.site.start("r1")
    await stage.until(lambda: len(stage.runs()) >= 6)
    _check_steps(stage)


@pytest.mark.parametrize("mode", ["none", "latest"])
def test_an_outage(mode: str) -> None:
    """The one that is to come is late then: fired all the same, or missed, and the chain goes on after that."""

    async def played(stage: Stage) -> None:
        replica = stage.site.start("r0")
        stage.put(catch_up={"mode": mode})
        await stage.waits_after(2)
        await replica.kill()
        await asyncio.sleep(30)
        stage.site.start("r1")
        await stage.until(lambda: len(stage.runs()) >= 5)
        late = stage.runs()[2]
        assert (late.state, late.reason) == ((State.MISSED, "catch_up") if mode == "none" else (State.SUCCEEDED, None))
        assert late.finished_at is not None
        assert late.finished_at > late.nominal_at + timedelta(seconds=25)
        assert stage.runs()[3].state is State.SUCCEEDED
        _check_steps(stage)

    play(1, played)


@scene
async def test_every_watch_stalls(stage: Stage) -> None:
    """The watch is a hint: what it does not tell is found by looking, in seconds."""
    for consumer in stage.site.buckets["status"].stream.consumers.values():
        consumer.stalled = True  # type: ignore[attr-defined]
    ended = stage.runs()[-1].finished_at
    await stage.until(lambda: len(stage.runs()) == 4)
    assert ended is not None
    assert stage.site.now() - ended < timedelta(seconds=15)
    _check_steps(stage)


@scene
async def test_what_is_shown(stage: Stage) -> None:
    """`get`, `put` and `preview` tell what is to come; during a run nobody knows it yet."""
    due = format_instant(stage.to_come() or stage.site.now())
    assert (await stage.ask("schedule.get", id="c"))["status"]["next_at"] == due
    definition = {"after": "2s", "queue": "plain", "type": TYPE}
    assert (await stage.ask("schedule.put", id="c", schedule=definition))["next"] == [due]
    (fire,) = (await stage.ask("schedule.preview", id="c"))["fires"]
    assert (fire["nominal_at"], fire["notes"]) == (due, ["then 2s after the end of each run"])
    (fire,) = (await stage.ask("schedule.preview", schedule={"after": "5m", "start_delay": "1m"}))["fires"]
    assert fire["notes"] == ["then 5m after the end of each run", "start_delay 1m"]
    stage.workers.is_away = True
    await stage.until(lambda: stage.runs()[-1].state is State.QUEUED)
    assert (await stage.ask("schedule.get", id="c"))["status"]["next_at"] is None
    assert (await stage.ask("schedule.preview", id="c"))["fires"] == []
    stage.workers.is_away = False


@scene
async def test_a_window_ends_it(stage: Stage) -> None:
    """What would be due at `ends_at` or later is not to come any more."""
    ends = stage.site.later(10)
    stage.put(ends_at=format_instant(ends))
    await asyncio.sleep(40)
    assert all(each.nominal_at < ends for each in stage.runs())
    assert len(stage.runs()) > 3
    assert (stage.to_come(), stage.armed()) == (None, [])
    assert (await stage.ask("schedule.get", id="c"))["status"]["state"] == "exhausted"
    _check_steps(stage)


def _check_steps(stage: Stage) -> None:
    for before, after in pairwise(stage.runs()):
        assert before.finished_at is not None
        assert after.nominal_at == before.finished_at + DELAY, (before, after)
