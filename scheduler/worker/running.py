"""One delivery from its arrival to its acknowledgement: claim, run, report, acknowledge, in this order only.

Whatever fails before the end is on record leaves the task unacknowledged: it is delivered again after the ack wait, and
what the reports say then decides (`deciding`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct
from nats.aio.msg import Msg

from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.core.model.execution import Failure
from scheduler.core.model.schedule import Backoff
from scheduler.jetstream.delivery import read_reply
from scheduler.wire.reports import Cancel as CancelRequest
from scheduler.wire.reports import Finished, Running
from scheduler.worker.calling import Raised, Verdict, start_call
from scheduler.worker.claiming import Claimed, settle
from scheduler.worker.context import TaskContext
from scheduler.worker.deciding import Bury, Done, Ending, How, Limits, Tries, Wait, decide_outcome, effective_limits
from scheduler.worker.handlers import ANY, Handler
from scheduler.worker.link import Binding, Link, log
from scheduler.worker.raising import Cancel, Fail, Retry
from scheduler.worker.reporting import Outbox, encode_result, report_finished
from scheduler.worker.task import Task, parse_task

NO_HANDLER_DELAY_S = 5.0
TIDY_S = 2.0
"""How long a function whose worker stops may tidy up before it is left behind."""
LEAST_GRACE_S = 0.05
CANCEL_GRACE_S = 10.0
"""The same for a cancelled one, where the cancel message names no grace."""


class Interrupt(Struct, frozen=True):
    """Why a run shall end before its function does, and how long the function may take for it."""

    how: How
    grace_s: float


class Run:
    """One delivered task in hand. `attempt` is 0 until it is claimed."""

    def __init__(self, task: Task, handler: Handler, binding: Binding, message: Msg) -> None:
        self.task = task
        self.handler = handler
        self.binding = binding
        self.message = message
        self.deliveries = read_reply(message.reply).delivered
        self.attempt = 0
        loop = asyncio.get_running_loop()
        self.interrupt: asyncio.Future[Interrupt] = loop.create_future()
        self.hurry: asyncio.Future[None] = loop.create_future()

    def renew(self, message: Msg) -> None:
        """The queue delivered it to us once more: from now on this delivery is the one to answer."""
        self.message, self.deliveries = message, read_reply(message.reply).delivered

    def stop(self, how: How, grace_s: float) -> None:
        """Ask it to end. The first asker decides how; a later one without patience ends the first one's grace."""
        if not self.interrupt.done():
            self.interrupt.set_result(Interrupt(how, grace_s))
        elif (how is How.STOPPED or grace_s <= 0) and not self.hurry.done():
            self.hurry.set_result(None)


