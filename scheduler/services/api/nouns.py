"""Which use cases there are, one class per noun, and what they stand on."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from scheduler.ports.actions import Actions as ActionCalls
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.logs import Logs
from scheduler.ports.queues import Events, Reports, TaskQueues
from scheduler.ports.storage import Storage
from scheduler.ports.stores import Bucket
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Timeline
from scheduler.services.api.actions import Actions
from scheduler.services.api.auditing import Audits
from scheduler.services.api.backfills import BackfillRuns
from scheduler.services.api.calendars import Calendars
from scheduler.services.api.cancelling import Cancellations
from scheduler.services.api.executions import Executions
from scheduler.services.api.health import Health, HealthLimits
from scheduler.services.api.logs import ExecutionLogs
from scheduler.services.api.queues import Queues
from scheduler.services.api.retrying import Retries
from scheduler.services.api.schedules import Schedules
from scheduler.services.api.status import Discover, Status
from scheduler.services.api.triggering import ManualRuns
from scheduler.services.api.workers import Workers
from scheduler.services.applied import AppliedWatermark
from scheduler.services.auditing import Auditor
from scheduler.services.backfills import Backfills
from scheduler.services.cancelling import Canceller
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.purging import Purger
from scheduler.services.queues import QueueKeeper
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.watching import Census
from scheduler.services.watermarks import WatermarkCopy
from scheduler.wire.schedule import ScheduleLimits

NOUNS: tuple[type, ...] = (
    Schedules,
    Audits,
    BackfillRuns,
    Executions,
    Cancellations,
    Retries,
    ExecutionLogs,
    Queues,
    Calendars,
    Workers,
    Actions,
    Status,
    Health,
)
"""In the order in which they are shown; each lists its endpoints by `@answers`."""


class Backing(Struct, frozen=True, kw_only=True):
    """What the use cases stand on: the other services of the replica, and a few of its settings."""

    schedules: ScheduleCache
    bucket: Bucket
    control: Bucket
    timeline: Timeline
    rows: StatusRows
    records: Records
    index: ExecutionIndex
    launcher: Launcher
    canceller: Canceller
    keeper: QueueKeeper
    purger: Purger
    applied: AppliedWatermark
    events: Events
    logs: Logs
    workers: Bucket
    reports: Reports
    queues: TaskQueues
    actions: ActionCalls
    clock: Clock
    telemetry: Telemetry
    limits: ScheduleLimits
    ack_wait_s: float
    claim_floor_s: float
    server: str
    storage: Storage
    checkpoints: Checkpoints = NoCheckpoints()
    health: HealthLimits = HealthLimits()
    ack_wait_of: Callable[[str], float | None] | None = None


def nouns_of(backing: Backing, discover: Discover) -> list[object]:
    """One of each; without calendars where the replica has none."""
    auditor = _auditor(backing)
    executions = Executions(bucket=backing.records.bucket, index=backing.index, clock=backing.clock)
    status = _status(backing, discover)
    return [
        _schedules(backing, auditor),
        Audits(auditor),
        _backfills(backing),
        executions,
        Cancellations(canceller=backing.canceller, executions=executions, clock=backing.clock),
        ExecutionLogs(logs=backing.logs, executions=executions, clock=backing.clock),
        _retries(backing),
        _queues(backing),
        *_calendars(backing),
        Workers(bucket=backing.workers, clock=backing.clock),
        Actions(
            workers=backing.workers,
            calls=backing.actions,
            schedules=backing.schedules,
            clock=backing.clock,
            payload_bytes_max=backing.limits.payload_bytes_max,
        ),
        status,
        _health(backing, status),
    ]


def _auditor(backing: Backing) -> Auditor:
    return Auditor(
        schedules=backing.schedules,
        timeline=backing.timeline,
        events=backing.events,
        rows=backing.rows,
        records=backing.records,
        first_start=WatermarkCopy(backing.control, backing.clock),
        clock=backing.clock,
        claim_floor_s=backing.claim_floor_s,
    )


def _schedules(backing: Backing, auditor: Auditor) -> Schedules:
    return Schedules(
        bucket=backing.bucket,
        cache=backing.schedules,
        rows=backing.rows,
        applied=backing.applied,
        runs=ManualRuns(
            launcher=backing.launcher,
            records=backing.records,
            clock=backing.clock,
            claim_floor_s=backing.claim_floor_s,
        ),
        clock=backing.clock,
        limits=backing.limits,
        auditor=auditor,
        ack_wait_s=backing.ack_wait_s,
        ack_wait_of=backing.ack_wait_of,
    )


def _backfills(backing: Backing) -> BackfillRuns:
    backfills = Backfills(backing.control, backing.telemetry)
    return BackfillRuns(backfills=backfills, cache=backing.schedules, clock=backing.clock)


def _retries(backing: Backing) -> Retries:
    return Retries(
        records=backing.records,
        rows=backing.rows,
        schedules=backing.schedules,
        reports=backing.reports,
        queues=backing.queues,
        launcher=backing.launcher,
        clock=backing.clock,
        payload_bytes_max=backing.limits.payload_bytes_max,
        events=backing.events,
        checkpoints=backing.checkpoints,
    )


def _queues(backing: Backing) -> Queues:
    return Queues(
        keeper=backing.keeper,
        queues=backing.queues,
        purger=backing.purger,
        schedules=backing.schedules,
        clock=backing.clock,
    )


def _calendars(backing: Backing) -> list[Calendars]:
    calendars, applied = backing.schedules.calendars, backing.applied.of_calendars()
    if calendars is None:
        return []
    return [Calendars(calendars=calendars, schedules=backing.schedules, applied=applied, clock=backing.clock)]


def _status(backing: Backing, discover: Discover) -> Status:
    return Status(
        control=backing.control,
        timeline=backing.timeline,
        schedules=backing.schedules,
        clock=backing.clock,
        census=Census(backing.schedules, backing.clock, backing.telemetry),
        server=backing.server,
        discover=discover,
    )


def _health(backing: Backing, status: Status) -> Health:
    return Health(
        status=status,
        index=backing.index,
        queues=backing.queues,
        storage=backing.storage,
        clock=backing.clock,
        limits=backing.health,
    )
