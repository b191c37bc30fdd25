"""A task as it came from the queue: headers read, body untouched. Pure (contract, part 4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, field

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Kind
from scheduler.core.model.schedule import Backoff
from scheduler.wire import headers as h
from scheduler.wire.ids import parse_execution_id
from scheduler.wire.instants import parse_instant
from scheduler.wire.names import Names
from scheduler.worker.backoff import read_backoff


class Task(Struct, frozen=True, kw_only=True):
    """One drive of one execution. Limits are the schedule's, None where it has none; `headers` are the user's."""

    execution_id: str
    schedule_id: str
    queue: str
    type: str
    kind: str
    nominal_at: datetime
    fire_at: datetime
    previous_at: datetime | None = None
    next_at: datetime | None = None
    deadline: datetime | None = None
    timeout_s: float | None = None
    max_tries: int | None = None
    backoff: Backoff | None = None
    attempts_before: int = 0
    drive: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def parse_task(names: Names, subject: str, headers: Mapping[str, str], body: bytes) -> Task:
    """The task of a message. Raises InvalidArgument that names the header; such a message is nobody's."""
    prefix = f"{names.namespace}.task."
    queue, _, execution_id = subject.removeprefix(prefix).partition(".")
    if not subject.startswith(prefix) or headers.get(h.EXECUTION_ID) != execution_id:
        raise InvalidArgument("not a task of schedd: it must name the execution of its subject", field=h.EXECUTION_ID)
    key = parse_execution_id(execution_id, field=h.EXECUTION_ID)
    nominal_at = _instant(headers, h.NOMINAL_AT) or key.nominal_at
    return Task(
        execution_id=execution_id,
        schedule_id=headers.get(h.SCHEDULE_ID, key.schedule_id),
        queue=queue,
        type=headers.get(h.TYPE, ""),
        kind=headers.get(h.KIND, Kind.AUTO.value),
        nominal_at=nominal_at,
        fire_at=_instant(headers, h.FIRE_AT) or nominal_at,
        previous_at=_instant(headers, h.PREVIOUS_AT),
        next_at=_instant(headers, h.NEXT_AT),
        deadline=_instant(headers, h.DEADLINE),
        timeout_s=_number(headers, h.TIMEOUT),
        max_tries=_whole(headers, h.MAX_TRIES, least=1),
        backoff=_backoff(headers),
        attempts_before=_whole(headers, h.ATTEMPTS_BEFORE) or 0,
        drive=_whole(headers, h.DRIVE) or 0,
        headers={name: value for name, value in headers.items() if not h.is_reserved(name)},
        body=body,
    )


def _instant(headers: Mapping[str, str], name: str) -> datetime | None:
    return parse_instant(headers[name], field=name) if name in headers else None


def _number(headers: Mapping[str, str], name: str) -> float | None:
    if name not in headers:
        return None
    try:
        number = float(headers[name])
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise InvalidArgument(f"{name}: {headers[name]!r:.40} is not a number of seconds", field=name)
    return number


def _backoff(headers: Mapping[str, str]) -> Backoff | None:
    if h.BACKOFF not in headers:
        return None
    try:
        given = msgspec.json.decode(headers[h.BACKOFF], type=dict[str, Any])
    except msgspec.DecodeError as problem:
        raise InvalidArgument(f"{h.BACKOFF}: {problem}", field=h.BACKOFF) from None
    return read_backoff(given)


def _whole(headers: Mapping[str, str], name: str, *, least: int = 0) -> int | None:
    if name not in headers:
        return None
    text = headers[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= least):
        raise InvalidArgument(f"{name}: {text!r:.40} is not a whole number from {least}", field=name)
    return int(text)
