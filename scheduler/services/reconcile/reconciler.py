"""The rounds: each repair in turn, while this replica leads."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Protocol

from scheduler.core.errors import ScheddError
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.feeds import EventFeed
from scheduler.ports.queues import Events, TaskQueues
from scheduler.ports.stores import Bucket
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Timeline
from scheduler.services.announcing import Announcer
from scheduler.services.chains import Chains
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.promotion import Promoter
from scheduler.services.queues import QueueKeeper
from scheduler.services.reconcile.arms import ArmsRepair
from scheduler.services.reconcile.chains import ChainsRepair
from scheduler.services.reconcile.claimed import ClaimedRepair
from scheduler.services.reconcile.consumers import ConsumersRepair
from scheduler.services.reconcile.due import DueRepair
from scheduler.services.reconcile.events import EventsRepair
from scheduler.services.reconcile.ghosts import GhostsRepair
from scheduler.services.reconcile.gone import GoneRepair
from scheduler.services.reconcile.leftovers import LeftoversRepair
from scheduler.services.reconcile.rows import RowsRepair
from scheduler.services.reconcile.slots import SlotsRepair
from scheduler.services.reconcile.waiting import WaitingRepair
from scheduler.services.reconcile.workers import WorkersRepair
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.tracker import Tracker

log = logging.getLogger(__name__)


class Repairer(Protocol):
    """One repair. `kind` is its label."""

    kind: Repair

    async def repair(self, tenure: Tenure) -> int:
        """Find and close differences; how many. Raises Deposed before a write of a term that is over, ScheddError."""


class Reconciler:
    """`run` while leading. The first round comes at once: what a dead leader left behind has waited long enough."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        schedules: ScheduleCache,
        records: Records,
        rows: StatusRows,
        queues: TaskQueues,
        keeper: QueueKeeper,
        tracker: Tracker,
        launcher: Launcher,
        promoter: Promoter,
        index: ExecutionIndex,
        rearm: Callable[[Sequence[Occurrence]], Awaitable[None]],
        ensure: Callable[[], Awaitable[Sequence[str]]],
        chains: Chains,
        feed: EventFeed,
        announcer: Announcer,
        events: Events,
        control: Bucket,
        clock: Clock,
        telemetry: Telemetry,
        every_s: float = 30.0,
        grace_s: float = 30.0,
        claim_floor_s: float = 1800.0,
    ) -> None:
        ages = Ages(timedelta(seconds=grace_s), timedelta(seconds=claim_floor_s))
        self._index, self._clock, self._telemetry, self._every_s = index, clock, telemetry, every_s
        self._events = EventsRepair(
            index=index, records=records, feed=feed, announcer=announcer, control=control, clock=clock, ages=ages
        )
        slots = SlotsRepair(rows=rows, records=records, index=index, tracker=tracker, clock=clock, ages=ages)
        self.repairs: tuple[Repairer, ...] = (
            GhostsRepair(
                index=index, records=records, rows=rows, queues=queues, feed=feed, events=events, clock=clock, ages=ages
            ),
            ConsumersRepair(
                keeper=keeper, schedules=schedules, index=index, launcher=launcher, ensure=ensure, clock=clock
            ),
            WorkersRepair(index=index, slots=slots, liveness=tracker.liveness, clock=clock),
            GoneRepair(
                index=index, records=records, queues=queues, inspector=tracker.inspector, clock=clock, ages=ages
            ),
            LeftoversRepair(index=index, queues=queues, clock=clock, ages=ages),
            slots,
            RowsRepair(rows=rows, schedules=schedules, clock=clock, ages=ages),
            ClaimedRepair(
                index=index,
                records=records,
                queues=queues,
                schedules=schedules,
                launcher=launcher,
                folder=tracker.folder,
                clock=clock,
                ages=ages,
            ),
            ChainsRepair(
                chains=chains,
                rows=rows,
                records=records,
                schedules=schedules,
                rearm=rearm,
                clock=clock,
                ages=ages,
            ),
            WaitingRepair(index=index, slots=slots, keeper=tracker.slots, promoter=promoter, clock=clock, ages=ages),
            DueRepair(timeline=timeline),
            ArmsRepair(timeline=timeline, schedules=schedules, rearm=rearm, clock=clock, ages=ages),
            self._events,
        )

    async def run(self, tenure: Tenure) -> None:
        """Rounds until cancelled, or until the term is over (Deposed)."""
        try:
            while True:
                await self.round(tenure)
                await self._clock.sleep(self._every_s)
        finally:
            await self._events.close()

    async def round(self, tenure: Tenure) -> None:
        """Every repair once. Raises Deposed."""
        try:
            await self._index.current()
        except ScheddError as problem:
            log.warning("no reconciling now", extra={"event": "reconcile_delayed", "error": problem.message})
            return
        for each in self.repairs:
            tenure.check()
            await self._repair(each, tenure)

    async def _repair(self, each: Repairer, tenure: Tenure) -> None:
        extra = {"event": "reconcile_failed", "kind": each.kind.value}
        try:
            count = await each.repair(tenure)
        except Deposed:
            raise
        except ScheddError as problem:
            log.warning("a repair is left to the next round", extra={**extra, "error": problem.message})
            return
        except Exception:
            log.exception("a repair broke", extra=extra)
            return
        if count:
            log.info("repaired", extra={"event": "repaired", "kind": each.kind.value, "count": count})
        for _ in range(count):
            self._telemetry.repaired(kind=each.kind.value)
