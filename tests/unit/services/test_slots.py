"""Slots in the status rows: a state machine against a model, rivals, faults, inspection."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from scheduler.core.errors import Conflict, ScheddError, Unavailable, Unsure
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap
from scheduler.core.model.status import StatusRow
from scheduler.core.overlap import ADMIT, SKIP, Admission, Terms
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.services.rows import ROUNDS_MAX, StatusRows
from scheduler.services.slots import Admissions, Request, SlotKeeper
from scheduler.wire.ids import execution_id
from scheduler.wire.status import decode_status, encode_status
from tests.unit.core.executions import at, claimed
from tests.unit.services.dispatch_stage import Mingling
from tests.unit.services.tracking_stage import World

T = TypeVar("T")
SCHEDULES = ("a", "b")
LIMITS: dict[str, tuple[Overlap, int | None]] = {"a": (Overlap.SKIP, None), "b": (Overlap.ALLOW, 3)}


def run(number: int, schedule: str = "a", **changes: Any) -> Execution:
    moment = at(number)
    return claimed(id=execution_id(schedule, moment), schedule=schedule, nominal_at=moment, **changes)


def ask(execution: Execution) -> Request:
    return Request(execution, Terms(*LIMITS[execution.schedule]))


def verdicts(admissions: Admissions) -> dict[str, str]:
    return {
        key: each.verdict if isinstance(each, Admission) else type(each).__name__ for key, each in admissions.items()
    }


class Keepers(RuleBasedStateMachine):
    """Two replicas and a server that fails; the model knows what was admitted and has not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.server = MemoryServer(VirtualClock())
        self.bucket = MemoryBucket(self.server, "status")
        self.keepers = [SlotKeeper(StatusRows(self.bucket.replica())) for _ in range(2)]
        self.admitted: dict[str, Execution] = {}
        self.unknown: dict[str, Execution] = {}  # a write of theirs got no answer: they may hold a slot
        self.ended: dict[str, Execution] = {}  # terminal on record; their release may have failed
        self.number = 0

    @initialize(inspects=st.booleans())
    def wire(self, inspects: bool) -> None:
        for keeper in self.keepers:
            keeper.inspect = self._inspect(keeper) if inspects else None

    def _inspect(self, keeper: SlotKeeper) -> Any:
        async def inspect(ids: Sequence[str]) -> frozenset[str]:
            await keeper.release([self.ended[each] for each in ids if each in self.ended])
            return frozenset()

        return inspect

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coroutine)

    def row(self, schedule: str) -> StatusRow:
        message = self.bucket.stream.last_of(f"$KV.status.{schedule}")
        return StatusRow() if message is None else decode_status(message.data)

    @rule(which=st.integers(0, 1), schedules=st.lists(st.sampled_from(SCHEDULES), min_size=1, max_size=6))
    def take_new(self, which: int, schedules: list[str]) -> None:
        wanted: list[Execution] = []
        for schedule in schedules:
            self.number += 1
            wanted.append(run(self.number, schedule))
        self._take(which, wanted)

    @rule(which=st.integers(0, 1), data=st.data())
    def take_again(self, which: int, data: st.DataObject) -> None:
        known = self.admitted | self.unknown
        if known:
            again = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=4, unique=True))
            self._take(which, [known[each] for each in again])

    def _take(self, which: int, wanted: list[Execution]) -> None:
        before = {schedule: self._running(schedule) for schedule in SCHEDULES}
        maybe = {schedule: self._maybe(schedule) for schedule in SCHEDULES}
        admissions = self.do(self.keepers[which].take([ask(each) for each in wanted]))
        assert set(admissions) == {each.id for each in wanted}
        taken = dict.fromkeys(SCHEDULES, 0)
        for each in wanted:
            admission = admissions[each.id]
            limit = LIMITS[each.schedule][1] or 1
            if isinstance(admission, ScheddError):
                self.unknown[each.id] = each
                maybe[each.schedule] += 1
            elif admission.verdict == ADMIT:
                self.unknown.pop(each.id, None)
                taken[each.schedule] += each.id not in self.admitted
                self.admitted[each.id] = each
            else:
                assert admission.reason == ("overlap" if each.schedule == "a" else "max_running")
                assert each.id not in self.admitted
                assert before[each.schedule] + taken[each.schedule] + maybe[each.schedule] >= limit
                self.unknown.pop(each.id, None)

    def _running(self, schedule: str) -> int:
        return sum(each.schedule == schedule for each in self.admitted.values())

    def _maybe(self, schedule: str) -> int:
        """Who may hold a slot without running: unanswered, or ended and (without a look) not released."""
        held = self.row(schedule).active
        ended = 0 if self.keepers[0].inspect else sum(each in self.ended for each in held)
        return ended + sum(each.schedule == schedule for each in self.unknown.values())

    @rule(which=st.integers(0, 1), data=st.data(), forgets=st.booleans())
    def end(self, which: int, data: st.DataObject, forgets: bool) -> None:
        """Some runs end, and their slots are freed, unless whoever should do that dies or fails."""
        if not self.admitted:
            return
        over = data.draw(st.lists(st.sampled_from(sorted(self.admitted)), min_size=1, max_size=4, unique=True))
        ended = [structs.replace(self.admitted.pop(each), state=State.SUCCEEDED) for each in over]
        self.ended |= {each.id: each for each in ended}
        if not forgets:
            self._release(which, ended)

    @rule(which=st.integers(0, 1))
    def repair(self, which: int) -> None:
        """The reconciler frees what ended runs still hold; what was never launched ends, too."""
        self.ended |= {key: structs.replace(each, state=State.LOST) for key, each in self.unknown.items()}
        self.unknown.clear()
        self._release(which, list(self.ended.values()))

    def _release(self, which: int, ended: list[Execution]) -> None:
        with contextlib.suppress(Unavailable):
            self.do(self.keepers[which].release(ended))

    @rule(fault=st.sampled_from(["lose_ack", "lose", "refuse", "late"]), after=st.integers(0, 2))
    def fail(self, fault: str, after: int) -> None:
        self.server._faults.extend([""] * after + [fault])

    @rule()
    def pass_time(self) -> None:
        """What was to land late lands, if nobody has written since."""
        self.do(self.server.clock.advance(2))

    @invariant()
    def never_more_than_the_limit(self) -> None:
        for schedule in SCHEDULES:
            row = self.row(schedule)
            assert len(row.active) <= (LIMITS[schedule][1] or 1)
            assert len(set(row.active)) == len(row.active)
            assert all(each in row.active for each, run in self.admitted.items() if run.schedule == schedule)

    def teardown(self) -> None:
        """All end, and nothing is held."""
        self.server._faults.clear()
        self.ended |= self.admitted
        self.admitted.clear()
        self.repair(0)
        assert all(self.row(schedule).active == () for schedule in SCHEDULES)


