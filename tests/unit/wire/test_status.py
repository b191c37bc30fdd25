"""Status rows and the lease as JSON (contract, part 6); what is unreadable is ours to rebuild."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from scheduler.core.leadership import LeaseRecord
from scheduler.core.model.status import Chain, Deciding, ScheduleState, StatusRow
from scheduler.wire.status import decode_lease, decode_status, encode_lease, encode_status
from tests.unit.core.executions import T0, at

FIELDS = [
    "state", "error", "active", "waiting", "last_outcome", "previous_at", "next_nominal", "late_from", "decided",
    "fires",
]  # fmt: skip
GARBAGE = [b"", b"null", b"[]", b"x", b"\xff", b"[" * 5000, b'{"state":"asleep"}', b'{"active":"a"}', b'{"fires":"x"}']
instants = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
maybe = st.one_of(st.none(), instants)
texts = st.text(max_size=30)
rows = st.builds(
    StatusRow,
    state=st.sampled_from(ScheduleState),
    error=st.one_of(st.none(), texts),
    active=st.lists(texts, max_size=4).map(tuple),
    waiting=st.lists(texts, max_size=4).map(tuple),
    last_outcome=st.one_of(st.none(), texts),
    previous_at=maybe,
    next_nominal=maybe,
    late_from=maybe,
    late_until=maybe,
    decided=maybe,
    fires=st.integers(0, 2**63),
)


chains = st.builds(Chain, counts_from=instants, is_first=st.booleans(), target=maybe, nominal=maybe, started_at=maybe)


@given(st.builds(structs.replace, rows, chain=chains))
def test_round_trip_of_a_chain(row: StatusRow) -> None:
    """So does one of a schedule with a fixed delay."""
    assert decode_status(encode_status(row)) == row
    assert "chain" in json.loads(encode_status(row))


@given(rows)
def test_round_trip(row: StatusRow) -> None:
    """A row comes back as it was."""
    assert decode_status(encode_status(row)) == row


def test_every_field_of_the_contract() -> None:
    """All of them, always, under the contract's names; instants with three decimals and Z."""
    assert list(json.loads(encode_status(StatusRow()))) == FIELDS
    row = StatusRow(
        state=ScheduleState.PAUSED, error="e", active=("x",), waiting=("y",), last_outcome="failed",
        previous_at=T0, next_nominal=at(0.5), late_from=at(1), decided=at(2), fires=3,
    )  # fmt: skip
    assert json.loads(encode_status(row)) == {
        "state": "paused", "error": "e", "active": ["x"], "waiting": ["y"], "last_outcome": "failed",
        "previous_at": "2026-11-21T08:00:00.000Z", "next_nominal": "2026-11-21T08:00:00.500Z",
        "late_from": "2026-11-21T08:00:01.000Z", "decided": "2026-11-21T08:00:02.000Z", "fires": 3,
    }  # fmt: skip
    noted = json.loads(encode_status(StatusRow(late_from=at(1), late_until=at(2))))
    assert noted["late_until"] == "2026-11-21T08:00:02.000Z"
    caught_up = StatusRow(deciding=Deciding(at(1), at(2), at(3), 7), decided_from=T0, decided=at(0.5))
    shown = json.loads(encode_status(caught_up))
    assert shown["decided_from"] == "2026-11-21T08:00:00.000Z"
    assert shown["deciding"] == {
        "first": "2026-11-21T08:00:01.000Z", "last": "2026-11-21T08:00:02.000Z", "at": "2026-11-21T08:00:03.000Z",
        "generation": 7,
    }  # fmt: skip
    assert decode_status(encode_status(caught_up)) == caught_up
    assert [each.value for each in ScheduleState] == ["active", "paused", "invalid", "exhausted"]


@pytest.mark.parametrize("raw", [*GARBAGE, b'{"previous_at":"soon"}'])
def test_an_unreadable_row_is_an_empty_one(raw: bytes) -> None:
    """It is the daemon's own, and nothing stops because of it."""
    assert decode_status(raw) == StatusRow()


def test_what_is_not_known_is_passed_over() -> None:
    """A newer replica may write more, an older one less."""
    assert decode_status(b'{"fires": 2, "colour": 1}') == StatusRow(fires=2)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(raw: bytes) -> None:
    """No error, whatever stands there."""
    decode_status(raw)
    decode_lease(raw)


@given(texts, texts, texts, texts, st.floats(0, 1e6), instants)
def test_a_lease_comes_back(
    holder: str, nonce: str, replica: str, version: str, lease_s: float, since: datetime
) -> None:
    """With its nonce, by which its holder knows it again."""
    lease = LeaseRecord(holder, nonce, replica, version, lease_s, since)
    assert decode_lease(encode_lease(lease)) == lease
    assert list(json.loads(encode_lease(lease))) == ["holder", "nonce", "replica", "version", "lease_s", "since"]


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"x", b"\xff", b'{"holder":1}', b'{"since":"soon","holder":"h"}'])
def test_an_unreadable_lease_is_a_released_one(raw: bytes) -> None:
    """A foreign value must not keep everybody from leading."""
    assert (decode_lease(raw).holder, decode_lease(raw).lease_s) == ("", 0.0)
