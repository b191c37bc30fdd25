"""Log lines of workers in any language."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.lines import Line, check_level, read_line

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)
THEN = "2026-11-21T08:00:00.000Z"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"at": "2026-11-21T09:00:00+02:00", "level": "error", "message": "m", "values": {"n": 1}, "attempt": 2,
          "worker": "w"},
         Line(at="2026-11-21T07:00:00.000Z", level="error", message="m", values={"n": 1}, attempt=2, worker="w")),
        ({"message": "only this"}, Line(at=THEN, message="only this")),
        ({"msg": "pino", "level": 30, "time": 1, "pid": 7},
         Line(at=THEN, level="30", message="pino", values={"time": 1, "pid": 7})),
        ({"text": "t", "level": "WARN"}, Line(at=THEN, level="warning", message="t")),
        ({"message": {"a": 1}, "values": [1], "attempt": "2", "at": "yesterday", "worker": 9},
         Line(at=THEN, message='{"a":1}', values={"values": [1]}, worker="9")),
        ({"attempt": True, "level": None}, Line(at=THEN)),
        ({"message": "m", "own": 1, "values": {"own": 2}}, Line(at=THEN, message="m", values={"own": 2})),
        ([1, 2], Line(at=THEN, message="[1,2]")),
        ("text", Line(at=THEN, message="text")),
        (None, Line(at=THEN, message="null")),
    ],
)  # fmt: skip
def test_as_well_as_can_be(body: Any, line: Line) -> None:
    """Whatever a worker sends is a line; what it left out comes from the server, or is absent."""
    assert read_line(json.dumps(body).encode(), AT) == line


def test_what_is_no_json() -> None:
    """Plain text is a message, bytes that are no text are too."""
    assert read_line(b"it failed", AT).message == "it failed"
    assert read_line(b"", AT).message == ""
    assert read_line(b"\xffx", AT).message == "�x"


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**80), 2**80) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["at", "level", "message", "values", "x"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_can_be_shown(body: bytes) -> None:
    """No body breaks a list, and every line can be sent on."""
    msgspec.json.encode(read_line(body, AT))


def test_lone_surrogates_and_deep_nests() -> None:
    """What JSON can hold and UTF-8 cannot is spelled out; what is nested too deeply is text."""
    for body in (b'{"message": "\\ud800", "values": {"k": "\\udfff"}}', b"[" * 5000 + b"]" * 5000):
        msgspec.json.encode(read_line(body, AT))


def test_levels() -> None:
    """Names in any case and their synonyms; anything else is refused with the names."""
    assert check_level(" Warn ") == "warning"
    assert check_level("critical") == "critical"
    with pytest.raises(InvalidArgument, match="debug, info"):
        check_level("loud")
