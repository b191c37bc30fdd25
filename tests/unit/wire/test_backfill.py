"""A backfill as it is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.backfilling import Backfill, BackfillState
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Overlap
from scheduler.wire.backfill import decode_backfill, encode_backfill
from scheduler.wire.ids import backfill_execution_id, check_backfill_id, parse_execution_id

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def backfill(**changes: object) -> Backfill:
    plain = Backfill(
        id="b-1", schedule="a", start=NOON, end=NOON + timedelta(days=1), rate=2.5, overlap=Overlap.ALLOW,
        created_at=NOON, count=9, left=(NOON, NOON + timedelta(milliseconds=1)),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


@given(
    gaps=st.lists(st.integers(min_value=1, max_value=10**10), max_size=20),
    state=st.sampled_from(BackfillState),
    finished=st.none() | st.just(NOON),
)
def test_it_reads_back(gaps: list[int], state: BackfillState, finished: datetime | None) -> None:
    """Whatever is left, in whatever state: what comes out is what went in."""
    at, left = NOON, []
    for gap in gaps:
        at += timedelta(milliseconds=gap)
        left.append(at)
    wanted = backfill(left=tuple(left), state=state, finished_at=finished, reason="why")
    assert decode_backfill(encode_backfill(wanted)) == wanted


def test_ten_thousand_fit() -> None:
    """The largest backfill is far below what NATS takes as one message."""
    left = tuple(NOON + timedelta(seconds=86_399 * number) for number in range(10_000))
    assert len(encode_backfill(backfill(count=10_000, left=left))) < 128_000


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"\xff", encode_backfill(backfill()).replace(b"running", b"strolling"),
            encode_backfill(backfill()).replace(b'"left":[', b'"left":[99999999999999999999,')]
)  # fmt: skip
def test_anything_else_is_refused(raw: bytes) -> None:
    """A foreign value is an error that can be told, never a crash."""
    with pytest.raises(InvalidArgument):
        decode_backfill(raw)


def test_the_id_of_a_run_names_its_backfill() -> None:
    """Contract, part 2: `...-b<backfill-id>`, kind backfill."""
    found = backfill_execution_id("a.b", NOON, "x-1")
    assert found == "a.b.20261101T120000000Z-bx-1"
    assert parse_execution_id(found) == ("a.b", NOON, "backfill", "x-1")
    with pytest.raises(InvalidArgument, match="backfill_id"):
        check_backfill_id("a.b")
