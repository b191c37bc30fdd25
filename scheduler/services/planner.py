"""The planner, on the leader: keeps the timeline armed up to the horizon, and edits applied.

One task owns the watermark and sends one fenced batch at a time. A slice is the nominal window (W, T]; it goes as
batches of at most 500 arms, of which only the last one moves W to T, so that what lies beyond W may be armed already
and re-planning replaces it. Edits go first: before each slice, and between the batches of a large one. They disarm
what the new definition does not yield (listed from the server) and arm (effective, T]. The watermark closes every
batch, so a successor resumes exactly where the stored truth ends (mechanisms.md, parts 1 to 3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from scheduler.core.arming import Arming, plan_arming, state_of
from scheduler.core.errors import Fenced, ScheddError, Unavailable
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.status import ScheduleState, StatusRow
from scheduler.core.planning import plan_window
from scheduler.core.triggers import EPOCH
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import TaskQueues
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Office, Timeline, Watermark
from scheduler.services.agenda import Agenda
from scheduler.services.announcing import Announcer
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import Known, ScheduleCache

log = logging.getLogger(__name__)
BATCH_MAX = 500
EDITS_MAX = 100  # edited schedules per round: their rows, lists of arms and batches stay bounded
ARMS_WANTED = (500, 4000)  # a slice grows below the first and shrinks above the second
SPAN_MIN, SPAN_MAX = timedelta(milliseconds=50), timedelta(seconds=10)
STEP_MAX = timedelta(seconds=2)
RECOVER_PAUSE_S = 0.2
YIELD_EVERY = 1000  # schedules entered into the agenda before other tasks get a turn

Disarm = tuple[str, datetime]


class Planner:
    """Plans for one term at a time: `run(tenure)` is the duty of a leader."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        schedules: ScheduleCache,
        rows: StatusRows,
        queues: TaskQueues,
        announcer: Announcer,
        clock: Clock,
        telemetry: Telemetry,
        horizon: timedelta,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._timeline, self._schedules, self._rows = timeline, schedules, rows
        self._queues, self._announcer = queues, announcer
        self._clock, self._telemetry = clock, telemetry
        self._horizon = horizon
        self._step = min(STEP_MAX, horizon / 8)
        self._checkpoints = checkpoints or NoCheckpoints()
        self._agenda = Agenda()
        self._span = timedelta(seconds=1)
        self._tenure: Tenure | None = None
        self._reach = EPOCH
        self.not_before = EPOCH  # on a first start: nothing earlier was ever promised
        self._rearms: list[tuple[list[Occurrence], asyncio.Future[None]]] = []

    # --- the loop

    async def run(self, tenure: Tenure) -> None:
        """Plan until the term ends (Deposed) or the task is cancelled. Short outages of NATS are waited out."""
        self._tenure, self._agenda = tenure, Agenda()
        self._reach = self._mark.until
        try:
            while True:
                await self._plan_while_possible()
        finally:
            self._tenure = None
            for _, future in self._rearms:
                future.cancel()
            self._rearms.clear()

    async def _plan_while_possible(self) -> None:
        """NATS being away or slow is no reason to step down (the lease's deadline is): enter all anew and go on.

        The agenda is rebuilt because an interrupted round may have taken entries out that were not committed.
        """
        try:
            await self._enter_all()
            while True:
                self._schedules.mirror.changed.clear()
                self._office_holder.check()
                await self._round()
                await self._wait()
        except Unavailable as problem:
            log.warning("planning has to wait", extra={"event": "planning_waits", "error": problem.message})
            self._office_holder.check()
            await self._clock.sleep(RECOVER_PAUSE_S)

    async def _round(self) -> None:
        """Edits first, then repairs, then slices up to the horizon."""
        await self._apply_edits(await self._schedules.fresh())
        await self._rearm_requested()
        while self._mark.until + self._step <= self._clock.now() + self._horizon:
            await self._plan_slice()
            await self._apply_edits(await self._schedules.fresh())

    async def _wait(self) -> None:
        spare = self._mark.until + self._step - (self._clock.now() + self._horizon)
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.01, spare.total_seconds())))
        changing = asyncio.ensure_future(self._schedules.mirror.changed.wait())
        try:
            await asyncio.wait({sleeping, changing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, changing):
                task.cancel()
            await asyncio.gather(sleeping, changing, return_exceptions=True)

    @property
    def _office_holder(self) -> Tenure:
        if self._tenure is None:
            raise Deposed("not in office")
        return self._tenure

    @property
    def _mark(self) -> Watermark:
        return self._office_holder.office.watermark

    # --- taking over

    async def _enter_all(self) -> None:
        """Every schedule that the watermark covers goes on from W; the others are edits and come right after."""
        await self._schedules.fresh()
        self._agenda = Agenda()
        for number, known in enumerate(list(self._schedules), start=1):
            if known.revision <= self._mark.applied:
                self._enter(known, self._mark.until)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _enter(self, known: Known, after: datetime) -> None:
        if known.in_force is not None:
            definition, trigger = known.in_force.definition, known.in_force.trigger
            nominal_at = trigger.next_after(max(after, definition.effective_at))
            self._agenda.put(nominal_at, known.id, definition.generation)

    # --- slices

    async def _plan_slice(self) -> None:
        """Arm (W, T] and move W to T."""
        after = self._mark.until
        until = min(after + self._span, self._clock.now() + self._horizon)
        self._reach = max(self._reach, until)
        arms = self._due_in(after, until)
        self._adapt_span(len(arms))
        armed = len(arms)
        await self._checkpoints.reached("planner.planned")
        while len(arms) > BATCH_MAX:
            await self._commit(arms[:BATCH_MAX], ())
            arms = await self._after_interleaved_edits(arms[BATCH_MAX:])
        await self._commit(arms, (), until=until)
        await self._checkpoints.reached("planner.committed")
        self._telemetry.planned(until_s=until.timestamp(), armed=armed, disarmed=0)

    def _due_in(self, after: datetime, until: datetime) -> list[Occurrence]:
        """The occurrences of all schedules in (after, until], by nominal time."""
        found: list[Occurrence] = []
        for schedule_id, generation in self._agenda.take_until(until):
            known = self._schedules.get(schedule_id)
            if known is None or known.in_force is None or known.in_force.definition.generation != generation:
                continue
            definition, trigger = known.in_force.definition, known.in_force.trigger
            plan = plan_window(definition, trigger, after=after, until=until)
            found += plan.occurrences
            while plan.truncated:
                plan = plan_window(definition, trigger, after=plan.dealt_until, until=until)
                found += plan.occurrences
            self._agenda.put(plan.next_nominal, schedule_id, generation)
        found.sort(key=lambda each: each.nominal_at)
        return found

    async def _after_interleaved_edits(self, arms: list[Occurrence]) -> list[Occurrence]:
        """Apply edits that came meanwhile; they arm themselves up to the reach, so their old arms are dropped."""
        newest = self._schedules.mirror.applied
        if newest <= self._mark.applied:
            return arms
        edited = {known.id for known in self._schedules.changed_after(self._mark.applied)}
        await self._apply_edits(newest)
        return [each for each in arms if each.schedule_id not in edited]

    def _adapt_span(self, arms: int) -> None:
        few, many = ARMS_WANTED
        if arms < few:
            self._span = min(SPAN_MAX, self._span * 2)
        elif arms > many:
            self._span = max(SPAN_MIN, self._span / 2)

    # --- edits

    async def _apply_edits(self, newest: int) -> None:
        """Bring every write up to revision `newest` onto the timeline and move R there."""
        if newest <= self._mark.applied:
            return
        edits = [known for known in self._schedules.changed_after(self._mark.applied) if known.revision <= newest]
        await self._tell_invalid_keys(newest)
        while len(edits) > EDITS_MAX:
            chunk, edits = edits[:EDITS_MAX], edits[EDITS_MAX:]
            await self._apply(chunk, chunk[-1].revision)
        await self._apply(edits, newest)

    async def _tell_invalid_keys(self, newest: int) -> None:
        """Keys that can be no schedule id have nothing to plan, and no row to show an error in."""
        for key, revision in self._schedules.invalid_keys_after(self._mark.applied):
            if revision <= newest:
                await self._announcer.invalid_key(key, revision)

    async def _apply(self, edits: Sequence[Known], applied: int) -> None:
        armed = await asyncio.gather(*(self._timeline.armed(known.id) for known in edits))
        plans = [
            plan_arming(known.in_force, at, self._reach, not_before=self.not_before)
            for known, at in zip(edits, armed, strict=True)
        ]
        await self._ensure_queues(edits)
        await self._note(edits, plans)
        arms = [each for plan in plans for each in plan.arms]
        disarms = [(known.id, at) for known, plan in zip(edits, plans, strict=True) for at in plan.disarms]
        await self._commit_all(arms, disarms, applied=applied)
        for known, plan in zip(edits, plans, strict=True):
            self._agenda.put(plan.next_nominal, known.id, known.revision)
        self._telemetry.planned(until_s=self._mark.until.timestamp(), armed=len(arms), disarmed=len(disarms))

    async def _ensure_queues(self, edits: Sequence[Known]) -> None:
        """A worker may bind before the first fire: its consumer is there as soon as the schedule is applied."""
        for queue in {known.in_force.definition.schedule.queue for known in edits if known.in_force is not None}:
            await self._queues.ensure(queue)

    async def _note(self, edits: Sequence[Known], plans: Sequence[Arming]) -> None:
        """Status rows and events, before the watermark says that the edit is applied: a successor repeats them."""
        now = self._clock.now()
        before: dict[str, ScheduleState] = {}
        rows = {
            known.id: _row_edit(known, plan, now, before)
            for known, plan in zip(edits, plans, strict=True)
            if not known.deleted
        }
        await self._rows.change(rows)
        for known in edits:
            if known.deleted:
                await self._forget_row(known.id)
            await self._announcer.applied(known, before.get(known.id))

    async def _forget_row(self, schedule_id: str) -> None:
        """A deleted schedule keeps its row while runs are active; the reconciler removes it after they ended."""
        entry = await self._rows.bucket.get(schedule_id)
        if entry is None or entry.deleted:
            return
        row = await self._rows.get(schedule_id)
        if not row.active and not row.waiting:
            await self._rows.bucket.delete(schedule_id, expect=entry.revision)

    # --- repairs

    async def rearm(self, occurrences: Sequence[Occurrence]) -> None:
        """Arm these again, through the one batch in flight. For stuck arms; returns when they are committed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rearms.append((list(occurrences), future))
        self._schedules.mirror.changed.set()
        await future

    async def _rearm_requested(self) -> None:
        while self._rearms:
            occurrences, future = self._rearms[0]
            wanted = [each for each in occurrences if self._still_wanted(each)]
            await self._commit_all(wanted, [])
            self._rearms.pop(0)
            if not future.done():
                future.set_result(None)

    def _still_wanted(self, occurrence: Occurrence) -> bool:
        known = self._schedules.get(occurrence.schedule_id)
        return known is not None and known.in_force is not None and known.in_force.trigger.yields(occurrence.nominal_at)

    # --- committing

    async def _commit_all(
        self, arms: Sequence[Occurrence], disarms: Sequence[Disarm], *, applied: int | None = None
    ) -> None:
        """Any number of arms and disarms; the last batch moves R."""
        work: list[Occurrence | Disarm] = [*disarms, *arms]
        while len(work) > BATCH_MAX:
            await self._commit(*_split(work[:BATCH_MAX]))
            work = work[BATCH_MAX:]
        await self._commit(*_split(work), applied=applied)

    async def _commit(
        self,
        arms: Sequence[Occurrence],
        disarms: Sequence[Disarm],
        *,
        until: datetime | None = None,
        applied: int | None = None,
    ) -> None:
        """One fenced batch, repeated until it is stored or the term is over."""
        while True:
            tenure = self._office_holder
            tenure.check()
            mark = tenure.office.watermark
            following = Watermark(max(until or mark.until, mark.until), max(applied or 0, mark.applied), mark.calendars)
            try:
                tenure.office = await self._timeline.commit(
                    tenure.office, arms=arms, disarms=disarms, watermark=following
                )
                return
            except ScheddError as problem:
                if isinstance(problem, Fenced) and not tenure.is_trusted:
                    self._telemetry.fenced()  # our time is over, and the storage knew it: there is nothing to look up
                await self._recover(problem)

    async def _recover(self, problem: ScheddError) -> None:
        """A refusal does not say which expectation failed: read the epoch. Not ours: step down. Ours: read the mark."""
        log.info("a planning batch was refused", extra={"event": "batch_refused", "error": problem.message})
        while True:
            tenure = self._office_holder
            tenure.check()
            try:
                epoch, mark = await asyncio.gather(self._timeline.epoch(), self._timeline.watermark())
            except Unavailable:
                await self._clock.sleep(RECOVER_PAUSE_S)
                continue
            if epoch is None or epoch.seq != tenure.office.epoch:
                self._telemetry.fenced()
                raise Deposed(f"the storage refused epoch {tenure.office.epoch}: {problem.message}")
            if mark is not None and mark.watermark is not None:
                tenure.office = Office(epoch.seq, mark.seq, mark.watermark)
            await self._clock.sleep(0.02)
            return


def _split(work: Sequence[Occurrence | Disarm]) -> tuple[list[Occurrence], list[Disarm]]:
    arms = [each for each in work if isinstance(each, Occurrence)]
    return arms, [each for each in work if not isinstance(each, Occurrence)]


def _row_edit(
    known: Known, plan: Arming, now: datetime, before: dict[str, ScheduleState]
) -> Callable[[StatusRow], StatusRow]:
    next_nominal = plan.arms[0].nominal_at if plan.arms else plan.next_nominal

    def edit(row: StatusRow) -> StatusRow:
        before[known.id] = row.state
        return structs.replace(row, state=state_of(known.in_force, now), error=known.error, next_nominal=next_nominal)

    return edit
