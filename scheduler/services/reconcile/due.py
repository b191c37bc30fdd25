"""Due messages that the consumer has passed over: it would never deliver them.

A server that is killed may have messages again that were acknowledged (notes/nats.md), and after damage to its disk it
gives sequences out twice: in both cases a message lies below what the consumer takes for done. All that is left from
there on is delivered once more, and dispatched as ever: what has a record is acknowledged, the rest gets a verdict.
"""

from __future__ import annotations

from scheduler.core.reconciling import Repair, is_passed_over
from scheduler.ports.timeline import Timeline
from scheduler.services.leader import Tenure


class DueRepair:
    """Compares with what the consumer had done a round ago: an acknowledged message takes a moment to go."""

    kind = Repair.DUE

    def __init__(self, *, timeline: Timeline) -> None:
        self._timeline = timeline
        self._floor: int | None = None

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        before, self._floor = self._floor, await self._timeline.due_floor()
        oldest = await self._timeline.oldest_due()
        if oldest is None or not is_passed_over(oldest, before, self._floor):
            return 0
        tenure.check()
        await self._timeline.deliver_from(oldest)
        self._floor = None
        return 1
