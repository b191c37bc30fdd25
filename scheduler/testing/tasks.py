"""Running a task function in a test, without NATS: payload, middleware, timeout and outcome as in a worker.

    ended = await run_task(worker, "email:monthly", {"to": "ann"}, attempt=2)
    assert ended.outcome == "succeeded"
    assert ended.result == {"sent": 1}

It is the worker's own code that runs the attempt and decides how it ends (`scheduler.worker.attempt`); only what would
come from the queue and go to the streams is the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.model.execution import Failure, Kind
from scheduler.system.clock import SystemClock
from scheduler.testing.virtual_time import run_in_virtual_time
from scheduler.wire.ids import check_schedule_id, execution_id
from scheduler.wire.instants import cut
from scheduler.wire.names import Names
from scheduler.wire.reports import LogLine, Outcome, Progress, decode
from scheduler.worker import Worker
from scheduler.worker.attempt import Brake, finish, limits_of, run_attempt
from scheduler.worker.backoff import Span, span_s
from scheduler.worker.context import TaskContext
from scheduler.worker.deciding import How, Tries
from scheduler.worker.handlers import Handler
from scheduler.worker.task import Task

WORKER = "test-worker"
CANCEL_GRACE_S = 10.0


class TaskEnd(Struct, frozen=True, kw_only=True):
    """How an attempt ended.

    `outcome`: succeeded, failed, cancelled, timed_out, or retry: then another attempt would follow after `retry_in_s`
    (the middle of the backoff's jitter). `result` is what would be on record: JSON, so a tuple comes back as a list;
    None where there is none. `note`: why a result was dropped, or no try is left. `took_s` is virtual in virtual time.
    """

    outcome: Outcome
    result: Any = None
    error: Failure | None = None
    retry_in_s: float | None = None
    note: str | None = None
    logs: list[LogLine] = msgspec.field(default_factory=list)
    progress: list[Progress] = msgspec.field(default_factory=list)
    heartbeats: int = 0
    took_s: float = 0.0
    left_behind: bool = False
    """The function did not end when it was cancelled, and still runs."""

    @property
    def messages(self) -> list[str]:
        """Those of the log lines."""
        return [line.message for line in self.logs]


async def run_task(
    worker: Worker,
    type: str,  # noqa: A002 - the contract's word
    payload: Any | UnsetType = UNSET,
    *,
    queue: str | None = None,
    attempt: int = 1,
    max_tries: int = 3,
    timeout: Span | None = None,
    schedule: str = "test",
    kind: str = Kind.AUTO.value,
    nominal_at: datetime | None = None,
    previous_at: datetime | None = None,
    next_at: datetime | None = None,
    deadline: datetime | None = None,
    headers: Mapping[str, str] | None = None,
    cancel_after: Span | None = None,
    virtual_time: bool = False,
) -> TaskEnd:
    """Run one attempt of the worker's function for a type.

    Args:
        worker: with its functions and middleware; it is not connected to anything.
        type: of the task.
        payload: encoded as a schedule's is, decoded as the function's annotation says; `bytes` are the body itself.
        queue: default: the function's, else the worker's first. `attempt`: which try it is, from 1.
        max_tries: of the schedule; the smaller one of it and the function's holds. `timeout` the same.
        schedule: id of the schedule; the execution id follows from it and `nominal_at`.
        kind: auto, manual or backfill.
        nominal_at: default: now. The attempt begins at this time, and `deadline` is judged from it.
        previous_at: the neighbours in the schedule, as `next_at`.
        headers: the schedule's own.
        cancel_after: cancel it then, as `schedctl executions cancel` would.
        virtual_time: in a loop of its own, whose time jumps: a timeout of an hour takes no time. For functions that
            compute and sleep; what a fixture has opened in the test's own loop cannot be used there.

    Raises:
        NotFound: the worker has no function for that type (in that queue).
        InvalidArgument: an argument that no task could have; names it.
    """
    handler = _handler(worker, type, queue)
    at = cut(_aware(nominal_at, "nominal_at") or SystemClock().now())
    task = Task(
        execution_id=execution_id(check_schedule_id(schedule, field="schedule"), at),
        schedule_id=schedule,
        queue=queue or handler.queue or worker.queues[0],
        type=type,
        kind=Kind(kind).value,
        nominal_at=at,
        fire_at=at,
        previous_at=_aware(previous_at, "previous_at"),
        next_at=_aware(next_at, "next_at"),
        deadline=_aware(deadline, "deadline"),
        timeout_s=_seconds(timeout, "timeout"),
        max_tries=_tries(attempt, max_tries),
        headers=dict(headers or {}),
        body=_body(payload),
    )
    bench = _Bench(worker, handler, task, attempt, _seconds(cancel_after, "cancel_after"))
    return await (asyncio.to_thread(run_in_virtual_time, bench.run) if virtual_time else bench.run())


def _tries(attempt: int, max_tries: int) -> int:
    """`max_tries`, in which the attempt is one."""
    if not 1 <= attempt <= max_tries:
        raise InvalidArgument(f"attempt: {attempt} of {max_tries} tries cannot be", field="attempt")
    return max_tries


def _seconds(span: Span | None, field: str) -> float | None:
    return None if span is None else span_s(span, field=field)


def _handler(worker: Worker, type_: str, queue: str | None) -> Handler:
    worker.declared()  # functions of schedules in code get their types
    for name in worker.queues if queue is None else (queue,):
        handler = worker.handlers.find(name, type_)
        if handler is not None and (queue is None or queue in worker.queues):
            return handler
    where = f" in queue {queue!r}" if queue else ""
    known = ", ".join(worker.types) or "none"
    raise NotFound(f"the worker has no function for type {type_!r}{where}; it has: {known}", field="type")


def _body(payload: Any | UnsetType) -> bytes:
    if payload is UNSET:
        return b""
    if isinstance(payload, bytes):
        return payload
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError) as problem:
        raise InvalidArgument(f"payload: no JSON can be made of it: {problem}", field="payload") from None


def _aware(at: datetime | None, field: str) -> datetime | None:
    if at is not None and at.tzinfo is None:
        raise InvalidArgument(f"{field}: give it a time zone, as datetime(..., tzinfo=UTC)", field=field)
    return None if at is None else at.astimezone(UTC)


class _Bench:
    """One attempt with nothing around it: it notes what a worker would send."""

    def __init__(
        self, worker: Worker, handler: Handler, task: Task, attempt: int, cancel_after_s: float | None
    ) -> None:
        self._worker, self._handler, self._task, self._attempt = worker, handler, task, attempt
        self._cancel_after_s = cancel_after_s
        self._names = Names()
        self._logs: list[LogLine] = []
        self._progress: list[Progress] = []
        self._heartbeats = 0
        self._began_s = 0.0

    async def run(self) -> TaskEnd:
        self._loop = loop = asyncio.get_running_loop()
        self._began_s = loop.time()
        brake = Brake()
        if self._cancel_after_s is not None:
            loop.call_later(self._cancel_after_s, brake.stop, How.CANCELLED, CANCEL_GRACE_S)
        limits = limits_of(self._task, self._handler, self._now())
        ended = await run_attempt(
            self._task, self._handler, limits, brake,
            now=self._now(), context=lambda: self._context(limits.max_tries, limits.timeout_s),
            middleware=self._worker.layers,
        )  # fmt: skip
        tries = Tries(attempt=self._attempt, attempts_before=0, max_tries=limits.max_tries)
        finished = finish(ended, self._task, self._handler, tries, spread=0.5, at=self._now())
        await asyncio.sleep(0)  # what a thread said last is on its way
        raw = bytes(finished.result)
        return TaskEnd(
            outcome=finished.outcome,
            result=msgspec.json.decode(raw) if raw else None,
            error=finished.error,
            retry_in_s=finished.retry_in_s,
            note=finished.note,
            logs=self._logs,
            progress=self._progress,
            heartbeats=self._heartbeats,
            took_s=round(loop.time() - self._began_s, 6),
            left_behind=ended.left_behind is not None,
        )

    def _context(self, max_tries: int, timeout_s: float | None) -> TaskContext:
        return TaskContext(
            self._task,
            attempt=self._attempt,
            max_tries=max_tries,
            timeout_s=timeout_s,
            worker=WORKER,
            names=self._names,
            now=self._now,
            emit=self._note,
            touch=self._beat,
        )

    def _now(self) -> datetime:
        """The attempt begins at its fire time; from then on its loop's time counts."""
        return self._task.fire_at + timedelta(seconds=self._loop.time() - self._began_s)

    def _note(self, subject: str, body: bytes) -> None:
        if subject == self._names.log(self._task.execution_id):
            self._logs.append(decode(body, LogLine))
        else:
            self._progress.append(decode(body, Progress))

    def _beat(self) -> None:
        self._heartbeats += 1
