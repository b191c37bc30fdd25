"""Request and reply bodies of the API (contract, part 7), and the error body; the same for NATS and HTTP.

Requests refuse unknown fields, so that a typo is an error; replies are read leniently, so that an older client can talk
to a newer daemon. Instants are text here (`scheduler.wire.instants`), because the contract fixes their spelling. A
definition, a payload and an execution record stay raw JSON: what was stored is what is sent, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from scheduler.core.backfilling import MAX_MAX, RATE_DEFAULT, RATE_MAX, RATE_MIN
from scheduler.core.errors import Internal, InvalidArgument, ScheddError, error_of
from scheduler.core.model.status import ScheduleState
from scheduler.wire import headers as h

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
COUNT_DEFAULT = 10
NOTE_MAX = 1024
NULL = Raw(b"null")

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]


class Request(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all requests. A field left out keeps its default; `null` is the same where the default is None."""


class Reply(Struct, kw_only=True):
    """Base of all replies. Every field is sent, also when it is null."""


# --- requests


class Nothing(Request):
    """`status.get`."""


class Id(Request):
    """`schedule.get`, `.delete`, `.resume`, `execution.get`, `backfill.get`, `.cancel`."""

    id: str


class PutSchedule(Request):
    """`schedule.put`. `expected_revision` 0 means: create only."""

    id: str
    schedule: Raw
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class ListSchedules(Request):
    """`schedule.list`, by id. `labels` must all match."""

    prefix: str | None = None
    labels: dict[str, str] | None = None
    state: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Raises InvalidArgument, for the client as for the daemon."""
        if self.state is not None and self.state not in list(ScheduleState):
            states = ", ".join(ScheduleState)
            raise InvalidArgument(f"{self.state!r:.40} is no state of a schedule: use {states}", field="state")


class PauseSchedule(Request):
    """`schedule.pause`. Without `until` the pause has no end."""

    id: str
    note: Annotated[str, Meta(max_length=NOTE_MAX)] | None = None
    until: str | None = None


class TriggerSchedule(Request):
    """`schedule.trigger`. No `payload`: the schedule's own (`null` is one). A repeated `nonce` answers as before."""

    id: str
    payload: Raw | UnsetType = UNSET
    nonce: str | None = None
    overlap: str | None = None


class PreviewSchedule(Request):
    """`schedule.preview` of a stored schedule (`id`) or of a definition (`schedule`, with the id that `H` hashes).

    A definition may leave out queue and type. `last`: so many of the latest occurrences of a stored one, too, with
    what became of them.
    """

    id: str | None = None
    schedule: Raw | UnsetType = UNSET
    after: str | None = None
    count: Limit = COUNT_DEFAULT
    last: Annotated[int, Meta(ge=0, le=LIMIT_MAX)] = 0


class AuditSchedule(Request):
    """`schedule.audit`: nominal times from `since` up to before `until` (default: now, less a few seconds)."""

    id: str
    since: str
    until: str | None = None


class BackfillSchedule(Request):
    """`schedule.backfill`: run the nominal times with from <= nominal < to of the definition in force.

    `dry_run`: only list them. At most the first `max`; without it, more than 1000 are refused. `rate` is starts per
    second. `overlap` in place of the default, by which nothing is dropped. `backfill_id` makes repeating harmless.
    """

    id: str
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    dry_run: bool
    max: Annotated[int, Meta(ge=1, le=MAX_MAX)] | None = None
    rate: Annotated[float, Meta(ge=RATE_MIN, le=RATE_MAX)] = RATE_DEFAULT
    overlap: str | None = None
    backfill_id: str | None = None


class ListBackfills(Request):
    """`backfill.list`, newest first."""

    schedule: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class PutCalendar(Request):
    """`calendar.put`. `expected_revision` 0 means: create only."""

    id: str
    calendar: Raw
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class ListCalendars(Request):
    """`calendar.list`, by name."""

    prefix: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class ListExecutions(Request):
    """`execution.list`, newest first; `since` is inclusive, `until` exclusive, both are nominal times."""

    schedule: str | None = None
    state: str | None = None
    queue: str | None = None
    since: str | None = None
    until: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class CancelExecution(Request):
    """`execution.cancel`. `grace`: how long its worker may tidy up ("0s": none at all; default: the worker's)."""

    id: str
    grace: str | None = None


# --- replies


class PutReply(Reply):
    """The definition is stored as `revision` and applied. `next` are its next fires."""

    id: str
    revision: int
    generation: int
    next: list[str] = []
    warnings: list[str] = []


class Revision(Reply):
    """The write is stored as `revision` and applied: `schedule.delete`, `.pause`, `.resume`."""

    id: str
    revision: int


class ScheduleStatus(Reply):
    """What became of a schedule so far; `error` says why an invalid one is."""

    state: str
    next_at: str | None = None
    previous_at: str | None = None
    last_outcome: str | None = None
    active: list[str] = []
    error: str | None = None


class ScheduleItem(Reply, omit_defaults=True):
    """`schedule.get`. `raw_base64` is sent, and `schedule` is null, where the stored value is no JSON."""

    id: str
    revision: int
    generation: int
    schedule: Raw
    status: ScheduleStatus
    raw_base64: str | None = None

    @property
    def definition(self) -> dict[str, Any]:
        """The schedule JSON as a dictionary; empty where the stored value is no JSON object."""
        value = msgspec.json.decode(self.schedule)
        return value if isinstance(value, dict) else {}


class ScheduleList(Reply):
    items: list[ScheduleItem]
    cursor: str | None = None


class TriggerReply(Reply):
    execution_id: str
    state: str


class BackfillReply(Reply):
    """What will run (or, in a dry run, would): every nominal time, ascending."""

    backfill_id: str
    nominals: list[str]


