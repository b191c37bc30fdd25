"""The one way from a decision to a queued task: record, slot, pair, queued (mechanisms.md, part 4).

    1  create the record, `claimed` (expect 0). It exists: go on from `claimed`, leave any later state alone.
    2  take the slot if the policy needs one; a refusal ends the record as `skipped`.
    3  claim + task as one atomic pair; an existing claim means that the task is queued already.
    4  record -> `queued`.

An admission may also say `wait`: then the record says so, and nothing more happens until the end of another run gives
it the slot (`services.promotion`), from when on it goes the same way. And it may name others that have to make room:
those that waited are skipped, those that run are asked to end (`ousters`).

Every step is idempotent and each is keyed by the deterministic execution id, so a crash anywhere repeats from the top
and comes to the same pair: repair only ever rolls forward. A `claimed` record older than half the claim floor gets no
pair any more: a claim of it may have expired, and skipping once is better than running twice. A claim that is still
there proves the task; without one it ends as `lost`.

Two may be on the same way: a due message is delivered again while its first replica is slow, stopped, or cut off. One
could be refused a slot, and write `skipped`, while the other gets it and queues the task. Therefore
- who created the record goes without a look back, but only for `FRESH_S`, which is looked at again right before it
  sends the pair; after that it goes on like anybody else;
- anybody else notes in the record that he goes on (`Resume`) before he sends the pair, and refuses only a record that
  has been there for twice as long;
- each of these is written over the record as it was read before the slot was asked for: one of two is turned away.

A record past its deadline ends as `expired`, and one too old for a pair as `lost`, under the same rules and one more,
which holds for `skipped`, too. The slot comes before the task, but an edit of the policy may have made a slot necessary
after the task was sent, or while its sender stands still; and time that has passed tells nothing of the sort. So who
ends the record of another reads it, then takes its claim without a task (`withhold`), then writes over what he read. Is
there a claim with a task already, the record becomes `queued`, and from then on the deadline ends it as any other in
its queue. Is there none, whatever anybody sends from now on is refused, however long he was stopped between his last
look and his pair. Who notes after the reading that he goes on turns the end away, and is refused his pair: the next
look ends it.
Whoever dies with a withheld claim is followed by one who finds it withheld, and writes the same end.

What fails for one candidate fails for no other. A record that was there and cannot be read (or is gone) is never
overwritten: the result is a Conflict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from scheduler.core.ending import wish_of
from scheduler.core.errors import Conflict, ScheddError, Unsure
from scheduler.core.lifecycle import Event, Finish, Queue, Resume, Wait, advance, is_terminal
from scheduler.core.model.execution import Execution, State
from scheduler.core.overlap import SKIP, SUPERSEDED, WAIT, Admission
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Pair, Queued, QueueMaker, TaskQueues
from scheduler.services.launch_steps import (
    FRESH,
    Candidate,
    Result,
    Step,
    age,
    end_of_stale,
    is_left_to_us,
    open_ones,
    unreadable,
    waits,
)
from scheduler.services.records import Change, Changed, Records, Stored
from scheduler.services.settlement import Settlement
from scheduler.services.slots import Request, SlotKeeper
from scheduler.wire.task import task_body, task_headers

TOO_LATE = timedelta(seconds=10)  # before half the claim floor no pair is sent any more: it may be under way that long


class Ousters(Protocol):
    """Whoever makes room (`services.cancelling`)."""

    async def oust(self, admission: Admission) -> None:
        """Ask those to end that have to for this admission. Raises Unsure, Unavailable."""


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
        claim_floor_s: float,
        is_full: Callable[[str], bool],
        checkpoints: Checkpoints | None = None,
        makes: QueueMaker | None = None,
    ) -> None:
        """`makes`: who makes a queue that is missing; by default the port, by the defaults."""
        self._records, self._slots, self._queues = records, slots, queues
        self._makes = makes
        self._settlement, self._clock = settlement, clock
        self._floor = timedelta(seconds=claim_floor_s)
        self.is_full = is_full
        self._checkpoints = checkpoints or NoCheckpoints()
        self._ensured: set[str] = set()
        self.ousters: Ousters | None = None  # set where everything is wired

    async def launch(self, candidates: Sequence[Candidate]) -> list[Result]:
        """Launch them; for each the execution in the state it reached, or the error that stopped it on its way.

        After an error nothing is undone: launch again (a redelivery, the reconciler) goes on from where it stopped.
        """
        steps = [Step(candidate) for candidate in candidates]
        try:
            await self._claim(steps)
            await self._checkpoints.reached("launch.claimed")
            await self._take_slots(open_ones(steps))
            await self._checkpoints.reached("launch.slotted")
            await self._queue(open_ones(steps))
        except ScheddError as problem:
            for step in open_ones(steps):
                step.result = problem
        return [step.execution if step.result is None else step.result for step in steps]

    # --- 1: records

    async def _claim(self, steps: list[Step]) -> None:
        for step in steps:
            step.fresh = step.execution.state is State.CLAIMED  # whose turn has come may have ended meanwhile
            if step.candidate.revision:
                step.stored = Stored(step.candidate.execution, step.candidate.revision)
        new = [step for step in steps if step.fresh and step.stored is None]
        results = await self._records.create_many([step.candidate.execution for step in new]) if new else []
        for step, result in zip(new, results, strict=True):
            if isinstance(result, Stored):
                step.stored = result
            elif isinstance(result, Conflict | Unsure):
                step.fresh, step.doubt = False, result if isinstance(result, Unsure) else None
            else:
                step.result = result
        others = [step for step in steps if not step.fresh]
        await self._read(others)
        await self._end_stale(open_ones(others))

    async def _read(self, steps: list[Step]) -> None:
        """These have records already, or may have: go on from `claimed`, leave the rest as it is."""
        stored = await self._records.get_many([step.candidate.execution.id for step in steps]) if steps else []
        for step, record in zip(steps, stored, strict=True):
            step.stored = record
            if record is None:
                step.result = step.doubt or unreadable(step)
            elif not step.is_open:
                step.result = record.execution

    async def _end_stale(self, steps: list[Step]) -> None:
        """Too old for a pair: `queued` if there is a claim to prove it, else `lost`."""
        now = self._clock.now()
        stale = [step for step in steps if age(step, now) > self._floor / 2]
        seqs = await self._withheld(stale)
        await self._advance([(step, end_of_stale(seq, now)) for step, seq in zip(stale, seqs, strict=True)])

    # --- 2: slots

    async def _take_slots(self, steps: list[Step]) -> None:
        full = [step for step in steps if step.fresh and self.is_full(step.execution.queue)]
        await self._refuse([(step, "queue_full") for step in full])
        await self._expire(open_ones(steps))
        bound = [step for step in open_ones(steps) if step.terms.takes_slot]
        admissions = await self._slots.take([Request(step.execution, step.terms) for step in bound]) if bound else {}
        refused: list[tuple[Step, str]] = []
        waiting: list[Step] = []
        for step in bound:
            admission = admissions[step.execution.id]
            if isinstance(admission, ScheddError):
                step.result = admission
            elif admission.verdict == SKIP:
                refused.append((step, admission.reason or "overlap"))
            else:
                await self._make_room(step, admission)
                waiting += [step] if admission.verdict == WAIT else []
        await self._refuse(refused)
        await self._prove([step for step in waiting if not step.fresh])
        await self._wait(open_ones(waiting))

    async def _make_room(self, step: Step, admission: Admission) -> None:
        """First of all: whoever dies after it is repeated, and then it is done again."""
        try:
            await self.withdraw(admission.dropped, State.SKIPPED, SUPERSEDED)
            if self.ousters is not None and (admission.cancel or admission.terminate):
                await self.ousters.oust(admission)
        except ScheddError as problem:
            step.result = problem

    async def _wait(self, steps: list[Step]) -> None:
        now = self._clock.now()
        claimed = [step for step in steps if step.execution.state is State.CLAIMED]
        for step in claimed:
            step.result = None if is_left_to_us(step, now) else Unsure("another replica may be launching it")
        await self._move([(step, Wait(now)) for step in open_ones(claimed)])
        for step in open_ones(steps):
            step.result = step.execution

    async def withdraw(self, execution_ids: Sequence[str], state: State, reason: str) -> list[Execution]:
        """End executions that wait, unless their turn has come; returns those that were ended.

        Whoever launches one says so in its record first, over the record as he read it: one of two is turned away. One
        that does not say yet that it waits is left to the reconciler. Raises Unsure, Unavailable.
        """
        stored = await self._records.get_many(execution_ids) if execution_ids else []
        event = Finish(at=self._clock.now(), state=state, reason=reason)
        moves = [(each, event) for each in stored if each is not None and waits(each.execution)]
        results = await self._records.move_many(moves) if moves else []
        ended = [each.execution for each in results if isinstance(each, Stored)]
        await self._settlement.settle(ended)
        return ended

    async def _expire(self, steps: list[Step]) -> None:
        """End what is past a deadline before it gets a slot. What is in its queue already ends there
        (`services.deadlines`)."""
        now = self._clock.now()
        wishes = [(step, wish_of(step.execution, now)) for step in steps]
        late = [(step, wish.reason) for step, wish in wishes if wish is not None and wish.state is State.EXPIRED]
        await self._withhold([step for step, _ in late if not step.fresh])
        ends = [(step, Finish(at=now, state=State.EXPIRED, reason=reason)) for step, reason in late]
        await self._end([(step, end) for step, end in ends if step.result is None])

    async def _withhold(self, steps: list[Step]) -> None:
        """Somebody else may be about to send these. Either a claim proves that he did, or it is ours from now on, and
        he cannot any more."""
        await self._tell_queued(steps, await self._withheld(steps))

    async def _prove(self, steps: list[Step]) -> None:
        """Of these, which are to wait, somebody else may have sent the task while no slot was needed: an edit of the
        policy takes none back."""
        await self._tell_queued(
            steps,
            await asyncio.gather(
                *(self._queues.claimed_seq(each.execution.id, each.execution.drive) for each in steps)
            ),
        )

    async def _tell_queued(self, steps: Sequence[Step], seqs: Sequence[int | None]) -> None:
        """A claim proves the task."""
        now, found = self._clock.now(), zip(steps, seqs, strict=True)
        await self._advance([(step, Queue(now, seq + 1)) for step, seq in found if seq is not None])

    async def _withheld(self, steps: list[Step]) -> list[int | None]:
        """For each where the claim of its task stands; None: it is withheld from now on."""
        ttl_s = int(self._floor.total_seconds())
        return await asyncio.gather(
            *(self._queues.withhold(each.execution.id, each.execution.drive, ttl_s) for each in steps)
        )

    async def _refuse(self, refused: list[tuple[Step, str]]) -> None:
        now = self._clock.now()
        for step, _ in refused:
            if not is_left_to_us(step, now):
                step.result = Unsure("another replica may be launching it")
        await self._withhold([step for step, _ in refused if step.result is None and not step.fresh])
        ends = [(step, Finish(at=now, state=State.SKIPPED, reason=reason)) for step, reason in refused]
        await self._end([(step, end) for step, end in ends if step.result is None])

    async def _end(self, ends: Sequence[tuple[Step, Event]]) -> None:
        await self._move(ends)
        await self._settlement.settle([step.execution for step, _ in ends if step.result is None])
        for step, _ in ends:
            step.result = step.result or step.execution

    async def _move(self, moves: Sequence[tuple[Step, Event]]) -> None:
        """Move records on as we know them. Who finds another one there leaves it to the other, and so his slot."""
        known = [(step, step.stored, event) for step, event in moves if step.stored is not None]
        results = await self._records.move_many([(stored, event) for _, stored, event in known]) if known else []
        overtaken: list[Step] = []
        for (step, _, _), result in zip(known, results, strict=True):
            if isinstance(result, Stored):
                step.stored = result
            elif isinstance(result, Conflict):
                overtaken.append(step)
            else:
                step.result = result
        await self._read(overtaken)
        ended = [each.execution for each in overtaken if is_terminal(each.execution) and each.terms.takes_slot]
        await self._slots.release(ended)  # we may have taken theirs after their release
        for step in open_ones(overtaken):
            step.result = Unsure("another replica is launching it")

    async def _advance(self, moves: Sequence[tuple[Step, Event]]) -> None:
        """Move records on from whatever they have become meanwhile, and do what follows from that."""
        if not moves:
            return
        results = await self._records.try_advance_many(
            [Change(step.execution.id, (event,), step.execution.drive) for step, event in moves]
        )
        for (step, _), result in zip(moves, results, strict=True):
            step.result = result if isinstance(result, ScheddError) else result.execution or unreadable(step)
        changed = [each for each in results if isinstance(each, Changed) and each.execution is not None]
        self._settlement.fired([each.execution for each in changed if each.fired and each.execution])
        await self._settlement.settle([each.execution for each in changed if each.ended and each.execution])

    # --- 3 and 4: pairs, queued

    async def _queue(self, steps: list[Step]) -> None:
        await self._ensure_queues(steps)
        await self._take_up(open_ones(steps))
        steps = open_ones(steps)
        if not steps:
            return
        now = self._clock.now()  # before it is sent: a worker may be faster than our acknowledgement
        results = await self._queues.publish([self._pair(step) for step in steps])
        await self._checkpoints.reached("launch.paired")
        queued: list[tuple[Step, Queue]] = []
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Queued):
                queued.append((step, Queue(min(now, result.at) if result.already else now, result.task_seq)))
            else:
                step.result = result
        await self._note_queued(queued)
        await self._checkpoints.reached("launch.queued")

    async def _take_up(self, steps: list[Step]) -> None:
        """The last look before the pairs are sent: who need not say that he goes on, who has to, who is too late."""
        now = self._clock.now()
        others = [step for step in steps if not step.fresh or age(step, now) > FRESH]
        await self._move([(step, Resume(now)) for step in others])
        now = self._clock.now()
        for step in open_ones(others):
            if age(step, now) > self._floor / 2 - TOO_LATE:
                step.result = Unsure("it is too late for a task")

    async def _ensure_queues(self, steps: list[Step]) -> None:
        for queue in sorted({step.execution.queue for step in steps} - self._ensured):
            try:
                await (self._makes or self._queues).ensure(queue)
                self._ensured.add(queue)
            except ScheddError as problem:
                for step in steps:
                    if step.execution.queue == queue:
                        step.result = problem

    def forget_queues(self) -> None:
        """Look again whether the consumers exist, at the next launch (the reconciler found one missing)."""
        self._ensured.clear()

    def _pair(self, step: Step) -> Pair:
        execution, trigger = step.execution, step.candidate.trigger
        previous_at = trigger.previous_before(execution.nominal_at)
        next_at = trigger.next_after(execution.nominal_at)
        return Pair(
            execution_id=execution.id,
            drive=execution.drive,
            queue=execution.queue,
            body=task_body(execution),
            headers=task_headers(execution, previous_at, next_at, step.candidate.schedule.backoff),
            claim_ttl_s=int(self._floor.total_seconds()),
        )

    async def _note_queued(self, queued: list[tuple[Step, Queue]]) -> None:
        """Records -> `queued`. A conflict means that a fast worker was tracked already: fill in what we know."""
        ahead, behind = list[tuple[Step, Queue]](), list[tuple[Step, Queue]]()
        for step, event in queued:  # others may have told its end already
            can = step.stored is not None and advance(step.stored.execution, event) is not None
            (ahead if can else behind).append((step, event))
        results = await self._records.move_many([(step.stored, event) for step, event in ahead if step.stored])
        for (step, event), result in zip(ahead, results, strict=True):
            if isinstance(result, Conflict | Unsure):
                behind.append((step, event))
            else:
                step.result = result.execution if isinstance(result, Stored) else result
        self._settlement.fired([result.execution for result in results if isinstance(result, Stored)])
        await self._advance(behind)
