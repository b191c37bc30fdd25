"""What became of the tasks: every replica folds reports and signals into records (mechanisms.md, part 7).

Guarantees: a message is acknowledged only after the record that it moved is written; the record is written before a
task is removed; whatever is told twice, late or out of order comes to the same record.

Failure handling: what cannot be written now is not acknowledged and comes again; what breaks our own code is set apart,
counted and logged; what the server never told (its signals are sent at most once) is found by looking: `inspecting`.
"""

from __future__ import annotations

from scheduler.ports.clock import Clock
from scheduler.ports.queues import Reports, Signals, TaskQueues
from scheduler.ports.stores import Bucket
from scheduler.ports.telemetry import Telemetry
from scheduler.services.executions import ExecutionIndex
from scheduler.services.lost_tasks import LostTasks
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.tracker.folding import Folder
from scheduler.services.tracker.inspecting import Inspector, Vanished
from scheduler.services.tracker.liveness import Liveness
from scheduler.services.tracker.reports import ReportTracker
from scheduler.services.tracker.signals import SignalTracker
from scheduler.services.tracker.workers import Workers

__all__ = ["Inspector", "Liveness", "ReportTracker", "SignalTracker", "Tracker"]

VANISHED_GRACE_S = 5.0
BATCH = 256


class Tracker:
    """The parts, wired: run `reports.run` and `signals.run` on every replica; slots ask `inspector.inspect`."""

    def __init__(
        self,
        *,
        reports: Reports,
        signals: Signals,
        queues: TaskQueues,
        workers: Bucket,
        records: Records,
        rows: StatusRows,
        slots: SlotKeeper,
        settlement: Settlement,
        index: ExecutionIndex,
        lost_tasks: LostTasks,
        clock: Clock,
        telemetry: Telemetry,
        batch: int = BATCH,
    ) -> None:
        self.slots = slots
        self.workers = Workers(workers, clock)
        self.folder = Folder(records=records, settlement=settlement, slots=slots, rows=rows)
        self.reports = ReportTracker(
            reports=reports,
            queues=queues,
            records=records,
            folder=self.folder,
            clock=clock,
            telemetry=telemetry,
            batch=batch,
        )
        self.signals = SignalTracker(
            signals=signals,
            reports=reports,
            queues=queues,
            records=records,
            folder=self.folder,
            workers=self.workers,
            index=index,
            clock=clock,
            telemetry=telemetry,
            batch=batch,
        )
        grace_s, floor = VANISHED_GRACE_S, records.claim_floor
        vanished = Vanished(
            queues=queues, signals=signals, lost_tasks=lost_tasks, clock=clock, grace_s=grace_s, floor=floor
        )
        self.inspector = Inspector(
            records=records,
            reports=reports,
            folder=self.folder,
            slots=slots,
            workers=self.workers,
            vanished=vanished,
            clock=clock,
            telemetry=telemetry,
        )
        self.liveness = Liveness(
            records=records, reports=reports, queues=queues, workers=self.workers, folder=self.folder, clock=clock
        )
