"""The one way from a decision to a queued task: record, slot, pair, queued (mechanisms.md, part 4).

    1  create the record, `claimed` (expect 0). It exists: go on from `claimed`, leave any later state alone.
    2  take the slot if the policy needs one; a refusal ends the record as `skipped`.
    3  claim + task as one atomic pair; an existing claim means that the task is queued already.
    4  record -> `queued`.

Every step is idempotent and each is keyed by the deterministic execution id, so a crash anywhere repeats from the top
and comes to the same pair: repair only ever rolls forward. A `claimed` record older than half the claim floor ends as
`lost`: its claim may be about to expire, and skipping once is better than running twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.errors import Conflict, ScheddError, Unsure
from scheduler.core.lifecycle import Finish, Queue, advance
from scheduler.core.model.execution import Execution, State
from scheduler.core.model.schedule import Overlap, Schedule
from scheduler.core.overlap import ADMIT, SKIP, takes_slot
from scheduler.core.triggers import CompiledTrigger
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Pair, Queued, TaskQueues
from scheduler.ports.telemetry import Telemetry
from scheduler.services.records import Change, Records, Stored
from scheduler.services.settlement import Settlement
from scheduler.services.slots import Request, SlotKeeper
from scheduler.wire.task import task_body, task_headers

log = logging.getLogger(__name__)
Result = Execution | ScheddError


class Candidate(Struct, frozen=True):
    """An execution to launch: claimed, stored or not. `overlap` overrules the schedule's policy (manual runs)."""

    execution: Execution
    schedule: Schedule
    trigger: CompiledTrigger
    overlap: Overlap | None = None

    @property
    def policy(self) -> Overlap:
        return self.overlap or self.schedule.overlap


class _Step(Struct):
    """A candidate under way: its record as stored, or the result that ended its way."""

    candidate: Candidate
    stored: Stored | None = None
    fresh: bool = True
    result: Result | None = None

    @property
    def execution(self) -> Execution:
        return self.candidate.execution if self.stored is None else self.stored.execution


