"""What a task function may know and say about its own run: the `ctx` that it gets beside the payload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

import msgspec

from scheduler.wire.names import Names
from scheduler.wire.reports import LOG_MESSAGE_MAX, LOG_VALUES_MAX, NOTE_MAX, PROGRESS, LogLine, Progress, clip, encode
from scheduler.worker.levels import Levels
from scheduler.worker.task import Task

PROGRESS_EVERY_S = 0.5
LINES_MAX = 1_000
"""Log lines of one attempt; the next one says that the rest is only in the worker's own log."""

_task_log = logging.getLogger("scheduler.task")


class Said:
    """What `progress` and `heartbeat` return: it is on its way already; `await` it, or leave it."""

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.sleep(0).__await__()


class TaskLog(Levels):
    """`ctx.log`: a line for the execution's own log, and for the log of this process.

    `ctx.log.info("sent %d mails", 3, campaign="autumn")`: keyword values are kept beside the message.
    """

    def __init__(self, context: TaskContext, emit: Callable[[str, bytes], None], worker: str) -> None:
        self._context = context
        self._emit = emit
        self._worker = worker
        self._count = 0

    def log(self, level: int, message: str, /, *args: object, **values: Any) -> None:
        text = _formatted(message, args)
        execution = {"execution_id": self._context.execution_id, "attempt": self._context.attempt}
        _task_log.log(level, "%s", text, extra={"event": "task.log", "values": values, **execution})
        self._count += 1
        if self._count <= LINES_MAX:
            self._send(level, text, values)
        elif self._count == LINES_MAX + 1:
            self._send(logging.WARNING, f"more than {LINES_MAX} lines: the rest is in the worker's own log only", {})

    def _send(self, level: int, text: str, values: dict[str, Any]) -> None:
        line = LogLine(
            at=self._context.now(),
            level=logging.getLevelName(level).lower(),
            message=clip(text, LOG_MESSAGE_MAX),
            values=_bounded(values),
            attempt=self._context.attempt,
            worker=self._worker,
        )
        self._emit("log", encode(line))


class TaskContext:
    """One attempt, from the inside. Safe to use from the thread of a sync function; times are aware UTC.

    `attempt` counts over all drives, as on record; `max_tries` is the limit in force for this drive and `timeout_s` the
    one for this attempt: the smaller ones of schedule and decorator. `deadline` is when everything must be over.
    """

    def __init__(
        self, task: Task, *, attempt: int, max_tries: int, timeout_s: float | None, worker: str, names: Names,
        now: Callable[[], datetime], emit: Callable[[str, bytes], None], touch: Callable[[], None],
    ) -> None:  # fmt: skip
        self.execution_id = task.execution_id
        self.schedule_id = task.schedule_id
        self.queue = task.queue
        self.type = task.type
        self.kind = task.kind
        self.nominal_at = task.nominal_at
        self.fire_at = task.fire_at
        self.previous_at = task.previous_at
        self.next_at = task.next_at
        self.headers = dict(task.headers)
        self.attempt = attempt
        self.max_tries = max_tries
        self.deadline = task.deadline
        self.timeout_s = timeout_s
        self.now = now
        self._loop = asyncio.get_running_loop()
        self._subjects = {
            PROGRESS: names.report(task.queue, task.execution_id, attempt, PROGRESS),
            "log": names.log(task.execution_id),
        }
        self._emit_from_loop = emit
        self._touch = touch
        self._cancelled = threading.Event()
        self._progress: Progress | None = None
        self._progress_timer: asyncio.TimerHandle | None = None
        self._progress_at_s = 0.0
        self.log = TaskLog(self, self._emit, worker)

    @property
    def cancelled(self) -> bool:
        """Whether this attempt shall end: cancelled, timed out, or its worker is stopping. Ask in long loops."""
        return self._cancelled.is_set()

    def progress(self, fraction: float | None = None, note: str | None = None) -> Said:
        """Tell how far it is: a fraction from 0 to 1, a note, or both. The newest is sent, at most two a second."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress: {fraction!r} is no fraction from 0 to 1")
        body = Progress(fraction=fraction, note=None if note is None else clip(note, NOTE_MAX), at=self.now())
        self._in_loop(self._offer_progress, body)
        return Said()

    def heartbeat(self) -> Said:
        """Tell the queue at once that it is still being worked on; the worker does so by itself every ack_wait/3."""
        self._in_loop(self._touch)
        return Said()

    # --- for the worker

    def cancel(self) -> None:
        """From now on `cancelled` is true."""
        self._cancelled.set()

    def close(self) -> None:
        """Send the last progress; the end of the attempt is reported next."""
        if self._progress_timer is not None:
            self._progress_timer.cancel()
            self._send_progress()

    def _in_loop(self, call: Callable[..., object], *args: object) -> None:
        """Run it in the worker's loop: at once when we are in it, so that order is kept, else soon."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            call(*args)
            return
        with contextlib.suppress(RuntimeError):  # the worker is gone, and a thread of its still talks
            self._loop.call_soon_threadsafe(call, *args)

    def _emit(self, what: str, body: bytes) -> None:
        self._in_loop(self._emit_from_loop, self._subjects[what], body)

    def _offer_progress(self, body: Progress) -> None:
        self._progress = body
        if self._progress_timer is not None:
            return
        wait_s = self._progress_at_s + PROGRESS_EVERY_S - self._loop.time()
        if wait_s <= 0:
            self._send_progress()
        else:
            self._progress_timer = self._loop.call_later(wait_s, self._send_progress)

    def _send_progress(self) -> None:
        self._progress_timer = None
        body, self._progress = self._progress, None
        if body is not None:
            self._progress_at_s = self._loop.time()
            self._emit_from_loop(self._subjects[PROGRESS], encode(body))


def _formatted(message: str, args: tuple[object, ...]) -> str:
    try:
        return str(message) % args if args else str(message)
    except (TypeError, ValueError):
        return f"{message} {args!r}"


def _bounded(values: dict[str, Any]) -> dict[str, Any]:
    """The values as plain JSON within the limit; what is not JSON becomes text."""
    body = msgspec.json.encode(values, enc_hook=str)
    if len(body) > LOG_VALUES_MAX:
        return {"dropped": f"{len(body)} bytes of values are more than {LOG_VALUES_MAX}"}
    return dict(msgspec.json.decode(body))
