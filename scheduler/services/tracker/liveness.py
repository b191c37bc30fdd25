"""SDK runs whose worker is gone (mechanisms.md, part 7): for the leader's reconciler.

A live worker keeps a row with its running ids, refreshed every third of an ack wait. A run is silent when that row is
absent or does not list it. Silent for a whole ack wait, no report since and no try left: lost, and then the task is
removed. With tries left the redelivery starts the next attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from msgspec import Struct

from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import Event
from scheduler.core.model.execution import Execution, State
from scheduler.core.reconciling import repair_silent
from scheduler.core.tracking import Report, events_of_reports
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Reports, TaskQueues
from scheduler.services.records import Change, Changed, Records
from scheduler.services.tracker.folding import Folder
from scheduler.services.tracker.reading import read_report
from scheduler.services.tracker.workers import Workers
from scheduler.wire.record import Summary

log = logging.getLogger(__name__)
ACK_WAIT_S = 30.0  # of a queue whose consumer is missing

ENDS = (State.LOST, State.CANCELLED, State.TIMED_OUT)

_Key = tuple[str, int]  # execution id, attempt


class Run(Struct, frozen=True):
    """A running attempt and the worker that claimed it."""

    id: str
    queue: str
    attempt: int
    worker: str


class Liveness:
    """Remembers since when runs have been silent, from one check to the next."""

    def __init__(
        self,
        *,
        records: Records,
        reports: Reports,
        queues: TaskQueues,
        workers: Workers,
        folder: Folder,
        clock: Clock,
    ) -> None:
        self._records, self._reports, self._queues = records, reports, queues
        self._workers, self._folder, self._clock = workers, folder, clock
        self._silent_since: dict[_Key, float] = {}

    async def check(self, running: Sequence[Run], before_write: Callable[[], None] = lambda: None) -> int:
        """Look at running attempts, all of them each time; how many were lost. Raises Unsure, Unavailable.

        `before_write` may raise to keep the checker from writing.
        """
        silent = await self._silent(running)
        if not silent:
            return 0
        waits = {each.queue: each.ack_wait_s for each in await self._queues.queues()}
        now_s = self._clock.boottime_s()
        ripe = [each for each in silent if now_s - self._silent_since[_key(each)] >= waits.get(each.queue, ACK_WAIT_S)]
        return await self._bury(ripe, waits, before_write)

    async def _silent(self, running: Sequence[Run]) -> list[Run]:
        rows = await self._workers.rows([each.worker for each in running])
        silent = [
            each for each in running if (row := rows.get(each.worker)) is None or not row.runs(each.id, each.attempt)
        ]
        now_s, before = self._clock.boottime_s(), self._silent_since
        self._silent_since = {_key(each): before.get(_key(each), now_s) for each in silent}
        return silent

    async def _bury(self, silent: Sequence[Run], waits: dict[str, float], before_write: Callable[[], None]) -> int:
        count = 0
        for run in silent:
            wait = timedelta(seconds=waits.get(run.queue, ACK_WAIT_S))
            silence = timedelta(seconds=self._clock.boottime_s() - self._silent_since[_key(run)])
            messages = await self._reports.all_of(run.queue, run.id)
            reports = tuple(report for each in messages if (report := read_report(each)) is not None)
            before_write()
            (result,) = await self._folder.fold([Change(run.id, self._decide(reports, silence, wait))])
            if isinstance(result, ScheddError):
                raise result
            count += await self._remove_task(result)
        return count

    def _decide(
        self, reports: tuple[Report, ...], silence: timedelta, ack_wait: timedelta
    ) -> Callable[[Execution], tuple[Event, ...]]:
        now = self._clock.now()

        def decide(execution: Execution) -> tuple[Event, ...]:
            events = events_of_reports(execution, reports)
            end = None if events else repair_silent(execution, reports, silence, ack_wait, now)
            return events if end is None else (end,)

        return decide

    async def _remove_task(self, result: Changed) -> int:
        """Its record says how it ended: now its task goes, so that no worker starts what is over."""
        execution = result.execution
        if execution is None or execution.state not in ENDS:
            return 0
        if execution.task_seq is not None:
            await self._queues.remove(execution.task_seq)
        if not result.ended:
            return 0
        extra = {"event": "worker_gone", "execution": execution.id, "worker": execution.worker}
        log.warning("a run is lost: its worker is gone", extra=extra)
        return 1


def run_of(execution: Execution | Summary) -> Run | None:
    """The attempt that runs, if one does and its worker said who it is."""
    if execution.state is not State.RUNNING or not execution.worker:
        return None
    return Run(execution.id, execution.queue, execution.attempt, execution.worker)


def _key(run: Run) -> _Key:
    return run.id, run.attempt
