"""What the events of each kind tell: the shapes of `data`, for whoever listens.

Reading is lenient, as everywhere: a newer daemon may tell more, and an older one less. What is evidence is read by
`wire.evidence`; this is the same data, as plain fields. Instants are text in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.wire.events import Kind


class EventData(Struct, kw_only=True):
    """Base of all."""


class Applied(EventData):
    """A definition is in force: `generation` is its revision, `effective_from` the server's time of the write. Told
    again now and then, and when a calendar that it uses was edited. About a calendar itself: `calendar`, `revision`."""

    generation: int = 0
    effective_from: str = ""
    definition: Any = None
    tzdata: str | None = None
    calendars: int = 0
    calendar: str | None = None
    revision: int | None = None


class Invalid(EventData):
    """What is stored cannot be used, and nothing fires: `error` says why. Of a key that can be no id: `key`."""

    generation: int = 0
    effective_from: str | None = None
    error: str | None = None
    key: str | None = None
    calendar: str | None = None
    revision: int | None = None


class Deleted(EventData):
    """It is gone, from `effective_from` on."""

    generation: int = 0
    effective_from: str = ""
    calendar: str | None = None
    revision: int | None = None


class Paused(EventData):
    """Nothing fires from `effective_from` on."""

    generation: int = 0
    effective_from: str = ""
    note: str | None = None


class Resumed(EventData):
    """A pause is over, taken back or run out."""

    generation: int = 0
    effective_from: str = ""


class Verdicts(EventData):
    """One verdict for `count` nominal times that left no record, `from` the first `to` the last of them."""

    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")
    count: int
    verdict: str
    reason: str = ""
    generation: int = 0


class Finished(EventData):
    """An execution is over, whatever its end: ran, skipped, expired, cancelled ..."""

    execution_id: str
    state: str
    reason: str | None = None
    kind: str | None = None
    type: str | None = None
    queue: str = ""
    attempt: int = 0
    drive: int = 0
    nominal_at: str = ""
    finished_at: str | None = None
    duration_s: float | None = None
    lateness_s: float | None = None
    error: Any = None


class Leader(EventData):
    """A replica leads from now on; whatever term came before is over."""

    replica: str
    holder: str = ""
    epoch: int = 0


class Alert(EventData):
    """Something that somebody may want to be told of: the data of the event behind it (`finished` or `verdicts`), and
    what is known beside it. `failures` in a row, `failing_since`; of flapping `state` started or stopped, `changes`."""

    execution_id: str | None = None
    state: str | None = None
    reason: str | None = None
    verdict: str | None = None
    count: int | None = None
    first: str | None = msgspec.field(default=None, name="from")
    last: str | None = msgspec.field(default=None, name="to")
    queue: str | None = None
    type: str | None = None
    attempt: int | None = None
    nominal_at: str | None = None
    finished_at: str | None = None
    lateness_s: float | None = None
    error: Any = None
    failures: int | None = None
    failing_since: str | None = None
    changes: int | None = None
    outcomes: str | None = None


class Undelivered(EventData):
    """A webhook gave up on an event, whose kind and id these are."""

    webhook: str
    event_id: str = ""
    kind: str = ""
    reason: str | None = None
    tries: int = 0
    labels: dict[str, str] = {}


class Admin(EventData):
    """Somebody did something through the API: `action` is the endpoint, `target` the id it was about, `by` the name
    that the client gave itself, `request` and `result` the plain fields of both."""

    action: str
    target: str | None = None
    by: str | None = None
    request: dict[str, Any] = {}
    result: dict[str, Any] = {}


EVENT_DATA: Mapping[str, type[EventData]] = {
    Kind.APPLIED: Applied,
    Kind.INVALID: Invalid,
    Kind.DELETED: Deleted,
    Kind.PAUSED: Paused,
    Kind.RESUMED: Resumed,
    Kind.VERDICTS: Verdicts,
    Kind.FINISHED: Finished,
    Kind.LEADER: Leader,
    Kind.ADMIN: Admin,
    **dict.fromkeys((Kind.MISSED, Kind.FAILED, Kind.LATE, Kind.RECOVERED, Kind.FLAPPING), Alert),
    Kind.UNDELIVERED: Undelivered,
}


def read_data(kind: str, data: Mapping[str, Any]) -> EventData | None:
    """The data as its shape; None for a kind without one, and for what does not fit."""
    shape = EVENT_DATA.get(kind)
    try:
        return None if shape is None else msgspec.convert(data, shape)
    except (msgspec.ValidationError, RecursionError):
        return None
