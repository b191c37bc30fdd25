"""Fires gained and lost by an edit, held to what the previews of both definitions show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.core.comparing import SHOWN_MAX, Rule, compare_fires
from scheduler.core.previewing import preview
from scheduler.core.triggers import compile_trigger
from scheduler.wire.schedule import parse_document

NOW = datetime(2026, 11, 21, 14, 0, 0, 500_000, tzinfo=UTC)
DAY = timedelta(hours=24)


def rule(**fields: Any) -> Rule:
    schedule = parse_document("a", {"queue": "q", "type": "t", **fields})
    return schedule, compile_trigger(schedule)


def fires_of(subject: Rule, start: datetime, end: datetime) -> set[datetime]:
    """By the preview: a walk that knows nothing of comparing."""
    found: set[datetime] = set()
    after = start - timedelta(hours=1)
    while True:
        page = preview(*subject, after=after, count=1000)
        found |= {each.fire_at for each in page if start <= each.fire_at < end and "paused" not in each.notes}
        if len(page) < 1000 or page[-1].nominal_at >= end:
            return found
        after = page[-1].nominal_at


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"cron": "0 9 * * *"}, {"cron": "0 10 * * *"}),
        ({"cron": "0 9 * * *"}, {"cron": "0 9 * * *", "timezone": "Asia/Tokyo"}),
        ({"cron": "*/5 * * * *"}, {"cron": "*/7 * * * *"}),
        ({"every": "10m"}, {"every": "15m"}),
        ({"every": "10m"}, {"every": "10m", "jitter": "5m"}),
        ({"every": "10m"}, {"every": "10m", "start_delay": "3s"}),
        ({"every": "10m"}, {"every": "10m", "paused": True}),
        ({"every": "10m", "paused": True, "paused_until": "2026-11-21T20:00:00Z"}, {"every": "10m"}),
        ({"every": "1h"}, {"manual": True}),
        ({"every": "1h"}, {"cron": "0 * * * *"}),
        ({"cron": "0 9 * * *"}, {"cron": "0 9 * * *", "exclude": ["* * * * sun"]}),
        ({"at": "2026-11-22T08:00:00Z"}, {"at": ["2026-11-22T08:00:00Z", "2026-11-22T09:00:00Z"]}),
        ({"cron": "* * * * *"}, {"cron": "* * * * *", "ends_at": "2026-11-21T18:00:00Z"}),
    ],
)
def test_it_is_the_difference_of_the_previews(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Exactly the fire times that one of the two has and the other has not, in both directions."""
    old, new = rule(**before), rule(**after)
    was, will_be = fires_of(old, NOW, NOW + DAY), fires_of(new, NOW, NOW + DAY)
    found = compare_fires(old, new, NOW, NOW + DAY)
    assert (found.gained.count, found.lost.count) == (len(will_be - was), len(was - will_be))
    assert list(found.gained.first) == sorted(will_be - was)[:SHOWN_MAX]
    assert list(found.lost.first) == sorted(was - will_be)[:SHOWN_MAX]
    assert found.is_whole
    assert found.gained.count or found.lost.count or before == {"every": "1h"}


def test_nothing_before_or_after() -> None:
    """A schedule that was not there gains all of them; one that becomes invalid loses them."""
    hourly = rule(every="1h")
    assert compare_fires(None, hourly, NOW, NOW + DAY).gained.count == 24
    assert compare_fires(hourly, None, NOW, NOW + DAY).lost.count == 24
    assert compare_fires(None, None, NOW, NOW + DAY).steps == 0


def test_each_second_is_counted() -> None:
    """A day of a schedule that fires each second is counted in full."""
    found = compare_fires(rule(every="1s"), rule(every="2s"), NOW, NOW + DAY)
    assert (found.gained.count, found.lost.count, found.is_whole) == (0, 43_200, True)


def test_the_work_is_bounded() -> None:
    """At most so many fires are looked at, and it says how far that went."""
    found = compare_fires(rule(every="1s"), rule(every="2s"), NOW, NOW + DAY, steps_max=300)
    assert not found.is_whole
    assert found.steps <= 301
    assert NOW < found.until < NOW + timedelta(seconds=205)
    assert found.lost.count == 100
