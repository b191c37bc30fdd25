"""Instants and durations as text: what is read, what is refused, and that nothing is lost on the way back."""

# ruff: noqa: DTZ001 - hypothesis takes naive bounds; each instant gets its zone
from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import (
    DURATION_MAX,
    cut,
    format_duration,
    format_instant,
    format_optional,
    from_milliseconds,
    milliseconds,
    parse_duration,
    parse_instant,
    parse_optional,
)

offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)).map(lambda at: cut(at.replace(tzinfo=UTC)))


@given(at=instants, offset=offsets)
def test_instants_round_trip(at: datetime, offset: timezone) -> None:
    """What is written is read back, through whatever offset it was given in."""
    assert parse_instant(format_instant(at)) == at
    assert parse_instant(at.astimezone(offset).isoformat()) == at
    assert from_milliseconds(milliseconds(at)) == at
    assert parse_optional(format_optional(at)) == at


READ = {
    "2026-11-21T08:00:00Z": "2026-11-21T08:00:00.000Z",
    "2026-11-21t08:00:00z": "2026-11-21T08:00:00.000Z",
    "2026-11-21 08:00:00.5Z": "2026-11-21T08:00:00.500Z",
    "2026-11-21T08:00:00.123999999Z": "2026-11-21T08:00:00.123Z",
    "2026-11-21T08:00:00.9999999999999Z": "2026-11-21T08:00:00.999Z",
    "2026-11-21T08:00:00+01:00": "2026-11-21T07:00:00.000Z",
    "2026-11-21T08:00:00-00:00": "2026-11-21T08:00:00.000Z",
    "2026-11-21T00:30:00+05:45": "2026-11-20T18:45:00.000Z",
}


@pytest.mark.parametrize("text", READ)
def test_instants_are_read(text: str) -> None:
    """Every form of RFC 3339 is read, cut (never rounded) to milliseconds, and written in UTC with three decimals."""
    assert format_instant(parse_instant(text)) == READ[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T08:00:00",
        "2026-11-21T08:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T08:00:60Z",
        "2026-02-30T08:00:00Z",
        "2026-11-21T08:00:00.Z",
        "2026-11-21T08:00:00,5Z",
        "2026-11-21T08:00:00+0100",
        "2026-11-21T08:00:00+25:00",
        "2026-11-21T08:00:00Z\n",
        "\uff12026-11-21T08:00:00Z",
        "20261121T080000Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-11-21T08:00:00Z" * 100_000,
        None,
        1_700_000_000,
        True,
        b"2026-11-21T08:00:00Z",
    ],
)
def test_other_instants_are_refused(text: object) -> None:
    """Without an offset, impossible or not text: an error that names the field and stays short."""
    with pytest.raises(InvalidArgument) as refused:
        parse_instant(text, field="at")  # type: ignore[arg-type]  # the point of the test
    assert refused.value.field == "at"
    assert len(refused.value.message) < 200


DURATIONS = {
    "250ms": 250,
    "1.5s": 1500,
    "10m": 600_000,
    "1h30m": 5_400_000,
    "1d": 86_400_000,
    "2w": 1_209_600_000,
    "0s": 0,
    "0.29s": 290,
    "1.1s": 1100,
    "0.0015s": 1,
    "1h1h": 7_200_000,
}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations_are_read(text: str) -> None:
    """A duration is read exactly, to the millisecond, fractions included."""
    assert parse_duration(text) == timedelta(milliseconds=DURATIONS[text])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "m",
        "-5m",
        "+5m",
        "5 m",
        "1e3s",
        "1y",
        "5M",
        "10m\n",
        "\u0665m",
        "1.s",
        "10m " * 9,
        None,
        10,
        1.5,
        "3651d",
    ],
)
def test_other_durations_are_refused(text: object) -> None:
    """No unit, a sign, a space, too long: an error that names the field."""
    with pytest.raises(InvalidArgument) as refused:
        parse_duration(text, field="every")  # type: ignore[arg-type]  # the point of the test
    assert refused.value.field == "every"


@given(ms=st.integers(0, DURATION_MAX // timedelta(milliseconds=1)))
def test_durations_round_trip(ms: int) -> None:
    """What format_duration writes, parse_duration reads back to the millisecond."""
    span = timedelta(milliseconds=ms)
    assert parse_duration(format_duration(span)) == span


@given(at=st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=offsets))
def test_cut_goes_down_to_milliseconds_in_utc(at: datetime) -> None:
    """cut never rounds up, and never moves an instant by a millisecond or more."""
    result = cut(at)
    assert timedelta(0) <= at - result < timedelta(milliseconds=1)
    assert result.utcoffset() == timedelta(0)
    assert result.microsecond % 1000 == 0
