"""The repairs of a round, in their order, and what all of them stand on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from scheduler.core.model.occurrence import Occurrence
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.feeds import EventFeed
from scheduler.ports.queues import Events, TaskQueues
from scheduler.ports.stores import Bucket
from scheduler.ports.timeline import Timeline
from scheduler.services.announcing import Announcer
from scheduler.services.chains import Chains
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.leader import Tenure
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


class Repairer(Protocol):
    """One repair. `kind` is its label."""

    kind: Repair

    async def repair(self, tenure: Tenure) -> int:
        """Find and close differences; how many. Raises Deposed before a write of a term that is over, ScheddError."""


class Ground(Struct, frozen=True, kw_only=True):
    """Ports and services of the leading replica. `rearm` puts occurrences on the timeline again; `ensure` restores what
    the streams lack and names it."""

    timeline: Timeline
    queues: TaskQueues
    feed: EventFeed
    events: Events
    control: Bucket
    clock: Clock
    schedules: ScheduleCache
    records: Records
    rows: StatusRows
    index: ExecutionIndex
    keeper: QueueKeeper
    tracker: Tracker
    launcher: Launcher
    promoter: Promoter
    chains: Chains
    announcer: Announcer
    rearm: Callable[[Sequence[Occurrence]], Awaitable[None]]
    ensure: Callable[[], Awaitable[Sequence[str]]]
    ages: Ages = Ages()


def events_repair(ground: Ground) -> EventsRepair:
    """The last of a round, which has to be closed when the term ends."""
    return EventsRepair(
        index=ground.index,
        records=ground.records,
        feed=ground.feed,
        announcer=ground.announcer,
        control=ground.control,
        clock=ground.clock,
        ages=ground.ages,
    )


def repairs_on(ground: Ground) -> tuple[Repairer, ...]:
    """All the others, in the order of a round."""
    index, records, rows, queues = ground.index, ground.records, ground.rows, ground.queues
    schedules, tracker, clock, ages = ground.schedules, ground.tracker, ground.clock, ground.ages
    slots = SlotsRepair(rows=rows, records=records, index=index, tracker=tracker, clock=clock, ages=ages)
    return (
        GhostsRepair(
            index=index,
            records=records,
            rows=rows,
            queues=queues,
            feed=ground.feed,
            events=ground.events,
            clock=clock,
            ages=ages,
        ),
        ConsumersRepair(
            keeper=ground.keeper,
            schedules=schedules,
            index=index,
            launcher=ground.launcher,
            ensure=ground.ensure,
            clock=clock,
        ),
        WorkersRepair(index=index, slots=slots, liveness=tracker.liveness, clock=clock),
        GoneRepair(index=index, records=records, queues=queues, inspector=tracker.inspector, clock=clock, ages=ages),
        LeftoversRepair(index=index, records=records, queues=queues, clock=clock, ages=ages),
        slots,
        RowsRepair(rows=rows, schedules=schedules, clock=clock, ages=ages),
        ClaimedRepair(
            index=index,
            records=records,
            queues=queues,
            schedules=schedules,
            launcher=ground.launcher,
            folder=tracker.folder,
            clock=clock,
            ages=ages,
        ),
        ChainsRepair(
            chains=ground.chains,
            rows=rows,
            records=records,
            schedules=schedules,
            rearm=ground.rearm,
            clock=clock,
            ages=ages,
        ),
        WaitingRepair(index=index, slots=slots, keeper=tracker.slots, promoter=ground.promoter, clock=clock, ages=ages),
        DueRepair(timeline=ground.timeline),
        ArmsRepair(timeline=ground.timeline, schedules=schedules, rearm=ground.rearm, clock=clock, ages=ages),
    )
