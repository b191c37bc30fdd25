"""Reports of workers become events of records. Runs on every replica, all from one durable consumer.

Replicas share the reports of one execution, so a `finished` may be folded before its `started`: then the start is read
back. A report that outruns the dispatcher's last write proves that the task was queued; its sequence comes from the
claim.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import Event, is_terminal
from scheduler.core.model.execution import Execution
from scheduler.core.tracking import AttemptEnded, AttemptStarted, Report, events_of_reports
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Poison, ReportMessage, Reports, TaskQueues
from scheduler.ports.telemetry import Telemetry
from scheduler.services.records import Change, Changed, Records, Stored
from scheduler.services.tracker.folding import Folder
from scheduler.services.tracker.loop import PASSING, PULL_S, run_turns
from scheduler.services.tracker.reading import read_report
from scheduler.wire.ids import is_execution_id

log = logging.getLogger(__name__)
LAG_EVERY_S = 5.0
BATCH = 256

_Groups = dict[tuple[str, str], list[ReportMessage]]  # by (queue, execution id)


class ReportTracker:
    """Pulls reports and folds them; a report is acknowledged when the record that it moved is written."""

    def __init__(
        self,
        *,
        reports: Reports,
        queues: TaskQueues,
        records: Records,
        folder: Folder,
        clock: Clock,
        telemetry: Telemetry,
        batch: int = BATCH,
    ) -> None:
        self._reports, self._queues, self._records, self._folder = reports, queues, records, folder
        self._clock, self._telemetry, self._batch = clock, telemetry, batch
        self._lag_told_s = 0.0

    async def run(self) -> None:
        """Fold reports until cancelled."""
        await run_turns("reports", self._clock, self.turn)

    async def turn(self) -> int:
        """Pull once and fold what came; the number of messages. Raises what kept the pull from working."""
        await self._tell_lag()
        batch = await self._reports.pull(self._batch, PULL_S)
        await self.fold(batch)
        return len(batch)

    async def _tell_lag(self) -> None:
        now_s = self._clock.boottime_s()
        if now_s - self._lag_told_s < LAG_EVERY_S:
            return
        self._lag_told_s = now_s
        self._telemetry.reports_lag(await self._reports.lag())

    async def fold(self, batch: Sequence[ReportMessage | Poison]) -> None:
        """Fold a batch and acknowledge what was folded. Raises nothing for what can come again."""
        groups: _Groups = defaultdict(list)
        for message in batch:
            if isinstance(message, Poison):
                await self._drop_poison(message)
            elif not is_execution_id(message.execution_id):
                problem = "it names no execution"
                await self._drop_poison(Poison(subject=message.execution_id, ack=message.ack, problem=problem))
            else:
                groups[message.queue, message.execution_id].append(message)
        try:
            await self._fold_groups(groups)
        except PASSING as problem:
            log.warning("reports come again", extra={"event": "reports_delayed", "error": problem.message})
        except Exception:
            log.exception("a batch of reports broke", extra={"event": "reports_broke"})
            for key, messages in groups.items():
                await self._fold_alone(key, messages)

    async def _fold_alone(self, key: tuple[str, str], messages: list[ReportMessage]) -> None:
        """After a batch broke: find the execution that breaks it, set its reports apart, keep the others."""
        try:
            await self._fold_groups({key: messages})
        except PASSING as problem:
            log.warning("reports come again", extra={"event": "reports_delayed", "error": problem.message})
        except Exception:
            log.exception("reports set apart", extra={"event": "report_broke", "execution": key[1]})
            self._telemetry.dropped(what="report", reason="broke")
            await self._reports.ack([message.ack for message in messages])

    async def _drop_poison(self, poison: Poison) -> None:
        extra = {"event": "report_poison", "subject": poison.subject, "error": poison.problem}
        log.warning("unreadable report", extra=extra)
        self._telemetry.dropped(what="report", reason="poison")
        await self._reports.ack([poison.ack])

    async def _fold_groups(self, groups: _Groups) -> None:
        read = {key: _read(messages) for key, messages in groups.items()}
        moving = {key: reports for key, reports in read.items() if reports}
        idle = [message.ack for key in read.keys() - moving.keys() for message in groups[key]]
        stored = await self._records.get_many([execution_id for _, execution_id in moving])
        known = {each.execution.id: each for each in stored if each is not None}
        results = await self._folder.fold(await self._changes(moving, known), known)
        done = list(idle)
        for key, result in zip(moving, results, strict=True):
            if isinstance(result, ScheddError):
                extra = {"event": "reports_delayed", "execution": key[1], "error": result.message}
                log.warning("reports come again", extra=extra)
                continue
            self._count_strays(result, len(moving[key]))
            done += [message.ack for message in groups[key]]
        await self._reports.ack(done)

    def _count_strays(self, result: Changed, count: int) -> None:
        if result.execution is None:
            for _ in range(count):
                self._telemetry.dropped(what="report", reason="no_record")

    async def _changes(self, groups: dict[tuple[str, str], list[Report]], known: dict[str, Stored]) -> list[Change]:
        executions = {execution_id: each.execution for execution_id, each in known.items()}
        await self._add_missing_starts(groups, executions)
        task_seqs = await self._task_seqs(executions)
        return [
            Change(execution_id, _decide(tuple(reports), task_seqs.get(execution_id)))
            for (_, execution_id), reports in groups.items()
        ]

    async def _add_missing_starts(
        self, groups: dict[tuple[str, str], list[Report]], known: dict[str, Execution]
    ) -> None:
        """A `finished` whose `started` the record has not seen: another replica has it, or had it."""
        keys = [key for key, reports in groups.items() if _lacks_start(known.get(key[1]), reports)]
        if not keys:
            return
        for key, message in zip(keys, await self._reports.last_started(keys), strict=True):
            report = None if message is None else read_report(message)
            if report is not None:
                groups[key].append(report)

    async def _task_seqs(self, known: dict[str, Execution]) -> dict[str, int]:
        """Task sequences of executions whose records do not know that they are queued: the claim's + 1."""
        behind = [each for each in known.values() if each.task_seq is None and not is_terminal(each)]
        seqs = await asyncio.gather(*(self._queues.claimed_seq(each.id, each.drive) for each in behind))
        return {each.id: seq + 1 for each, seq in zip(behind, seqs, strict=True) if seq is not None}


def _read(messages: Sequence[ReportMessage]) -> list[Report]:
    return [report for message in messages if (report := read_report(message)) is not None]


def _lacks_start(execution: Execution | None, reports: Sequence[Report]) -> bool:
    if execution is None or is_terminal(execution):
        return False
    started = {each.attempt for each in reports if isinstance(each, AttemptStarted)}
    if execution.started_at is not None:
        started.add(execution.attempt)
    return any(isinstance(each, AttemptEnded) and each.attempt not in started for each in reports)


def _decide(reports: tuple[Report, ...], task_seq: int | None) -> Callable[[Execution], tuple[Event, ...]]:
    def decide(execution: Execution) -> tuple[Event, ...]:
        return events_of_reports(execution, reports, task_seq=task_seq)

    return decide