TestKeepers = Keepers.TestCase
TestKeepers.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- rows


@pytest.mark.parametrize("seed", range(10))
async def test_many_replicas_want_one_row(seed: int) -> None:
    """Eight at once, each for its own run: exactly as many are admitted as there is room, each row write is one CAS."""
    world = World()
    keepers = [SlotKeeper(StatusRows(Mingling(random.Random(seed * 9 + n)).around(world.status))) for n in range(8)]
    results = await asyncio.gather(*(k.take([ask(run(n, "b"))]) for n, k in enumerate(keepers)))
    found = [verdict for each in results for verdict in verdicts(each).values()]
    assert sorted(found) == [ADMIT] * 3 + [SKIP] * 5
    assert len((await world.row("b")).active) == 3


@pytest.mark.parametrize("fault", ["lose_ack", "lose"])
async def test_a_row_without_an_answer_is_read_back(fault: str) -> None:
    """Landed or not: after one silence the keeper knows, and the run holds one slot."""
    world = World()
    world.server._faults.append(fault)
    keeper = SlotKeeper(StatusRows(world.status))
    assert verdicts(await keeper.take([ask(run(1))])) == {run(1).id: ADMIT}
    assert (await world.row()).active == (run(1).id,)


async def test_one_silent_row_among_many() -> None:
    """Two silences in a row are told as Unsure, for that schedule alone."""
    world = World()
    world.server._faults.extend(["lose", "", "lose"])
    keeper = SlotKeeper(StatusRows(world.status))
    found = verdicts(await keeper.take([ask(run(1)), ask(run(1, "b"))]))
    assert found == {run(1).id: "Unsure", run(1, "b").id: ADMIT}


async def test_a_row_that_never_stands_still() -> None:
    """Somebody writes it between each look and write: given up after some rounds, as something that may pass."""
    world = World()
    rows = StatusRows(world.status)
    count = 0

    def edit(row: StatusRow) -> StatusRow:
        nonlocal count
        count += 1
        world.status.put_raw("a", encode_status(StatusRow(fires=count)))
        return structs.replace(row, error="x")

    with pytest.raises(Unavailable, match="keeps changing"):
        await rows.change({"a": edit})
    assert count == ROUNDS_MAX