class BackfillItem(Reply):
    """A backfill as it stands: `state` running, done or cancelled, `started` of `count` runs."""

    id: str
    schedule: str
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    state: str
    reason: str | None
    count: int
    started: int
    rate: float
    overlap: str | None
    created_at: str
    finished_at: str | None


class BackfillList(Reply):
    items: list[BackfillItem]
    cursor: str | None = None


class Fire(Reply):
    """One future fire: `local` is the nominal time on the schedule's own clock, `notes` say what is odd about it."""

    nominal_at: str
    fire_at: str
    local: str
    notes: list[str] = []


class Past(Fire, kw_only=True):
    """One occurrence that was expected, and what became of it: see `Verdict`."""

    verdict: str
    reason: str | None = None
    execution_id: str | None = None


class PreviewReply(Reply, omit_defaults=True):
    """`past`, oldest first, is sent where it was asked for."""

    fires: list[Fire]
    past: Sequence[Past] | None = None


class Verdict(Reply):
    """What became of one nominal time: `fired`, the state of an execution that did not, `pending` (on its way), or
    `unexplained`."""

    nominal_at: str
    verdict: str
    reason: str | None = None
    execution_id: str | None = None


class AuditReply(Reply, omit_defaults=True):
    """`expected` is the sum of `verdicts` and `unexplained`. `truncated`: `occurrences` holds only the first of them,
    because more do not fit into an answer; the numbers are those of all."""

    expected: int
    verdicts: dict[str, int]
    unexplained: int
    occurrences: list[Verdict]
    truncated: bool = False


class PutCalendarReply(Reply):
    """The calendar is stored as `revision`, and so many schedules that use it are planned by it."""

    id: str
    revision: int
    used_by: int = 0


class CalendarItem(Reply, omit_defaults=True):
    """`calendar.get`. `used_by`: the first 100 schedules that use it. `error`: why it cannot be used; a value that is
    no JSON is sent in `raw_base64`, and `calendar` is null then."""

    id: str
    revision: int
    calendar: Raw
    used_by: list[str]
    error: str | None = None
    raw_base64: str | None = None


class CalendarList(Reply):
    items: list[CalendarItem]
    cursor: str | None = None


class ExecutionList(Reply):
    """Items are execution records (contract, part 5; `wire.record.Record`), raw."""

    items: list[Raw]
    cursor: str | None = None


class LeaderStatus(Reply):
    replica: str
    epoch: int
    since: str


class ReplicaStatus(Reply):
    replica: str
    version: str
    started_at: str


class ScheduleCounts(Reply):
    active: int = 0
    paused: int = 0
    invalid: int = 0


class StatusReply(Reply):
    """`status.get`. `leader` is null while there is none, `planned_until` while nothing was ever planned."""

    leader: LeaderStatus | None
    replicas: list[ReplicaStatus]
    planned_until: str | None
    schedules: ScheduleCounts
    tzdata: str
    server: str
    clock_skew_s: float


class ErrorBody(Reply):
    """Body of every error reply; `code` is a word of `core.errors.OUTCOMES`."""

    code: str
    message: str
    field: str | None = None


# --- encoding and decoding

T = TypeVar("T", bound=Struct)
_JSON_WORDS = {"`str`": "text", "`int`": "a whole number", "`float`": "a number", "`bool`": "true or false",
               "`object`": "an object", "`array`": "a list"}  # fmt: skip


def encode(body: Struct) -> bytes:
    return msgspec.json.encode(body)


def decode_request(body: bytes, kind: type[T]) -> T:
    """The request in `body`; an empty body is `{}`. Raises InvalidArgument that names the field."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as problem:
        raise _invalid(str(problem)) from None
    except (ValueError, RecursionError) as problem:
        raise InvalidArgument(f"the request is not JSON: {problem}") from None


def decode_reply(body: bytes, kind: type[T]) -> T:
    """The reply in `body`. Raises Internal where the daemon's answer makes no sense to this client."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as problem:
        raise Internal(f"the answer is not understood, are client and daemon of one version? {problem}") from None


def _invalid(problem: str) -> InvalidArgument:
    """From msgspec's sentence to one that names the field first."""
    reason, _, path = problem.partition(" - at `$")
    quoted = reason.split("`")
    if "unknown field" in reason:
        return InvalidArgument(f"{quoted[1]}: no such field in this request", field=quoted[1])
    if "missing required field" in reason:
        return InvalidArgument(f"{quoted[1]}: required", field=quoted[1])
    name = path.rstrip("`").lstrip(".").removesuffix("[...]")
    for word, plain in _JSON_WORDS.items():
        reason = reason.replace(word, plain)
    sentence = reason[:1].lower() + reason[1:]
    return InvalidArgument(f"{name}: {sentence}" if name else f"the request: {sentence}", field=name or None)


def encode_error(error: ScheddError) -> bytes:
    return encode(ErrorBody(code=error.code, message=error.message, field=error.field))


def error_headers(error: ScheddError) -> dict[str, str]:
    """Headers of an error reply of the micro service (ADR-32): the number and the code word."""
    return {h.SERVICE_ERROR_CODE: str(error.status), h.SERVICE_ERROR: error.code}


def decode_error(headers: Mapping[str, str] | None, body: bytes) -> ScheddError | None:
    """The error that a reply stands for; None for a success. The body decides, the headers where there is none."""
    if not headers or h.SERVICE_ERROR_CODE not in headers:
        return None
    try:
        found = msgspec.json.decode(body, type=ErrorBody)
    except ValueError:
        word = headers.get(h.SERVICE_ERROR) or "internal"
        return error_of(word, f"the daemon answered {word} ({headers[h.SERVICE_ERROR_CODE]})")
    return error_of(found.code, found.message, found.field)
