"""Depth of JSON, found without a parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.nesting import DEPTH_MAX, is_too_deep
from scheduler.wire.schedule import parse_schedule

values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(values, st.booleans())
def test_against_the_values(value: Any, is_ascii: bool) -> None:
    """As deep as the value is, whatever its texts hold: brackets, quotes and backslashes too."""
    raw, depth = json.dumps(value, ensure_ascii=is_ascii).encode(), depth_of(value)
    assert not is_too_deep(raw, depth)
    assert depth == 0 or is_too_deep(raw, depth - 1)


@given(st.binary(max_size=400), st.integers(0, 5))
def test_any_bytes_will_do(raw: bytes, depth_max: int) -> None:
    """No error."""
    is_too_deep(raw, depth_max)


@pytest.mark.parametrize("raw", [b"[" * 70_000, b'{"a":' * 40_000, b'"' + b"[" * 70_000, b'"\\"' * 30_000 + b"[" * 300])
def test_it_is_quick(raw: bytes) -> None:
    """Whatever somebody made to be slow."""
    assert is_too_deep(raw) in (True, False)


@pytest.mark.parametrize(("levels", "is_fine"), [(DEPTH_MAX - 1, True), (DEPTH_MAX, False), (5000, False)])
def test_a_payload_that_no_record_could_hold(levels: int, is_fine: bool) -> None:
    """The schedule is invalid then, wherever it is read (the definition itself is one level)."""
    raw = b'{"every":"2s","queue":"q","type":"t","payload":' + b"[" * levels + b"]" * levels + b"}"
    if is_fine:
        assert parse_schedule("a", raw).payload == b"[" * levels + b"]" * levels
    else:
        with pytest.raises(InvalidArgument, match="nested too deeply"):
            parse_schedule("a", raw)
