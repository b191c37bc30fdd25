"""What every replica has, each made once, when something first asks for it: from what is known to what is done."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from scheduler.config import Settings
from scheduler.core.model.queue import QueueSettings
from scheduler.jetstream.adapters import Adapters
from scheduler.ports.checkpoints import Checkpoints
from scheduler.services.backlog import Backlog
from scheduler.services.calendars import CalendarCache
from scheduler.services.cancelling import Canceller
from scheduler.services.chains import Chains
from scheduler.services.dispatcher import Dispatcher
from scheduler.services.executions import ExecutionIndex
from scheduler.services.handing_over import LateOnes
from scheduler.services.housekeeping import Housekeeper
from scheduler.services.launch import Launcher
from scheduler.services.lost_tasks import LostTasks
from scheduler.services.one_shots import OneShots
from scheduler.services.promotion import Promoter
from scheduler.services.purging import Purger
from scheduler.services.queues import QueueKeeper
from scheduler.services.records import Records
from scheduler.services.restoring import Restoring
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import OUT_OF_TOUCH_S, ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.tracker import Tracker
from scheduler.services.watching import QueueWatch
from scheduler.services.watermarks import WatermarkCopy
from scheduler.system.clock import SystemClock
from scheduler.telemetry.metrics import PrometheusTelemetry
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.webhooks import NO_WEBHOOKS, WebhookSettings


class Everywhere:
    """The services that run on every replica, leading or not."""

    def __init__(
        self,
        settings: Settings,
        adapters: Adapters,
        clock: SystemClock,
        telemetry: PrometheusTelemetry,
        checkpoints: Checkpoints,
        webhooks: WebhookSettings = NO_WEBHOOKS,
    ) -> None:
        self.settings, self.adapters, self.webhook_settings = settings, adapters, webhooks
        self.clock, self.telemetry, self.checkpoints = clock, telemetry, checkpoints

    # --- what is known

    @cached_property
    def limits(self) -> ScheduleLimits:
        return ScheduleLimits(
            payload_bytes_max=self.settings.payload_max,
            minimum_interval=timedelta(seconds=self.settings.minimum_interval_s),
            claim_floor=timedelta(seconds=self.settings.claim_floor_s),
        )

    @cached_property
    def calendars(self) -> CalendarCache:
        return CalendarCache(self.adapters.calendars, self.clock, out_of_touch_s=self._out_of_touch_s)

    @cached_property
    def schedules(self) -> ScheduleCache:
        return ScheduleCache(
            self.adapters.schedules, self.clock, self.limits, self.calendars, out_of_touch_s=self._out_of_touch_s
        )

    @property
    def _out_of_touch_s(self) -> float:
        """After that a deletion may have been missed for good."""
        return min(OUT_OF_TOUCH_S, self.settings.marker_age_s / 2)

    @cached_property
    def index(self) -> ExecutionIndex:
        recent = self.settings.recent_executions
        backlog = Backlog(self.adapters.queues, self.adapters.executions)
        return ExecutionIndex(self.adapters.executions, self.clock, self.telemetry, recent_max=recent, backlog=backlog)

    @cached_property
    def rows(self) -> StatusRows:
        return StatusRows(self.adapters.status)

    @cached_property
    def records(self) -> Records:
        return Records(self.adapters.executions, self.telemetry, claim_floor_s=self.settings.claim_floor_s)

    # --- from due to done

    @cached_property
    def slots(self) -> SlotKeeper:
        return SlotKeeper(self.rows, self.schedules.terms_of)

    @cached_property
    def settlement(self) -> Settlement:
        return Settlement(
            self.slots,
            self.adapters.events,
            self.clock,
            self.schedules.holds_slot,
            self.telemetry,
            self.schedules.next_nominal,
            self.chains,
            self.checkpoints,
        )

    @cached_property
    def chains(self) -> Chains:
        return Chains(self.rows, self.schedules, self.clock, self.telemetry)

    @cached_property
    def queue_watch(self) -> QueueWatch:
        maximum = self.settings.max_pending
        return QueueWatch(self.adapters.queues, self.clock, self.telemetry, max_pending=maximum)

    @cached_property
    def keeper(self) -> QueueKeeper:
        settings = self.settings
        return QueueKeeper(
            queues=self.adapters.queues,
            control=self.adapters.control,
            clock=self.clock,
            telemetry=self.telemetry,
            defaults=QueueSettings(
                ack_wait=timedelta(seconds=settings.ack_wait_s),
                max_deliver=settings.max_deliver,
                max_ack_pending=settings.max_ack_pending,
            ),
            max_pending=settings.max_pending,
        )

    @cached_property
    def purger(self) -> Purger:
        return Purger(
            queues=self.adapters.queues,
            records=self.records,
            reports=self.adapters.reports,
            canceller=self.canceller,
            clock=self.clock,
        )

    @cached_property
    def launcher(self) -> Launcher:
        return Launcher(
            records=self.records,
            slots=self.slots,
            queues=self.adapters.queues,
            settlement=self.settlement,
            clock=self.clock,
            claim_floor_s=self.settings.claim_floor_s,
            is_full=self.queue_watch.is_full,
            checkpoints=self.checkpoints,
            makes=self.keeper,
        )

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(
            timeline=self.adapters.timeline,
            schedules=self.schedules,
            records=self.records,
            launcher=self.launcher,
            late_ones=LateOnes(self.rows),
            settlement=self.settlement,
            clock=self.clock,
            telemetry=self.telemetry,
            batch=self.settings.batch,
            ack_wait_s=self.settings.due_ack_wait_s,
            checkpoints=self.checkpoints,
            chains=self.chains,
        )

    @cached_property
    def tracker(self) -> Tracker:
        tracker = Tracker(
            reports=self.adapters.reports,
            signals=self.adapters.signals,
            queues=self.adapters.queues,
            workers=self.adapters.workers,
            records=self.records,
            rows=self.rows,
            slots=self.slots,
            settlement=self.settlement,
            index=self.index,
            lost_tasks=self.lost_tasks,
            clock=self.clock,
            telemetry=self.telemetry,
            batch=self.settings.batch,
        )
        self.slots.inspect, self.slots.promote = tracker.inspector.inspect, self.promoter.promote
        return tracker

    @cached_property
    def promoter(self) -> Promoter:
        return Promoter(self.records, self.schedules, self.launcher, self.telemetry)

    @cached_property
    def canceller(self) -> Canceller:
        canceller = Canceller(
            records=self.records,
            reports=self.adapters.reports,
            queues=self.adapters.queues,
            cancels=self.adapters.cancels,
            launcher=self.launcher,
            folder=self.tracker.folder,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.launcher.ousters = canceller
        return canceller

    @cached_property
    def restoring(self) -> Restoring:
        return Restoring(
            births=self.adapters.births,
            ensure=self.adapters.ensure,
            raise_above=self.adapters.raise_above,
            reconnects=self.adapters.reconnects,
            schedules=self.schedules,
            calendars=self.calendars,
            index=self.index,
            lost_tasks=self.lost_tasks,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    @cached_property
    def lost_tasks(self) -> LostTasks:
        return LostTasks()

    @cached_property
    def watermark_copy(self) -> WatermarkCopy:
        return WatermarkCopy(self.adapters.control, self.clock)

    @cached_property
    def one_shots(self) -> OneShots:
        return OneShots(
            schedules=self.schedules,
            bucket=self.adapters.schedules,
            executions=self.adapters.executions,
            rows=self.rows,
            clock=self.clock,
            telemetry=self.telemetry,
            claim_floor_s=self.settings.claim_floor_s,
        )

    @cached_property
    def housekeeper(self) -> Housekeeper:
        return Housekeeper(
            copy=self.watermark_copy,
            schedules=self.schedules,
            bucket=self.adapters.schedules,
            rows=self.rows,
            one_shots=self.one_shots,
            clock=self.clock,
            every_s=self.settings.watermark_copy_s,
            marker_age_s=self.settings.marker_age_s,
        )
