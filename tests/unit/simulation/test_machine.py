"""Stories that hypothesis thinks up, and shortens when one ends badly (issue 6): the same site, in virtual time.

A rule is one thing that somebody does, or that goes wrong; what must hold at every moment is looked at after each, and
everything else when all is well again and has come to its end. A failure prints its rules, as Python to be run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scheduler.core.lifecycle import can_redrive
from tests.unit.simulation.checks import violations, violations_so_far
from tests.unit.simulation.clients import GARBAGE
from tests.unit.simulation.clocks import Wall
from tests.unit.simulation.history import History
from tests.unit.simulation.playing import TOO_FAR_OFF, seeded
from tests.unit.simulation.site import Replica, Site
from tests.unit.simulation.test_mutations import no_claim
from tests.unit.simulation.virtual_time import SimulatedClock, VirtualLoop
from tests.unit.simulation.workers import TYPE

LABELS = ("r0", "r1")
SCHEDULES = ("s0", "s1")
TRIGGERS = ({"every": "1s"}, {"every": "5s"}, {"cron": "*/3 * * * * *"}, {"after": "2s"}, {"manual": True})
TERMS: tuple[dict[str, Any], ...] = (
    {"overlap": "allow"},
    {"overlap": "skip"},
    {"overlap": "buffer_all"},
    {"overlap": "buffer_one", "start_deadline": "2s"},
    {"overlap": "cancel_other", "deadline": "10s"},
    {"overlap": "latest", "max_running": 2},
)
WRITES = ("publish", "commit", "put_many", "take_office", "put")
STEPS_S = (-3600.0, -2.0, 2.0, 3600.0)
ANSWER_S = 10.0
SETTLED_S = 2.0  # somebody leads, and the first occurrences fire
LANDED_S = 20.0  # what was to land late has landed

IN_CI = settings(
    max_examples=200,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
LONG = settings(IN_CI, derandomize=False, max_examples=2000, stateful_step_count=50)

schedules, labels = st.sampled_from(SCHEDULES), st.sampled_from(LABELS)


class Machine(RuleBasedStateMachine):
    """One site from its beginning to its end."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self._asked: list[asyncio.Task[None]] = []

    @initialize(seed=st.integers(0, 1000), terms=st.lists(st.sampled_from(TERMS), min_size=2, max_size=2))
    def begin(self, seed: int, terms: list[dict[str, Any]]) -> None:
        """Schedules keep queue and overlap policy; the seed is that of workers and of the network."""
        self._errors = self._open.enter_context(seeded(seed))
        runner = self._open.enter_context(asyncio.Runner(loop_factory=VirtualLoop))
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        self._runner, self._loop = runner, loop
        self._do(self._begin(seed, terms))

    async def _begin(self, seed: int, terms: list[dict[str, Any]]) -> None:
        self.site = Site(SimulatedClock(self._loop), seed)
        self.history = History(self.site, evil=1.0, regret=True, upheaval=True)
        self.history.nemesis.labels[:] = LABELS
        assert self.history.upheaval is not None
        self.history.upheaval.walls |= {label: Wall() for label in LABELS}
        fixed = zip(SCHEDULES, ("plain", "sdk"), terms, strict=True)
        self.history.client.schedules = {
            schedule_id: {"queue": queue, "type": TYPE, "max_tries": 2, **each} for schedule_id, queue, each in fixed
        }
        for workers in self.history.workers:
            workers.begin()
        for label in LABELS:
            self.site.start(label)
        for schedule_id in SCHEDULES:
            self._put(schedule_id, TRIGGERS[0])
        await asyncio.sleep(SETTLED_S)

    def _do(self, doing: Coroutine[Any, Any, None]) -> None:
        self._runner.run(doing)

    def _later(self, doing: Coroutine[Any, Any, None]) -> None:
        """What has to wait for a replica that may be frozen."""

        async def begin() -> None:
            self._asked.append(asyncio.ensure_future(doing))

        self._do(begin())

    # --- people

    @rule(schedule_id=schedules, trigger=st.sampled_from(TRIGGERS), jitter=st.booleans())
    def put(self, schedule_id: str, trigger: dict[str, Any], jitter: bool) -> None:
        self._put(schedule_id, {**trigger, **({"jitter": "400ms"} if jitter else {})})

    @rule(schedule_id=schedules, after_s=st.floats(0, 15))
    def put_one_shot(self, schedule_id: str, after_s: float) -> None:
        self._put(schedule_id, {"at": f"{self.site.later(after_s):%Y-%m-%dT%H:%M:%SZ}"})

    def _put(self, schedule_id: str, document: dict[str, Any]) -> None:
        self.site.put(schedule_id, msgspec.json.encode(self.history.client.schedules[schedule_id] | document))

    @rule(schedule_id=schedules, value=st.sampled_from(GARBAGE))
    def put_garbage(self, schedule_id: str, value: bytes) -> None:
        self.site.put(schedule_id, value)

    @rule(schedule_id=schedules)
    def delete(self, schedule_id: str) -> None:
        self.site.remove(schedule_id)

    @rule(schedule_id=schedules)
    def pause(self, schedule_id: str) -> None:
        self._later(self._ask("schedule.pause", {"id": schedule_id}))

    @rule(schedule_id=schedules)
    def resume(self, schedule_id: str) -> None:
        self._later(self._ask("schedule.resume", {"id": schedule_id}))

    @rule(schedule_id=schedules, times=st.integers(1, 2))
    def trigger(self, schedule_id: str, times: int) -> None:
        answers = self.history.client.answers
        nonce = f"n{len(answers)}"
        answers[nonce] = []
        for _ in range(times):
            self._later(self._trigger({"id": schedule_id, "nonce": nonce}, answers[nonce]))

    async def _trigger(self, body: dict[str, Any], told: list[str]) -> None:
        answer = await self._answer("schedule.trigger", body)
        told += [str(answer["execution_id"])] if "execution_id" in answer else []

    @rule(age=st.integers(0, 5))
    def cancel(self, age: int) -> None:
        records = list(self.site.journal.last())[::-1]
        if records[age:]:
            assert self.history.regret is not None
            self.history.regret.cancelled.add(records[age])
            self._later(self._ask("execution.cancel", {"id": records[age], "grace": "2s"}))

    @rule(age=st.integers(0, 5))
    def retry(self, age: int) -> None:
        ended = [each for each in self.site.journal.last().values() if can_redrive(each)][::-1]
        if ended[age:]:
            assert self.history.regret is not None
            told = self.history.regret.asked.setdefault((ended[age].id, ended[age].drive), [])
            self._later(self._retry({"id": ended[age].id, "expected_drive": ended[age].drive}, told))

    async def _retry(self, body: dict[str, Any], told: list[dict[str, Any]]) -> None:
        told.append(await self._answer("execution.retry", body))

    async def _ask(self, endpoint: str, body: dict[str, Any]) -> None:
        await self._answer(endpoint, body)

    async def _answer(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """Of whoever was started last; nothing if he says nothing."""
        if not self.site.alive or self.site.alive[-1].wiring is None:
            return {}
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self.site.alive[-1].wiring.api.answer(endpoint, msgspec.json.encode(body))
        except TimeoutError:
            return {}
        return dict(msgspec.json.decode(answer.body))

    # --- replicas

    def _of(self, label: str) -> Replica | None:
        return next((each for each in self.site.alive if each.label == label), None)

    @rule(label=labels)
    def start(self, label: str) -> None:
        async def starting() -> None:
            if self._of(label) is None:
                self.site.start(label)

        self._do(starting())

    @rule(label=labels)
    def kill(self, label: str) -> None:
        victim = self._of(label)
        if victim is not None:
            self._do(victim.kill())

    @rule(label=labels)
    def stop(self, label: str) -> None:
        victim = self._of(label)
        if victim is not None and not victim.network.is_frozen:
            victim.is_over = True
            self._do(victim.stop())

    @rule(label=labels)
    def freeze(self, label: str) -> None:
        victim = self._of(label)
        if victim is not None:
            self._do(_told(victim.network.freeze))

    @rule(label=labels)
    def thaw(self, label: str) -> None:
        victim = self._of(label)
        if victim is not None:
            victim.network.thaw()

    @rule(write=st.sampled_from(WRITES))
    def stop_before(self, write: str) -> None:
        """Whoever makes this call next freezes right before it takes effect, until somebody thaws him."""
        self.site.trouble.trap = write

    @rule(label=labels, by_s=st.sampled_from(STEPS_S))
    def step_clock(self, label: str, by_s: float) -> None:
        assert self.history.upheaval is not None
        self.history.upheaval.walls[label].ahead_s += by_s

    # --- network and server

    @rule(share=st.sampled_from((0.0, 0.05, 0.3, 1.0)))
    def lose(self, share: float) -> None:
        """From now on this share of calls is refused, lost, not answered, or lands late; all of them: cut off."""
        self.site.trouble.share = share

    @rule()
    def stall_watches(self) -> None:
        for bucket in self.site.buckets.values():
            for consumer in bucket.stream.consumers.values():
                consumer.stalled = True  # type: ignore[attr-defined]

    @rule(seconds=st.sampled_from((0.5, 3.0, 12.0)))
    def restart_server(self, seconds: float) -> None:
        self.site.server.stop()
        self._do(asyncio.sleep(seconds))
        self.site.server.start()

    @precondition(lambda self: not self.site.server.timeline.holds_fires)
    @rule()
    def lose_timers(self) -> None:
        """What comes due now stays armed."""
        self.site.server.timeline.holds_fires = True
        self._do(asyncio.sleep(2.0))
        self.site.server.timeline.holds_fires = False

    @rule(seconds=st.sampled_from((0.1, 0.5, 1.0, 3.0)))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from((7.0, 9.0, 20.0)))
    def wait_longer(self, seconds: float) -> None:
        """Past the ack wait, the lease, a round of the reconciler."""
        self._do(asyncio.sleep(seconds))

    # --- what must hold

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        """No task twice, none early, no more at once than may be, no state out of order, whoever wrote it."""
        problems = violations_so_far(self.history)
        assert not problems, "\n".join(problems)

    def teardown(self) -> None:
        with self._open:
            if hasattr(self, "history"):
                self._do(self._end())
                errors = [each for each in self._errors.told if each != TOO_FAR_OFF]
                problems = [*violations(self.history), *errors, *map(str, self._loop.broken)]
                assert not problems, "\n".join(problems)

    async def _end(self) -> None:
        self.site.trouble.trap = None
        for each in self._asked:
            each.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self.history.end()
        await asyncio.sleep(LANDED_S)


async def _told(doing: Any) -> None:
    """Within the loop, where alone it may be done."""
    doing()


def test_whatever_the_story() -> None:
    """Two hundred stories, the same ones each time."""
    run_state_machine_as_test(Machine, settings=IN_CI)  # type: ignore[no-untyped-call]


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_thousands_of_long_stories() -> None:
    """Longer ones, other ones each time."""
    run_state_machine_as_test(Machine, settings=LONG)  # type: ignore[no-untyped-call]


def test_a_missing_claim_is_found() -> None:
    """Without it the server takes a second task for one occurrence, and a story shows it."""
    searching = settings(IN_CI, max_examples=300, phases=[Phase.generate])
    with ExitStack() as stack:
        for each in no_claim():
            stack.enter_context(each)
        with pytest.raises(AssertionError, match="was queued 2 times"):
            run_state_machine_as_test(Machine, settings=searching)  # type: ignore[no-untyped-call]
