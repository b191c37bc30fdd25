"""Ending executions from outside: cancelled by somebody, ousted by another run, or past a deadline.

What is asked is on the record first, so that it outlives whoever asked. Then, by where the execution is:

- it waits for a slot: its record ends;
- its task is in the queue, or between two attempts: the daemon takes the next attempt (`started`, expecting none). Won:
  the record ends, and after that the task is removed. Lost: it runs;
- a worker has it in hand: a core message asks the worker, which reports the end. A plain worker hears nothing: of it
  nobody knows that it has begun, so the daemon takes the attempt. `cancelled` then means: not delivered again;
- its launch is under way: once it is queued.

Each step is harmless twice, and every replica may take it. Who looks again until it is over is `services.deadlines`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from scheduler.core.ending import OVERLAP, PURGED, START_DEADLINE, Wish, attempt_to_take, has_begun, is_told, wish_of
from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import Ask, Finish, is_terminal
from scheduler.core.model.execution import Action, Asked, Execution, State
from scheduler.core.overlap import Admission
from scheduler.core.tracking import Report
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Cancels, Reports, TaskQueues
from scheduler.ports.telemetry import Telemetry
from scheduler.services.launch import Launcher
from scheduler.services.records import Change, Records, Stored
from scheduler.services.tracker.folding import Folder
from scheduler.services.tracker.reading import read_report

log = logging.getLogger(__name__)


class Canceller:
    """Asks executions to end, and ends them."""

    def __init__(
        self,
        *,
        records: Records,
        reports: Reports,
        queues: TaskQueues,
        cancels: Cancels,
        launcher: Launcher,
        folder: Folder,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._records, self._reports, self._queues, self._cancels = records, reports, queues, cancels
        self._launcher, self._folder, self._clock, self._telemetry = launcher, folder, clock, telemetry

    async def oust(self, admission: Admission) -> None:
        """See `services.launch.Ousters`."""
        now = self._clock.now()
        await self.ask(admission.cancel, Asked(Action.CANCEL, now, OVERLAP))
        await self.ask(admission.terminate, Asked(Action.TERMINATE, now, OVERLAP, 0.0))

    async def ask(self, execution_ids: Sequence[str], asked: Asked) -> None:
        """Put it on their records, and see to it for the first time. Raises Unsure, Unavailable."""
        if not execution_ids:
            return
        stored = await self._records.get_many(execution_ids)
        open_ = [each.execution for each in stored if each is not None and not is_terminal(each.execution)]
        changes = [Change(each.id, (Ask(asked),), each.drive) for each in open_ if not _has_been_asked(each, asked)]
        for result in await self._folder.fold(changes):
            if isinstance(result, ScheddError):
                raise result
        for each in await self._records.get_many([each.id for each in open_]):
            if each is not None:
                await self._try(each.execution)

    async def end_waiting(self, waiting: Sequence[tuple[Stored, Sequence[Report]]], asked: Asked) -> int:
        """The same for many at once, each with its reports: their tasks are in a queue. How many have left it.

        Those that have begun meanwhile go on, and what does not work now is tried again by the leader. Raises Unsure,
        Unavailable.
        """
        known = {each.execution.id: each for each, _ in waiting}
        changes = [
            Change(each.execution.id, (Ask(asked),), each.execution.drive)
            for each, _ in waiting
            if not _has_been_asked(each.execution, asked)
        ]
        await self._folder.fold(changes, known)
        taking = [self._takes(each.execution, reports) for each, reports in waiting]
        taken = await asyncio.gather(*taking, return_exceptions=True)
        won = [each.execution for (each, _), result in zip(waiting, taken, strict=True) if _said(result) is True]
        end = Finish(at=self._clock.now(), state=State.CANCELLED, reason=asked.reason)
        ended = await self._folder.fold([Change(each.id, (end,), each.drive) for each in won])
        over = [each.execution for each in ended if not isinstance(each, ScheddError) and each.execution is not None]
        seqs = [each.task_seq for each in over if each.task_seq is not None and is_terminal(each)]
        removed = await asyncio.gather(*(self._queues.remove(seq) for seq in seqs), return_exceptions=True)
        return sum(_said(each) is not None for each in removed)

    async def _takes(self, execution: Execution, reports: Sequence[Report]) -> bool:
        attempt = attempt_to_take(execution, reports)
        return attempt is not None and await self._take(execution, attempt)

    async def _try(self, execution: Execution) -> None:
        """What does not work now is tried again by the leader."""
        try:
            await self.see_to(execution)
        except ScheddError as problem:
            extra = {"event": "cancel_delayed", "execution": execution.id, "error": problem.message}
            log.warning("an execution is ended a little later", extra=extra)

    async def see_to(self, execution: Execution) -> None:
        """One step towards the end that is wanted of it, if one is. Raises Unsure, Unavailable."""
        wish = wish_of(execution, self._clock.now())
        if wish is None:
            return
        if execution.state is State.WAITING:
            await self._launcher.withdraw([execution.id], wish.state, wish.reason)
        elif execution.state is not State.CLAIMED:
            await self._end_or_tell(execution, wish)

    async def _end_or_tell(self, execution: Execution, wish: Wish) -> None:
        reports = await self._reports_of(execution)
        if wish.reason == START_DEADLINE and has_begun(execution, reports):
            return  # in time: the record will say so, and another attempt may follow
        attempt = attempt_to_take(execution, reports)
        if attempt is not None and await self._take(execution, attempt):
            await self._end(execution, wish)
        elif wish.action is not None and wish.reason != PURGED and not is_told(execution, reports):
            self._telemetry.cancel_sent(action=wish.action.value)
            await self._cancels.send(execution.queue, execution.id, wish.action, wish.grace_s, execution.drive)

    async def _reports_of(self, execution: Execution) -> list[Report]:
        messages = await self._reports.all_of(execution.queue, execution.id)
        return [report for each in messages if (report := read_report(each)) is not None]

    async def _take(self, execution: Execution, attempt: int) -> bool:
        return await self._reports.take(execution.queue, execution.id, attempt, self._clock.now())

    async def _end(self, execution: Execution, wish: Wish) -> None:
        """The record first, then the task: nobody must take its removal for an outcome."""
        end = Finish(at=self._clock.now(), state=wish.state, reason=wish.reason)
        (result,) = await self._folder.fold([Change(execution.id, (end,), execution.drive)])
        if isinstance(result, ScheddError):
            raise result
        after = result.execution
        if after is not None and after.task_seq is not None and is_terminal(after):
            await self._queues.remove(after.task_seq)


def _said(result: bool | BaseException) -> bool | None:
    """The result of one of several; None where it met a failure that may pass. Raises any other."""
    if isinstance(result, BaseException):
        if not isinstance(result, ScheddError):
            raise result
        return None
    return result


def _has_been_asked(execution: Execution, asked: Asked) -> bool:
    before = execution.asked
    return before is not None and (before.action is Action.TERMINATE or asked.action is Action.CANCEL)
