"""Arms that should have fired and did not: the server can hold one for ever until it is armed again (notes, item 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import structs

from scheduler.core.errors import Unavailable
from scheduler.core.firing import lead_of, occurrence_of
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.reconciling import Ages, Repair, overdue_arms
from scheduler.ports.clock import Clock
from scheduler.ports.timeline import Timeline
from scheduler.services.leader import Tenure
from scheduler.services.schedules import ScheduleCache

REARM_TIMEOUT_S = 30.0
READ_AT_ONCE = 100


class ArmsRepair:
    """Hands overdue arms to the planner, whose one batch in flight arms them again."""

    kind = Repair.ARMS

    def __init__(
        self,
        *,
        timeline: Timeline,
        schedules: ScheduleCache,
        rearm: Callable[[Sequence[Occurrence]], Awaitable[None]],
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._timeline, self._schedules, self._rearm = timeline, schedules, rearm
        self._clock, self._ages = clock, ages

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        armed = await self._timeline.all_armed()
        found = overdue_arms(self._occurrences(armed), self._clock.now(), self._ages.grace)
        overdue = overdue_arms(await self._as_armed(found), self._clock.now(), self._ages.grace)
        if not overdue:
            return 0
        tenure.check()
        try:
            async with asyncio.timeout(REARM_TIMEOUT_S):
                await self._rearm(overdue)
        except TimeoutError:
            raise Unavailable("the planner did not arm the overdue occurrences in time") from None
        return len(overdue)

    async def _as_armed(self, found: Sequence[Occurrence]) -> list[Occurrence]:
        """What an edit found between its nominal time and its fire still fires when it was armed for: the arm says."""
        older = [each for each in found if self._is_older(each)]
        fire_at: dict[Occurrence, datetime | None] = {}
        for start in range(0, len(older), READ_AT_ONCE):
            some = older[start : start + READ_AT_ONCE]
            reads = (self._timeline.armed_for(each.schedule_id, each.nominal_at) for each in some)
            fire_at |= zip(some, await asyncio.gather(*reads), strict=True)
        as_armed = ((each, fire_at.get(each, each.fire_at)) for each in found)
        return [structs.replace(each, fire_at=at) for each, at in as_armed if at is not None]

    def _is_older(self, occurrence: Occurrence) -> bool:
        known = self._schedules.get(occurrence.schedule_id)
        in_force = None if known is None else known.in_force
        return in_force is not None and occurrence.nominal_at <= in_force.definition.effective_at

    def _occurrences(self, armed: Mapping[str, Sequence[datetime]]) -> Iterator[Occurrence]:
        """What is armed and still wanted, with its fire time by the definition in force."""
        now = self._clock.now()
        for schedule_id, nominals in armed.items():
            known = self._schedules.get(schedule_id)
            if known is None or known.in_force is None:
                continue
            for nominal in nominals:
                if nominal < now + lead_of(known.in_force.trigger) and known.in_force.trigger.yields(nominal):
                    yield occurrence_of(known.in_force.definition, known.in_force.trigger, nominal)
