"""Report bodies: what is written is the contract's, what is read is lenient, what makes no sense names its field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Failure
from scheduler.wire import reports as r
from scheduler.wire.names import Names

AT = datetime(2026, 11, 21, 8, 0, 0, 5000, tzinfo=UTC)


def test_a_started_report_is_written_as_the_contract_says() -> None:
    """Absent fields are left out and instants have exactly three decimals."""
    assert r.encode(r.Started(worker="w", at=AT)) == b'{"worker":"w","at":"2026-11-21T08:00:00.005Z"}'


def test_a_finished_report_carries_result_error_and_delay() -> None:
    """Result is raw JSON, the error an object, outcome a word."""
    body = r.Finished(
        outcome=r.Outcome.RETRY, at=AT, result=msgspec.Raw(b'{"n":1}'), error=Failure("E", "m", "t"), retry_in_s=1.5
    )
    assert msgspec.json.decode(r.encode(body)) == {
        "outcome": "retry",
        "at": "2026-11-21T08:00:00.005Z",
        "result": {"n": 1},
        "error": {"type": "E", "message": "m", "traceback": "t"},
        "retry_in_s": 1.5,
    }
    assert r.decode(r.encode(body), r.Finished) == body


def test_reading_is_lenient() -> None:
    """An unknown field is ignored, a missing instant is None, another offset becomes UTC cut to milliseconds."""
    assert r.decode(b'{"worker":"w","colour":"red"}', r.Started) == r.Started(worker="w")
    found = r.decode(b'{"worker":"w","at":"2026-11-21T09:00:00.0059+01:00"}', r.Started)
    assert found.at == AT
    assert found.at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b'{"outcome":"won"}', r.Finished, "outcome"),
        (b'{"outcome":"retry","retry_in_s":-1}', r.Finished, "retry_in_s"),
        (b'{"worker":"w","at":"2026-11-21T09:00:00"}', r.Started, "at"),
        (b'{"fraction":1.5}', r.Progress, "fraction"),
        (b'{"action":"explode"}', r.Cancel, "action"),
        (b"\xff\x00", r.Started, None),
        (b"[" * 100_000, r.Started, None),
        (b"", r.Started, None),
    ],
)
def test_nonsense_is_refused_by_name(body: bytes, kind: type[r.Started], field: str | None) -> None:
    """What makes no sense raises InvalidArgument that names the field."""
    with pytest.raises(InvalidArgument) as caught:
        r.decode(body, kind)
    assert caught.value.field == field


def test_a_row_knows_its_attempts() -> None:
    """A row lists id and attempt; another attempt of the same id is not in it."""
    row = r.decode(r.encode(r.WorkerRow(worker="w", running=(r.Running("a.b", 2),), started_at=AT)), r.WorkerRow)
    assert row.runs("a.b", 2)
    assert not row.runs("a.b", 1)


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True), st.integers(1, 999_999_999))
def test_report_subjects_are_taken_apart(execution_id: str, attempt: int) -> None:
    """Every report subject is read back to what made it, whatever dots the execution id has."""
    names = Names("team1")
    for kind in r.KINDS:
        key = r.parse_report_subject(names, names.report("EMAIL", execution_id, attempt, kind))
        assert key == ("EMAIL", execution_id, attempt, kind)


@pytest.mark.parametrize(
    "subject",
    [
        "schedd.report.Q.1.started",
        "schedd.report.Q.id.x.started",
        "schedd.report.Q.id.1.ended",
        "other.report.Q.id.1.started",
        "schedd.report",
        "schedd.report.Q.id.1234567890.started",
        "schedd.report.Q.id.².started",
    ],
)
def test_other_subjects_are_no_reports(subject: str) -> None:
    """A subject that `Names.report` cannot have made is refused."""
    with pytest.raises(InvalidArgument):
        r.parse_report_subject(Names(), subject)


def test_a_failure_keeps_the_end_of_its_traceback() -> None:
    """Type and message keep their beginning, the traceback its end; all within their limits."""
    failure = r.clip_failure(Failure("T" * 999, "m" * 99_999, "x" * 99_999 + "cause"))
    assert len(failure.type) == r.ERROR_TYPE_MAX
    assert len(failure.message) == r.ERROR_MESSAGE_MAX
    assert failure.traceback is not None
    assert len(failure.traceback) == r.TRACEBACK_MAX
    assert failure.traceback.endswith("cause")


def test_offsets_are_needed() -> None:
    """An instant with another offset is the same instant."""
    at = AT.astimezone(timezone(timedelta(hours=5)))
    assert r.decode(msgspec.json.encode({"worker": "w", "at": at}), r.Started).at == AT


@pytest.mark.parametrize(
    "body", [b'{"outcome":"succeeded","result":"\xff"}', b'{"outcome":"succeeded","x":"\xed\xa0\x80"}']
)
def test_what_is_no_text_is_no_report(body: bytes) -> None:
    """A result is kept as it is, so it must be what the record can hold: UTF-8."""
    with pytest.raises(InvalidArgument, match="utf-8"):
        r.decode(body, r.Finished)
