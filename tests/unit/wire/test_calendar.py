"""The calendar JSON: what is read, and what is refused with which words."""

from __future__ import annotations

import contextlib
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.calendar import parse_calendar

FULL = {
    "description": "All of it",
    "dates": ["2027-03-26", "2026-12-31"],
    "ranges": [{"from": "2026-12-24", "to": "2027-01-01"}],
    "yearly": ["12-25", "02-29"],
    "weekdays": ["sun", "Saturday"],
    "cron": ["* 0-7 * * mon"],
    "timezone": "Europe/Berlin",
}


def parse(document: Any) -> Any:
    return parse_calendar("xmas", json.dumps(document).encode())


def test_every_field() -> None:
    """Each field arrives as values, sorted."""
    calendar = parse(FULL)
    assert calendar.name == "xmas"
    assert calendar.description == "All of it"
    assert calendar.dates == (date(2026, 12, 31), date(2027, 3, 26))
    assert calendar.ranges == ((date(2026, 12, 24), date(2027, 1, 1)),)
    assert calendar.yearly == ((2, 29), (12, 25))
    assert calendar.weekdays == (5, 6)
    assert calendar.cron == ("* 0-7 * * mon",)
    assert calendar.timezone == "Europe/Berlin"


REFUSED: dict[str, tuple[Any, str | None, str]] = {
    "a list": ([], None, "a calendar must be a JSON object"),
    "nothing excluded": ({"description": "x"}, "dates", "excludes nothing"),
    "unknown field": ({"date": ["2026-12-25"]}, "date", "a calendar has no field 'date'; did you mean 'dates'"),
    "no day": ({"dates": ["2026-02-30"]}, "dates", "there is no day 2026-02-30"),
    "a time": ({"dates": ["2026-02-03T10:00:00Z"]}, "dates", "days as 2026-12-25"),
    "a number": ({"dates": [20261225]}, "dates", "days as 2026-12-25"),
    "far away": ({"dates": ["2300-01-01"]}, "dates", "between the years"),
    "not a list": ({"dates": "2026-12-25"}, "dates", "a list"),
    "too many": ({"dates": ["2026-12-25"] * 10_001}, "dates", "at most 10000"),
    "half a range": ({"ranges": [{"from": "2026-12-25"}]}, "ranges", "from and to"),
    "range with more": ({"ranges": [{"from": "2026-12-25", "until": "2026-12-26"}]}, "ranges.until", "no field"),
    "backwards": ({"ranges": [{"from": "2026-12-25", "to": "2026-12-24"}]}, "ranges", "is before"),
    "yearly": ({"yearly": ["25-12"]}, "yearly", "there is no day 25-12"),
    "yearly leap": ({"yearly": ["02-30"]}, "yearly", "there is no day 02-30"),
    "weekday": ({"weekdays": ["samedi"]}, "weekdays", "one of mon"),
    "weekday number": ({"weekdays": [6]}, "weekdays", "one of mon"),
    "cron": ({"cron": ["* * 32 * *"]}, "cron", "no day"),
    "every": ({"cron": ["@every 10m"]}, "cron", "names no times"),
    "zone": ({"dates": ["2026-12-25"], "timezone": "Berlin"}, "timezone", "not a time zone"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Every refusal names the field and what is wrong with it."""
    document, field, words = REFUSED[case]
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse(document)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "x" * 65])
def test_names(name: str) -> None:
    """A name is one token, as it stands in `exclude`."""
    with pytest.raises(InvalidArgument, match="not the name of a calendar"):
        parse_calendar(name, b'{"weekdays": ["sat"]}')


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_garbage(raw: bytes) -> None:
    """Whatever bytes there are, it is read or refused."""
    with pytest.raises(InvalidArgument):
        parse_calendar("xmas", raw)


_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=12), st.lists, max_leaves=4)


@given(st.dictionaries(st.sampled_from([*FULL, "x"]), _values, max_size=4))
def test_wrong_types(document: dict[str, Any]) -> None:
    """Values of any type in any field are refused with an error of ours, or make a calendar."""
    with contextlib.suppress(InvalidArgument):
        assert parse(document).name == "xmas"