class Runner:
    """Carries out deliveries. `in_hand` is by stream sequence: a task in hand is never taken up a second time."""

    def __init__(
        self, link: Link, handlers: Mapping[str, Handler], outbox: Outbox, *, changed: Callable[[], None]
    ) -> None:
        self._link = link
        self._handlers = handlers
        self._outbox = outbox
        self._changed = changed
        self._strange_types: set[str] = set()
        self._beats: set[asyncio.Future[None]] = set()
        self.in_hand: dict[int, Run] = {}
        self.stopping = False

    def running(self) -> list[Running]:
        """The attempts that this worker has claimed and not finished."""
        return [Running(run.task.execution_id, run.attempt) for run in self.in_hand.values() if run.attempt]

    def messages(self) -> Iterable[Msg]:
        """What the queues must hear of: everything in hand."""
        return [run.message for run in self.in_hand.values()]

    def cancel(self, execution_id: str, request: CancelRequest) -> None:
        """A cancel message came for an execution; nothing happens if it is not in hand."""
        grace_s = request.grace_s
        if grace_s is None:
            grace_s = CANCEL_GRACE_S if request.action == "cancel" else 0.0
        for run in self.in_hand.values():
            if run.task.execution_id == execution_id:
                run.stop(How.CANCELLED, grace_s)

    def interrupt_all(self, grace_s: float) -> None:
        """The worker stops: end everything that still runs and hand it back."""
        for run in self.in_hand.values():
            run.stop(How.STOPPED, grace_s)

    async def handle(self, message: Msg, binding: Binding) -> asyncio.Task[Verdict] | None:
        """Carry out one delivery. Returns the call if its function could not be ended and still runs."""
        if self.stopping:
            await self._link.hand_back(message, 0.0)
            return None
        seq = read_reply(message.reply).seq
        if seq in self.in_hand:  # our own, again: the server did not hear of us for an ack wait
            self.in_hand[seq].renew(message)
            return None
        run = await self._accept(message, binding)
        if run is None:
            return None
        self.in_hand[seq] = run
        try:
            return await self._carry_out(run, seq)
        except ScheddError as problem:
            log.warning("left to its next delivery: %s", problem, extra={"event": "worker.left", **_about(run)})
            return None
        finally:
            self._let_go(run, seq)

    def _let_go(self, run: Run, seq: int) -> None:
        if self.in_hand.get(seq) is run:  # else it is here again already, as another run
            del self.in_hand[seq]
        self._changed()

    async def _accept(self, message: Msg, binding: Binding) -> Run | None:
        """The task of a message; None after refusing it: poison is ended for good, a strange type is handed back."""
        try:
            task = parse_task(self._link.names, message.subject, message.headers or {}, message.data)
        except InvalidArgument as problem:
            log.error("refused: %s", problem, extra={"event": "worker.poison", "subject": message.subject})
            await self._link.refuse(message, problem.message)
            return None
        handler = self._handlers.get(task.type) or self._handlers.get(ANY)
        if handler is not None:
            return Run(task, handler, binding, message)
        if task.type not in self._strange_types and len(self._strange_types) < 1000:
            self._strange_types.add(task.type)
            text = "no function for type %r in this worker: its tasks are handed back"
            log.warning(text, task.type, extra={"event": "worker.no_handler", "queue": task.queue})
        await self._link.hand_back(message, NO_HANDLER_DELAY_S)
        return None

    async def _carry_out(self, run: Run, seq: int) -> asyncio.Task[Verdict] | None:
        task, limits = run.task, self._limits(run)
        step = await settle(self._link, task, run.binding, deliveries=run.deliveries, max_tries=limits.max_tries)
        if isinstance(step, Wait):
            await self._link.hand_back(run.message, step.delay_s)
            return None
        if isinstance(step, Done):
            await self._link.ack(run.message)
            return None
        if isinstance(step, Bury):
            if await report_finished(self._link, task, step.attempt, step.finished):
                await self._link.ack(run.message)
            return None
        run.attempt = step.attempt
        self._changed()
        if step.finished is not None:
            await self._conclude(run, seq, step, step.finished)
            return None
        ending, left_behind = await self._call(run, limits)
        await self._conclude(run, seq, step, self._outcome(run, limits, ending))
        return left_behind

    def _limits(self, run: Run) -> Limits:
        return effective_limits(
            schedule_tries=run.task.max_tries,
            schedule_timeout_s=run.task.timeout_s,
            own_tries=run.handler.max_tries,
            own_timeout_s=run.handler.timeout_s,
            deadline=run.task.deadline,
            now=self._link.clock.now(),
        )

    async def _call(self, run: Run, limits: Limits) -> tuple[Ending, asyncio.Task[Verdict] | None]:
        """Run the function to its end, or to the end of our patience."""
        try:
            payload = run.handler.read_payload(run.task.body)
        except InvalidArgument as problem:
            return Ending(how=How.UNUSABLE, failure=Failure("InvalidPayload", problem.message)), None
        if run.task.deadline is not None and run.task.deadline <= self._link.clock.now():
            return Ending(how=How.TIMED_OUT, failure=Failure("DeadlineExceeded", "its deadline had passed")), None
        if run.interrupt.done():  # asked to end while the claim was under way
            return _interrupted(run.interrupt.result(), limits), None
        context = self._context(run, limits)
        call = start_call(run.handler, payload, context)
        try:
            ends: set[asyncio.Future[Any]] = {call, run.interrupt}
            await asyncio.wait(ends, timeout=limits.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return _ending_of(call), None
            why = run.interrupt.result() if run.interrupt.done() else Interrupt(How.TIMED_OUT, run.handler.grace_s)
            await _end_call(call, context, run, why.grace_s)
            return _interrupted(why, limits, call if call.done() else None), None if call.done() else call
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            context.close()

    def _context(self, run: Run, limits: Limits) -> TaskContext:
        def touch() -> None:
            beat = asyncio.ensure_future(self._link.working(run.message))
            self._beats.add(beat)  # or it may be collected before it is sent
            beat.add_done_callback(self._beats.discard)

        return TaskContext(
            run.task,
            attempt=run.attempt,
            max_tries=limits.max_tries,
            timeout_s=limits.timeout_s,
            worker=self._link.worker_id,
            names=self._link.names,
            now=self._link.clock.now,
            emit=self._outbox.put,
            touch=touch,
        )

    def _outcome(self, run: Run, limits: Limits, ending: Ending) -> Finished:
        tries = Tries(
            attempt=run.attempt,
            attempts_before=run.task.attempts_before,
            max_tries=limits.max_tries,
            deliveries=run.deliveries,
            max_deliver=run.binding.max_deliver,
        )
        spread = random.random()  # noqa: S311 - spreads retries, no secret
        backoff = run.handler.backoff or run.task.backoff or Backoff()  # the decorator, the schedule, the default
        return decide_outcome(
            ending, tries, backoff, spread=spread, at=self._link.clock.now(), deadline=run.task.deadline
        )

    async def _conclude(self, run: Run, seq: int, claimed: Claimed, finished: Finished) -> None:
        """Report, then acknowledge or hand back. The task leaves our hands first: it may come back at once."""
        await self._outbox.flush()
        if not await report_finished(self._link, run.task, claimed.attempt, finished):
            text = "attempt %d was taken for lost and another has begun: its end is dropped"
            log.warning(text, claimed.attempt, extra={"event": "worker.superseded", **_about(run)})
            return
        self._let_go(run, seq)
        if finished.is_final:
            await self._link.ack(run.message)
        else:
            await self._link.hand_back(run.message, finished.retry_in_s or 0.0)
        self._tell(run, finished)

    def _tell(self, run: Run, finished: Finished) -> None:
        error = f": {finished.error.type}: {finished.error.message}" if finished.error else ""
        level = logging.INFO if finished.error is None else logging.WARNING
        text = f"attempt {run.attempt} of {run.task.execution_id}: {finished.outcome.value}{error}"
        log.log(level, "%s", text, extra={"event": "worker.finished", **_about(run)})


async def _end_call(call: asyncio.Task[Verdict], context: TaskContext, run: Run, grace_s: float) -> None:
    """Ask the function to end, and give it `grace_s`. Then an async one is cancelled once more, whatever it is tidying
    up; a thread can only be asked, and goes on behind our back."""
    context.cancel()
    if run.handler.is_async:
        call.cancel()
    ends: set[asyncio.Future[Any]] = {call, run.hurry}
    await asyncio.wait(ends, timeout=max(grace_s, LEAST_GRACE_S), return_when=asyncio.FIRST_COMPLETED)
    if run.handler.is_async and call.cancel():
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


def _about(run: Run) -> dict[str, object]:
    return {"execution_id": run.task.execution_id, "attempt": run.attempt, "queue": run.task.queue}
