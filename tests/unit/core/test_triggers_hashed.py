"""H in cron expressions: the same place for ever, within its range, and spread over schedules."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.triggers.cron_text import read_cron
from scheduler.core.triggers.hashed import expand_h, hash_of
from tests.unit.core.cron_triggers import compiled, first

GOLDEN_HASHES = {
    ("nightly-report", "minute"): 2277777005714250344,
    ("nightly-report", "hour"): 7305537117689434580,
    ("a", "minute"): 14754079795349133822,
    ("a.b", "weekday"): 12950456906475514161,
}


@pytest.mark.parametrize(("schedule_id", "field"), GOLDEN_HASHES)
def test_hash_is_frozen(schedule_id: str, field: str) -> None:
    """The hash behind H never changes: that would move every schedule that uses it."""
    assert hash_of(schedule_id, field) == GOLDEN_HASHES[schedule_id, field]


def test_hashed_schedules_spread() -> None:
    """`H H * * *` puts a thousand schedules on very many different minutes of the day, not all on a few."""
    minutes = {first(compiled("H H * * *", schedule_id=f"job-{n}"), 1)[0][-8:] for n in range(1000)}
    assert len(minutes) > 650  # 1440 minutes and 1000 balls: about 720 are hit


@given(schedule_id=st.from_regex(r"[a-z]{1,12}", fullmatch=True), step=st.integers(1, 90))
def test_hash_stays_in_its_range(schedule_id: str, step: int) -> None:
    """H, H/n, H(a-b) and H(a-b)/n keep to their ranges; days to 1-28, which every month has."""
    assert 0 <= int(expand_h("h", "minute", 0, 59, schedule_id)) <= 59
    assert 10 <= int(expand_h("h(10-20)", "minute", 0, 59, schedule_id)) <= 20
    start = int(expand_h(f"h/{step}", "minute", 0, 59, schedule_id).split("-")[0])
    assert 0 <= start < min(step, 60)
    days = read_cron("0 0 H * *", schedule_id).days.rule.days
    assert days is not None
    assert max(days) <= 28


def test_hashed_expression_fires_each_period() -> None:
    """`H/15` fires four times an hour, fifteen minutes apart."""
    trigger = compiled("H/15 * * * *", schedule_id="nightly-report")
    found = [datetime.fromisoformat(text) for text in first(trigger, 9)]
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}


def test_hash_in_a_list() -> None:
    """Each entry of a list may hash: the same place in the first and the second half of the hour."""
    trigger = compiled("H(0-29),H(30-59) * * * *", schedule_id="nightly-report")
    found = [datetime.fromisoformat(text) for text in first(trigger, 9)]
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=30)}
