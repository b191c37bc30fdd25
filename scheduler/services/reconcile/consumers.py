"""Consumers that somebody deleted, and configuration that drifted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from scheduler.core.reconciling import Repair
from scheduler.ports.clock import Clock
from scheduler.services.executions import ExecutionIndex
from scheduler.services.launch import Launcher
from scheduler.services.leader import Tenure
from scheduler.services.queues import QueueKeeper
from scheduler.services.schedules import ScheduleCache

log = logging.getLogger(__name__)
ALL = timedelta(days=1)  # by a clock that is at most seconds off


class ConsumersRepair:
    """The queues that schedules or open executions name, and those that somebody has put, have their consumers, set as
    they were; the daemon's own streams and consumers are as declared."""

    kind = Repair.CONSUMERS

    def __init__(
        self,
        *,
        keeper: QueueKeeper,
        schedules: ScheduleCache,
        index: ExecutionIndex,
        launcher: Launcher,
        ensure: Callable[[], Awaitable[Sequence[str]]],
        clock: Clock,
    ) -> None:
        self._keeper, self._schedules, self._index, self._clock = keeper, schedules, index, clock
        self._launcher, self._ensure = launcher, ensure

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unavailable. `ensure` names what it had to restore."""
        restored = await self._ensure()  # first: without the streams there are no queues to look at
        for name in restored:
            log.warning("restored %s", name, extra={"event": "asset_restored", "asset": name})
        repaired = await self._keeper.keep_up(self._used(tenure.office.watermark.applied), tenure.check)
        if repaired:
            self._launcher.forget_queues()
        return len(repaired) + len(restored)

    def _used(self, applied: int) -> set[str]:
        """What was put after `applied` is still the planner's to see to."""
        known = (each.in_force for each in self._schedules if each.revision <= applied)
        named = {each.definition.schedule.queue for each in known if each is not None}
        return named | {seen.summary.queue for seen in self._index.open_before(self._clock.now() + ALL)}
