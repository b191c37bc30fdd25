"""The execution record as JSON (contract, part 5), and the small part of it that indexes need.

Hand-written for speed: a record is encoded twice for each fire. Instants are text with exactly three decimals; payload
and result are kept as they are. `payload` is left out when the schedule has none; a payload that is not JSON stands in
`payload_base64`.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from scheduler.core.errors import InvalidArgument
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import Action, Asked, Execution, Failure, HistoryEntry, Kind, State
from scheduler.core.model.schedule import Overlap
from scheduler.wire.instants import format_instant, format_optional, parse_instant, parse_optional

_NULL = Raw(b"null")


class HistoryLine(Struct):
    at: str
    state: State
    note: str | None = None


class AskedLine(Struct):
    """That somebody wants it to end."""

    action: Action
    at: str
    reason: str
    grace_s: float | None = None


class Record(Struct, kw_only=True):
    """The stored shape, field for field."""

    id: str
    schedule: str
    generation: int
    epoch: int
    kind: Kind
    nominal_at: str
    fire_at: str
    queue: str
    type: str
    payload: Raw | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET
    headers: dict[str, str] = {}
    state: State
    reason: str | None = None
    attempt: int = 0
    max_tries: int = 3
    drive: int = 0
    attempts_before: int = 0
    worker: str | None = None
    task_seq: int | None = None
    overlap: Overlap | UnsetType = UNSET
    start_by: str | UnsetType = UNSET
    end_by: str | UnsetType = UNSET
    asked: AskedLine | UnsetType = UNSET
    claimed_at: str | None = None
    promoted_at: str | UnsetType = UNSET
    queued_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_s: float | None = None
    lateness_s: float | None = None
    timeout_s: float | None = None
    retention_s: float = 604800.0
    result: Raw = _NULL
    error: Failure | None = None
    history: list[HistoryLine] = []

    @property
    def value(self) -> Any:
        """The result as plain Python: what the function returned, or None."""
        return msgspec.json.decode(self.result)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will become of it, unless somebody retries it."""
        return self.state in TERMINAL


class ErrorType(Struct, frozen=True):
    type: str


class Summary(Struct, frozen=True):
    """What indexes keep of a record, read without decoding the rest."""

    id: str
    schedule: str
    nominal_at: str
    queue: str
    state: State
    attempt: int = 0
    drive: int = 0
    task_seq: int | None = None
    worker: str | None = None
    start_by: str | None = None
    end_by: str | None = None
    asked: AskedLine | None = None
    lateness_s: float | None = None
    type: str = ""
    reason: str | None = None
    error: ErrorType | None = None


class _Verdict(Struct):
    state: State
    queued_at: str | None = None
    reason: str | None = None


_RECORD = msgspec.json.Decoder(Record)
_VERDICT = msgspec.json.Decoder(_Verdict)
_SUMMARY = msgspec.json.Decoder(Summary)
_encode = msgspec.json.Encoder().encode


def encode_execution(execution: Execution) -> bytes:
    return _encode(record_of(execution))


def record_of(execution: Execution) -> Record:
    """The record of an execution, ready to be encoded as JSON."""
    payload, in_base64 = _payload_fields(execution)
    return Record(
        id=execution.id,
        schedule=execution.schedule,
        generation=execution.generation,
        epoch=execution.epoch,
        kind=execution.kind,
        nominal_at=format_instant(execution.nominal_at),
        fire_at=format_instant(execution.fire_at),
        queue=execution.queue,
        type=execution.type,
        payload=payload,
        payload_base64=in_base64,
        headers=execution.headers,
        state=execution.state,
        reason=execution.reason,
        attempt=execution.attempt,
        max_tries=execution.max_tries,
        drive=execution.drive,
        attempts_before=execution.attempts_before,
        worker=execution.worker,
        task_seq=execution.task_seq,
        overlap=execution.overlap or UNSET,
        start_by=_instant_or_unset(execution.start_by),
        end_by=_instant_or_unset(execution.end_by),
        asked=_asked_line(execution.asked),
        claimed_at=format_optional(execution.claimed_at),
        promoted_at=_instant_or_unset(execution.promoted_at),
        queued_at=format_optional(execution.queued_at),
        started_at=format_optional(execution.started_at),
        finished_at=format_optional(execution.finished_at),
        duration_s=execution.duration_s,
        lateness_s=execution.lateness_s,
        timeout_s=execution.timeout_s,
        retention_s=execution.retention_s,
        result=_NULL if execution.result is None else Raw(execution.result),
        error=execution.error,
        history=[HistoryLine(format_instant(entry.at), entry.state, entry.note) for entry in execution.history],
    )


