"""Whole histories from one seed each: replicas, workers, edits, clicks, kills, stalls and faults, in virtual time.

A failure tells its seed; `pytest tests/unit/simulation -k "history and 17"` repeats the history of seed 17, to the last
step. Thousands more: `pytest tests/unit/simulation -m slow`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from scheduler.core.model.execution import State
from tests.unit.simulation.checks import violations
from tests.unit.simulation.history import History
from tests.unit.simulation.site import Site
from tests.unit.simulation.virtual_time import SimulatedClock, VirtualLoop

SEEDS = 100
REGRESSIONS = (
    196,  # an edit between two looks at what is late
    364,  # an edit that is known to a slice, and replaced before it is applied
    663,  # an occurrence noted as late while the leader, who read the clock before, fixes its catch-up
    1372,  # a one-shot that is late when the first leader comes: missed without any fault, and counted
    3203,  # an edit that is applied between two steps of one look at a catch-up
    3277,  # a range of late one-shots, and among them a nominal time of the schedule that was replaced
    243, 424, 602, 691,  # past a deadline, and queued by a creator that was slow or died before it said so
    4848, 5823,  # a creator that was stopped right before its pair, while its record was ended
    5206,  # a second dispatcher put down as waiting what its creator was about to send
    5389,  # what had expired when its turn came, and a create without an answer
    4580,  # an edit that the next leader did not apply either, before it was replaced
    3340,  # an edit that one leader told, and the next passed over, since it had been replaced meanwhile
    334, 393, 406,  # a first attempt that failed in time, reported only, and then a start deadline
)  # fmt: skip
RETRY_SEEDS = 25
RETRY_REGRESSIONS: tuple[int, ...] = ()
TRAPPED_SEEDS = 50
SLOW_SEEDS = 3000
EVILS = (0.0, 0.3, 1.0, 1.0, 2.0)


class _Errors(logging.Handler):
    """What was logged as an error: a service that broke, for example."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(self.format(record))


@contextmanager
def _seeded(seed: int) -> Iterator[_Errors]:
    """All that is random follows from the seed, and errors are not only logged."""
    rng, state, errors = random.Random(seed), random.getstate(), _Errors()
    log = logging.getLogger("scheduler")
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(errors)
    random.seed(seed)
    try:
        with (
            mock.patch("secrets.token_hex", lambda count=32: rng.randbytes(count).hex()),
            mock.patch("secrets.randbelow", rng.randrange),
        ):
            yield errors
    finally:
        random.setstate(state)
        log.removeHandler(errors)
        log.level, log.propagate = before


def play(
    seed: int, *, evil: float | None = None, regret: bool = False, traps: bool = False
) -> tuple[History, list[str]]:
    """The history of a seed, and what is wrong with it."""
    rate = random.Random(seed).choice(EVILS) if evil is None else evil
    with _seeded(seed) as errors, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)

        async def run() -> tuple[History, list[str]]:
            history = History(Site(SimulatedClock(loop), seed), evil=rate, regret=regret, traps=traps)
            await history.run()
            await asyncio.sleep(20)  # what was to land late has landed
            left = asyncio.all_tasks() - {asyncio.current_task()}
            return history, [f"left behind: {task}" for task in left]

        history, left = runner.run(run())
        return history, [*violations(history), *left, *errors.told, *map(str, loop.broken)]


def told(seed: int, history: History, found: list[str]) -> str:
    happened = dict(sorted(history.site.trouble.happened.items()))
    lines = "\n  ".join(found[:30])
    return f"seed {seed}: {len(found)} violations with evil {history.evil}, {happened}:\n  {lines}"


@pytest.mark.parametrize("seed", [*range(SEEDS), *REGRESSIONS])
def test_history(seed: int) -> None:
    """Whatever happens: each occurrence has one record and at most one task, and all come to their end."""
    history, found = play(seed)
    assert not found, told(seed, history, found)


@pytest.mark.parametrize("seed", [*range(RETRY_SEEDS), *RETRY_REGRESSIONS])
def test_history_with_retries(seed: int) -> None:
    """The same while somebody retries what has ended, and cancels: a drive per wish, a task per drive, one verdict."""
    history, found = play(seed, regret=True)
    assert not found, told(seed, history, found)


@pytest.mark.parametrize("seed", range(TRAPPED_SEEDS))
def test_trapped_history(seed: int) -> None:
    """The same where replicas stop right before a write takes effect, and go on long after."""
    history, found = play(seed, evil=0.3, traps=True)
    assert not found, told(seed, history, found)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_histories_with_retries() -> None:
    """The same, with many more seeds."""
    for seed in range(RETRY_SEEDS, RETRY_SEEDS + SLOW_SEEDS):
        history, found = play(seed, regret=True)
        assert not found, told(seed, history, found)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_histories() -> None:
    """The same, with many more seeds."""
    for seed in range(SEEDS, SEEDS + SLOW_SEEDS):
        history, found = play(seed)
        assert not found, told(seed, history, found)


def test_one_seed_is_one_history() -> None:
    """Played again, the same writes come at the same times; with another seed, others."""
    one, same, other = (play(seed, evil=2.0)[0].site.journal for seed in (7, 7, 8))
    assert (one.records, one.pairs, one.marks, one.arms) == (same.records, same.pairs, same.marks, same.arms)
    assert one.records != other.records


def test_sometimes() -> None:
    """What shall be survived really happens: a handful of histories shows every trouble and every kind of end."""
    troubles, ends, calls = Counter[str](), Counter[tuple[str, str | None]](), Counter[str]()
    epochs = clicks = resumed = retried = promoted = 0
    for seed in range(1000, 1016):
        history, found = play(seed, evil=2.0)
        assert not found, told(seed, history, found)
        journal = history.site.journal
        troubles.update(history.site.trouble.happened)
        ends.update((each.state.value, each.reason) for each in journal.last().values())
        calls.update(call.name for replica in history.site.replicas for call in replica.telemetry.calls)
        epochs = max(epochs, len(journal.epochs))
        clicks += sum(len(set(answers)) for answers in history.client.answers.values())
        resumed += sum(entry.note == "taken up again" for each in journal.last().values() for entry in each.history)
        promoted += sum(each.promoted_at is not None for each in journal.last().values())
        retried += sum(entry.state is State.RETRYING for each in journal.last().values() for entry in each.history)
    for trouble in ("kill", "stop", "freeze", "down", "stalled watches", "refused", "lost", "unanswered", "late"):
        assert troubles[trouble], trouble
    for end in (
        ("succeeded", None), ("failed", "max_tries"), ("failed", "no"), ("lost", "worker_gone"), ("skipped", "overlap"),
        ("skipped", "max_running"), ("paused", "paused"), ("superseded", "edited"), ("superseded", "deleted"),
        ("superseded", "invalid"), ("skipped", "buffer_full"), ("skipped", "superseded_in_buffer"),
    ):  # fmt: skip
        assert ends[end], (end, ends)
    assert calls["repaired"]
    assert min(epochs, clicks, resumed, retried, promoted) >= 3
