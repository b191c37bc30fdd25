"""Two thousand histories, each from a seed of its own, in a lane of CI of their own (.ci/test).

Ten or twenty at a time, since thousands of tests cost more than they tell: a failure names each seed and the command
that tells its story. What is new of a seed's dice comes with a kind (`playing.KINDS`).
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.unit.simulation.happenings import happenings
from tests.unit.simulation.playing import KINDS, play, told

SEEDS = {"plain": 600, "retries": 450, "traps": 450, "upheavals": 500}
AT_A_TIME = 25
CHUNKS = [(kind, first) for kind, count in SEEDS.items() for first in range(0, count, AT_A_TIME)]
_LANE = ("traps", "upheavals")  # what `.ci/test` plays in one process, which so has them already
LOOKED_AT = [("retries", 0), ("retries", 25), *(each for each in CHUNKS if each[0] in _LANE and each[1] % 100 == 0)]
"""By the test of what happened; of retries what it takes for the ends that only they have."""
TROUBLES = (
    # replicas
    "kill", "stop", "freeze", "trapped at commit", "trapped at publish", "trapped at put_many",
    "trapped at take_office", "trapped at withhold", "two leaders", "clock step", "kept from leading by its clock",
    # calls: 10164 in flight, lost, no ack, a commit that is late, and watches that tell the past
    "refused", "lost", "unanswered", "late", "conflict", "fenced", "stalled watches",
    # the server
    "down", "server restart", "stuck fire", "redelivered", "delivered as if for the first time", "stored twice",
)  # fmt: skip
ANSWERS = (
    "take-over", "counted fenced", "taken up again", "promoted", "another attempt", "another drive", "click answered",
    "repaired arms", "repaired chains", "repaired claimed", "repaired leftovers", "repaired rows", "repaired slots",
    "repaired waiting",
)  # fmt: skip
ENDS = (
    "succeeded", "failed max_tries", "failed no", "lost worker_gone", "timed_out deadline", "expired deadline",
    "expired start_deadline", "skipped overlap", "skipped max_running", "skipped buffer_full",
    "skipped superseded_in_buffer", "cancelled overlap", "cancelled requested", "cancelled deleted", "paused paused",
    "superseded edited", "superseded deleted", "superseded invalid", "range missed catch_up", "range paused paused",
    "range superseded edited",
)  # fmt: skip
pytestmark = pytest.mark.timeout(900)  # CI computes them beside everything else


@cache
def _played(kind: str, first: int) -> tuple[list[str], Counter[str]]:
    """What is wrong with the histories of some seeds, and what happened in them."""
    wrong: list[str] = []
    happened: Counter[str] = Counter()
    for seed in range(first, first + AT_A_TIME):
        history, found = play(seed, **KINDS[kind])
        happened += happenings(history)
        if found:
            wrong.append(told(seed, history, found, kind))
    return wrong, happened


@pytest.mark.parametrize(("kind", "first"), CHUNKS)
def test_histories(kind: str, first: int) -> None:
    """Whatever happens: each occurrence has one record and at most one task, and all come to their end."""
    wrong, _ = _played(kind, first)
    assert not wrong, "\n\n".join(wrong)


def test_what_shall_be_survived_really_happens() -> None:
    """Every fault, every way to end and every repair occurs in the seeds: else they prove little."""
    happened: Counter[str] = Counter()
    for kind, first in LOOKED_AT:
        happened += _played(kind, first)[1]
    assert [each for each in (*TROUBLES, *ANSWERS, *ENDS) if not happened[each]] == []
    assert min(happened[each] for each in ("take-over", "conflict", "redelivered", "kill", "freeze", "late")) > 100


def test_there_are_enough_seeds() -> None:
    """Two thousand, and of each kind at least three hundred (issue 6)."""
    assert set(SEEDS) == set(KINDS)
    assert sum(SEEDS.values()) >= 2000
    assert min(SEEDS.values()) >= 300
