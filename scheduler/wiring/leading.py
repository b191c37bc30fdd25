"""What a replica does while it leads, each made once, when something first asks for it."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from scheduler import __version__
from scheduler.core.leadership import LeaseTimings
from scheduler.core.reconciling import Ages
from scheduler.services.alerting import Alerting
from scheduler.services.announcing import Announcer
from scheduler.services.backfills import Backfiller, Backfills
from scheduler.services.deadlines import Deadlines
from scheduler.services.hearing import Hearing, deaf_after_s
from scheduler.services.late import Late
from scheduler.services.leader import Leader, Tenure
from scheduler.services.planner import Planner
from scheduler.services.reconcile import Ground, Reconciler
from scheduler.services.remembering import Remembering
from scheduler.services.schema import Schema
from scheduler.services.together import run_together
from scheduler.services.webhooks import Webhooks
from scheduler.system.posting import HttpPoster
from scheduler.wire.names import Names
from scheduler.wiring.everywhere import Everywhere


class Leading(Everywhere):
    """The duties of a leader, over the services of every replica."""

    @cached_property
    def leader(self) -> Leader:
        settings = self.settings
        deaf_s = deaf_after_s(settings.lease_s, settings.horizon_s)
        return Leader(
            control=self.adapters.lease,
            timeline=self.adapters.timeline,
            clock=self.clock,
            telemetry=self.telemetry,
            replica=settings.replica,
            version=__version__,
            timings=LeaseTimings(settings.lease_s, settings.lease_renew_deadline_s, settings.lease_retry_s),
            duty=self._lead,
            first_watermark=self.watermark_copy.first,
            hearing=Hearing(self.clock, self.adapters.received, deaf_s),
        )

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
            reconnects=self.adapters.reconnects,
            claim_floor=timedelta(seconds=self.settings.claim_floor_s),
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
        ground = Ground(
            timeline=self.adapters.timeline,
            queues=self.adapters.queues,
            feed=self.adapters.feed(),
            events=self.adapters.events,
            control=self.adapters.control,
            clock=self.clock,
            schedules=self.schedules,
            records=self.records,
            rows=self.rows,
            index=self.index,
            keeper=self.keeper,
            tracker=self.tracker,
            launcher=self.launcher,
            promoter=self.promoter,
            chains=self.chains,
            announcer=self.announcer,
            rearm=self.planner.rearm,
            ensure=self.restoring.restored,
            ages=Ages(
                timedelta(seconds=self.settings.reconcile_grace_s), timedelta(seconds=self.settings.claim_floor_s)
            ),
        )
        return Reconciler(ground, telemetry=self.telemetry, every_s=self.settings.reconcile_every_s)
