"""Consumers that somebody deleted, and configuration that drifted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from scheduler.core.reconciling import Repair
from scheduler.ports.queues import TaskQueues
from scheduler.services.launch import Launcher
from scheduler.services.leader import Tenure
from scheduler.services.schedules import ScheduleCache

log = logging.getLogger(__name__)


class ConsumersRepair:
    """The queues of all schedules have their consumers; the daemon's own streams and consumers are as declared."""

    kind = Repair.CONSUMERS

    def __init__(
        self,
        *,
        queues: TaskQueues,
        schedules: ScheduleCache,
        launcher: Launcher,
        ensure: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self._queues, self._schedules, self._launcher, self._ensure = queues, schedules, launcher, ensure

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unavailable. `ensure` names what it had to restore."""
        applied = tenure.office.watermark.applied  # what was put since then is still the planner's to see to
        there = {each.queue for each in await self._queues.queues()}
        known = (each.in_force for each in self._schedules if each.revision <= applied)
        missing = {each.definition.schedule.queue for each in known if each is not None} - there
        tenure.check()
        for queue in sorted(missing):
            log.warning("a queue had no consumer", extra={"event": "consumer_restored", "queue": queue})
            await self._queues.ensure(queue)
        if missing:
            self._launcher.forget_queues()
        restored = await self._ensure()
        for name in restored:
            log.warning("restored %s", name, extra={"event": "asset_restored", "asset": name})
        return len(missing) + len(restored)
