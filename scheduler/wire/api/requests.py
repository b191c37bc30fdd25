"""Request bodies."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from scheduler.core.backfilling import MAX_MAX, RATE_DEFAULT, RATE_MAX, RATE_MIN
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.status import ScheduleState
from scheduler.wire.actions import TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S
from scheduler.wire.selectors import parse_selector

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
COUNT_DEFAULT = 10
NOTE_MAX = 1024

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]


class Request(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all requests. A field left out keeps its default; `null` is the same where the default is None."""


class Nothing(Request):
    """`status.get`."""


class Id(Request):
    """`schedule.get`, `.resume`, `execution.get`, `backfill.get`, `.cancel`, `queue.get`, `.delete`."""

    id: str


class PutSchedule(Request):
    """`schedule.put`. `expected_revision` 0 means: create only."""

    id: str
    schedule: Raw
    expected_revision: Annotated[int, Meta(ge=0)] | None = None


class DeleteSchedule(Request):
    """`schedule.delete`. `expected_revision`: only if it is still this one."""

    id: str
    expected_revision: Annotated[int, Meta(ge=1)] | None = None


class ListSchedules(Request):
    """`schedule.list`, by id. `labels` must all match, and so must `selector`: `team=crm,env!=prod,!legacy`."""

    prefix: str | None = None
    labels: dict[str, str] | None = None
    selector: str | None = None
    state: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Raises InvalidArgument, for the client as for the daemon."""
        if self.state is not None and self.state not in list(ScheduleState):
            states = ", ".join(ScheduleState)
            raise InvalidArgument(f"{self.state!r:.40} is no state of a schedule: use {states}", field="state")
        if self.selector is not None:
            parse_selector(self.selector)


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


class ListLines(Request):
    """`execution.logs`, oldest first: of one attempt, of at least that level.

    `follow`: the reply's cursor is never null, so that one can ask with it for what comes later.
    """

    id: str
    attempt: Annotated[int, Meta(ge=1)] | None = None
    level: str | None = None
    follow: bool = False
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class ListWorkers(Request):
    """`worker.list`, by the key of their rows: those that serve `queue`, or all."""

    queue: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class ListActions(Request):
    """`action.list`, by schedule and action."""

    schedule: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class InvokeAction(Request):
    """`action.invoke`. `payload` is JSON; `timeout_s`: how long the action may take."""

    schedule: str
    action: str
    payload: Raw | UnsetType = UNSET
    timeout_s: Annotated[float, Meta(gt=0, le=TIMEOUT_MAX_S)] = TIMEOUT_DEFAULT_S


class PutQueue(Request):
    """`queue.put`: settings by name; what is left out stays, null is the default again (`wire.queue`)."""

    id: str
    queue: Raw = Raw(b"{}")


class ListQueues(Request):
    """`queue.list`, by name."""

    prefix: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class PurgeQueue(Request):
    """`queue.purge`. `dry_run`: only count."""

    id: str
    dry_run: bool = False


class ListExecutions(Request):
    """`execution.list`, newest first; `since` is inclusive, `until` exclusive, both are nominal times. `state` may name
    several, with commas between them; `reason` is the record's, or the type of its error."""

    schedule: str | None = None
    state: str | None = None
    queue: str | None = None
    type: str | None = None
    reason: str | None = None
    since: str | None = None
    until: str | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: str | None = None


class CancelExecution(Request):
    """`execution.cancel`. `grace`: how long its worker may tidy up ("0s": none at all; default: the worker's)."""

    id: str
    grace: str | None = None


class RetryExecution(Request):
    """`execution.retry`. No `payload`: its own (`null` is one). `expected_drive`: the drive that the caller saw: a
    repeat of it is harmless, and answered with the record once there is a later one."""

    id: str
    payload: Raw | UnsetType = UNSET
    expected_drive: Annotated[int, Meta(ge=0)] | None = None