class Launcher:
    """Carries candidates from record to queue, in pipelined groups."""

    def __init__(
        self,
        *,
        records: Records,
        slots: SlotKeeper,
        queues: TaskQueues,
        settlement: Settlement,
        clock: Clock,
        telemetry: Telemetry,
        claim_floor_s: float,
        is_full: Callable[[str], bool],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._records, self._slots, self._queues = records, slots, queues
        self._settlement, self._clock, self._telemetry = settlement, clock, telemetry
        self._claim_floor_s = claim_floor_s
        self._is_full = is_full
        self._checkpoints = checkpoints or NoCheckpoints()
        self._ensured: set[str] = set()

    async def launch(self, candidates: Sequence[Candidate]) -> list[Result]:
        """Launch them; for each the execution in the state it reached, or the error that stopped it on its way.

        After an error nothing is undone: launch again (a redelivery, the reconciler) goes on from where it stopped.
        """
        steps = [_Step(candidate) for candidate in candidates]
        try:
            await self._claim(steps)
            await self._checkpoints.reached("launch.claimed")
            await self._take_slots(_open(steps))
            await self._checkpoints.reached("launch.slotted")
            await self._queue(_open(steps))
        except ScheddError as problem:
            for step in _open(steps):
                step.result = problem
        return [step.execution if step.result is None else step.result for step in steps]

    # --- 1: records

    async def _claim(self, steps: list[_Step]) -> None:
        results = await self._records.create_many([step.candidate.execution for step in steps])
        existing: list[_Step] = []
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Stored):
                step.stored = result
            elif isinstance(result, Conflict | Unsure):
                step.fresh = False
                existing.append(step)
            else:
                step.result = result
        if existing:
            await self._continue(existing)

    async def _continue(self, steps: list[_Step]) -> None:
        """These have records already, or may have: go on from `claimed`, leave the rest as it is."""
        stored = await self._records.get_many([step.candidate.execution.id for step in steps])
        stale: list[_Step] = []
        now = self._clock.now()
        for step, record in zip(steps, stored, strict=True):
            if record is None:
                step.result = Unsure(f"the record of {step.candidate.execution.id} is not there")
                continue
            step.stored = record
            if record.execution.state is not State.CLAIMED:
                step.result = record.execution
            elif self._is_stale(record.execution, now):
                stale.append(step)
        await self._lose(stale, now)

    def _is_stale(self, execution: Execution, now: datetime) -> bool:
        if execution.claimed_at is None:
            return True
        return now - execution.claimed_at > timedelta(seconds=self._claim_floor_s / 2)

    async def _lose(self, steps: list[_Step], now: datetime) -> None:
        event = Finish(at=now, state=State.LOST, reason="claimed_too_long")
        await self._end([(step, event) for step in steps])

    # --- 2: slots

    async def _take_slots(self, steps: list[_Step]) -> None:
        full = [step for step in steps if self._is_full(step.execution.queue)]
        await self._skip([(step, "queue_full") for step in full])
        bound = [step for step in steps if step.result is None and _takes_slot(step.candidate)]
        if not bound:
            return
        requests = [
            Request(step.execution, step.candidate.policy, step.candidate.schedule.max_running) for step in bound
        ]
        admissions = await self._slots.take(requests)
        refused: list[tuple[_Step, str]] = []
        for step in bound:
            admission = admissions.get(step.execution.id)
            if admission is None:
                step.result = Unsure("an earlier run is over, and its end not on record yet")
            elif admission.verdict == SKIP:
                refused.append((step, admission.reason or "overlap"))
            elif admission.verdict != ADMIT:
                step.result = step.execution
        await self._skip(refused)

    async def _skip(self, refused: list[tuple[_Step, str]]) -> None:
        now = self._clock.now()
        await self._end([(step, Finish(at=now, state=State.SKIPPED, reason=reason)) for step, reason in refused])

    async def _end(self, ends: list[tuple[_Step, Finish]]) -> None:
        if not ends:
            return
        changed = await self._records.advance_many([Change(step.execution.id, (event,)) for step, event in ends])
        for (step, event), change in zip(ends, changed, strict=True):
            step.result = change.execution or step.execution
            if change.ended:
                self._telemetry.verdict(verdict=event.state.value, reason=event.reason or "")
        await self._settlement.settle([each.execution for each in changed if each.ended and each.execution])

    # --- 3 and 4: pairs, queued

    async def _queue(self, steps: list[_Step]) -> None:
        if not steps:
            return
        await self._ensure({step.execution.queue for step in steps})
        now = self._clock.now()  # before it is sent: a worker may be faster than our acknowledgement
        results = await self._queues.publish([self._pair(step) for step in steps])
        await self._checkpoints.reached("launch.paired")
        queued: list[tuple[_Step, Queue]] = []
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Queued):
                queued.append((step, Queue(now, result.task_seq)))
            else:
                step.result = result
        await self._note_queued(queued)
        await self._checkpoints.reached("launch.queued")

    async def _ensure(self, queues: set[str]) -> None:
        for queue in queues - self._ensured:
            await self._queues.ensure(queue)
            self._ensured.add(queue)

    def forget_queues(self) -> None:
        """Look again whether the consumers exist, at the next launch (the reconciler found one missing)."""
        self._ensured.clear()

    def _pair(self, step: _Step) -> Pair:
        execution, trigger = step.execution, step.candidate.trigger
        previous_at = trigger.previous_before(execution.nominal_at)
        next_at = trigger.next_after(execution.nominal_at)
        return Pair(
            execution_id=execution.id,
            drive=execution.drive,
            queue=execution.queue,
            body=task_body(execution),
            headers=task_headers(execution, previous_at, next_at, step.candidate.schedule.backoff),
            claim_ttl_s=int(self._claim_floor_s),
        )

    async def _note_queued(self, queued: list[tuple[_Step, Queue]]) -> None:
        """Records -> `queued`. A conflict means that a fast worker was tracked already: fill in what we know."""
        moved: list[tuple[_Step, Queue, Stored]] = []
        behind: list[tuple[_Step, Queue]] = []
        for step, event in queued:
            after = advance(step.execution, event) if step.stored is not None else None
            if after is None or step.stored is None:
                behind.append((step, event))
            else:
                moved.append((step, event, Stored(after, step.stored.revision)))
        results = await self._records.replace_many([stored for _, _, stored in moved])
        for (step, event, stored), result in zip(moved, results, strict=True):
            if isinstance(result, Stored):
                step.result = stored.execution
                self._records.count_fired(stored.execution)
            elif isinstance(result, Conflict | Unsure):
                behind.append((step, event))
            else:
                step.result = result
        await self._note_behind(behind)
        self._settlement.fired([stored.execution for step, _, stored in moved if step.result is stored.execution])

    async def _note_behind(self, behind: list[tuple[_Step, Queue]]) -> None:
        if not behind:
            return
        changed = await self._records.advance_many([Change(step.execution.id, (event,)) for step, event in behind])
        for (step, _), change in zip(behind, changed, strict=True):
            step.result = change.execution or step.execution
            if change.fired and change.execution is not None:  # else the tracker's write did it, and counted it
                self._records.count_fired(change.execution)
                self._settlement.fired([change.execution])


def _takes_slot(candidate: Candidate) -> bool:
    return takes_slot(candidate.policy, candidate.schedule.max_running)


def _open(steps: list[_Step]) -> list[_Step]:
    return [step for step in steps if step.result is None]
