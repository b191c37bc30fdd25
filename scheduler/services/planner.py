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
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from scheduler.core.arming import due_for_planning, late_from, next_to_plan, plan_all
from scheduler.core.catch_up import Span
from scheduler.core.chain import is_chained
from scheduler.core.dispatching import InForce
from scheduler.core.errors import Unavailable
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import AFTER_MIN
from scheduler.core.triggers import EPOCH
from scheduler.core.triggers.base import MILLISECOND
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueMaker
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Timeline, Watermark
from scheduler.services.agenda import Agenda
from scheduler.services.announcing import Announcer
from scheduler.services.calendar_edits import CalendarEdits
from scheduler.services.chain_arming import ChainArming
from scheduler.services.committing import Committer
from scheduler.services.editing import Editor
from scheduler.services.fire_limits import FireLimits
from scheduler.services.handing_over import LateOnes
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.noting import Notes
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import Known, ScheduleCache
from scheduler.services.together import sleep_unless
from scheduler.wire.timeline import BATCH_MAX

log = logging.getLogger(__name__)
EDITS_MAX = 100  # edited schedules per round: their rows, lists of arms and batches stay bounded
ARMS_WANTED = (500, 4000)  # a slice grows below the first and shrinks above the second
SPAN_MIN, SPAN_MAX = timedelta(milliseconds=50), timedelta(seconds=10)
STEP_MAX = timedelta(seconds=2)
TURNS_BACK = timedelta(minutes=1)  # before the last leader stopped: states that changed by themselves since are noted
RECOVER_PAUSE_S = 0.2
AGAIN_BEFORE, AGAIN_MAX = timedelta(seconds=2), timedelta(minutes=10)
CLAIM_FLOOR = timedelta(minutes=30)
YIELD_EVERY = 1000  # schedules dealt with before other tasks get a turn


async def _never_before() -> datetime:
    return EPOCH


