"""Anything at all may be put into the bucket: it is a schedule or an InvalidArgument, quickly, never anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument, PayloadTooLarge
from scheduler.core.model.schedule import Schedule
from scheduler.core.triggers import FIRST, compile_trigger
from scheduler.wire.schedule import (
    FIELDS,
    keep_pause,
    keep_pause_raw,
    parse_document,
    parse_schedule,
    same_definition,
    with_pause,
)

GOOD = b'{"every":"2s","queue":"default","type":"hello","payload":{"n":1}}'

GARBAGE = {
    "empty": b"",
    "spaces": b"   ",
    "binary": bytes(range(256)) * 20,
    "zeros": b"\0" * 1000,
    "two megabytes": b'{"payload":"' + b"x" * 2_000_000 + b'"}',
    "two megabytes of binary": b"\xff\x00" * 1_000_000,
    "not UTF-8": b'{"name":"\xff"}',
    "UTF-16": '{"every":"1m"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "truncated": GOOD[:-1],
    "twice": GOOD + GOOD,
    "trailing": GOOD + b"x",
    "a list": b"[" + GOOD + b"]",
    "text": b'"every"',
    "null": b"null",
    "true": b"true",
    "number": b"17",
    "deep list": b"[" * 60_000,
    "deep object": b'{"a":' * 20_000,
    "deep payload": b'{"every":"1m","queue":"q","type":"t","payload":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "NaN": b'{"every":"1m","queue":"q","type":"t","payload":NaN}',
    "Infinity": b'{"every":"1m","queue":"q","type":"t","payload":[-Infinity]}',
    "NaN in a number": b'{"every":"1m","queue":"q","type":"t","backoff":{"factor":NaN}}',
    "infinite float": b'{"every":"1m","queue":"q","type":"t","backoff":{"factor":1e999}}',
    "twice in the schedule": b'{"every":"1m","every":"2m","queue":"q","type":"t"}',
    "twice in backoff": b'{"every":"1m","queue":"q","type":"t","backoff":{"factor":1,"factor":2}}',
    "twice in headers": b'{"every":"1m","queue":"q","type":"t","headers":{"A":"1","A":"2"}}',
    "twice in labels": b'{"every":"1m","queue":"q","type":"t","labels":{"a":"1","a":"2"}}',
    "twice, one escaped": b'{"every":"1m","\\u0065very":"2m","queue":"q","type":"t"}',
    "enormous integer": b'{"every":"1m","queue":"q","type":"t","max_tries":1' + b"0" * 5000 + b"}",
    "surrogate in a name": b'{"\\ud800":1,"every":"1m","queue":"q","type":"t"}',
    "surrogate in a value": b'{"every":"1m","queue":"q","type":"t","name":"\\ud800"}',
    "surrogate in the payload": b'{"every":"1m","queue":"q","type":"t","payload":"\\ud800"}',
    "single quotes": b"{'every':'1m'}",
    "comment": b'{"every":"1m",/* */"queue":"q","type":"t"}',
    "trailing comma": b'{"every":"1m","queue":"q","type":"t",}',
    "control character": b'{"every":"1m","queue":"q","type":"t","name":"\x01"}',
    "ten thousand fields": json.dumps({f"field{n}": n for n in range(10_000)}).encode(),
    "very long name": b'{"' + b"x" * 50_000 + b'":1}',
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(case: str) -> None:
    """Each kind of garbage is one short InvalidArgument within a second, and it can be logged as it is."""
    began = perf_counter()
    with pytest.raises(InvalidArgument) as refused:
        parse_schedule("hello", GARBAGE[case])
    assert perf_counter() - began < 1.0
    assert 0 < len(refused.value.message) < 300
    refused.value.message.encode("utf-8")
    (refused.value.field or "").encode("utf-8")


def test_two_megabytes_are_too_large() -> None:
    """An oversized value is told apart from an invalid one."""
    with pytest.raises(PayloadTooLarge):
        parse_schedule("hello", GARBAGE["two megabytes"])


def outcome(parse: Callable[[], Schedule]) -> Schedule | InvalidArgument:
    """The schedule, or the refusal if it is one that can be shown to people."""
    try:
        return parse()
    except InvalidArgument as problem:
        refusal = problem
    assert 0 < len(refusal.message) < 400
    refusal.message.encode("utf-8")
    (refusal.field or "").encode("utf-8")
    return refusal


def accepted_or_refused(raw: bytes) -> None:
    found = outcome(lambda: parse_schedule("hello", raw))
    if isinstance(found, Schedule):
        compile_trigger(found).next_after(FIRST)


@given(raw=st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    """No bytes make the parser raise anything but InvalidArgument."""
    accepted_or_refused(raw)


@given(place=st.integers(0, len(GOOD)), length=st.integers(0, 12), insert=st.binary(max_size=8))
def test_any_damage(place: int, length: int, insert: bytes) -> None:
    """A valid definition damaged anywhere is still valid or refused."""
    accepted_or_refused(GOOD[:place] + insert + GOOD[place + length :])


json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(
            ["1m", "10s", "1d", "UTC", "Europe/Berlin", "* * * * *", "@daily", "2027-01-01T00:00:00Z", "skip", "allow"]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=8), st.sampled_from(["mode", "after", "max", "initial", "age", "gap", "X-A"])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
documents = st.dictionaries(st.one_of(st.sampled_from(sorted(FIELDS)), st.text(max_size=6)), json_values, max_size=6)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(document=documents, whole=st.booleans())
def test_any_document(document: dict[str, Any], whole: bool) -> None:
    """Fields of the right names with any JSON in them, as bytes and as a decoded document."""
    given_document = {"queue": "q", "type": "t", **document} if whole else document
    accepted_or_refused(json.dumps(given_document).encode())
    outcome(lambda: parse_document("hello", given_document))


@given(raw=st.binary(max_size=60), other=st.binary(max_size=60))
def test_the_editing_functions_survive_any_bytes(raw: bytes, other: bytes) -> None:
    """Pausing, keeping a pause and comparing take whatever is stored: they answer or raise InvalidArgument."""
    assert same_definition(raw, raw)
    assert isinstance(same_definition(raw, other), bool)
    assert keep_pause({"every": "1m"}, raw)["every"] == "1m"
    with suppress(InvalidArgument):
        assert isinstance(with_pause(raw, paused=True), bytes)
    with suppress(InvalidArgument):
        assert isinstance(keep_pause_raw(raw, other), bytes)
