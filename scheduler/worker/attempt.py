"""One attempt, from its payload to its end: the same in a worker and in the test kit (`scheduler.testing`).

What is claimed is run here and nowhere else: payload read, middleware and function called, timeout and cancelling,
what was returned or raised turned into an `Ending`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Failure
from scheduler.core.model.schedule import Backoff
from scheduler.wire.reports import Finished
from scheduler.worker.calling import Raised, Verdict, start_call
from scheduler.worker.context import TaskContext
from scheduler.worker.deciding import Ending, How, Limits, Tries, decide_outcome, effective_limits
from scheduler.worker.handlers import Handler, Layer
from scheduler.worker.link import log
from scheduler.worker.raising import Cancel, Fail, Retry
from scheduler.worker.reporting import encode_result
from scheduler.worker.task import Task

TIDY_S = 2.0
"""How long a function whose worker stops may tidy up before it is left behind."""
LEAST_GRACE_S = 0.05


class Interrupt(Struct, frozen=True):
    """Why a run shall end before its function does, and how long the function may take for it."""

    how: How
    grace_s: float


class Brake:
    """How a run is asked to end. `hurry`: the grace of the first who asked is over."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.interrupt: asyncio.Future[Interrupt] = loop.create_future()
        self.hurry: asyncio.Future[None] = loop.create_future()

    def stop(self, how: How, grace_s: float) -> None:
        """Ask it to end. The first asker decides how; a later one without patience ends the first one's grace."""
        if not self.interrupt.done():
            self.interrupt.set_result(Interrupt(how, grace_s))
        elif (how is How.STOPPED or grace_s <= 0) and not self.hurry.done():
            self.hurry.set_result(None)


class Ended(Struct, frozen=True):
    """How an attempt ended. `left_behind`: the call of a function that could not be ended and still runs."""

    ending: Ending
    left_behind: asyncio.Task[Verdict] | None = None


def limits_of(task: Task, handler: Handler, now: datetime) -> Limits:
    """What holds for an attempt that would begin now."""
    return effective_limits(
        schedule_tries=task.max_tries,
        schedule_timeout_s=task.timeout_s,
        own_tries=handler.max_tries,
        own_timeout_s=handler.timeout_s,
        deadline=task.deadline,
        now=now,
    )


async def run_attempt(
    task: Task, handler: Handler, limits: Limits, brake: Brake, *, now: datetime,
    context: Callable[[], TaskContext], middleware: Sequence[Layer] = (),
) -> Ended:  # fmt: skip
    """Run the function to its end, or to the end of our patience."""
    try:
        payload = handler.read_payload(task.body)
    except InvalidArgument as problem:
        return Ended(Ending(how=How.UNUSABLE, failure=Failure("InvalidPayload", problem.message)))
    if task.deadline is not None and task.deadline <= now:
        return Ended(Ending(how=How.TIMED_OUT, failure=Failure("DeadlineExceeded", "its deadline had passed")))
    if brake.interrupt.done():  # asked to end while the claim was under way
        return Ended(_interrupted(brake.interrupt.result(), limits))
    inside = context()
    call = start_call(handler, payload, inside, middleware, name=f"run {task.execution_id}")
    try:
        return await _patiently(call, inside, handler, limits, brake)
    except asyncio.CancelledError:
        call.cancel()
        raise
    finally:
        inside.close()


async def _patiently(
    call: asyncio.Task[Verdict], context: TaskContext, handler: Handler, limits: Limits, brake: Brake
) -> Ended:
    ends: set[asyncio.Future[Any]] = {call, brake.interrupt}
    await asyncio.wait(ends, timeout=limits.timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if call.done():
        return Ended(_ending_of(call))
    why = brake.interrupt.result() if brake.interrupt.done() else Interrupt(How.TIMED_OUT, handler.grace_s)
    await _end_call(call, context, handler, brake, why.grace_s)
    return Ended(_interrupted(why, limits, call), None) if call.done() else Ended(_interrupted(why, limits), call)


async def _end_call(
    call: asyncio.Task[Verdict], context: TaskContext, handler: Handler, brake: Brake, grace_s: float
) -> None:
    """Ask the function to end, and give it `grace_s`. Then an async one is cancelled once more, whatever it is tidying
    up; a thread can only be asked, and goes on behind our back."""
    context.cancel()
    call.cancel()
    ends: set[asyncio.Future[Any]] = {call, brake.hurry}
    await asyncio.wait(ends, timeout=max(grace_s, LEAST_GRACE_S), return_when=asyncio.FIRST_COMPLETED)
    if handler.is_async and call.cancel():
        await asyncio.wait({call}, timeout=LEAST_GRACE_S)
    if not call.done():
        text = "the function did not end when asked to; its slot stays taken until it does"
        log.error(text, extra={"event": "worker.left_behind", "execution_id": context.execution_id})


def _ending_of(call: asyncio.Task[Verdict]) -> Ending:
    if call.cancelled():
        return Ending(how=How.RAISED, failure=Failure("CancelledError", "the function was cancelled from within"))
    verdict = call.result()
    if isinstance(verdict, Raised):
        return _ending_of_raised(verdict)
    result, note = encode_result(verdict.value)
    return Ending(how=How.RETURNED, result=result, note=note)


def _ending_of_raised(verdict: Raised) -> Ending:
    match verdict.asked:
        case Retry(after_s=after_s):
            return Ending(how=How.RAISED, failure=verdict.failure, retry_in_s=after_s)
        case Fail():
            return Ending(how=How.GAVE_UP, failure=verdict.failure)
        case Cancel():
            return Ending(how=How.CANCELLED, failure=verdict.failure)
        case None:
            return Ending(how=How.RAISED, failure=verdict.failure)


def _interrupted(why: Interrupt, limits: Limits, call: asyncio.Task[Verdict] | None = None) -> Ending:
    """The end of a run that was asked to end; what its function still returned is kept beside a cancel."""
    if why.how is How.TIMED_OUT:
        return Ending(
            how=why.how, failure=Failure("TimeoutError", f"no end within the timeout of {limits.timeout_s:g} s")
        )
    if why.how is How.STOPPED:
        return Ending(how=why.how, failure=Failure("WorkerStopped", "the worker was stopped while it ran"))
    if call is None or call.cancelled():
        return Ending(how=why.how)
    own = _ending_of(call)
    return Ending(how=why.how, result=own.result, failure=own.failure, note=own.note)


def finish(ended: Ended, task: Task, handler: Handler, tries: Tries, *, spread: float, at: datetime) -> Finished:
    """The report of an attempt. `spread` from 0 to 1 places the pause before the next one within its jitter."""
    backoff = handler.backoff or task.backoff or Backoff()  # the decorator, the schedule, the default
    return decide_outcome(ended.ending, tries, backoff, spread=spread, at=at, deadline=task.deadline)
