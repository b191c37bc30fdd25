"""Spans and instants on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.choosing import Filter
from cli.spans import instant_of
from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import parse_instant


def test_a_span_counts_back_from_now() -> None:
    """Filters of executions take what audit and events take: an hour ago is an hour ago."""
    request = Filter(since="90m", until="30m").request()
    assert request.since
    assert request.until
    since, until = parse_instant(request.since), parse_instant(request.until)
    assert until - since == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=5))
    assert datetime.now(UTC) - since == pytest.approx(timedelta(minutes=90), abs=timedelta(seconds=5))


def test_an_instant_is_itself() -> None:
    """With any offset; nothing given stays nothing."""
    assert instant_of("2026-11-21T09:00:00+01:00", field="since") == "2026-11-21T08:00:00.000Z"
    assert Filter(since=None).request().since is None


@pytest.mark.parametrize("text", ["yesterday", "", "-1h", "2026-11-21", "2026-11-21T08:00:00"])
def test_anything_else_is_told_both_ways(text: str) -> None:
    """Whoever mistypes either is shown both."""
    with pytest.raises(InvalidArgument, match=r"--until .*a span \(24h, 90m\) or an instant \(2026-"):
        instant_of(text, field="until")
