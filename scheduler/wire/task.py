"""The task a worker pulls: body and headers (contract, part 4)."""

from __future__ import annotations

from datetime import datetime

import msgspec

from scheduler.core.model.execution import Execution
from scheduler.core.model.schedule import Backoff
from scheduler.wire import headers as h
from scheduler.wire.instants import format_duration, format_instant

DEFAULT_BACKOFF = Backoff()


def task_headers(
    execution: Execution, previous_at: datetime | None, next_at: datetime | None, backoff: Backoff = DEFAULT_BACKOFF
) -> dict[str, str]:
    """Headers of the task; those that do not apply are left out. User headers come last and cannot shadow ours."""
    headers = {
        h.EXECUTION_ID: execution.id,
        h.SCHEDULE_ID: execution.schedule,
        h.TYPE: execution.type,
        h.KIND: execution.kind.value,
        h.NOMINAL_AT: format_instant(execution.nominal_at),
        h.FIRE_AT: format_instant(execution.fire_at),
        h.MAX_TRIES: str(execution.max_tries),
        h.GENERATION: str(execution.generation),
        h.DRIVE: str(execution.drive),
        h.ATTEMPTS_BEFORE: str(execution.attempts_before),
    }
    if previous_at is not None:
        headers[h.PREVIOUS_AT] = format_instant(previous_at)
    if next_at is not None:
        headers[h.NEXT_AT] = format_instant(next_at)
    if execution.end_by is not None:
        headers[h.DEADLINE] = format_instant(execution.end_by)
    if execution.timeout_s is not None:
        headers[h.TIMEOUT] = f"{execution.timeout_s:.3f}".rstrip("0").rstrip(".")
    if backoff != DEFAULT_BACKOFF:
        headers[h.BACKOFF] = encode_backoff(backoff)
    if execution.headers:
        return {**execution.headers, **headers}
    return headers


def encode_backoff(backoff: Backoff) -> str:
    """`{"initial":"1s","max":"5m","factor":2.0,"jitter":0.2}`: spelled as in a schedule, without spaces."""
    spelled = {
        "initial": format_duration(backoff.initial),
        "max": format_duration(backoff.max),
        "factor": backoff.factor,
        "jitter": backoff.jitter,
    }
    return msgspec.json.encode(spelled).decode()


def task_body(execution: Execution) -> bytes:
    """The payload's JSON as stored, the bytes of a base64 payload, or nothing."""
    return execution.payload or b""
