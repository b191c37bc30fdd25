"""The settings of a queue as JSON: what `queue.put` takes, what is shown, and the copy in the control bucket.

    {"ack_wait": "30s", "max_ack_pending": 1, "max_deliver": 20, "max_pending": 1000, "backoff": ["10s", "1m"],
     "paused": true, "pause_note": "maintenance", "paused_until": "2026-11-21T20:00:00Z"}

Of what is put, a field left out stays as it is and null is the default again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.core.queueing import QueueChanges
from scheduler.wire import schedule_values as read
from scheduler.wire.instants import format_duration, format_instant, format_optional, parse_optional
from scheduler.wire.schedule_json import read_document

DOCUMENT_BYTES_MAX: Final = 65_536
NOTE_MAX: Final = 1024
MAX_DELIVER_MAX: Final = 1_000_000
MAX_ACK_PENDING_MAX: Final = 1_000_000
MAX_PENDING_MAX: Final = 10_000_000
BACKOFF_MAX: Final = 100
ACK_WAIT_LEAST: Final = timedelta(seconds=1)
ACK_WAIT_MOST: Final = timedelta(days=1)
FIELDS: Final = frozenset(
    {"ack_wait", "max_deliver", "max_ack_pending", "max_pending", "backoff", "paused", "pause_note", "paused_until"}
)
T = TypeVar("T")


def parse_changes(raw: bytes) -> QueueChanges:
    """What a `queue.put` asks for, whatever bytes those are. Raises InvalidArgument with `.field`; nothing else."""
    document, _ = read_document(raw, DOCUMENT_BYTES_MAX)
    return changes_of_document(document)


def changes_of_document(document: Any) -> QueueChanges:
    """The same of a decoded document."""
    if not isinstance(document, Mapping):
        raise InvalidArgument(f"the settings of a queue must be a JSON object, not {read.shown(document)}")
    try:
        given = read.fields_of(document, None, FIELDS)
    except InvalidArgument as problem:
        raise InvalidArgument(problem.message.replace("a schedule ", "a queue ", 1), field=problem.field) from None
    return QueueChanges(
        ack_wait=_optional(given, "ack_wait", _wait),
        max_deliver=_optional(given, "max_deliver", _count(MAX_DELIVER_MAX)),
        max_ack_pending=_optional(given, "max_ack_pending", _count(MAX_ACK_PENDING_MAX)),
        max_pending=_optional(given, "max_pending", _count(MAX_PENDING_MAX)),
        backoff=_optional(given, "backoff", _backoff),
        paused=read.flag(given["paused"], "paused") if "paused" in given else UNSET,
        pause_note=_optional(given, "pause_note", _note),
        paused_until=_optional(given, "paused_until", read.instant),
    )


def _optional(given: Mapping[str, Any], field: str, reader: Callable[[Any, str], T]) -> T | UnsetType | None:
    if field not in given:
        return UNSET
    return None if given[field] is None else reader(given[field], field)


def _count(most: int) -> Callable[[Any, str], int]:
    return lambda value, field: read.integer(value, field, 1, most)


def _note(value: Any, field: str) -> str:
    return read.text(value, field, longest=NOTE_MAX, lines=True)


def _wait(value: Any, field: str) -> timedelta:
    span = read.duration(value, field, shortest=ACK_WAIT_LEAST)
    if span > ACK_WAIT_MOST:
        raise InvalidArgument(f"{field} must be at most {format_duration(ACK_WAIT_MOST)}", field=field)
    return span


def _backoff(value: Any, field: str) -> tuple[timedelta, ...]:
    if not isinstance(value, list):
        raise read.wrong(value, field, 'a list of durations, as in ["10s", "1m"]')
    if len(value) > BACKOFF_MAX:
        raise InvalidArgument(f"{field} must hold at most {BACKOFF_MAX} entries, not {len(value)}", field=field)
    return tuple(_wait(each, field) for each in value)


# --- shown


def document_of(settings: QueueSettings, max_pending: int) -> dict[str, Any]:
    """As `queue.get` shows it, and `queue.put` takes it. `max_pending`: what None stands for."""
    pause = settings.pause
    return {
        "ack_wait": format_duration(settings.ack_wait),
        "max_ack_pending": settings.max_ack_pending,
        "max_deliver": settings.max_deliver,
        "max_pending": settings.max_pending or max_pending,
        "backoff": [format_duration(each) for each in settings.backoff],
        "paused": pause is not None,
        "pause_note": None if pause is None else pause.note,
        "paused_until": None if pause is None or pause.until is None else format_instant(pause.until),
    }


def encode_document(settings: QueueSettings, max_pending: int) -> Raw:
    return Raw(msgspec.json.encode(document_of(settings, max_pending)))


# --- the copy


class _Body(Struct, kw_only=True):
    v: int = 1
    edit: int
    ack_wait_s: float
    max_deliver: int
    max_ack_pending: int
    max_pending: int | None = None
    backoff_s: list[float] = []
    is_paused: bool = False
    pause_note: str | None = None
    paused_until: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


def encode_edit(edit: QueueEdit) -> bytes:
    settings, pause = edit.settings, edit.settings.pause
    return msgspec.json.encode(
        _Body(
            edit=edit.number,
            ack_wait_s=settings.ack_wait.total_seconds(),
            max_deliver=settings.max_deliver,
            max_ack_pending=settings.max_ack_pending,
            max_pending=settings.max_pending,
            backoff_s=[each.total_seconds() for each in settings.backoff],
            is_paused=pause is not None,
            pause_note=None if pause is None else pause.note,
            paused_until=None if pause is None else format_optional(pause.until),
        )
    )


def decode_edit(raw: bytes) -> QueueEdit:
    """Raises InvalidArgument for anything that schedd cannot have stored."""
    try:
        body = _DECODER.decode(raw)
        settings = QueueSettings(
            ack_wait=timedelta(seconds=body.ack_wait_s),
            max_deliver=body.max_deliver,
            max_ack_pending=body.max_ack_pending,
            max_pending=body.max_pending,
            backoff=tuple(timedelta(seconds=each) for each in body.backoff_s),
            pause=Pause(until=_until(body.paused_until), note=body.pause_note) if body.is_paused else None,
        )
    except (ValueError, RecursionError, OverflowError) as problem:
        raise InvalidArgument(f"these are no settings of a queue: {problem}") from None
    return QueueEdit(settings, body.edit)


def _until(text: str | None) -> datetime | None:
    return parse_optional(text)
