"""Report messages as values: whatever a worker sends, its record can hold."""

from __future__ import annotations

import pytest

from scheduler.core.model.execution import State
from scheduler.core.tracking import AttemptEnded, AttemptStarted
from scheduler.ports.queues import ReportMessage
from scheduler.services.tracker.reading import read_report
from scheduler.wire.record import decode_execution, encode_execution
from scheduler.wire.reports import RESULT_MAX, WORKER_MAX
from tests.unit.core.executions import T0, claimed


def message(kind: str, body: bytes) -> ReportMessage:
    return ReportMessage(
        queue="Q", execution_id=claimed().id, attempt=1, kind=kind, body=body, at=T0, seq=3, ack="token"
    )


@pytest.mark.parametrize(
    ("result", "note"),
    [
        (b'{"a" : 1.0}', None),
        (b"[" * 200 + b"]" * 200, None),
        (b"[" * 201 + b"]" * 201, "result dropped, it is nested deeper than 200 levels"),
        (b'"' + b"x" * RESULT_MAX + b'"', "result dropped, its 65538 bytes are more than 65536"),
    ],
    ids=["short", "deep", "too deep", "too long"],
)
def test_a_result_that_no_record_could_hold(result: bytes, note: str | None) -> None:
    """Dropped with a note, and the work stays done; what is kept is kept as it is, and its record can be read."""
    read = read_report(message("finished", b'{"outcome":"succeeded","result":' + result + b"}"))
    assert isinstance(read, AttemptEnded)
    assert (read.state, read.note) == (State.SUCCEEDED, note)
    assert read.result == (result if note is None else None)
    stored = claimed(result=read.result)
    assert decode_execution(encode_execution(stored)) == stored


def test_a_result_that_is_no_text() -> None:
    """The report is none, and so the attempt has failed, with what is wrong with it."""
    read = read_report(message("finished", b'{"outcome":"succeeded","result":"\xff"}'))
    assert isinstance(read, AttemptEnded)
    assert read.error is not None
    assert (read.state, read.error.type) == (State.FAILED, "BadReport")


def test_a_worker_with_a_long_name() -> None:
    """Its record keeps the beginning."""
    read = read_report(message("started", b'{"worker":"' + b"w" * 100_000 + b'"}'))
    assert isinstance(read, AttemptStarted)
    assert read.worker is not None
    assert len(read.worker) == WORKER_MAX
