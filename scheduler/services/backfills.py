"""Backfills: kept in the control bucket, carried out by the leader, at their pace, whoever leads.

A turn starts the next few of what is left, by the launcher's own steps, and then takes them off what is left, by
compare-and-set. Between the two a leader may die: its successor starts the same few again, and comes to the same
executions, for their ids are made of the schedule, the nominal time and the backfill. Whoever cancels one writes over
what the leader has read, so at most what is being started at that moment still starts; the leader sees it in its next
turn and withdraws what waits for a slot. What cannot be started now (NATS away, an invalid definition) stays left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.backfilling import Backfill, BackfillState, Pace, is_spent, policy_of, room
from scheduler.core.dispatching import InForce, claim
from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.core.model.execution import Kind, State
from scheduler.core.model.occurrence import Occurrence
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.telemetry import Telemetry
from scheduler.services.burying import bury
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate, Result
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.backfill import decode_backfill, encode_backfill
from scheduler.wire.ids import backfill_execution_id
from scheduler.wire.names import BACKFILL_KEYS, backfill_key

log = logging.getLogger(__name__)
LOOK_S = 1.0  # between two looks for new backfills
TURN_S = 0.25  # between two turns of those under way
KEPT = timedelta(days=7)
KEPT_MAX = 200  # that are over; the oldest go first
RUNNING_MAX = 100
ROUNDS_MAX = 6
LAUNCH_MAX = 256
DELETED = "deleted"


class Kept(Struct, frozen=True):
    """A backfill with its revision."""

    backfill: Backfill
    revision: int


class Backfills:
    """All of them, as stored."""

    def __init__(self, control: Bucket, telemetry: Telemetry) -> None:
        self._control, self._telemetry = control, telemetry

    async def ids(self) -> list[str]:
        """Every id there is, unordered. Raises Unavailable."""
        return [key.partition(".")[2] for key in await self._control.keys(BACKFILL_KEYS)]

    async def get_many(self, ids: Sequence[str]) -> list[Kept | None]:
        """None where there is none, or none that can be read. Raises Unavailable."""
        return [self._read(entry) for entry in await self._control.get_many([backfill_key(each) for each in ids])]

    def _read(self, entry: Entry | None) -> Kept | None:
        if entry is None or entry.deleted:
            return None
        try:
            return Kept(decode_backfill(entry.value), entry.revision)
        except InvalidArgument as problem:
            log.error(
                "unreadable backfill", extra={"event": "bad_backfill", "key": entry.key, "error": problem.message}
            )
            self._telemetry.dropped(what="backfill", reason="unreadable")
            return None

    async def get(self, backfill_id: str) -> Kept:
        """Raises NotFound, Unavailable."""
        (kept,) = await self.get_many([backfill_id])
        if kept is None:
            raise NotFound(f"there is no backfill {backfill_id!r}", field="id")
        return kept

    async def create(self, backfill: Backfill) -> Backfill:
        """Store it; the one that is there if that is the same. Raises Conflict, Unavailable, Unsure."""
        try:
            await self._control.put(backfill_key(backfill.id), encode_backfill(backfill), expect=0)
            return backfill
        except (Conflict, Unsure) as problem:
            (kept,) = await self.get_many([backfill.id])
            if kept is None:
                raise problem from None
        found = kept.backfill
        if (found.schedule, found.start, found.end) != (backfill.schedule, backfill.start, backfill.end):
            raise Conflict(f"backfill {backfill.id!r} is another one", field="backfill_id")
        return found

    async def replace(self, kept: Kept, backfill: Backfill) -> None:
        """Raises Conflict if somebody was faster, Unavailable, Unsure."""
        await self._control.put(backfill_key(backfill.id), encode_backfill(backfill), expect=kept.revision)

    async def forget(self, kept: Kept) -> None:
        (entry,) = await self._control.get_many([backfill_key(kept.backfill.id)])
        if entry is not None and entry.revision == kept.revision:
            await bury(self._control, entry)

    async def cancel(self, backfill_id: str, now: datetime) -> Backfill:
        """Start nothing more of it; harmless for one that is over. Raises NotFound, Unavailable, Unsure."""
        for _ in range(ROUNDS_MAX):
            kept = await self.get(backfill_id)
            if kept.backfill.state is not BackfillState.RUNNING:
                return kept.backfill
            cancelled = kept.backfill.over(BackfillState.CANCELLED, "cancelled", now)
            try:
                await self.replace(kept, cancelled)
            except (Conflict, Unsure):
                continue
            return cancelled
        raise Unavailable(f"backfill {backfill_id!r} keeps changing: try again")


class Backfiller:
    """The leader's duty: carries backfills out."""

    def __init__(
        self,
        *,
        backfills: Backfills,
        schedules: ScheduleCache,
        rows: StatusRows,
        launcher: Launcher,
        clock: Clock,
        telemetry: Telemetry,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._backfills, self._schedules, self._rows = backfills, schedules, rows
        self._launcher, self._clock, self._telemetry = launcher, clock, telemetry
        self._checkpoints = checkpoints or NoCheckpoints()
        self._paces: dict[str, Pace] = {}
        self._over: dict[str, Kept] = {}

    async def run(self, tenure: Tenure) -> None:
        """Turns until cancelled, or until the term is over (Deposed)."""
        self._paces, self._over = {}, {}
        while True:
            tenure.check()
            is_busy = False
            try:
                is_busy = await self.turn(tenure)
            except ScheddError as problem:
                log.warning("backfills wait", extra={"event": "backfills_wait", "error": problem.message})
            await self._clock.sleep(TURN_S if is_busy else LOOK_S)

    async def turn(self, tenure: Tenure) -> bool:
        """A step of each backfill that is under way; whether there was any. Raises Deposed, Unavailable, Unsure."""
        ids = await self._backfills.ids()
        self._over = {each: kept for each, kept in self._over.items() if each in ids}
        kept = [each for each in await self._backfills.get_many([n for n in ids if n not in self._over]) if each]
        if kept:
            await self._schedules.fresh()
        for each in kept:
            tenure.check()
            await self._try_step(each, tenure)
        await self._forget_spent(tenure)
        return bool(kept)

    async def _try_step(self, kept: Kept, tenure: Tenure) -> None:
        """What fails in one backfill keeps no other from going on."""
        extra = {"event": "backfill_waits", "backfill": kept.backfill.id}
        try:
            if kept.backfill.state is BackfillState.RUNNING:
                await self._step(kept, tenure)
            else:
                await self._end(kept)
        except ScheddError as problem:
            log.warning("a backfill waits", extra={**extra, "error": problem.message})
        except Deposed:
            raise
        except Exception:
            log.exception("a backfill broke", extra={**extra, "event": "backfill_broke"})

    async def _step(self, kept: Kept, tenure: Tenure) -> None:
        backfill, now = kept.backfill, self._clock.now()
        known = self._schedules.get(backfill.schedule)
        if known is None or known.deleted:
            await self._backfills.replace(kept, backfill.over(BackfillState.CANCELLED, DELETED, now))
            return
        if known.in_force is None:
            return
        chosen = await self._due(backfill, known.in_force)
        if not chosen:
            return
        tenure.check()
        started = await self._start(backfill, known.in_force, chosen, tenure)
        await self._checkpoints.reached("backfill.started")
        pace, now_s = self._paces[backfill.id], self._clock.boottime_s()
        self._paces[backfill.id] = pace.after(started, backfill.rate, now_s)
        if started:
            tenure.check()
            await self._backfills.replace(kept, backfill.after_starting(started, self._clock.now()))

    async def _due(self, backfill: Backfill, in_force: InForce) -> Sequence[datetime]:
        """The nominal times whose turn it is."""
        now_s = self._clock.boottime_s()
        count = self._paces.setdefault(backfill.id, Pace(now_s)).due(backfill.rate, now_s)
        if not count:
            return ()
        policy = policy_of(in_force.definition.schedule, backfill.overlap)
        row = await self._rows.get(backfill.schedule)
        return backfill.left[: min(count, room(policy, len(row.waiting)))]

    async def _start(self, backfill: Backfill, in_force: InForce, chosen: Sequence[datetime], tenure: Tenure) -> int:
        """Launch these, in order; how many of them, from the first on, are on their way for good."""
        started = 0
        for begin in range(0, len(chosen), LAUNCH_MAX):
            tenure.check()
            batch = [self._candidate(backfill, in_force, at, tenure) for at in chosen[begin : begin + LAUNCH_MAX]]
            results = await self._launcher.launch(batch)
            done = self._done(results)
            started += done
            if done < len(batch):
                break
        return started

    def _done(self, results: Sequence[Result]) -> int:
        """Up to the first that has to be repeated. One whose record is gone or unreadable is not run twice."""
        for number, result in enumerate(results):
            if isinstance(result, Conflict):
                log.error("a backfilled run without a record", extra={"event": "no_record", "error": result.message})
                self._telemetry.dropped(what="backfill", reason="no_record")
            elif isinstance(result, ScheddError):
                log.warning("launches will be repeated", extra={"event": "launch_failed", "error": result.message})
                return number
        return len(results)

    def _candidate(self, backfill: Backfill, in_force: InForce, nominal_at: datetime, tenure: Tenure) -> Candidate:
        """Its fire time is now: deadlines and lateness count from when it is started."""
        definition, now = in_force.definition, self._clock.now()
        execution = claim(
            definition,
            backfill_execution_id(definition.id, nominal_at, backfill.id),
            Occurrence(definition.id, nominal_at, now, definition.generation),
            epoch=tenure.office.epoch,
            now=now,
            kind=Kind.BACKFILL,
            overlap=policy_of(definition.schedule, backfill.overlap),
        )
        return Candidate(execution, definition.schedule, in_force.trigger)

    async def _end(self, kept: Kept) -> None:
        """It is over. If it was cancelled, so are those of its runs that still wait for a slot."""
        if kept.backfill.state is BackfillState.CANCELLED:
            row = await self._rows.get(kept.backfill.schedule)
            waiting = [each for each in row.waiting if each.endswith(f"-b{kept.backfill.id}")]
            await self._launcher.withdraw(waiting, State.CANCELLED, "backfill_cancelled")
        self._over[kept.backfill.id] = kept

    async def _forget_spent(self, tenure: Tenure) -> None:
        now = self._clock.now()
        by_age = sorted(self._over.values(), key=lambda each: each.backfill.finished_at or now)
        surplus = by_age[: max(0, len(by_age) - KEPT_MAX)]
        for each in [each for each in by_age if each in surplus or is_spent(each.backfill, now, KEPT)]:
            tenure.check()
            await self._backfills.forget(each)
            del self._over[each.backfill.id]
