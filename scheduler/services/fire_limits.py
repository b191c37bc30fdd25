"""Schedules with `max_fires`, and which of them have fired as often as they may. For the planner.

The count stands in the status row and is exact: the write that gives an occurrence its slot counts it
(`core.overlap.admit`). Only the rows of schedules that have a limit and are not spent are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.arming import is_spent
from scheduler.ports.clock import Clock
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import Known

LOOK_EVERY_S = 1.0


class FireLimits:
    """Remembers the schedules that are limited; `begin` forgets them."""

    def __init__(self, rows: StatusRows, clock: Clock) -> None:
        self._rows, self._clock = rows, clock
        self._limited: dict[str, Known] = {}  # those that may fire again
        self._looked_s = 0.0

    def begin(self) -> None:
        self._limited.clear()

    def enter(self, known: Known) -> None:
        """It is in force as it is here."""
        if _is_limited(known):
            self._limited[known.id] = known
        else:
            self._limited.pop(known.id, None)

    async def spent_of(self, schedules: Sequence[Known]) -> frozenset[str]:
        """Of these, the ids of those that are spent. Raises Unsure, Unavailable."""
        limited = [known for known in schedules if _is_limited(known)]
        rows = await self._rows.get_many([known.id for known in limited]) if limited else []
        return frozenset(
            known.id for known, row in zip(limited, rows, strict=True) if is_spent(known.in_force, row.fires)
        )

    async def newly_spent(self) -> list[Known]:
        """Those that have become so since the last look, at least a second ago. Raises Unsure, Unavailable."""
        now_s = self._clock.boottime_s()
        if not self._limited or now_s - self._looked_s < LOOK_EVERY_S:
            return []
        self._looked_s = now_s
        spent = await self.spent_of(list(self._limited.values()))
        return [self._limited.pop(schedule_id) for schedule_id in sorted(spent)]


def _is_limited(known: Known) -> bool:
    return known.in_force is not None and known.in_force.definition.schedule.max_fires is not None
