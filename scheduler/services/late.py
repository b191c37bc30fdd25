"""Late occurrences, on the leader: one decision per schedule and outage, whatever the outage was (mechanisms.md, 6).

All replicas down, NATS down, leader down: what was not dispatched in time is noted as `late_from` in the schedule's
status row, by the dispatcher that got it too late or by the planner that comes back to a watermark far behind
(`services.handing_over`). From there one way leads to the verdicts:

    1  fix     the span from `late_from` to the newest late one, and the instant `at`, are written into the row
               (`deciding`) by compare-and-set;
    2  decide  `core.catch_up`: a pure function of definition, span and `at`;
    3  fire    the chosen ones go the one way of `launch`: record, slot, pair, oldest first;
    4  tell    the rest are stored as ranges, in `verdicts` events, their ids following from span and generation;
    5  close   `deciding` becomes `decided_from` .. `decided` in the row.

Why a crash anywhere does no harm: before 1 nothing has happened, and the note still stands. After 1 a successor finds
span and `at`, and so comes to the same decision: what was fired has its record (which its first entry marks as made by
catch-up, so that it is chosen again, not taken for somebody else's, which would let `earliest` and `all` choose more),
and what was told has the same id and the same words. Two leaders at once do the same things at the same time, and the
loser's compare-and-set fails. What arrives late meanwhile lies in the span (done), or is noted beside it and decided
next. After an outage several replicas note what each of them was handed, in any order: a note is let lie for a moment
(`SETTLE_S`), so that one decision has them all. Nothing depends on memory: a new leader reads all rows once, then
follows those that change.

An edit that is applied in between ends it: what was fixed for, or noted under, a definition that is no more is
superseded (`services.disowning`). A row outlives its schedule until then. One-shots are owed whoever asks for them.

Reads are bounded by what is late. Records are looked up where they can be: from the beginning of the span and of the
window on, as long as there are any (`LOOK_UPS_MAX`), and for the newest one. One beyond that is told about twice, and
its record counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from msgspec import Struct, structs

from scheduler.core.auditing import VerdictRange
from scheduler.core.catch_up import (
    Decision,
    answers_for,
    as_of,
    catching_up,
    with_decided,
    with_span,
)
from scheduler.core.dispatching import InForce, claim
from scheduler.core.errors import ScheddError
from scheduler.core.firing import occurrence_of
from scheduler.core.model.execution import Execution
from scheduler.core.model.status import Deciding, StatusRow
from scheduler.core.triggers import Moved
from scheduler.core.triggers.base import MILLISECOND
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events, Fact
from scheduler.ports.stores import Entry
from scheduler.ports.telemetry import Telemetry
from scheduler.services.announcing import Announcer, verdicts_fact
from scheduler.services.disowning import Disowner
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate
from scheduler.services.leader import Tenure
from scheduler.services.mirror import Mirror
from scheduler.services.records import Records
from scheduler.services.rows import Edit, StatusRows, row_of
from scheduler.services.schedules import ScheduleCache
from scheduler.services.together import all_of, in_turns, sleep_unless
from scheduler.wire.ids import execution_id

log = logging.getLogger(__name__)
EVERY_S = 1.0  # between two looks; a row that changes is looked at at once
SETTLE_S = 1.0  # from the first note of a schedule to its decision
GROUP_MAX = 256  # schedules dealt with side by side
DECIDED_AT_ONCE = 16  # of them, while each may look up `LOOK_UPS` records
LAUNCH_MAX = 256  # executions launched at once
LOOK_UPS = 256  # records asked for at once
LOOK_UPS_MAX = 10_000  # and per schedule and catch-up
NOTE = "catch_up"  # in the first entry of the history of what catch-up fired


class _Case(Struct):
    """One schedule's catch-up under way."""

    in_force: InForce
    span: Deciding
    decision: Decision = Decision()
    failed: bool = False

    @property
    def id(self) -> str:
        return self.in_force.definition.id


