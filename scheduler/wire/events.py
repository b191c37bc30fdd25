"""Events: CloudEvents 1.0 in JSON (https://github.com/cloudevents/spec), as contract, part 6 fixes them.

`source` is /schedd/<namespace>, `type` schedd.<kind>, `subject` the schedule id or `_`. `source` and `id` together name
one event: who writes one twice uses the same id twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import cut, format_instant
from scheduler.wire.names import Names

SPECVERSION = "1.0"
CONTENT_TYPE = "application/json"
TYPE_PREFIX = "schedd."
NO_SCHEDULE = "_"


class Kind(StrEnum):
    """What an event can tell."""

    APPLIED = "applied"
    INVALID = "invalid"
    DELETED = "deleted"
    PAUSED = "paused"
    RESUMED = "resumed"
    VERDICTS = "verdicts"
    FINISHED = "finished"
    LEADER = "leader"
    ADMIN = "admin"
    MISSED = "missed"
    FAILED = "failed"
    LATE = "late"
    RECOVERED = "recovered"
    FLAPPING = "flapping"
    UNDELIVERED = "undelivered"


class Event(Struct, frozen=True, kw_only=True):
    """One event as read back. `kind` is a plain word: a newer replica may tell what this one has no name for."""

    id: str
    kind: str
    schedule_id: str | None
    at: datetime
    data: dict[str, Any]


class _CloudEvent(Struct, frozen=True, kw_only=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: Annotated[datetime, Meta(tz=True)]
    datacontenttype: str = CONTENT_TYPE
    data: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(_CloudEvent)


def encode_event(
    names: Names, *, event_id: str, kind: str, schedule_id: str | None, at: datetime, data: Mapping[str, object]
) -> bytes:
    """The event as JSON; instants anywhere in `data` get three decimals. Raises InvalidArgument for what is no JSON."""
    attributes = {
        "specversion": SPECVERSION,
        "id": event_id,
        "source": names.event_source,
        "type": TYPE_PREFIX + kind,
        "subject": schedule_id or NO_SCHEDULE,
        "time": format_instant(at),
        "datacontenttype": CONTENT_TYPE,
    }
    try:
        return msgspec.json.encode({**attributes, "data": _plain(data)})
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidArgument(f"event {kind}: {problem}", field="data") from None


def decode_event(body: bytes) -> Event:
    """Raises InvalidArgument for what is no CloudEvent of schedd."""
    try:
        found = _DECODER.decode(body)
    except (ValueError, RecursionError) as problem:
        raise InvalidArgument(f"event: {problem}") from None
    if not found.type.startswith(TYPE_PREFIX):
        raise InvalidArgument(f"event: {found.type!r:.80} is not a type of schedd", field="type")
    subject = None if found.subject == NO_SCHEDULE else found.subject
    kind = found.type.removeprefix(TYPE_PREFIX)
    return Event(id=found.id, kind=kind, schedule_id=subject, at=cut(found.time), data=found.data)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value
