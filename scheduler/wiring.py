"""The one place that wires: settings and adapters in, every service of a replica out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cached_property

from scheduler import __version__
from scheduler.config import Settings
from scheduler.core.leadership import LeaseTimings
from scheduler.core.model.queue import QueueSettings
from scheduler.jetstream.adapters import Adapters
from scheduler.ports.checkpoints import Checkpoints
from scheduler.services.alerting import Alerting
from scheduler.services.announcing import Announcer
from scheduler.services.api import Api, Backing, HealthLimits
from scheduler.services.applied import AppliedWatermark
from scheduler.services.backfills import Backfiller, Backfills
from scheduler.services.calendars import CalendarCache
from scheduler.services.cancelling import Canceller
from scheduler.services.chains import Chains
from scheduler.services.deadlines import Deadlines
from scheduler.services.dispatcher import Dispatcher
from scheduler.services.executions import ExecutionIndex
from scheduler.services.handing_over import LateOnes
from scheduler.services.housekeeping import Housekeeper
from scheduler.services.late import Late
from scheduler.services.launch import Launcher
from scheduler.services.leader import Leader, Tenure
from scheduler.services.planner import Planner
from scheduler.services.promotion import Promoter
from scheduler.services.purging import Purger
from scheduler.services.queues import QueueKeeper
from scheduler.services.reconcile import Reconciler
from scheduler.services.records import Records
from scheduler.services.remembering import Remembering
from scheduler.services.restoring import Restoring
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.schema import Schema
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.services.together import run_together
from scheduler.services.tracker import Tracker
from scheduler.services.watching import Census, QueueWatch, StorageWatch
from scheduler.services.watermarks import WatermarkCopy
from scheduler.services.webhooks import Webhooks
from scheduler.system.clock import SystemClock
from scheduler.system.posting import HttpPoster
from scheduler.telemetry.metrics import PrometheusTelemetry
from scheduler.wire.names import Names
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.webhooks import NO_WEBHOOKS, WebhookSettings


class Wiring:
    """Every service of a replica, each made once, when something first asks for it."""

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

    def services(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs on every replica for ever, by name; the leader's duties come and go with its terms."""
        self.launcher.ousters = self.canceller
        self.queue_watch.on_gone = self.launcher.forget_queues
        return {
            "dispatcher": self.dispatcher.run,
            "reports": self.tracker.reports.run,
            "signals": self.tracker.signals.run,
            "settlement": self.settlement.run,
            "queues": self.queue_watch.run,
            "housekeeping": self.housekeeper.follow,
            "restoring": self.restoring.run,
            "census": Census(self.schedules, self.clock, self.telemetry).run,
            "storage": StorageWatch(self.adapters.storage, self.clock, self.telemetry).run,
        }

    # --- what is known

    @cached_property
    def limits(self) -> ScheduleLimits:
        return ScheduleLimits(
            payload_bytes_max=self.settings.payload_max,
            minimum_interval=timedelta(seconds=self.settings.minimum_interval_s),
        )

    @cached_property
    def calendars(self) -> CalendarCache:
        return CalendarCache(self.adapters.calendars, self.clock)

    @cached_property
    def schedules(self) -> ScheduleCache:
        return ScheduleCache(self.adapters.schedules, self.clock, self.limits, self.calendars)

    @cached_property
    def index(self) -> ExecutionIndex:
        recent = self.settings.recent_executions
        return ExecutionIndex(self.adapters.executions, self.clock, self.telemetry, recent_max=recent)

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
            clock=self.clock,
            telemetry=self.telemetry,
            batch=self.settings.batch,
        )
        self.slots.inspect, self.slots.promote = tracker.inspector.inspect, self.promoter.promote
        return tracker

    @cached_property
    def promoter(self) -> Promoter:
        return Promoter(self.records, self.schedules, self.launcher, self.telemetry)

    # --- while leading

    @cached_property
    def leader(self) -> Leader:
        settings = self.settings
        return Leader(
            control=self.adapters.control,
            timeline=self.adapters.timeline,
            clock=self.clock,
            telemetry=self.telemetry,
            replica=settings.replica,
            version=__version__,
            timings=LeaseTimings(settings.lease_s, settings.lease_renew_deadline_s, settings.lease_retry_s),
            duty=self._lead,
            first_watermark=self.watermark_copy.first,
        )

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
    def deadlines(self) -> Deadlines:
        return Deadlines(
            index=self.index,
            records=self.records,
            canceller=self.canceller,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    async def _lead(self, tenure: Tenure) -> None:
        epoch = tenure.office.epoch
        await self.announcer.leading(replica=self.settings.replica, holder=self.leader.holder, epoch=epoch)
        duties = (
            self.planner,
            self.late,
            self.deadlines,
            self.reconciler,
            self.backfiller,
            self.housekeeper,
            self.schema,
            Remembering(self.announcer, self.schedules, self.clock),
        )
        outward = (self.alerting, self.webhooks) if self.webhook_settings.webhooks else ()
        await run_together(*(duty.run(tenure) for duty in duties), *(duty.run(tenure) for duty in outward))

    @cached_property
    def watermark_copy(self) -> WatermarkCopy:
        return WatermarkCopy(self.adapters.control, self.clock)

    @cached_property
    def schema(self) -> Schema:
        return Schema(self.adapters.control, self.clock)

    @cached_property
    def announcer(self) -> Announcer:
        return Announcer(self.adapters.events)

    @cached_property
    def alerting(self) -> Alerting:
        return Alerting(
            feed=self.adapters.feed(),
            events=self.adapters.events,
            control=self.adapters.control,
            schedules=self.schedules,
            index=self.index,
            records=self.records,
            queues=self.adapters.queues,
            clock=self.clock,
            telemetry=self.telemetry,
            late_after=self.webhook_settings.late_after,
        )

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(
            webhooks=self.webhook_settings.webhooks,
            feeds=self.adapters.feed,
            poster=HttpPoster(),
            events=self.adapters.events,
            control=self.adapters.control,
            schedules=self.schedules,
            names=Names(self.settings.namespace),
            clock=self.clock,
            telemetry=self.telemetry,
            agent=f"schedd/{__version__}",
        )

    @cached_property
    def planner(self) -> Planner:
        return Planner(
            timeline=self.adapters.timeline,
            schedules=self.schedules,
            rows=self.rows,
            queues=self.keeper,
            announcer=self.announcer,
            clock=self.clock,
            telemetry=self.telemetry,
            horizon=timedelta(seconds=self.settings.horizon_s),
            not_before=self.watermark_copy.since,
            checkpoints=self.checkpoints,
        )

    @cached_property
    def late(self) -> Late:
        return Late(
            rows=self.rows,
            schedules=self.schedules,
            records=self.records,
            launcher=self.launcher,
            events=self.adapters.events,
            announcer=self.announcer,
            clock=self.clock,
            telemetry=self.telemetry,
            checkpoints=self.checkpoints,
        )

    @cached_property
    def backfiller(self) -> Backfiller:
        return Backfiller(
            backfills=Backfills(self.adapters.control, self.telemetry),
            schedules=self.schedules,
            rows=self.rows,
            launcher=self.launcher,
            clock=self.clock,
            telemetry=self.telemetry,
            checkpoints=self.checkpoints,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            timeline=self.adapters.timeline,
            schedules=self.schedules,
            records=self.records,
            rows=self.rows,
            queues=self.adapters.queues,
            keeper=self.keeper,
            tracker=self.tracker,
            launcher=self.launcher,
            promoter=self.promoter,
            index=self.index,
            rearm=self.planner.rearm,
            ensure=self.restoring.restored,
            chains=self.chains,
            clock=self.clock,
            telemetry=self.telemetry,
            every_s=self.settings.reconcile_every_s,
            grace_s=self.settings.reconcile_grace_s,
            claim_floor_s=self.settings.claim_floor_s,
        )

    @cached_property
    def restoring(self) -> Restoring:
        return Restoring(
            births=self.adapters.births,
            ensure=self.adapters.ensure,
            schedules=self.schedules,
            calendars=self.calendars,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    @cached_property
    def housekeeper(self) -> Housekeeper:
        return Housekeeper(
            copy=self.watermark_copy,
            schedules=self.schedules,
            bucket=self.adapters.schedules,
            rows=self.rows,
            clock=self.clock,
            every_s=self.settings.watermark_copy_s,
        )

    # --- outside

    @cached_property
    def api(self) -> Api:
        backing = Backing(
            schedules=self.schedules,
            bucket=self.adapters.schedules,
            control=self.adapters.control,
            timeline=self.adapters.timeline,
            rows=self.rows,
            records=self.records,
            index=self.index,
            launcher=self.launcher,
            events=self.adapters.events,
            logs=self.adapters.logs,
            workers=self.adapters.workers,
            reports=self.adapters.reports,
            queues=self.adapters.queues,
            actions=self.adapters.actions,
            canceller=self.canceller,
            keeper=self.keeper,
            purger=self.purger,
            applied=AppliedWatermark(self.adapters.timeline, self.clock, timeout_s=self.settings.apply_wait_s),
            clock=self.clock,
            telemetry=self.telemetry,
            limits=self.limits,
            ack_wait_s=self.settings.ack_wait_s,
            ack_wait_of=self.queue_watch.ack_wait_s,
            claim_floor_s=self.settings.claim_floor_s,
            server=self.adapters.server_version,
            checkpoints=self.checkpoints,
            storage=self.adapters.storage,
            health=HealthLimits(self.settings.horizon_s, self.settings.clock_skew_max_s, self.settings.max_pending),
        )
        return Api(backing)