class Planner:
    """Plans for one term at a time: `run(tenure)` is the duty of a leader.

    `not_before` reads the first start of schedd: what was put earlier owes nothing for the time up to then.
    """

    def __init__(
        self,
        *,
        timeline: Timeline,
        schedules: ScheduleCache,
        rows: StatusRows,
        queues: QueueMaker,
        announcer: Announcer,
        clock: Clock,
        telemetry: Telemetry,
        horizon: timedelta,
        not_before: Callable[[], Awaitable[datetime]] = _never_before,
        checkpoints: Checkpoints | None = None,
        reconnects: Callable[[], int] = lambda: 0,
        claim_floor: timedelta = CLAIM_FLOOR,
    ) -> None:
        self._timeline, self._schedules = timeline, schedules
        self._reconnects, self._proven = reconnects, reconnects()
        self._again_max = min(AGAIN_MAX, claim_floor / 2)
        self._clock, self._telemetry = clock, telemetry
        self._committer = Committer(timeline, clock, telemetry)
        self._chains = ChainArming(rows, schedules, clock)
        self._late_ones = LateOnes(rows)
        self._notes = Notes(rows, announcer, schedules, clock)
        self._fire_limits = FireLimits(rows, clock)
        self._calendar_edits = CalendarEdits(schedules, announcer, telemetry)
        self._editor = Editor(
            timeline=timeline,
            queues=queues,
            notes=self._notes,
            announcer=announcer,
            late_ones=self._late_ones,
            fire_limits=self._fire_limits,
            clock=clock,
            telemetry=telemetry,
        )
        self._horizon = horizon
        self._step = min(STEP_MAX, horizon / 8)
        self._read_not_before = not_before
        self._checkpoints = checkpoints or NoCheckpoints()
        self._agenda = Agenda()
        self._span = timedelta(seconds=1)
        self._tenure: Tenure | None = None
        self._reach = self._not_before = EPOCH
        self._told = 0  # invalid keys up to this revision
        self._rearms: list[tuple[list[Occurrence], asyncio.Future[None]]] = []

    # --- the loop

    async def run(self, tenure: Tenure) -> None:
        """Plan until the term ends (Deposed) or the task is cancelled. Short outages of NATS are waited out."""
        self._tenure = tenure
        self._doubt()
        self._reach = self._mark.until
        self._editor.begin(self._mark.applied)
        self._told = 0
        try:
            while True:
                await self._plan_while_possible()
        finally:
            self._tenure = None
            await self._chains.end()
            rearms, self._rearms = self._rearms, []
            for _, future in rearms:
                if not future.done():
                    future.set_exception(Deposed("the term is over"))

    async def _plan_while_possible(self) -> None:
        """NATS being away or slow is no reason to step down (the lease's deadline is): enter all anew and go on.

        The agenda is rebuilt because an interrupted round may have taken entries out that were not committed.
        """
        try:
            self._not_before = await self._read_not_before()
            self._doubt()
            await self._enter_all()
            while True:
                self._schedules.mirror.changed.clear()
                self._office_holder.check()
                if self._doubt():
                    await self._enter_all()
                await self._round()
                await self._wait()
        except Unavailable as problem:
            log.warning("planning has to wait", extra={"event": "planning_waits", "error": problem.message})
            self._office_holder.check()
            await self._clock.sleep(RECOVER_PAUSE_S)

    def _doubt(self) -> bool:
        """NATS was away: a damaged block may have cost arms below W, and nobody says so. What is due since the last
        planning is armed once more: what stands is replaced by itself, what has fired has a record (never so far back
        that a record, and the claim beside it, may have gone: half the claim floor at the most)."""
        reconnects = self._reconnects()
        if reconnects == self._proven or self._tenure is None:
            return False
        office = self._tenure.office
        planned_at = office.watermark.until - self._horizon - AGAIN_BEFORE
        until = min(office.watermark.until, max(planned_at, self._clock.now() - self._again_max))
        self._tenure.office = structs.replace(office, watermark=structs.replace(office.watermark, until=until))
        self._proven = reconnects
        log.info("planning anew what a lost disk may have cost", extra={"event": "planning_again", "from": until})
        return True

    async def _round(self) -> None:
        """Edits first, then repairs, then slices up to the horizon."""
        await self._apply_edits(await self._schedules.fresh(calendars=True))
        await self._rearm_requested()
        await self._arm_chains()
        await self._withdraw_spent()
        while self._mark.until + self._step <= self._clock.now() + self._horizon:
            await self._plan_slice()
            await self._apply_edits(await self._schedules.fresh(calendars=True))
        await self._notes.turned(self._office_holder)

    async def _wait(self) -> None:
        spare = self._mark.until + self._step - (self._clock.now() + self._horizon)
        await sleep_unless(self._schedules.mirror.changed, self._clock, max(0.01, spare.total_seconds()))

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
        await self._schedules.fresh(calendars=True)
        self._agenda = Agenda()
        self._chains.begin()
        self._fire_limits.begin()
        self._notes.begin(self._mark.until - self._horizon - TURNS_BACK)
        for number, known in enumerate(list(self._schedules), start=1):
            if known.revision <= self._mark.applied and known.in_force is not None:
                self._enter(known, next_to_plan(known.in_force, self._mark.until))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _enter(self, known: Known, following: datetime | None) -> None:
        """Remember what is applied: when it is due next, when its state turns, and what it was."""
        self._fire_limits.enter(known)
        due = None if known.in_force is None else due_for_planning(known.in_force, following)
        self._agenda.put(due, known.id, known.revision)
        self._notes.expect_turn(known, following)
        self._editor.remember(known)

    # --- slices

    async def _plan_slice(self) -> None:
        """Arm (W, T] and move W to T."""
        await self._hand_over_late()
        after, until = self._mark.until, self._end_of_slice()
        self._reach = max(self._reach, until)
        arms = await self._due_in(after, until)
        self._adapt_span(len(arms))
        armed = len(arms)
        await self._checkpoints.reached("planner.planned")
        while len(arms) > BATCH_MAX:
            await self._committer.commit(self._office_holder, arms[:BATCH_MAX])
            arms = await self._after_interleaved_edits(arms[BATCH_MAX:])
        await self._committer.commit(self._office_holder, arms, until=until)
        await self._checkpoints.reached("planner.committed")
        self._telemetry.planned(until_s=until.timestamp(), armed=armed, disarmed=0)

    def _end_of_slice(self) -> datetime:
        """A span further, or to where the next schedule is due: an outage of days is not walked in seconds."""
        first = self._agenda.first
        end = self._clock.now() + self._horizon
        return end if first is None else min(end, max(self._mark.until + self._span, first))

    async def _due_in(self, after: datetime, until: datetime) -> list[Occurrence]:
        """The occurrences of all schedules in (after, until], by nominal time."""
        found: list[Occurrence] = []
        edited = [each for each in self._schedules.changed_after(self._mark.applied) if each.id not in self._agenda]
        for number, (due, schedule_id, generation) in enumerate(self._agenda.take_until(until), start=1):
            known = self._schedules.get(schedule_id)
            if known is not None and known.in_force is not None and known.revision == generation:
                occurrences, following = plan_all(known.in_force, max(after, due - MILLISECOND), until)
                found += occurrences
                self._enter(known, following)
            elif known is not None and known.revision != generation:
                edited.append(known)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await self._notes.passed_over(edited, after, until, self._office_holder)
        found.sort(key=lambda each: each.nominal_at)
        return found

    async def _hand_over_late(self) -> None:
        """After an outage: what is late already is not armed but noted, and planning goes on behind it.

        It costs one write per schedule, however many occurrences that are, so that W is soon where it should be.
        """
        now, first = self._clock.now(), self._agenda.first
        if first is None or first >= now - AFTER_MIN:
            return
        spans: list[tuple[InForce, Span]] = []
        for number, (due, schedule_id, generation) in enumerate(list(self._agenda.take_until(now)), start=1):
            known = self._schedules.get(schedule_id)
            in_force = None if known is None or known.revision != generation else known.in_force
            span = None if in_force is None else late_from(in_force, due, now)
            if known is None or in_force is None or span is None:
                self._agenda.put(due, schedule_id, generation)
            else:
                spans.append((in_force, span))
                self._enter(known, next_to_plan(in_force, span.last))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await self._late_ones.note_spans(spans, self._office_holder.check)

    async def _after_interleaved_edits(self, arms: list[Occurrence]) -> list[Occurrence]:
        """Apply edits that came meanwhile; they arm themselves up to the reach, so their old arms are dropped."""
        is_behind = self._schedules.mirror.applied > self._mark.applied
        if not is_behind and self._schedules.calendars_applied <= self._mark.calendars:
            return arms
        newest = await self._schedules.fresh(calendars=True)
        users = self._calendar_edits.users(self._mark)
        edited = {known.id for known in (*self._schedules.changed_after(self._mark.applied), *users)}
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
        """Bring every write up to revision `newest` onto the timeline and move R there; then the calendars, and C."""
        if newest > self._mark.applied:
            await self._apply_schedules(newest)
        if self._schedules.calendars_applied > self._mark.calendars:
            await self._apply_calendars(self._schedules.calendars_applied)

    async def _apply_calendars(self, newest: int) -> None:
        """Plan the schedules that use a calendar written since C anew, and no other."""
        await self._calendar_edits.tell(self._office_holder, newest)
        edits = self._calendar_edits.users(self._mark)
        while len(edits) > EDITS_MAX:
            chunk, edits = edits[:EDITS_MAX], edits[EDITS_MAX:]
            await self._apply(chunk, self._mark.applied)
        await self._apply(edits, self._mark.applied, calendars=newest)

    async def _apply_schedules(self, newest: int) -> None:
        changed = self._schedules.changed_after(self._mark.applied)
        edits = [known for known in changed if known.revision <= newest]
        await self._tell_invalid_keys(newest)
        await self._notes.overtaken(changed[len(edits) :], newest, self._office_holder)
        while len(edits) > EDITS_MAX:
            chunk, edits = edits[:EDITS_MAX], edits[EDITS_MAX:]
            await self._apply(chunk, chunk[-1].revision)
        await self._apply(edits, newest)

    async def _tell_invalid_keys(self, newest: int) -> None:
        behind = max(self._mark.applied, self._told)
        keys = [each for each in self._schedules.invalid_keys_after(behind) if each[1] <= newest]
        await self._notes.invalid_keys(keys, self._office_holder)
        self._told = max(newest, self._told)

    async def _apply(self, edits: Sequence[Known], applied: int, *, calendars: int | None = None) -> None:
        """R and C move last: whatever comes before it is repeated by a successor, and does no harm twice."""
        tenure = self._office_holder
        prepared = await self._editor.prepare(edits, reach=self._reach, not_before=self._not_before, tenure=tenure)
        arms = [arm for each in prepared for arm in each.arming.arms]
        disarms = [(each.known.id, at) for each in prepared for at in each.arming.disarms]
        await self._committer.commit_all(tenure, arms, disarms, applied=applied, calendars=calendars)
        for each in prepared:
            self._enter(each.known, each.arming.next_nominal)
            if is_chained(each.known.in_force):
                self._chains.armed(each.arming.arms)
        self._telemetry.planned(until_s=self._mark.until.timestamp(), armed=len(arms), disarmed=len(disarms))

    async def _withdraw_spent(self) -> None:
        """What has fired as often as it may: what is armed of it goes, its row says exhausted. Whatever came due before
        that is skipped at dispatch, reason `max_fires`."""
        if not (spent := await self._fire_limits.newly_spent()):
            return
        armed = await asyncio.gather(*(self._timeline.armed(known.id) for known in spent))
        await self._notes.spent(spent, self._office_holder)
        disarms = [(known.id, at) for known, nominals in zip(spent, armed, strict=True) for at in nominals]
        if disarms:
            await self._committer.commit_all(self._office_holder, [], disarms)
        for known in spent:
            self._agenda.put(None, known.id, known.revision)

    # --- chains

    async def _arm_chains(self) -> None:
        """What their rows say is to come, since we last looked."""
        if arms := await self._chains.wanted(self._office_holder):
            await self._committer.commit_all(self._office_holder, arms, [])
            self._chains.armed(arms)
            self._telemetry.planned(until_s=self._mark.until.timestamp(), armed=len(arms), disarmed=0)

    # --- repairs

    async def rearm(self, occurrences: Sequence[Occurrence]) -> None:
        """Arm these again, through the one batch in flight. For stuck arms; returns when they are committed.

        Raises Deposed when no term runs, or when it ends before that.
        """
        self._office_holder.check()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rearms.append((list(occurrences), future))
        self._schedules.mirror.changed.set()
        await future

    async def _rearm_requested(self) -> None:
        while self._rearms:
            occurrences, future = self._rearms[0]
            wanted = [each for each in occurrences if self._schedules.wants(each)]
            await self._committer.commit_all(self._office_holder, wanted, [])
            self._rearms.pop(0)
            if not future.done():
                future.set_result(None)
