"""Reply bodies, and the error body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from scheduler.wire.actions import Fault, Offer
from scheduler.wire.lines import Line
from scheduler.wire.reports import Running

NULL = Raw(b"null")


class Reply(Struct, kw_only=True):
    """Base of all replies. Every field is sent, also when it is null."""


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


class ActionItem(Reply):
    """One action of a schedule, and how many workers offer it now."""

    schedule: str
    action: str
    title: str
    workers: int

    @property
    def id(self) -> str:
        return f"{self.schedule} {self.action}"


class ActionList(Reply):
    items: list[ActionItem]
    cursor: str | None = None


class ActionReply(Reply):
    """How an action ended: `outcome` succeeded, failed or timed_out. A result too large, or no JSON, is null with the
    reason in `error`."""

    outcome: str
    result: Raw
    error: Fault | None
    worker: str
    duration_s: float


class QueueStatus(Reply):
    """How a queue stands. `oldest_s`: how long the oldest task has waited that nobody was given yet, null without one.
    `schedules`: the first 100 that name it."""

    pending: int
    ack_pending: int
    oldest_s: float | None
    paused: bool
    schedules: list[str]


class QueueItem(Reply):
    """`queue.get` and `.put`: the settings as `queue.put` takes them (`wire.queue`), and how it stands."""

    id: str
    queue: Raw
    status: QueueStatus

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as a dictionary."""
        value: dict[str, Any] = msgspec.json.decode(self.queue)
        return value


class QueueList(Reply):
    items: list[QueueItem]
    cursor: str | None = None


class PurgeReply(Reply):
    """`purged` executions are over (in a dry run: would be), `running` ones were left to their workers; `remaining`
    tasks are in the queue still: call again until nothing but what runs is left."""

    id: str
    purged: int
    running: int
    remaining: int
    dry_run: bool


class ExecutionList(Reply, omit_defaults=True):
    """Items are execution records (contract, part 5; `wire.record.Record`), raw. `older`: there are (or were) older
    ones, which a list without a schedule does not look at."""

    items: list[Raw]
    cursor: str | None
    older: bool = False


class LineList(Reply):
    """Lines of one execution (contract, part 4; `wire.lines.Line`), oldest first."""

    items: list[Line]
    cursor: str | None = None


class WorkerItem(Reply):
    """A worker that gives signs of life (contract, part 6), the last one `at`. What its row does not tell is empty."""

    worker: str
    host: str = ""
    pid: int = 0
    version: str = ""
    queues: Sequence[str] = ()
    types: Sequence[str] = ()
    actions: Sequence[Offer | str] = ()
    concurrency: int = 0
    running: Sequence[Running] = ()
    started_at: str | None = None
    at: str | None = None

    @property
    def id(self) -> str:
        """What its reports call it."""
        return self.worker


class WorkerList(Reply):
    items: list[WorkerItem]
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


class HealthCheck(Reply):
    """One thing looked at; `of`: which one, where there are several. `level` is ok, warn or crit; `advice`: what to do
    unless it is ok."""

    name: str
    of: str | None
    level: str
    told: str
    advice: str | None


class HealthReply(Reply):
    """`status.health`: the worst level, and every check."""

    level: str
    checks: list[HealthCheck]


class ErrorBody(Reply):
    """Body of every error reply; `code` is a word of `core.errors.OUTCOMES`."""

    code: str
    message: str
    field: str | None = None
