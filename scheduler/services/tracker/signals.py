"""Signals of the server become events of records: what plain workers did with their tasks. Runs on every replica.

A signal names a task by its sequence only. The claim of a task stands right before it, so `task_seq - 1` names the
execution; where the claim has expired under a long backlog, the record that knows the sequence does. A signal that says
the task will never end by itself (the last NAK, max deliveries) makes us remove it: record first.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta

from msgspec import Struct, field

from scheduler.core.errors import ScheddError
from scheduler.core.lifecycle import Event, is_terminal
from scheduler.core.model.execution import Execution
from scheduler.core.tracking import Judgement, SignalKind, Surroundings, TaskSignal, judge_signals, newest_start
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Poison, Reports, Signal, Signals, TaskQueues
from scheduler.ports.telemetry import Telemetry
from scheduler.services.executions import ExecutionIndex
from scheduler.services.records import Change, Records, Stored
from scheduler.services.tracker.folding import Folder
from scheduler.services.tracker.loop import PASSING, PULL_S, run_turns
from scheduler.services.tracker.reading import read_report
from scheduler.services.tracker.workers import Workers
from scheduler.wire.advisories import REMOVED_REASON
from scheduler.wire.ids import is_execution_id

log = logging.getLogger(__name__)
BATCH = 256


class _Case(Struct):
    """One task that signals came about, and what is found out about it."""

    task_seq: int
    signals: list[Signal]
    execution_id: str | None = None
    drive: int | None = None
    stored: Stored | None = None
    known: Surroundings = field(default_factory=Surroundings)
    judgement: Judgement = field(default_factory=Judgement)
    problem: ScheddError | None = None

    @property
    def execution(self) -> Execution | None:
        return None if self.stored is None else self.stored.execution

    @property
    def drive_now(self) -> int | None:
        """In which its task is, as its record says."""
        return None if self.execution is None else self.execution.drive

    @property
    def folded(self) -> list[Signal]:
        """What need not come again."""
        held = SignalKind.MAX_DELIVERIES if self.judgement.hold else None
        return [each for each in self.signals if each.kind != held]

    @property
    def is_last_word(self) -> bool:
        return any(each.kind == SignalKind.MAX_DELIVERIES for each in self.signals)


class SignalTracker:
    """Pulls signals and folds them; a signal is acknowledged when the record that it moved is written."""

    def __init__(
        self,
        *,
        signals: Signals,
        reports: Reports,
        queues: TaskQueues,
        records: Records,
        folder: Folder,
        workers: Workers,
        index: ExecutionIndex,
        clock: Clock,
        telemetry: Telemetry,
        batch: int = BATCH,
    ) -> None:
        self._signals, self._reports, self._queues = signals, reports, queues
        self._records, self._folder, self._workers, self._index = records, folder, workers, index
        self._clock, self._telemetry, self._batch = clock, telemetry, batch

    async def run(self) -> None:
        """Fold signals until cancelled."""
        await run_turns("signals", self._clock, self.turn)

    async def turn(self) -> int:
        """Pull once and fold what came; the number of messages. Raises what kept the pull from working."""
        with contextlib.suppress(ScheddError):  # most signals need no worker's row; those that do look again
            await self._workers.keep_up()
        batch = await self._signals.pull(self._batch, PULL_S)
        await self.fold(batch)
        return len(batch)

    async def fold(self, batch: Sequence[Signal | Poison]) -> None:
        """Fold a batch and acknowledge what was folded. Raises nothing for what can come again."""
        by_task: dict[int, list[Signal]] = defaultdict(list)
        for signal in batch:
            if isinstance(signal, Poison):
                await self._drop_poison(signal)
            else:
                by_task[signal.task_seq].append(signal)
        cases = [_Case(task_seq, signals) for task_seq, signals in by_task.items()]
        try:
            await self._fold_cases(cases)
        except PASSING as problem:
            log.warning("signals come again", extra={"event": "signals_delayed", "error": problem.message})
        except Exception:
            log.exception("a batch of signals broke", extra={"event": "signals_broke"})
            for case in cases:
                await self._fold_alone(_Case(case.task_seq, case.signals))

    async def _fold_alone(self, case: _Case) -> None:
        """After a batch broke: find the task that breaks it, set its signals apart, keep the others."""
        try:
            await self._fold_cases([case])
        except PASSING as problem:
            log.warning("signals come again", extra={"event": "signals_delayed", "error": problem.message})
        except Exception:
            log.exception("signals set apart", extra={"event": "signal_broke", "task_seq": case.task_seq})
            await self._drop([case], "broke")

    async def _drop_poison(self, poison: Poison) -> None:
        extra = {"event": "signal_poison", "subject": poison.subject, "error": poison.problem}
        log.warning("unreadable signal", extra=extra)
        self._telemetry.dropped(what="signal", reason="poison")
        await self._signals.ack([poison.ack])

    async def _drop(self, cases: Sequence[_Case], reason: str) -> None:
        for _ in [signal for case in cases for signal in case.signals]:
            self._telemetry.dropped(what="signal", reason=reason)
        await self._signals.ack([signal.ack for case in cases for signal in case.signals])

    # --- observe

    async def _fold_cases(self, cases: list[_Case]) -> None:
        cases = await self._recorded(await self._recognised(cases))
        await self._survey([case for case in cases if case.execution and not is_terminal(case.execution)])
        await self._apply(cases)
        await self._signals.ack([signal.ack for case in cases if case.problem is None for signal in case.folded])

    async def _recognised(self, cases: list[_Case]) -> list[_Case]:
        """The tasks whose execution is known; others are nobody's that we could find, and are dropped."""
        if not cases:
            return []
        claims = await self._queues.claim_at([case.task_seq - 1 for case in cases])
        for case, claim in zip(cases, claims, strict=True):
            if claim is not None and is_execution_id(claim.execution_id):
                case.execution_id, case.drive = claim.execution_id, claim.drive
        expired = [case for case in cases if case.execution_id is None]
        if expired:
            await self._recognise_by_record(expired)
        await self._drop([case for case in cases if case.execution_id is None], "unknown_task")
        return [case for case in cases if case.execution_id is not None]

    async def _recognise_by_record(self, cases: list[_Case]) -> None:
        """By the records that have not ended: bounded, in memory, and needed only when a claim has expired."""
        await self._index.current()
        seen_by_now = self._index.open_before(self._clock.now() + timedelta(days=1))
        open_ids = {seen.summary.task_seq: seen.id for seen in seen_by_now}
        for case in cases:
            case.execution_id = open_ids.get(case.task_seq)

    async def _recorded(self, cases: list[_Case]) -> list[_Case]:
        """The tasks whose record is there and in the same drive."""
        stored = await self._records.get_many([str(case.execution_id) for case in cases])
        for case, each in zip(cases, stored, strict=True):
            case.stored = each
        missing = [case for case in cases if case.execution is None]
        past = [case for case in cases if case.execution and case.drive not in (None, case.execution.drive)]
        for case in (*missing, *past):
            if case.is_last_word:  # nobody will ever get it, and no record waits for it
                await self._queues.remove(case.task_seq)
        await self._drop(missing, "no_record")
        await self._drop(past, "past_drive")
        return [case for case in cases if case not in missing and case not in past]

    async def _survey(self, cases: list[_Case]) -> None:
        """Find out what else the judgement needs: was anything started, who serves the queue, is the worker alive."""
        keys = [(case.execution.queue, case.execution.id) for case in cases if case.execution]
        starts = await self._reports.last_started(keys) if keys else []
        handed_back = (SignalKind.NAK, SignalKind.MAX_DELIVERIES)
        if any(signal.kind in handed_back for case in cases for signal in case.signals):
            await self._workers.look()
        for case, message in zip(cases, starts, strict=True):
            report = None if message is None else read_report(message)
            reports = () if report is None else (report,)
            case.known = self._surroundings(case, Surroundings(reports=reports))
            if reports and case.is_last_word:
                await self._look_closely(case)

    def _surroundings(self, case: _Case, known: Surroundings) -> Surroundings:
        assert case.execution is not None
        queue, at = case.execution.queue, max(each.at for each in case.signals)
        return Surroundings(
            reports=known.reports,
            is_sdk_queue=self._workers.served(queue, at),
            has_handler=self._workers.handled(queue, case.execution.type, at),
        )

    async def _look_closely(self, case: _Case) -> None:
        """The task will not be delivered again: what came of the attempt that was started, and does it still run?"""
        assert case.execution is not None
        messages = await self._reports.all_of(case.execution.queue, case.execution.id)
        reports = tuple(report for each in messages if (report := read_report(each)) is not None)
        start = newest_start(case.execution, reports)
        rows = await self._workers.rows([start.worker] if start and start.worker else [])
        alive = start is not None and any(row.runs(case.execution.id, start.attempt) for row in rows.values())
        case.known = Surroundings(
            reports=reports,
            is_sdk_queue=case.known.is_sdk_queue,
            has_handler=case.known.has_handler,
            is_alive=alive,
        )

    # --- decide, apply

    async def _apply(self, cases: list[_Case]) -> None:
        known = {str(case.execution_id): case.stored for case in cases if case.stored}
        results = await self._folder.fold(
            [Change(str(case.execution_id), _decide(case), case.drive_now) for case in cases], known
        )
        for case, result in zip(cases, results, strict=True):
            if isinstance(result, ScheddError):
                case.problem = result
            elif case.judgement.remove:
                await self._remove(case)
            if case.problem is not None:
                extra = {"event": "signals_delayed", "execution": case.execution_id, "error": case.problem.message}
                log.warning("signals come again", extra=extra)

    async def _remove(self, case: _Case) -> None:
        """Only now, that the record says what became of it."""
        try:
            await self._queues.remove(case.task_seq)
        except ScheddError as problem:
            case.problem = problem


def _decide(case: _Case) -> Callable[[Execution], tuple[Event, ...]]:
    signals = [_task_signal(each) for each in case.signals]

    def decide(execution: Execution) -> tuple[Event, ...]:
        case.judgement = judge_signals(execution, signals, case.known)
        return case.judgement.events

    return decide


def _task_signal(signal: Signal) -> TaskSignal:
    return TaskSignal(
        kind=SignalKind(signal.kind),
        task_seq=signal.task_seq,
        deliveries=signal.deliveries,
        at=signal.at,
        reason=signal.reason,
        is_removal=signal.reason == REMOVED_REASON,
    )