def _instant_or_unset(at: datetime | None) -> str | UnsetType:
    return UNSET if at is None else format_instant(at)


def _asked_line(asked: Asked | None) -> AskedLine | UnsetType:
    if asked is None:
        return UNSET
    return AskedLine(asked.action, format_instant(asked.at), asked.reason, asked.grace_s)


def _asked(line: AskedLine | UnsetType) -> Asked | None:
    if line is UNSET:
        return None
    return Asked(line.action, parse_instant(line.at), line.reason, line.grace_s)


def _payload_fields(execution: Execution) -> tuple[Raw | UnsetType, str | UnsetType]:
    if execution.payload is None:
        return UNSET, UNSET
    if execution.payload_is_json:
        return Raw(execution.payload), UNSET
    return UNSET, base64.b64encode(execution.payload).decode()


def decode_execution(raw: bytes) -> Execution:
    """Raises InvalidArgument when the value is not an execution record."""
    try:
        record = _RECORD.decode(raw)
        return _execution_of(record)
    except (ValueError, RecursionError, InvalidArgument) as problem:
        raise InvalidArgument(f"not an execution record: {problem}") from None


def _execution_of(record: Record) -> Execution:
    if record.payload is UNSET:
        in_base64 = record.payload_base64
        payload = None if in_base64 is UNSET else base64.b64decode(in_base64)
        is_json = in_base64 is UNSET
    else:
        payload, is_json = bytes(record.payload), True
    result = bytes(record.result)
    return Execution(
        id=record.id,
        schedule=record.schedule,
        generation=record.generation,
        epoch=record.epoch,
        kind=record.kind,
        nominal_at=parse_instant(record.nominal_at),
        fire_at=parse_instant(record.fire_at),
        queue=record.queue,
        type=record.type,
        state=record.state,
        payload=payload,
        payload_is_json=is_json,
        headers=record.headers,
        reason=record.reason,
        attempt=record.attempt,
        max_tries=record.max_tries,
        drive=record.drive,
        attempts_before=record.attempts_before,
        worker=record.worker,
        task_seq=record.task_seq,
        overlap=record.overlap or None,
        start_by=parse_optional(record.start_by or None),
        end_by=parse_optional(record.end_by or None),
        asked=_asked(record.asked),
        claimed_at=parse_optional(record.claimed_at),
        promoted_at=parse_optional(record.promoted_at or None),
        queued_at=parse_optional(record.queued_at),
        started_at=parse_optional(record.started_at),
        finished_at=parse_optional(record.finished_at),
        result=None if result == b"null" else result,
        error=record.error,
        timeout_s=record.timeout_s,
        retention_s=record.retention_s,
        history=tuple(HistoryEntry(parse_instant(line.at), line.state, line.note) for line in record.history),
    )


def summary_of(raw: bytes) -> Summary | None:
    """The summary of a stored record; None when the value is no record."""
    try:
        return _SUMMARY.decode(raw)
    except (ValueError, RecursionError):
        return None


def read_states(given: str | None) -> frozenset[State]:
    """The states that a filter names, with commas between them; none: any. Raises InvalidArgument."""
    words = [] if given is None else [word.strip() for word in given.split(",")]
    for word in words:
        if word not in list(State):
            raise InvalidArgument(f"{word!r:.40} is no state of an execution: use {', '.join(State)}", field="state")
    return frozenset(map(State, words))


def verdict_of(raw: bytes) -> tuple[str, str | None] | None:
    """The verdict on record, and its reason if it did not fire; None when the value is no record."""
    try:
        found = _VERDICT.decode(raw)
    except (ValueError, RecursionError):
        return None
    return ("fired", None) if found.queued_at is not None else (found.state.value, found.reason)


def document_of(raw: bytes) -> dict[str, Any] | None:
    """A stored record as the API shows it; None when it cannot be read."""
    try:
        document = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
