"""Editing stored definitions: state changes, everything else stays to the byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.schedule import (
    encode_document,
    keep_pause,
    keep_pause_raw,
    parse_document,
    parse_schedule,
    same_definition,
    with_pause,
)

STORED = b'{ "every":"2s", "queue":"q","type":"t",\n "payload": { "n" : 1.10, "n":2 } }'
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), json_values, max_size=5)


def test_pause_keeps_the_payload_to_the_byte() -> None:
    """Pausing and resuming change the state fields and not one byte of the payload."""
    paused = with_pause(STORED, paused=True, note="holiday", until=UNTIL)
    schedule = parse_schedule("s", paused)
    assert (schedule.paused, schedule.pause_note, schedule.paused_until) == (True, "holiday", UNTIL)
    assert schedule.payload == b'{ "n" : 1.10, "n":2 }'
    resumed = with_pause(paused, paused=False)
    assert parse_schedule("s", resumed) == parse_schedule("s", STORED)
    assert b"pause" not in resumed


def test_pausing_again_replaces_note_and_end() -> None:
    """A second pause is the one in force; nothing of the first is left."""
    again = with_pause(with_pause(STORED, paused=True, note="a", until=UNTIL), paused=True)
    schedule = parse_schedule("s", again)
    assert (schedule.paused, schedule.pause_note, schedule.paused_until) == (True, None, None)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_pausing_what_is_no_definition(raw: bytes) -> None:
    """What is no JSON object cannot be paused; that is said."""
    with pytest.raises(InvalidArgument):
        with_pause(raw, paused=True)


def test_put_without_state_keeps_a_pause() -> None:
    """A new definition that says nothing about state takes over the stored pause; one that does replaces it."""
    stored = with_pause(STORED, paused=True, note="holiday", until=UNTIL)
    new = {"every": "5s", "queue": "q", "type": "t"}
    kept = keep_pause(new, stored)
    assert kept == {**new, "paused": True, "pause_note": "holiday", "paused_until": "2027-01-01T00:00:00.000Z"}
    assert keep_pause({**new, "paused": False}, stored) == {**new, "paused": False}
    assert keep_pause(new, None) == new
    assert keep_pause(new, STORED) == new
    assert keep_pause(new, b"garbage") == new


def test_put_of_json_text_keeps_its_bytes() -> None:
    """With text in hand nothing is re-encoded: without a pause to keep the bytes are the same, with one the values."""
    stored = with_pause(b'{"every":"1s","queue":"q","type":"t"}', paused=True, note="holiday")
    assert keep_pause_raw(STORED, None) is STORED
    assert keep_pause_raw(STORED, b'{"every":"1s"}') is STORED
    schedule = parse_schedule("s", keep_pause_raw(STORED, stored))
    assert (schedule.paused, schedule.pause_note, schedule.payload) == (True, "holiday", b'{ "n" : 1.10, "n":2 }')


SAME = [
    (b'{"a":1,"b":2}', b'{"b":2, "a":1}', True),
    (b'{"a":"\\u00fc"}', '{"a":"ü"}'.encode(), True),
    (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
    (b'{"a":1}', b'{"a":true}', False),
    (b'{"a":1}', b'{"a":1.0}', False),
    (b'{"a":null}', b"{}", False),
    (b"", b"", True),
    (b"\xff", b"\xff", True),
    (b"\xff", b"\xfe", False),
    (b'{"a":1,"a":2}', b'{"a":2}', False),
    (b'{"a":NaN}', b'{"a": NaN}', False),
    (b"[" * 100_000, b"[" * 100_001, False),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_same_definition(one: bytes, other: bytes, same: bool) -> None:
    """Order, spaces and escapes do not matter; values do, and so does the difference of 1, 1.0 and true."""
    assert same_definition(one, other) is same
    assert same_definition(other, one) is same


@given(document=objects)
def test_documents_round_trip(document: dict[str, Any]) -> None:
    """encode_document writes compact JSON that says the same, in the given order."""
    raw = encode_document(document)
    assert json.loads(raw) == document
    assert list(json.loads(raw)) == list(document)
    assert same_definition(raw, json.dumps(document, indent=2).encode())


def test_raw_values_go_in_as_they_are() -> None:
    """A payload handed over as raw JSON is stored and delivered byte for byte."""
    document = {"every": "1s", "queue": "q", "type": "t", "payload": msgspec.Raw(b'{ "n": 1.10 }')}
    assert parse_document("s", document).payload == b'{ "n": 1.10 }'
    assert parse_schedule("s", encode_document(document)).payload == b'{ "n": 1.10 }'


@pytest.mark.parametrize("document", [{"a": float("nan")}, {"a": "\ud800"}, {"a": object()}, {"\ud800": 1}])
def test_documents_that_json_cannot_say(document: dict[str, Any]) -> None:
    """NaN, lone surrogates and foreign objects are invalid input."""
    with pytest.raises(InvalidArgument):
        encode_document(document)
