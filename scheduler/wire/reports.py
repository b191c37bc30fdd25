"""What a worker tells, and what it is told: report bodies, the cancel message, log lines, the worker row.

Contract, part 4 (reports, cancel, log line) and part 6 (worker row); how they decide is mechanisms.md, part 7.
Encoding writes instants with three decimals; decoding is lenient (workers come in every language): an unknown field is
ignored, and `at` may be missing, since the server's timestamp of the report is there. A body that makes no sense raises
InvalidArgument that names the field.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Action, Failure
from scheduler.wire.actions import Offer
from scheduler.wire.instants import cut, format_instant
from scheduler.wire.names import Names

STARTED, PROGRESS, FINISHED = "started", "progress", "finished"
NO_RESULT = Raw(b"")
KINDS = (STARTED, PROGRESS, FINISHED)
BY_DAEMON = "daemon"

RESULT_MAX = 65_536
"""Bytes of a result's JSON; a longer one is dropped with a note, because its work is done and must not run again."""
ERROR_TYPE_MAX = 256
ERROR_MESSAGE_MAX = 4_096
TRACEBACK_MAX = 16_384
NOTE_MAX = 1_024
WORKER_MAX = 256
"""Characters of a worker's name that a record keeps: workers in other languages may call themselves anything."""
LOG_MESSAGE_MAX = 4_096
LOG_VALUES_MAX = 8_192

Instant = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[float, Meta(ge=0)]


class Outcome(StrEnum):
    """How an attempt ended. Every one but `retry` is final."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class Started(Struct, frozen=True, kw_only=True):
    """The claim of an attempt. `worker` is the key of the worker's row; `by` is `daemon` where the daemon took it."""

    worker: str
    at: Instant | None = None
    by: str | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """How far an attempt is: `fraction` from 0 to 1."""

    fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    note: str | None = None
    at: Instant | None = None


class Finished(Struct, frozen=True, kw_only=True):
    """The end of an attempt. `result` is JSON, empty where there is none; `retry_in_s` stands beside `retry` only;
    `note` is for people."""

    outcome: Outcome
    at: Instant | None = None
    result: Raw = NO_RESULT
    error: Failure | None = None
    retry_in_s: Seconds | None = None
    note: str | None = None

    @property
    def is_final(self) -> bool:
        return self.outcome is not Outcome.RETRY


class Cancel(Struct, frozen=True, kw_only=True):
    """Sent to the worker of a running execution. `grace_s`: how long it may tidy up; None: as the worker thinks fit.
    `drive`: which one is meant (left out: the first); one that was sent before a retry says nothing about that."""

    action: Action = Action.CANCEL
    grace_s: Seconds | None = None
    drive: int | None = None


class LogLine(Struct, frozen=True, kw_only=True):
    """One line that a task logged."""

    at: Instant
    level: str
    message: str
    values: dict[str, Any]
    attempt: int
    worker: str


class Running(Struct, frozen=True):
    """An attempt that a worker has claimed and not finished."""

    id: str
    attempt: int


class WorkerRow(Struct, frozen=True, kw_only=True):
    """A live worker, as it stands in the workers bucket under its own random id, `worker`.

    Of its `actions` those count that say for which schedule they are.
    """

    worker: str
    host: str = ""
    pid: int = 0
    version: str = ""
    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    actions: tuple[Offer | str, ...] = ()
    concurrency: int = 0
    running: tuple[Running, ...] = ()
    started_at: Instant | None = None
    at: Instant | None = None

    @property
    def offers(self) -> tuple[Offer, ...]:
        return tuple(each for each in self.actions if isinstance(each, Offer))

    def runs(self, execution_id: str, attempt: int) -> bool:
        return Running(execution_id, attempt) in self.running


Body = TypeVar("Body", Started, Progress, Finished, Cancel, LogLine, WorkerRow)


def encode(body: Struct) -> bytes:
    """The body as JSON; what is None, and an empty result, is left out."""
    return msgspec.json.encode({name: _plain(value) for name, value in _fields(body) if not _is_absent(value)})


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, Raw) and not bytes(value))


def _fields(body: Struct) -> list[tuple[str, Any]]:
    return [(name, getattr(body, name)) for name in body.__struct_fields__]


def _plain(value: Any) -> Any:
    return format_instant(value) if isinstance(value, datetime) else value


def decode(body: bytes, kind: type[Body]) -> Body:
    """The body as `kind`, its instants in UTC cut to milliseconds. Raises InvalidArgument that names the field."""
    try:
        body.decode()  # what is kept raw would not be looked at
        found = msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as problem:
        reason, _, path = str(problem).partition(" - at `$.")
        field = path.rstrip("`") or None
        what = f"{kind.__name__.lower()} body"
        raise InvalidArgument(f"{what}: {field + ': ' if field else ''}{reason}", field=field) from None
    instants = {name: cut(value) for name, value in _fields(found) if isinstance(value, datetime)}
    return msgspec.structs.replace(found, **instants) if instants else found


def is_by_daemon(started: bytes) -> bool:
    """Whether this `started` report is the daemon's; one that nobody can read is a worker's."""
    try:
        return decode(started, Started).by == BY_DAEMON
    except InvalidArgument:
        return False


def check_report(kind: str, body: bytes) -> None:
    """Raises InvalidArgument, which names the field, for a body that is none of a report of that kind."""
    if kind == STARTED:
        decode(body, Started)
    elif kind == PROGRESS:
        decode(body, Progress)
    else:
        decode(body, Finished)


class ReportKey(NamedTuple):
    """Which report a subject of the reports stream names."""

    queue: str
    execution_id: str
    attempt: int
    kind: str


def parse_report_subject(names: Names, subject: str) -> ReportKey:
    """The inverse of `Names.report`; execution ids have dots. Raises InvalidArgument."""
    prefix = f"{names.namespace}.report."
    queue, _, rest = subject.removeprefix(prefix).partition(".")
    parts = rest.rsplit(".", 2)
    wrong = not subject.startswith(prefix) or len(parts) != 3 or not parts[0] or parts[2] not in KINDS
    if wrong or not (parts[1].isascii() and parts[1].isdigit()) or len(parts[1]) > 9:
        raise InvalidArgument(f"{subject!r:.200} is not the subject of a report", field="subject")
    return ReportKey(queue, parts[0], int(parts[1]), parts[2])


def clip(text: str, limit: int) -> str:
    """The text, or its beginning with a mark where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clip_failure(failure: Failure) -> Failure:
    """The failure within its limits; of a traceback the end is kept, where the cause stands."""
    trace = failure.traceback
    if trace is not None and len(trace) > TRACEBACK_MAX:
        trace = "…" + trace[1 - TRACEBACK_MAX :]
    return Failure(clip(failure.type, ERROR_TYPE_MAX), clip(failure.message, ERROR_MESSAGE_MAX), trace)
