"""Whole histories from one seed each: replicas, workers, edits, clicks, kills, stalls and faults, in virtual time.

A failure tells its seed; `python -m tests.unit.simulation 17` tells the history of seed 17, to the last step. Here are
the seeds that once found something; the many are in test_seeds.py, thousands more under `-m slow`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.unit.simulation.playing import play, told

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
SLOW_SEEDS = range(10_000, 13_000)


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_history(seed: int) -> None:
    """Whatever happens: each occurrence has one record and at most one task, and all come to their end."""
    history, found = play(seed)
    assert not found, told(seed, history, found)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_histories_with_retries() -> None:
    """While somebody retries what has ended, and cancels: a drive per wish, a task per drive, one verdict."""
    for seed in SLOW_SEEDS:
        history, found = play(seed, regret=True)
        assert not found, told(seed, history, found, "retries")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_histories() -> None:
    """The same, with many more seeds."""
    for seed in SLOW_SEEDS:
        history, found = play(seed)
        assert not found, told(seed, history, found)


def test_one_seed_is_one_history() -> None:
    """Played again, the same writes come at the same times; with another seed, others."""
    one, same, other = (play(seed, evil=2.0)[0].site.journal for seed in (7, 7, 8))
    assert (one.records, one.pairs, one.marks, one.arms) == (same.records, same.pairs, same.marks, same.arms)
    assert one.records != other.records


def test_one_seed_is_one_story_in_every_process() -> None:
    """Told by two processes whose sets and dictionaries are in different orders, it is the same to the last line."""
    stories = [_story(seed_of_hashes) for seed_of_hashes in ("1", "3")]
    assert "violations" in stories[0]
    assert stories[0] == stories[1]


def _story(seed_of_hashes: str) -> str:
    """Of seeds that once were told in two ways."""
    command = [sys.executable, "-m", "tests.unit.simulation", "10", "16", "663", "--kind", "plain"]
    told = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": seed_of_hashes}, capture_output=True, text=True, check=True
    )
    return told.stdout
