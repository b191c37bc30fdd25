"""How definitions differ: what means the same is no difference, whatever it looks like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.schedule import Schedule
from scheduler.wire.differences import ABSENT, DEFAULTS, differences
from scheduler.wire.schedule import parse_document

BASE: dict[str, Any] = {"every": "10m", "queue": "q", "type": "t"}
CRON: dict[str, Any] = {"cron": "0 9 * * *", "queue": "q", "type": "t"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"max_tries": 3, "timezone": "UTC", "overlap": "skip", "paused": False, "exclude": [], "jitter": "0s"}),
        ({}, {"backoff": {"initial": "1s", "factor": 2, "jitter": 0.2}, "retention": {"age": "7d"}, "labels": {}}),
        ({}, {"backoff": {"factor": 2.0, "max": "300s"}, "catch_up": {"window": "1d", "max": 100}, "headers": {}}),
        ({}, {"anchor": "1970-01-01T01:00:00+01:00"}),
        ({"timeout": "60s"}, {"timeout": "1m"}),
        ({"every": "600s"}, {"every": "10m"}),
        ({"starts_at": "2026-11-21T08:00:00Z"}, {"starts_at": "2026-11-21T09:00:00.0004+01:00"}),
        ({"payload": {"a": 1, "b": [1, 2]}}, {"payload": {"b": [1, 2], "a": 1}}),
        ({"backoff": {"factor": 3}}, {"backoff": {"factor": 3.0}}),
    ],
)
def test_the_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Defaults, spellings and the order of fields are no difference, in either direction."""
    one, other = {**BASE, **before}, {**BASE, **after}
    assert differences(one, other) == []
    assert differences(other, one) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"max_tries": 5}, ("max_tries", 3, 5)),
        ({"max_tries": 5}, {}, ("max_tries", 5, 3)),
        ({"timeout": "60s"}, {}, ("timeout", "60s", ABSENT)),
        ({"every": "10m"}, {"every": "601s"}, ("every", "10m", "601s")),
        ({"every": "24h"}, {"every": "1d"}, ("every", "24h", "1d")),
        ({"payload": {"n": 1, "to": "a"}}, {"payload": {"n": 2, "to": "a"}}, ("payload.n", 1, 2)),
        ({"payload": {"n": 1}}, {"payload": {"n": 1.0}}, ("payload.n", 1, 1.0)),
        ({"payload": {"n": 1}}, {"payload": {"n": True}}, ("payload.n", 1, True)),
        ({}, {"payload": None}, ("payload", ABSENT, None)),
        ({}, {"payload": {}}, ("payload", ABSENT, {})),
        ({"payload": {"timezone": "UTC"}}, {"payload": {}}, ("payload", ABSENT, {})),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"a": "1"}}, ("labels.b", "2", ABSENT)),
        ({"catch_up": {"max": 7}}, {"catch_up": {"mode": "latest"}}, ("catch_up.max", 7, 100)),
        ({"paused": True}, {}, ("paused", True, False)),
        ({"anchor": "2026-01-01T00:00:00Z"}, {}, ("anchor", "2026-01-01T00:00:00Z", ABSENT)),
    ],
)
def test_a_difference(before: dict[str, Any], after: dict[str, Any], told: tuple[str, Any, Any]) -> None:
    """Each is told by its path, with both values as they are written, a default in place of nothing."""
    found = differences({**BASE, **before}, {**BASE, **after})
    assert (found[0].path, found[0].before, found[0].after) == told


def test_all_of_them_in_the_order_of_the_new_one() -> None:
    """New fields first, in their order, then those that are gone."""
    found = differences({**BASE, "name": "x"}, {"queue": "r", "type": "t", "cron": ["0 9 * * *"]})
    assert [each.path for each in found] == ["queue", "cron", "every", "name"]
    assert differences(CRON, {**CRON, "cron": ["0 9 * * *"]}) == []


@pytest.mark.parametrize("value", [None, 7, [], {"a": [[]]}, "x" * 9, {"every": {"a": 1}}])
def test_what_is_no_valid_definition_is_compared_too(value: Any) -> None:
    """Values that no schedule can have are compared as they are written."""
    for field in ("every", "labels", "backoff", "at", "timezone", "nonsense"):
        assert differences({field: value}, {field: value}) == []
        assert differences({field: value}, {field: "other"})


SPELLED = {
    "timezone": ["UTC", "Europe/Berlin"],
    "jitter": ["0s", "0ms", "1s", "1000ms"],
    "overlap": ["skip", "allow"],
    "max_tries": [3, 4],
    "timeout": ["60s", "1m", "2m"],
    "backoff": [{}, {"factor": 2}, {"factor": 2.0}, {"factor": 3}, {"initial": "1000ms"}, {"max": "5m"}, {"max": "1h"}],
    "catch_up": [{}, {"mode": "latest"}, {"mode": "all"}, {"window": "24h"}, {"after": "10s", "max": 100}],
    "retention": [{}, {"age": "7d"}, {"age": "168h"}, {"age": "1d"}],
    "dst": [{}, {"gap": "next"}, {"overlap": "first"}, {"gap": "skip"}],
    "paused": [False, True],
    "labels": [{}, {"a": "b"}],
    "headers": [{}, {"A": "b"}],
    "start_delay": ["0s", "5s"],
    "exclude": [[], ["* * * * sun"]],
    "on_excluded": ["skip"],
    "payload": [{"n": 1}, {"n": 2}, None],
    "starts_at": ["2026-11-21T08:00:00Z", "2026-11-21T09:00:00+01:00"],
}
DEFINITION = st.fixed_dictionaries(
    {"every": st.sampled_from(["10m", "600s", "1h", "60m"]), "queue": st.just("q"), "type": st.just("t")},
    optional={field: st.sampled_from(values) for field, values in SPELLED.items()},
)


@given(DEFINITION, DEFINITION)
def test_no_difference_is_the_same_schedule(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two definitions differ exactly if the schedules that they are read as do."""
    assert (differences(one, other) == []) is (_read(one) == _read(other))


def _read(document: dict[str, Any]) -> Schedule:
    return parse_document("a", document)


def test_defaults_are_those_of_the_code() -> None:
    """Naming every default makes the schedule that naming none makes."""
    nested: dict[str, Any] = {}
    for path, value in DEFAULTS.items():
        outer, _, inner = path.partition(".")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[outer] = value
    assert parse_document("a", {**BASE, **nested}) == parse_document("a", BASE)
    assert parse_document("a", {**CRON, **nested}) == parse_document("a", CRON)
