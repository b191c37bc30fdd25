"""Every name in NATS, in one place: streams, buckets, subjects, consumers, headers (contract, parts 1 and 4).

`Names("team1")` follows the namespace; headers and metrics do not. Patterns and wildcards stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scheduler.wire.ids import check_namespace, format_nominal

DEFAULT_NAMESPACE = "schedd"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one namespace. Raises InvalidArgument for an impossible namespace."""

    namespace: str = DEFAULT_NAMESPACE

    def __post_init__(self) -> None:
        check_namespace(self.namespace)

    # --- streams
    def stream(self, word: str) -> str:
        return f"{self.namespace.upper().replace('-', '_')}_{word}"

    @property
    def timeline(self) -> str:
        return self.stream("TIMELINE")

    @property
    def tasks(self) -> str:
        return self.stream("TASKS")

    @property
    def reports(self) -> str:
        return self.stream("REPORTS")

    @property
    def events(self) -> str:
        return self.stream("EVENTS")

    @property
    def logs(self) -> str:
        return self.stream("LOGS")

    @property
    def advisories(self) -> str:
        return self.stream("ADVISORIES")

    # --- buckets
    def bucket(self, word: str) -> str:
        return f"{self.namespace}-{word}"

    @property
    def schedules(self) -> str:
        return self.bucket("schedules")

    @property
    def executions(self) -> str:
        return self.bucket("executions")

    @property
    def status(self) -> str:
        return self.bucket("status")

    @property
    def control(self) -> str:
        return self.bucket("control")

    @property
    def calendars(self) -> str:
        return self.bucket("calendars")

    @property
    def workers(self) -> str:
        return self.bucket("workers")

    # --- timeline subjects
    @property
    def epoch(self) -> str:
        return f"{self.namespace}.epoch"

    @property
    def watermark(self) -> str:
        return f"{self.namespace}.watermark"

    def arm(self, schedule_id: str, nominal_at: datetime) -> str:
        return f"{self.namespace}.arm.{schedule_id}.{format_nominal(nominal_at)}"

    def arms_of(self, schedule_id: str) -> str:
        """Ends in `.*`, never `.>`: `a` and `a.b` are both schedule ids."""
        return f"{self.namespace}.arm.{schedule_id}.*"

    @property
    def all_arms(self) -> str:
        return f"{self.namespace}.arm.>"

    def due(self, schedule_id: str, nominal_at: datetime) -> str:
        return f"{self.namespace}.due.{schedule_id}.{format_nominal(nominal_at)}"

    def due_of(self, schedule_id: str) -> str:
        """As `arms_of`, of what has fired and waits for a dispatcher."""
        return f"{self.namespace}.due.{schedule_id}.*"

    @property
    def all_due(self) -> str:
        return f"{self.namespace}.due.>"

    # --- task subjects
    def task(self, queue: str, execution_id: str) -> str:
        return f"{self.namespace}.task.{queue}.{execution_id}"

    def tasks_of(self, queue: str) -> str:
        return f"{self.namespace}.task.{queue}.>"

    @property
    def all_tasks(self) -> str:
        return f"{self.namespace}.task.>"

    def claim(self, execution_id: str, drive: int) -> str:
        return f"{self.namespace}.claim.{execution_id}.{drive}"

    @property
    def all_claims(self) -> str:
        return f"{self.namespace}.claim.>"

    # --- report subjects
    def report(self, queue: str, execution_id: str, attempt: int, kind: str) -> str:
        """`kind` is started, progress or finished; attempts count from 1."""
        return f"{self.namespace}.report.{queue}.{execution_id}.{attempt}.{kind}"

    def reports_of(self, queue: str, execution_id: str, kind: str) -> str:
        return f"{self.namespace}.report.{queue}.{execution_id}.*.{kind}"

    @property
    def all_reports(self) -> str:
        return f"{self.namespace}.report.>"

    def cancel(self, queue: str, execution_id: str) -> str:
        return f"{self.namespace}.cancel.{queue}.{execution_id}"

    def action(self, action: str, schedule_id: str) -> str:
        """The action first, which is one token: schedule ids have dots."""
        return f"{self.namespace}.action.{action}.{schedule_id}"

    # --- events, logs, api
    def event(self, kind: str, schedule_id: str | None) -> str:
        return f"{self.namespace}.event.{kind}.{schedule_id or '_'}"

    def event_subjects(self, kinds: Sequence[str], schedule_id: str | None = None) -> list[str]:
        """Where the events of these kinds stand, or of all if none is named; about exactly one schedule, if given."""
        if schedule_id is None:
            return [f"{self.namespace}.event.{kind}.>" for kind in kinds] or [self.all_events]
        return [self.event(kind, schedule_id) for kind in kinds or ("*",)]

    @property
    def all_events(self) -> str:
        return f"{self.namespace}.event.>"

    def log(self, execution_id: str) -> str:
        return f"{self.namespace}.log.{execution_id}"

    @property
    def all_logs(self) -> str:
        return f"{self.namespace}.log.>"

    @property
    def service(self) -> str:
        return self.namespace

    def api(self, endpoint: str) -> str:
        """`endpoint` is `<noun>.<verb>`, for example `schedule.put`."""
        return f"{self.namespace}.api.v1.{endpoint}"

    @property
    def event_source(self) -> str:
        return f"/schedd/{self.namespace}"

    # --- advisories of the tasks stream, listed exactly: `$JS.EVENT.>` would record every API call
    @property
    def advisory_subjects(self) -> tuple[str, ...]:
        return (
            f"$JS.EVENT.METRIC.CONSUMER.ACK.{self.tasks}.*",
            f"$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.{self.tasks}.*",
            f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{self.tasks}.*",
            f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{self.tasks}.*",
        )


DISPATCHER = "dispatcher"  # the consumer of due messages
TRACKER = "tracker"  # the consumer of reports, and the one of advisories

# --- keys of the control bucket
LEADER_KEY = "leader"
SCHEMA_KEY = "schema"
WATERMARK_KEY = "watermark"
BACKFILL_KEYS = "backfill.*"
ALERTS_KEY = "alerts"  # up to where events were read for alerts
ENDS_KEY = "ends"  # up to which record of an end the event is there, too
HEALTH_KEYS = "health.>"
QUEUE_KEYS = "queue.*"


def backfill_key(backfill_id: str) -> str:
    return f"backfill.{backfill_id}"


def queue_key(queue: str) -> str:
    """Key in the control bucket of the copy of a queue's settings."""
    return f"queue.{queue}"


def nonce_key(schedule_id: str, nonce: str) -> str:
    """Key in the executions bucket that remembers which execution a trigger's nonce made."""
    return f"_nonce.{schedule_id}.{nonce}"


def health_key(schedule_id: str) -> str:
    """Key in the control bucket for a schedule that is not well."""
    return f"health.{schedule_id}"


def webhook_key(name: str) -> str:
    """Key in the control bucket: up to where a webhook has what it asked for."""
    return f"webhook.{name}"
