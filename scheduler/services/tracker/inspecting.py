"""Looking at executions now, instead of waiting to be told: for a slot's holder before a skip, and for the reconciler.

What is looked at, cheapest first: the record (ended or gone: its slot is free), the newest reports (not folded yet?),
the task (still in the stream?). A task that has left the stream without a word is believed gone only after a grace and
only if no signal about it can still be on its way: signals never end as an inferred success.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from msgspec import Struct

from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.core.lifecycle import Event, is_terminal
from scheduler.core.model.execution import Execution, State
from scheduler.core.reconciling import Repair, events_of_vanished
from scheduler.core.tracking import Report, events_of_reports, newest_start
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Progress, Reports, Signals, TaskQueues
from scheduler.ports.telemetry import Telemetry
from scheduler.services.lost_tasks import LostTasks
from scheduler.services.records import Change, Changed, Records
from scheduler.services.slots import SlotKeeper
from scheduler.services.tracker.folding import Folder
from scheduler.services.tracker.reading import read_report
from scheduler.services.tracker.workers import Workers
from scheduler.wire.ids import parse_execution_id

T = TypeVar("T")
log = logging.getLogger(__name__)
INSPECT_MAX = 1000  # ids per call: no schedule may have more running
READS_AT_ONCE = 64
WITNESSES_MAX = 20_000
TELLING_S = 30.0  # after the grace: how long a backlog of signals may hold up what comes next instead of skipping it
ANY_DRIVE = 10**9
FLOOR = timedelta(minutes=30)  # F, how long a claim outlives its task
OPEN_IN_QUEUE = (State.QUEUED, State.RUNNING, State.RETRYING)


class _Witness(Struct):
    """When a task was first seen to be gone, and how far signals had been told some time after that."""

    since_s: float
    told: int | None = None


class Vanished:
    """Which tasks left the stream without any signal that could still come.

    A signal is stored in the moment its task leaves. So: the task is seen to be gone; a grace later the newest signal
    is noted; once everything up to that one has been folded (by whichever replica), nothing about the task is left.
    """

    def __init__(
        self,
        *,
        queues: TaskQueues,
        signals: Signals,
        lost_tasks: LostTasks,
        clock: Clock,
        grace_s: float,
        floor: timedelta = FLOOR,
    ) -> None:
        self._queues, self._signals, self._clock, self._grace_s = queues, signals, clock, grace_s
        self._lost_tasks = lost_tasks
        self._floor = floor
        self._witnesses: OrderedDict[int, _Witness] = OrderedDict()  # by task sequence

    async def among(self, executions: Sequence[Execution]) -> list[Execution]:
        """Those whose task has vanished for certain. Raises Unsure, Unavailable."""
        known = [each for each in executions if each.task_seq is not None]
        if not known:
            return []
        present = await self._queues.present([_seq(each) for each in known])
        gone = [each for each, is_there in zip(known, present, strict=True) if not is_there]
        waiting = [each for each in gone if self._is_ripe(each)]
        if not waiting:
            return []
        progress = await self._signals.progress()
        return [each for each in waiting if self._is_silent(each, progress)]

    async def lost(self, executions: Sequence[Execution]) -> set[str]:
        """Of the vanished, those whose task the server lost, so that nobody need have worked on it.

        The stream was made anew since, or lost its end; or the claim is gone with the task, and nothing removes a claim
        for F.
        Raises Unsure, Unavailable.
        """
        if not executions:
            return set()
        begins_at, now = await self._queues.begins_at(), self._clock.now()
        lost = {each.id for each in executions if _seq(each) < begins_at or _seq(each) in self._lost_tasks}
        young = [each for each in executions if each.queued_at is not None and now - each.queued_at < self._floor / 2]
        claims = await gathered([self._queues.claimed_seq(each.id, each.drive) for each in young])
        return lost | {each.id for each, claim in zip(young, claims, strict=True) if claim is None}

    def is_witnessed(self, task_seq: int | None) -> bool:
        """Whether the task was seen to be gone, and nothing has been decided since."""
        return task_seq in self._witnesses

    def is_fresh(self, task_seq: int | None) -> bool:
        """Whether it was seen to be gone so lately that the word about it may still be on its way."""
        witness = self._witnesses.get(task_seq or 0)
        return witness is not None and self._clock.boottime_s() - witness.since_s < self._grace_s + TELLING_S

    def forget(self, execution: Execution) -> None:
        self._witnesses.pop(_seq(execution), None)

    def _is_ripe(self, execution: Execution) -> bool:
        now_s = self._clock.boottime_s()
        witness = self._witnesses.setdefault(_seq(execution), _Witness(now_s))
        if len(self._witnesses) > WITNESSES_MAX:
            self._witnesses.popitem(last=False)
        return now_s - witness.since_s >= self._grace_s

    def _is_silent(self, execution: Execution, progress: Progress) -> bool:
        witness = self._witnesses.get(_seq(execution))
        if witness is None:
            return False
        if witness.told is None:
            witness.told = progress.newest
        return progress.folded >= witness.told


def _seq(execution: Execution) -> int:
    return execution.task_seq or 0


class Inspector:
    """Folds what can be known about executions at this moment."""

    def __init__(
        self,
        *,
        records: Records,
        reports: Reports,
        folder: Folder,
        slots: SlotKeeper,
        workers: Workers,
        vanished: Vanished,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._records, self._reports, self._folder, self._slots = records, reports, folder, slots
        self._workers, self.vanished = workers, vanished
        self._clock, self._telemetry = clock, telemetry

    async def inspect(self, execution_ids: Sequence[str]) -> frozenset[str]:
        """Look at these holders of slots; whatever of them has ended on record holds none afterwards.

        Returns those whose task has left the queue while its signal is still on its way: they are over, or will be
        within moments. Raises Unsure, Unavailable: then nobody knows whether they run. Either way nothing may be
        skipped because of them.
        """
        ids = list(execution_ids)[:INSPECT_MAX]
        stored = await self._records.get_many(ids)
        found = [each.execution for each in stored if each is not None]
        await self.free_missing([each for each, record in zip(ids, stored, strict=True) if record is None])
        await self._folder.free([each for each in found if is_terminal(each)])
        open_ = [each for each in found if each.state in OPEN_IN_QUEUE]
        count = await self.look_at(open_)
        for _ in range(count):
            self._telemetry.repaired(kind=Repair.GONE.value)
        return frozenset(each.id for each in open_ if self.vanished.is_fresh(each.task_seq))

    async def free_missing(self, execution_ids: Sequence[str]) -> int:
        """Free the slots of executions without a record; the number of schedules. Raises Unsure, Unavailable."""
        by_schedule: dict[str, dict[str, int]] = defaultdict(dict)
        for execution_id in execution_ids:
            schedule_id = _schedule_of(execution_id)
            if schedule_id is not None:
                by_schedule[schedule_id][execution_id] = ANY_DRIVE
        if by_schedule:
            log.warning("slots without a record freed", extra={"event": "slots_without_record", "ids": execution_ids})
        for result in (await self._slots.free(by_schedule)).values() if by_schedule else ():
            if isinstance(result, ScheddError):
                raise result
        return len(by_schedule)

    async def look_at(self, executions: Sequence[Execution]) -> int:
        """Fold unseen reports and vanished tasks of these open executions; how many were decided by their absence.

        Raises Unsure, Unavailable.
        """
        vanished = {each.id for each in await self.vanished.among(executions)}  # before the reports: they decide
        reports = await self._reports_of(executions)
        alive = await self._alive(executions, reports, vanished)
        gone = [each for each in executions if each.id in vanished and each.id not in alive]
        going, lost = {each.id for each in gone}, await self.vanished.lost(gone)
        changes: list[Change] = []
        for execution in executions:
            is_vanished, is_lost = execution.id in going, execution.id in lost
            decide = self._decide(tuple(reports[execution.id]), is_vanished=is_vanished, is_lost=is_lost)
            changes.append(Change(execution.id, decide, execution.drive))
        return self._count(await self._folder.fold(changes), vanished)

    async def _reports_of(self, executions: Sequence[Execution]) -> dict[str, list[Report]]:
        room = asyncio.Semaphore(READS_AT_ONCE)

        async def read(execution: Execution) -> list[Report]:
            async with room:
                messages = await self._reports.all_of(execution.queue, execution.id)
            return [report for each in messages if (report := read_report(each)) is not None]

        found = await gathered([read(each) for each in executions])
        return {each.id: reports for each, reports in zip(executions, found, strict=True)}

    async def _alive(
        self, executions: Sequence[Execution], reports: dict[str, list[Report]], vanished: set[str]
    ) -> set[str]:
        """Of the vanished, those whose worker still says that it runs them."""
        starts = {
            each.id: start
            for each in executions
            if each.id in vanished and (start := newest_start(each, reports[each.id])) is not None
        }
        rows = await self._workers.rows([each.worker for each in starts.values() if each.worker])
        return {
            execution_id
            for execution_id, start in starts.items()
            if start.worker in rows and rows[start.worker].runs(execution_id, start.attempt)
        }

    def _decide(
        self, reports: tuple[Report, ...], *, is_vanished: bool, is_lost: bool
    ) -> Callable[[Execution], tuple[Event, ...]]:
        now = self._clock.now()

        def decide(execution: Execution) -> tuple[Event, ...]:
            events = events_of_reports(execution, reports)
            if is_vanished and not is_terminal(execution):
                return (*events, *events_of_vanished(execution, reports, now, with_stream=is_lost))
            return events

        return decide

    def _count(self, results: Sequence[Changed | ScheddError], vanished: set[str]) -> int:
        count = 0
        for result in results:
            if isinstance(result, ScheddError):
                raise result
            if result.ended and result.execution is not None and result.execution.id in vanished:
                count += 1
                self.vanished.forget(result.execution)
                extra = {"event": "task_gone", "execution": result.execution.id, "state": result.execution.state}
                log.warning("a task left its queue without a signal", extra=extra)
        return count


async def gathered(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """As asyncio.gather, and on the first error none of them is left running."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _schedule_of(execution_id: str) -> str | None:
    try:
        return parse_execution_id(execution_id).schedule_id
    except InvalidArgument:
        return None
