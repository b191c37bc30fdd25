"""The dispatcher, on every replica: due messages in, decisions made anew, tasks out.

Batches of due messages are worked on side by side (at most `BATCHES_MAX`). Each is decided only after the schedule
cache is proven fresh by a leader read made *after* the batch arrived: a paused or deleted schedule is never decided
from yesterday's cache. A message is acknowledged when its verdict is stored, and handed back otherwise. One that breaks
our own code is found and set apart for a while, so that the rest of its batch goes on. What is late is left to the
leader (`services.handing_over`), one write per schedule, unless it has a record: that goes on as always.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from scheduler.core.dispatching import Close, Fire, Late, TooEarly, decide_dispatch, superseded
from scheduler.core.errors import Conflict, ScheddError
from scheduler.core.lifecycle import is_terminal
from scheduler.core.model.execution import Execution
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import After
from scheduler.ports.checkpoints import Checkpoints, NoCheckpoints
from scheduler.ports.clock import Clock
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Due, Poison, Timeline
from scheduler.services.chains import Chains
from scheduler.services.handing_over import LateOne, LateOnes
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate
from scheduler.services.records import Records, Stored
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.wire.ids import execution_id

log = logging.getLogger(__name__)
BATCHES_MAX = 4
PULL_EXPIRES_S = 2.0
WORKING_SHARE = 0.3  # of the consumer's ack wait: in-progress is told well inside it, twice
RETRY_DELAY_S = 1.0
BROKEN_DELAY_S = 30.0
EARLY_WAIT_MAX_S = 30.0  # a clock that is wrong now may be right by then


class SortedOut(Struct):
    """A batch, by what becomes of it; keys are execution ids."""

    fires: dict[str, Candidate]
    late: dict[str, LateOne]
    closes: dict[str, Execution]


class Dispatcher:
    """Pulls and dispatches until cancelled."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        schedules: ScheduleCache,
        records: Records,
        launcher: Launcher,
        late_ones: LateOnes,
        settlement: Settlement,
        clock: Clock,
        telemetry: Telemetry,
        batch: int = 256,
        ack_wait_s: float = 5.0,
        checkpoints: Checkpoints | None = None,
        chains: Chains | None = None,
    ) -> None:
        self._chains = chains
        self._timeline, self._schedules, self._records = timeline, schedules, records
        self._launcher, self._late_ones, self._settlement = launcher, late_ones, settlement
        self._clock, self._telemetry = clock, telemetry
        self._batch, self._working_every_s = batch, ack_wait_s * WORKING_SHARE
        self._checkpoints = checkpoints or NoCheckpoints()

    async def run(self) -> None:
        """Pull for ever. On cancellation the batches under way are finished first."""
        room = asyncio.Semaphore(BATCHES_MAX)
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                await room.acquire()
                batch = await self._pull()
                if not batch:
                    room.release()
                    continue
                task = asyncio.create_task(self._work(batch, room))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:
            if under_way:
                await asyncio.wait(under_way, timeout=5.0)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _pull(self) -> list[Due | Poison]:
        try:
            return await self._timeline.pull_due(self._batch, PULL_EXPIRES_S)
        except ScheddError as problem:
            log.warning("cannot pull due messages", extra={"event": "pull_failed", "error": problem.message})
            await self._clock.sleep(RETRY_DELAY_S)
            return []

    async def _work(self, batch: Sequence[Due | Poison], room: asyncio.Semaphore) -> None:
        alive = asyncio.create_task(self._keep_alive([each.ack for each in batch]))
        try:
            await self._carry_out(batch)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            room.release()

    async def _keep_alive(self, tokens: Sequence[str]) -> None:
        while True:
            await self._clock.sleep(self._working_every_s)
            with contextlib.suppress(ScheddError):  # the next time may still be in time
                await self._timeline.working(tokens)

    async def _carry_out(self, batch: Sequence[Due | Poison]) -> None:
        """Dispatch; after a batch that broke each message alone. Raises nothing."""
        try:
            await self.dispatch(batch)
        except ScheddError as problem:  # redelivered after ack_wait, and then decided again from the top
            log.warning("a batch is handed back", extra={"event": "batch_failed", "error": problem.message})
        except Exception:
            log.exception("a batch broke", extra={"event": "batch_broke", "size": len(batch)})
            if len(batch) == 1:
                await self._set_apart(batch[0])
                return
            for each in batch:
                await self._carry_out([each])

    async def _set_apart(self, broken: Due | Poison) -> None:
        self._telemetry.dropped(what="due", reason="broke")
        with contextlib.suppress(ScheddError):
            await self._timeline.later([broken.ack], BROKEN_DELAY_S)

    async def dispatch(self, batch: Sequence[Due | Poison]) -> None:
        """Decide and carry out one batch. Raises Unsure, Unavailable; what was not acknowledged comes again."""
        await self._checkpoints.reached("dispatch.pulled")
        await self._schedules.fresh()
        self._telemetry.dispatched(batch=len(batch))
        now = self._clock.now()
        sorted_out = SortedOut({}, {}, {})
        tokens: dict[str, list[str]] = {}
        early: list[tuple[TooEarly, str]] = []
        for due in batch:
            if isinstance(due, Poison):
                await self._drop(due)
                continue
            found = self._decide(due, now, sorted_out)
            if isinstance(found, TooEarly):
                early.append((found, due.ack))
            else:
                tokens.setdefault(found, []).append(due.ack)
        await self._start_chains(sorted_out, now)
        await self._hold_back(early)
        handed_over = await self._hand_over(sorted_out, now)
        done = {
            *handed_over,
            *await self._close(list(sorted_out.closes.values())),
            *await self._fire(list(sorted_out.fires.values())),
        }
        await self._timeline.ack([token for each, held in tokens.items() if each in done for token in held])
        again = [token for each, held in tokens.items() if each not in done for token in held]
        if again:
            await self._timeline.later(again, RETRY_DELAY_S)

    def _decide(self, due: Due, now: datetime, sorted_out: SortedOut) -> TooEarly | str:
        """Sort one due message; returns its execution id, or how long it has to wait."""
        known = self._schedules.get(due.schedule_id)
        in_force = None if known is None else known.in_force
        decision = decide_dispatch(
            Occurrence(due.schedule_id, due.nominal_at, due.fire_at, due.generation),
            in_force,
            execution_id=execution_id(due.schedule_id, due.nominal_at),
            epoch=due.epoch,
            now=now,
            absent_reason="deleted" if known is None else known.absent_reason,
        )
        match decision:
            case Fire(execution, schedule):
                assert in_force is not None
                sorted_out.fires[execution.id] = Candidate(execution, schedule, in_force.trigger)
                return execution.id
            case Late(execution):
                assert in_force is not None
                sorted_out.late[execution.id] = LateOne(execution, in_force)
                return execution.id
            case Close(execution):
                sorted_out.closes[execution.id] = execution
                return execution.id
            case _:
                return decision

    async def _start_chains(self, sorted_out: SortedOut, now: datetime) -> None:
        """Of a chain only the occurrence that is to come starts; any other was edited away. Unknown: it comes again."""
        chained = [each.execution for each in sorted_out.fires.values() if isinstance(each.schedule.trigger, After)]
        if not chained or self._chains is None:
            return
        for each, result in (await self._chains.start(chained)).items():
            if result is not True:
                candidate = sorted_out.fires.pop(each)
                if result is False:
                    sorted_out.closes[each] = superseded(candidate.execution, now)

    async def _hand_over(self, sorted_out: SortedOut, now: datetime) -> set[str]:
        """Leave the late ones to the leader; those that have a record already are fired on. Returns who is done.

        What was late before the definition in force took effect is superseded.
        """
        late = sorted_out.late
        if not late:
            return set()
        with_record = await self._records.exist([*late])
        for each in filter(with_record.__contains__, late):  # in their order, not in that of a set
            in_force = late[each].in_force
            sorted_out.fires[each] = Candidate(late[each].execution, in_force.definition.schedule, in_force.trigger)
        noted = await self._late_ones.note([each for each in late.values() if each.execution.id not in with_record])
        sorted_out.closes |= {each.id: superseded(each, now) for each in noted.disowned}
        return noted.done

    async def _hold_back(self, early: Sequence[tuple[TooEarly, str]]) -> None:
        by_delay: dict[float, list[str]] = {}
        for found, token in early:
            self._telemetry.dropped(what="due", reason="early")
            delay_s = math.ceil(found.delay.total_seconds() * 10) / 10
            by_delay.setdefault(min(EARLY_WAIT_MAX_S, delay_s), []).append(token)
        for delay_s, tokens in by_delay.items():
            await self._timeline.later(tokens, delay_s)

    async def _drop(self, poison: Poison) -> None:
        log.error(
            "unreadable due message",
            extra={"event": "due_poison", "subject": poison.subject, "error": poison.problem},
        )
        self._telemetry.dropped(what="due", reason="poison")
        await self._timeline.ack([poison.ack])

    async def _close(self, executions: list[Execution]) -> list[str]:
        """Store verdicts without a run. An existing record keeps what it says; a `claimed` one is repaired later."""
        if not executions:
            return []
        results = await self._records.create_many(executions)
        done: list[str] = []
        ended: list[Execution] = []
        for execution, result in zip(executions, results, strict=True):
            if isinstance(result, Stored):
                ended.append(execution)
            if isinstance(result, Stored | Conflict):
                done.append(execution.id)
        await self._settlement.settle(ended)
        return done

    async def _fire(self, candidates: list[Candidate]) -> list[str]:
        if not candidates:
            return []
        results = await self._launcher.launch(candidates)
        await self._settlement.follow([each for each in results if isinstance(each, Execution) and is_terminal(each)])
        done: list[str] = []
        failed: list[ScheddError] = []
        for candidate, result in zip(candidates, results, strict=True):
            if isinstance(result, ScheddError) and not isinstance(result, Conflict):
                failed.append(result)
                continue
            done.append(candidate.execution.id)
            if isinstance(result, Conflict):  # it had a record: skipping it is better than running it twice
                log.error("an occurrence without a verdict", extra={"event": "no_record", "error": result.message})
                self._telemetry.dropped(what="due", reason="no_record")
        if failed:
            extra = {"event": "launch_failed", "count": len(failed), "error": failed[0].message}
            log.warning("launches will be repeated", extra=extra)
        return done