async def test_rows_that_do_not_change_are_not_written() -> None:
    """An edit without an effect costs no write; one of a missing row makes it, unless it may not."""
    world = World()
    rows = StatusRows(world.status)
    await rows.change({"a": lambda row: row}, create=False)
    assert world.status.stream.last_seq == 0
    await rows.change({"a": lambda row: row})
    await rows.change({"a": lambda row: row})
    assert world.status.stream.last_seq == 1
    await world.status.delete("a")
    await rows.change({"a": lambda row: structs.replace(row, fires=1)}, create=False)
    assert world.status.stream.last_seq == 2


async def test_what_is_refused_is_not_repeated() -> None:
    """10164 after the adapter's own repeats: told, not tried again here."""
    world = World()
    world.server._faults.append("refuse")
    (result,) = (await StatusRows(world.status).try_change({"a": lambda row: structs.replace(row, fires=1)})).values()
    assert isinstance(result, Unavailable)
    assert not isinstance(result, Conflict | Unsure)
    assert world.status.stream.last_seq == 0


# --- before a skip


async def test_only_the_holders_are_looked_at() -> None:
    """What was admitted in the same breath is no reason to look; what frees its slot by the look is none to skip."""
    world = World()
    keeper = SlotKeeper(StatusRows(world.status))
    looked: list[list[str]] = []

    async def inspect(ids: Sequence[str]) -> frozenset[str]:
        looked.append(list(ids))
        await keeper.release([structs.replace(run(1), state=State.SUCCEEDED)])
        return frozenset()

    keeper.inspect = inspect
    assert verdicts(await keeper.take([ask(run(1)), ask(run(2))])) == {run(1).id: ADMIT, run(2).id: SKIP}
    assert looked == []
    assert verdicts(await keeper.take([ask(run(3)), ask(run(4))])) == {run(3).id: ADMIT, run(4).id: SKIP}
    assert looked == [[run(1).id]]


async def test_a_holder_that_is_ending() -> None:
    """Nobody is skipped because of it: those who would be shall ask again; those with room go on."""
    world = World()
    keeper = SlotKeeper(StatusRows(world.status))
    await keeper.take([ask(run(number, "b")) for number in range(3)])

    async def inspect(ids: Sequence[str]) -> frozenset[str]:
        return frozenset({run(0, "b").id})

    keeper.inspect = inspect
    found = verdicts(await keeper.take([ask(run(9, "b")), ask(run(9)), ask(run(1, "b"))]))
    assert found == {run(9, "b").id: "Unsure", run(9).id: ADMIT, run(1, "b").id: ADMIT}


async def test_a_look_that_fails() -> None:
    """Who would be skipped gets the error, everybody else his slot."""
    world = World()
    keeper = SlotKeeper(StatusRows(world.status))
    await keeper.take([ask(run(1))])

    async def inspect(ids: Sequence[str]) -> frozenset[str]:
        raise Unavailable("electing")

    keeper.inspect = inspect
    found = verdicts(await keeper.take([ask(run(2)), ask(run(2, "b"))]))
    assert found == {run(2).id: "Unavailable", run(2, "b").id: ADMIT}


async def test_allow_costs_nothing() -> None:
    """Without a limit no row is read or written."""
    world = World()
    world.server.down = True
    keeper = SlotKeeper(StatusRows(world.status))
    request = Request(run(1), Terms(Overlap.ALLOW))
    assert verdicts(await keeper.take([request])) == {run(1).id: ADMIT}


# --- release


async def test_release_frees_each_and_tells_the_newest() -> None:
    """Several runs of one schedule end at once: their slots are free, the row tells how the newest ended."""
    world = World()
    keeper = SlotKeeper(StatusRows(world.status))
    runs = [run(number, "b") for number in range(3)]
    await keeper.take([ask(each) for each in runs])
    ends = [State.FAILED, State.LOST, State.SUCCEEDED]
    ended = [structs.replace(each, state=state) for each, state in zip(runs, ends, strict=True)]
    await keeper.release([ended[2], ended[0]])
    row = await world.row("b")
    assert (row.active, row.last_outcome) == ((runs[1].id,), "succeeded")
    await keeper.release(ended)
    assert (await world.row("b")).active == ()


async def test_release_makes_no_row() -> None:
    """The row of a schedule that is gone stays gone."""
    world = World()
    keeper = SlotKeeper(StatusRows(world.status))
    await keeper.release([structs.replace(run(1), state=State.SUCCEEDED)])
    assert world.status.stream.last_seq == 0