class Late:
    """A duty of the leader."""

    def __init__(
        self,
        *,
        rows: StatusRows,
        schedules: ScheduleCache,
        records: Records,
        launcher: Launcher,
        events: Events,
        announcer: Announcer,
        clock: Clock,
        telemetry: Telemetry,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._rows, self._schedules, self._records = rows, schedules, records
        self._launcher, self._events = launcher, events
        self._clock, self._telemetry = clock, telemetry
        self._disowner = Disowner(
            rows=rows,
            schedules=schedules,
            records=records,
            events=events,
            announcer=announcer,
            clock=clock,
            telemetry=telemetry,
        )
        self._checkpoints = checkpoints or NoCheckpoints()
        self._waiting: dict[str, float] = {}  # since when, by our clock; 0 where a decision is under way
        self._noted = asyncio.Event()

    async def run(self, tenure: Tenure) -> None:
        """Decide until the term ends (Deposed) or the task is cancelled. Short outages of NATS are waited out."""
        self._waiting.clear()
        mirror = Mirror(self._rows.bucket, self._clock, self._look_at)
        try:
            while not await self._started(mirror, tenure):
                await self._clock.sleep(EVERY_S)
            while True:
                tenure.check()
                self._noted.clear()
                await self._round(mirror, tenure)
                await sleep_unless(self._noted, self._clock, EVERY_S)
        finally:
            await mirror.stop()

    async def _started(self, mirror: Mirror, tenure: Tenure) -> bool:
        tenure.check()
        try:
            await mirror.start()
        except ScheddError as problem:
            log.warning("cannot read the rows", extra={"event": "catch_up_waits", "error": problem.message})
            return False
        return True

    def _look_at(self, entry: Entry) -> None:
        row = row_of(entry)
        if row.late_from is None and row.deciding is None:
            self._waiting.pop(entry.key, None)
        else:
            since_s = 0.0 if row.deciding is not None else self._clock.boottime_s()
            self._waiting[entry.key] = min(since_s, self._waiting.get(entry.key, since_s))
            self._noted.set()

    async def _round(self, mirror: Mirror, tenure: Tenure) -> None:
        try:
            await mirror.fresh()
            settled_s = self._clock.boottime_s() - SETTLE_S
            waiting = [each for each, since_s in self._waiting.items() if since_s <= settled_s]
            if not waiting:
                return
            for start in range(0, len(waiting), GROUP_MAX):
                await self.decide(waiting[start : start + GROUP_MAX], tenure)
        except ScheddError as problem:
            log.warning("catch-up has to wait", extra={"event": "catch_up_waits", "error": problem.message})

    async def decide(self, schedule_ids: Sequence[str], tenure: Tenure) -> None:
        """Fix, decide, fire, tell and close what is late of these. Raises Deposed, Unsure, Unavailable."""
        await self._disowner.disown(schedule_ids, tenure)
        await self._checkpoints.reached("late.disowned")
        cases = await self._fix(schedule_ids, tenure)
        await self._checkpoints.reached("late.fixed")
        for start in range(0, len(cases), DECIDED_AT_ONCE):
            some = cases[start : start + DECIDED_AT_ONCE]
            for case, decision in zip(some, await all_of(map(self._decided, some)), strict=True):
                case.decision = decision
        await self._fire(cases, tenure)
        cases = [case for case in cases if not case.failed]
        await self._checkpoints.reached("late.fired")
        tenure.check()
        await self._events.store([fact for case in cases for fact in _facts(case)])
        await self._checkpoints.reached("late.told")
        await self._close(cases, tenure)

    # --- 1: fix

    async def _fix(self, schedule_ids: Sequence[str], tenure: Tenure) -> list[_Case]:
        in_force: dict[str, InForce] = {}
        for schedule_id in schedule_ids:
            known = self._schedules.get(schedule_id)
            if known is None or known.in_force is None:
                continue
            if known.revision <= tenure.office.watermark.applied:
                in_force[schedule_id] = known.in_force
        now = self._clock.now()
        edits = {schedule_id: _fixing(each, now, tenure) for schedule_id, each in in_force.items()}
        cases: list[_Case] = []
        for schedule_id, row in (await self._rows.try_change(edits, create=False)).items():
            if not isinstance(row, StatusRow) or row.deciding is None:
                continue
            if answers_for(in_force[schedule_id].definition, row.deciding):  # else disowned the next time
                cases.append(_Case(in_force[schedule_id], row.deciding))
        return cases

    # --- 2: decide

    async def _decided(self, case: _Case) -> Decision:
        recorded = await self._recorded(case)
        schedule, trigger = case.in_force.definition.schedule, case.in_force.trigger
        span = as_of(schedule, case.span, self._clock.now())
        return await in_turns(catching_up(schedule, trigger, span, recorded))

    async def _recorded(self, case: _Case) -> list[datetime]:
        """Nominal times of the span that somebody else has made a record of, ascending."""
        found: set[datetime] = set()
        for start in sorted({case.span.first, self._first_in_window(case), case.span.last}):
            nominals = _nominals(case, start)
            looked_up = 0
            while looked_up < LOOK_UPS_MAX and (some := list(islice(nominals, LOOK_UPS))):
                looked_up += len(some)
                there = await self._made_by_others(case.id, some)
                found |= there
                if not there:
                    break
        return sorted(found)

    def _first_in_window(self, case: _Case) -> datetime:
        schedule = case.in_force.definition.schedule
        oldest = case.span.at - schedule.reach - schedule.start_delay - schedule.jitter
        if isinstance(case.in_force.trigger, Moved) or oldest <= case.span.first:
            return case.span.first
        following = case.in_force.trigger.next_after(oldest - MILLISECOND)
        return case.span.last if following is None else min(following, case.span.last)

    async def _made_by_others(self, schedule_id: str, nominals: Sequence[datetime]) -> set[datetime]:
        stored = await self._records.get_many([execution_id(schedule_id, each) for each in nominals])
        return {
            nominal
            for nominal, each in zip(nominals, stored, strict=True)
            if each is not None and not _is_ours(each.execution)
        }

    # --- 3: fire

    async def _fire(self, cases: Sequence[_Case], tenure: Tenure) -> None:
        """Launch all that were chosen, in bounded groups; a schedule of which one failed is repeated as a whole."""
        candidates = ((case, candidate) for case in cases for candidate in self._candidates(case, tenure))
        while some := list(islice(candidates, LAUNCH_MAX)):
            tenure.check()
            results = await self._launcher.launch([candidate for _, candidate in some])
            for (case, _), result in zip(some, results, strict=True):
                if isinstance(result, ScheddError):
                    log.warning("a late launch is repeated", extra={"event": "late_launch", "error": result.message})
                    case.failed = True

    def _candidates(self, case: _Case, tenure: Tenure) -> Iterator[Candidate]:
        definition, trigger = case.in_force.definition, case.in_force.trigger
        for nominal in case.decision.fires:
            execution = claim(
                definition,
                execution_id(definition.id, nominal),
                occurrence_of(definition, trigger, nominal),
                epoch=tenure.office.epoch,
                now=self._clock.now(),
                note=NOTE,
            )
            yield Candidate(execution, definition.schedule, trigger)

    # --- 5: close

    async def _close(self, cases: Sequence[_Case], tenure: Tenure) -> None:
        by_id = {case.id: case for case in cases}
        results = await self._rows.try_change({case.id: _closing(case, tenure) for case in cases}, create=False)
        for schedule_id, row in results.items():
            if not isinstance(row, StatusRow):
                continue
            decision = by_id[schedule_id].decision
            for each in decision.ranges:
                self._telemetry.verdict(verdict=each.verdict, reason=each.reason, count=each.count)
            extra = {"event": "caught_up", "schedule": schedule_id, "fired": len(decision.fires)}
            log.info("late occurrences decided", extra={**extra, "left": sum(each.count for each in decision.ranges)})


def _fixing(in_force: InForce, now: datetime, tenure: Tenure) -> Edit:
    def edit(row: StatusRow) -> StatusRow:
        tenure.check()
        return with_span(row, in_force.definition, in_force.trigger, now)

    return edit


def _closing(case: _Case, tenure: Tenure) -> Edit:
    def edit(row: StatusRow) -> StatusRow:
        tenure.check()
        return with_decided(row, case.span, case.in_force.definition.schedule, case.in_force.trigger)

    return edit


def _facts(case: _Case) -> Iterator[Fact]:
    definition = case.in_force.definition
    for each in case.decision.ranges:
        told = VerdictRange(generation=definition.generation, **structs.asdict(each))
        yield verdicts_fact(definition.id, told)


def _is_ours(execution: Execution) -> bool:
    return bool(execution.history) and execution.history[0].note == NOTE


def _nominals(case: _Case, start: datetime) -> Iterator[datetime]:
    """Of the span, from `start` on, pauses left out."""
    schedule, trigger = case.in_force.definition.schedule, case.in_force.trigger
    if schedule.paused:
        if schedule.paused_until is None:
            return
        start = max(start, schedule.paused_until)
    nominal = trigger.next_after(start - MILLISECOND)
    while nominal is not None and nominal <= case.span.last:
        yield nominal
        nominal = trigger.next_after(nominal)
