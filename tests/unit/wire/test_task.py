"""The task that a worker pulls: contract, part 4, header for header."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.execution import Kind
from scheduler.core.model.schedule import Backoff
from scheduler.wire.headers import is_reserved
from scheduler.wire.instants import parse_instant
from scheduler.wire.schedule import parse_schedule
from scheduler.wire.task import task_body, task_headers
from tests.unit.core.executions import at, claimed

ALWAYS = {
    "Schedd-Execution-Id": "a.20261121T080000000Z",
    "Schedd-Schedule-Id": "a",
    "Schedd-Type": "t",
    "Schedd-Kind": "auto",
    "Schedd-Nominal-At": "2026-11-21T08:00:00.000Z",
    "Schedd-Fire-At": "2026-11-21T08:00:00.000Z",
    "Schedd-Max-Tries": "3",
    "Schedd-Generation": "7",
    "Schedd-Drive": "0",
    "Schedd-Attempts-Before": "0",
}


def test_those_that_always_apply() -> None:
    """Exactly these, when nothing else is known: what does not apply is left out, not empty."""
    assert task_headers(claimed(), None, None) == ALWAYS


def test_those_that_may_apply() -> None:
    """Neighbours, timeout in decimal seconds, user headers."""
    execution = claimed(
        timeout_s=90.0, headers={"X-Tenant": "t1", "traceparent": "00-ab-cd-01"}, kind=Kind.MANUAL, drive=2,
        attempts_before=3, fire_at=at(0.25), max_tries=100, generation=2**53,
    )  # fmt: skip
    assert task_headers(execution, at(-60), at(60)) == ALWAYS | {
        "Schedd-Kind": "manual",
        "Schedd-Fire-At": "2026-11-21T08:00:00.250Z",
        "Schedd-Previous-At": "2026-11-21T07:59:00.000Z",
        "Schedd-Next-At": "2026-11-21T08:01:00.000Z",
        "Schedd-Timeout": "90",
        "Schedd-Max-Tries": "100",
        "Schedd-Generation": "9007199254740992",
        "Schedd-Drive": "2",
        "Schedd-Attempts-Before": "3",
        "X-Tenant": "t1",
        "traceparent": "00-ab-cd-01",
    }


@pytest.mark.parametrize(
    ("timeout_s", "text"),
    [
        (0.001, "0.001"),
        (0.5, "0.5"),
        (1.0, "1"),
        (10.0, "10"),
        (100.0, "100"),
        (90.25, "90.25"),
        (315_360_000.0, "315360000"),
    ],
)
def test_seconds_are_decimal_text(timeout_s: float, text: str) -> None:
    """No exponent, no trailing zeros, never rounded to nothing."""
    assert task_headers(claimed(timeout_s=timeout_s), None, None)["Schedd-Timeout"] == text


@given(st.integers(1, 315_360_000_000))
def test_any_timeout_comes_back(milliseconds: int) -> None:
    """To the millisecond, as any language reads a number."""
    text = task_headers(claimed(timeout_s=milliseconds / 1000), None, None)["Schedd-Timeout"]
    assert round(float(text) * 1000) == milliseconds
    assert "e" not in text.lower()


def test_the_backoff_travels_only_when_it_was_set() -> None:
    """Beyond the contract, for the SDK: spelled as in a schedule, and read by the schedule's own parser."""
    assert "Schedd-Backoff" not in task_headers(claimed(), None, None, Backoff())
    backoff = Backoff(initial=timedelta(milliseconds=250), max=timedelta(hours=1), factor=3.0, jitter=0.0)
    text = task_headers(claimed(), None, None, backoff)["Schedd-Backoff"]
    assert text == '{"initial":"250ms","max":"1h","factor":3.0,"jitter":0.0}'
    document = {"every": "1h", "queue": "Q", "type": "t", "backoff": msgspec.json.decode(text)}
    assert parse_schedule("a", msgspec.json.encode(document)).backoff == backoff


def test_user_headers_shadow_nothing() -> None:
    """Whatever got into a record: ours win."""
    headers = {"Schedd-Execution-Id": "other", "Schedd-Kind": "x", "X-A": "1"}
    assert task_headers(claimed(headers=headers), None, None) == ALWAYS | {"X-A": "1"}
    assert all(is_reserved(name) for name in ALWAYS)


def test_every_value_is_text() -> None:
    """As NATS headers are."""
    headers = task_headers(claimed(timeout_s=3.0, headers={"X": "y"}), at(-1), at(1))
    assert all(isinstance(value, str) for value in headers.values())
    assert parse_instant(headers["Schedd-Next-At"]) == at(1)


@pytest.mark.parametrize("payload", [b"null", b'{"n": 1}', b"[1,\n2]", b'""'])
def test_the_body_is_the_payload(payload: bytes) -> None:
    """Byte for byte; `null` is `null`."""
    assert task_body(claimed(payload=payload)) == payload


def test_no_payload_no_body() -> None:
    """Absent: empty."""
    assert task_body(claimed()) == b""


def test_bytes_as_they_are() -> None:
    """payload_base64: the bytes themselves."""
    assert task_body(claimed(payload=b"\x00\xff", payload_is_json=False)) == b"\x00\xff"
