"""Every service of a replica: what runs for ever, what comes and goes with its terms, and the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property

from scheduler.services.api import Api, Backing, HealthLimits
from scheduler.services.applied import AppliedWatermark
from scheduler.services.watching import Census, StorageWatch
from scheduler.wiring.leading import Leading


class Wiring(Leading):
    """Every service of a replica, each made once, when something first asks for it."""

    def services(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs on every replica for ever, by name; the leader's duties come and go with its terms."""
        self.launcher.ousters = self.canceller
        self.queue_watch.on_gone = self.launcher.forget_queues
        return {
            "dispatcher": self.dispatcher.run,
            "executions": self.index.run,
            "reports": self.tracker.reports.run,
            "signals": self.tracker.signals.run,
            "settlement": self.settlement.run,
            "queues": self.queue_watch.run,
            "housekeeping": self.housekeeper.follow,
            "restoring": self.restoring.run,
            "census": Census(self.schedules, self.clock, self.telemetry).run,
            "storage": StorageWatch(self.adapters.storage, self.clock, self.telemetry).run,
        }

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
