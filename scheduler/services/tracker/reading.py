"""Report messages as values of the core: decoded, clipped, and dated by the server."""

from __future__ import annotations

from msgspec import structs

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Failure, State
from scheduler.core.tracking import BAD_REPORT, AttemptEnded, AttemptStarted, Report
from scheduler.ports.queues import ReportMessage
from scheduler.wire.nesting import DEPTH_MAX, is_too_deep
from scheduler.wire.reports import (
    BY_DAEMON,
    FINISHED,
    RESULT_MAX,
    STARTED,
    WORKER_MAX,
    Finished,
    Started,
    clip,
    clip_failure,
    decode,
)


def read_report(message: ReportMessage) -> Report | None:
    """The report; None for progress, which moves nothing.

    A `started` that cannot be read is a claim all the same, and a `finished` that cannot be read is an end: workers
    take it for one, too. It fails the execution with what is wrong with it.
    """
    if message.kind == STARTED:
        return _started(message)
    return _ended(message) if message.kind == FINISHED else None


def _started(message: ReportMessage) -> AttemptStarted:
    started = AttemptStarted(attempt=message.attempt, at=message.at, seq=message.seq)
    try:
        body = decode(message.body, Started)
    except InvalidArgument:
        return started
    return structs.replace(started, worker=clip(body.worker, WORKER_MAX), by_daemon=body.by == BY_DAEMON)


def _ended(message: ReportMessage) -> AttemptEnded:
    try:
        body = decode(message.body, Finished)
    except InvalidArgument as problem:
        error = clip_failure(Failure("BadReport", problem.message))
        return AttemptEnded(
            attempt=message.attempt, at=message.at, seq=message.seq, state=State.FAILED, error=error, note=BAD_REPORT
        )
    result, note = _result(body)
    return AttemptEnded(
        attempt=message.attempt,
        at=message.at,
        seq=message.seq,
        state=State.RETRYING if not body.is_final else State(body.outcome.value),
        result=result or None,
        error=None if body.error is None else clip_failure(body.error),
        note=note,
    )


def _result(body: Finished) -> tuple[bytes, str | None]:
    """The result as a record can hold it, and the note: its work is done, so what cannot be held is dropped."""
    result = bytes(body.result)
    if len(result) > RESULT_MAX:
        return b"", f"result dropped, its {len(result)} bytes are more than {RESULT_MAX}"
    if is_too_deep(result):
        return b"", f"result dropped, it is nested deeper than {DEPTH_MAX} levels"
    return result, body.note
