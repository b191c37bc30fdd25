"""The soak (`python -m tests.faults.soak`) for three minutes: everything at once, and clients at work."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.soak.history import Plan
from tests.faults.soak.judging import judge
from tests.faults.soak.running import deliveries_in, soak


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("length_s", "calm"), [(180, False), (180, True)], ids=["faults", "calm"])
async def test_a_soak_loses_nothing_and_gives_everything_back(
    tmp_path: Path, dice: random.Random, length_s: int, calm: bool
) -> None:
    """Every instant by the definition in force, every trigger once, and afterwards memory, files, consumers and bytes
    where they were."""
    plan = Plan(nodes=1, rate=40, length_s=length_s, seed=dice.randrange(2**32), calm=calm, rest_s=240)
    verdict = judge(await soak(plan, tmp_path, tell=print), deliveries_in(tmp_path))
    print(verdict.findings)
    assert not verdict.broken, verdict.broken
    assert verdict.findings.expected > 20 * length_s
    if not calm:
        assert sum(each.happened for each in verdict.strikes) > length_s / 12
        assert verdict.take_overs
