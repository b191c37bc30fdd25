"""Edits on their way to the timeline: what each arms and disarms, and everything that has to be told before that.

The order is queues, events, rows, verdicts, and only then the batch that the planner commits: whoever dies in between
is repeated from the start by a successor, since R moves with the batch, and nothing of it does harm twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from scheduler.core.arming import Arming, plan_arming
from scheduler.core.chain import is_chained, plan_chain
from scheduler.core.errors import ScheddError
from scheduler.core.model.schedule import At, Definition
from scheduler.core.planning import late_one_shots
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueMaker
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Timeline
from scheduler.services.announcing import Announcer
from scheduler.services.fire_limits import FireLimits
from scheduler.services.handing_over import LateOnes
from scheduler.services.leader import Tenure
from scheduler.services.noting import Notes
from scheduler.services.schedules import Known

log = logging.getLogger(__name__)


class Edit(Struct):
    """One schedule as it was written, what stands on the timeline for it, and what it makes of that."""

    known: Known
    armed: Sequence[datetime]
    arming: Arming = Arming()


class Editor:
    """Prepares the edits of a term for the planner, who commits them."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        queues: QueueMaker,
        notes: Notes,
        announcer: Announcer,
        late_ones: LateOnes,
        fire_limits: FireLimits,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._timeline, self._queues, self._notes, self._announcer = timeline, queues, notes, announcer
        self._late_ones, self._fire_limits = late_ones, fire_limits
        self._clock, self._telemetry = clock, telemetry
        self._one_shots: dict[str, Definition] = {}  # as applied: what they had is dealt with
        self._applied: dict[str, int] = {}
        self._applied_before = 0

    def begin(self, applied: int) -> None:
        """A term begins, with edits applied up to revision `applied`: what those were is looked up when it matters."""
        self._one_shots, self._applied, self._applied_before = {}, {}, applied

    def remember(self, known: Known) -> None:
        """This is applied now."""
        self._applied[known.id] = known.revision
        if known.in_force is not None:
            self._one_shots.pop(known.id, None)
            if isinstance(known.in_force.definition.schedule.trigger, At):
                self._one_shots[known.id] = known.in_force.definition
        elif known.deleted:
            self._one_shots.pop(known.id, None)

    async def prepare(
        self, edits: Sequence[Known], *, reach: datetime, not_before: datetime, tenure: Tenure
    ) -> list[Edit]:
        """Observe, decide, tell; what is left to do is the batch. Raises Deposed, Unsure, Unavailable."""
        before = await self._notes.states(edits)
        prepared = await self._decided(edits, reach, not_before, tenure)
        await self._ensure_queues(edits)
        armings = [each.arming for each in prepared]
        rows = await self._notes.applied(
            edits, armings, before, tenure, applied_until=self._applied_until, not_before=not_before
        )
        for each in prepared:
            if each.known.in_force is not None and is_chained(each.known.in_force):
                each.arming = plan_chain(rows[each.known.id].chain, each.known.in_force, each.armed)
        await self._notes.withdrawn(edits, [each.arming for each in prepared], tenure)
        await self._hand_over_late(prepared, tenure)
        return prepared

    def _applied_until(self, known: Known) -> int:
        """No write behind this one ever reached the timeline for this schedule. R may be further on by now: it passes
        over a write that was replaced before its turn came."""
        return self._applied.get(known.id, self._applied_before)

    async def _decided(
        self, edits: Sequence[Known], reach: datetime, not_before: datetime, tenure: Tenure
    ) -> list[Edit]:
        armed = await asyncio.gather(*(self._timeline.armed(known.id) for known in edits))
        spent = await self._fire_limits.spent_of(edits)
        prepared = [Edit(known, nominals) for known, nominals in zip(edits, armed, strict=True)]
        for each in prepared:
            if each.known.id in spent:
                each.arming = Arming(disarms=tuple(sorted(each.armed)))
                continue
            each.arming = plan_arming(
                each.known.in_force,
                each.armed,
                reach,
                not_before=not_before,
                previous=await self._previous(each.known, tenure),
                now=self._clock.now(),
            )
        return prepared

    async def _previous(self, known: Known, tenure: Tenure) -> Definition | None:
        """The definition before this one, where it matters: what it had of late one-shots is dealt with. What was
        applied before its term a leader looks up."""
        previous = self._one_shots.get(known.id)
        if previous is not None or known.in_force is None:
            return previous
        if known.revision <= tenure.office.watermark.applied:  # only a calendar of it was edited
            return known.in_force.definition
        if not late_one_shots(known.in_force.definition, known.in_force.trigger):
            return None
        before = await self._announcer.before(known, self._applied_until(known))
        return None if before is None else before.definition

    async def _hand_over_late(self, prepared: Sequence[Edit], tenure: Tenure) -> None:
        late = [(each.known.in_force, each.arming.late) for each in prepared]
        spans = [(in_force, span) for in_force, span in late if in_force is not None and span is not None]
        await self._late_ones.note_spans(spans, tenure.check)

    async def _ensure_queues(self, edits: Sequence[Known]) -> None:
        """A worker may bind before the first fire: its consumer is there as soon as the schedule is applied.

        A queue that cannot be made keeps nothing from being planned: the reconciler tries again, and tasks wait.
        """
        for queue in sorted({known.in_force.definition.schedule.queue for known in edits if known.in_force}):
            try:
                await self._queues.ensure(queue)
            except ScheddError as problem:
                extra = {"event": "queue_not_made", "queue": queue, "error": problem.message}
                log.warning("a queue has no consumer yet", extra=extra)
                self._telemetry.dropped(what="queue", reason="not_made")
