"""Custom actions of a worker: functions for a schedule that people call by hand, with a result.

    @worker.action("search-index", "Rebuild index", timeout="2m")
    async def rebuild(payload, ctx): ...

They are no executions: no attempt, no retry, no record. A call is carried out once or not at all, at most
`ACTIONS_AT_ONCE` at a time beside the tasks; whoever called waits for the end. A worker that stops takes no more calls
and lets those that run end, like its tasks.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from scheduler.core.errors import InvalidArgument
from scheduler.jetstream.errors import from_exception
from scheduler.wire.actions import (
    ACTION_GROUP,
    TIMEOUT_MAX_S,
    TITLE_MAX,
    Answer,
    Call,
    Fault,
    Offer,
    check_action,
    decode_call,
    slug,
)
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.reports import ERROR_MESSAGE_MAX, ERROR_TYPE_MAX, Outcome, clip, encode
from scheduler.worker.backoff import Span, span_s
from scheduler.worker.calling import Raised, Verdict, start_call
from scheduler.worker.handlers import Handler, make_handler
from scheduler.worker.levels import Levels
from scheduler.worker.link import Link, log
from scheduler.worker.reporting import encode_result

ACTIONS_AT_ONCE = 4
TIDY_S = 2.0
_TYPE = "action"  # a word for messages: no type of a task


class ActionLog(Levels):
    """`ctx.log` of an action: the log of this process. Keyword values are kept beside the message."""

    def __init__(self, about: dict[str, object]) -> None:
        self._about = about
        self._log = logging.getLogger("scheduler.action")

    def log(self, level: int, message: str, /, *args: object, **values: Any) -> None:
        self._log.log(level, message, *args, extra={"event": "action.log", "values": values, **self._about})


class ActionContext:
    """What a function may know of its call. `cancelled`: its time is over; ask in long loops of a sync function."""

    def __init__(self, offer: Offer, timeout_s: float) -> None:
        self.schedule_id, self.action, self.title = offer.schedule, offer.action, offer.title
        self.timeout_s = timeout_s
        self.cancelled = False
        self.log = ActionLog({"schedule": offer.schedule, "action": offer.action})


class Action(Struct, frozen=True):
    """One function and what it is offered as."""

    offer: Offer
    handler: Handler


def make_action(
    schedule_id: str, title: str, function: Callable[..., Any], *, name: str | None = None, timeout: Span | None = None
) -> Action:
    """Check an action. Its name is the slug of its title, else of its function. Raises InvalidArgument."""
    check_schedule_id(schedule_id, field="schedule_id")
    if not isinstance(title, str) or not title.strip() or len(title) > TITLE_MAX or not title.isprintable():
        raise InvalidArgument(f"title: a line of 1 to {TITLE_MAX} characters", field="title")
    own = getattr(function, "__name__", "")
    token = name or slug(title) or (slug(own) if own.isidentifier() else "")
    if not token:
        raise InvalidArgument(f"title: {title!r} makes no name of an action: give one, name=...", field="name")
    timeout_s = TIMEOUT_MAX_S if timeout is None else span_s(timeout, field="timeout")
    if timeout_s > TIMEOUT_MAX_S:
        raise InvalidArgument(f"timeout: an action may take {TIMEOUT_MAX_S:g} s at most", field="timeout")
    handler = make_handler(_TYPE, _of_payload(function), timeout=timeout_s)
    return Action(Offer(schedule=schedule_id, action=check_action(token, "name"), title=title), handler)


def _of_payload(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function without parameters as one that takes the payload and leaves it."""
    if not callable(function) or inspect.signature(function).parameters:
        return function
    if inspect.iscoroutinefunction(function):

        async def of_loop(payload: Any) -> Any:
            return await function()

        return of_loop

    def of_thread(payload: Any) -> Any:
        return function()

    return of_thread


class ActionServer:
    """Answers the calls of one connected worker, each in a task that is kept in `working`."""

    def __init__(self, link: Link, actions: Sequence[Action], working: set[asyncio.Task[None]]) -> None:
        self._link, self._actions, self._working = link, actions, working
        self._subscriptions: list[Subscription] = []
        self._calls: set[asyncio.Task[Verdict]] = set()
        self._stopping = False

    async def start(self) -> None:
        for action in self._actions:

            async def hear(message: Msg, action: Action = action) -> None:
                self._begin(message, action)

            subject = self._link.names.action(action.offer.action, action.offer.schedule)
            self._subscriptions.append(await self._link.client.subscribe(subject, queue=ACTION_GROUP, cb=hear))

    async def leave(self) -> None:
        """Take no more calls; those that are on their way are refused."""
        self._stopping = True
        for subscription in self._subscriptions:
            try:
                await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py has no annotation there
            except Exception as problem:
                log.debug("drain: %s", from_exception(problem, "actions"))

    def interrupt(self) -> None:
        """End those that still run; whoever waits is told so."""
        for call in self._calls:
            call.cancel()

    def _begin(self, message: Msg, action: Action) -> None:
        task = asyncio.create_task(self._answer(message, action), name=f"action {action.offer.action}")
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _answer(self, message: Msg, action: Action) -> None:
        started_s = asyncio.get_running_loop().time()
        try:
            call = decode_call(message.data)
        except InvalidArgument as problem:
            answer = self._refused("InvalidCall", problem.message)
        else:
            answer = self._no_place(call) or await self._carry_out(call, action, started_s)
        extra = {"event": "worker.action", "schedule": action.offer.schedule, "action": action.offer.action}
        log.info("action %s of %s: %s", action.offer.action, action.offer.schedule, answer.outcome, extra=extra)
        try:
            await self._link.client.publish(message.reply, encode(answer))
        except Exception as problem:
            log.warning("an action's answer was not sent: %s", from_exception(problem, "answering"), extra=extra)

    def _no_place(self, call: Call) -> Answer | None:
        """Why it is not begun; None: it is."""
        if self._stopping:
            return self._refused("WorkerStopped", "the worker stops")
        if len(self._calls) >= ACTIONS_AT_ONCE:
            return self._refused("Busy", f"it carries out {ACTIONS_AT_ONCE} actions already: try again")
        if call.until is not None and call.until <= self._link.clock.now():
            return self._refused("TooLate", "it came after its time was over")
        return None

    def _refused(self, kind: str, why: str) -> Answer:
        return Answer(outcome="refused", worker=self._link.worker_id, error=Fault(kind, why))

    async def _carry_out(self, call: Call, action: Action, started_s: float) -> Answer:
        try:
            payload = action.handler.read_payload(bytes(call.payload))
        except InvalidArgument as problem:
            return self._ended(Outcome.FAILED, started_s, fault=Fault("InvalidPayload", problem.message))
        timeout_s = min(call.timeout_s, action.handler.timeout_s or TIMEOUT_MAX_S)
        context = ActionContext(action.offer, timeout_s)
        running = start_call(action.handler, payload, context, name=f"action {action.offer.action}")
        self._calls.add(running)  # until it has really ended: a thread that hangs keeps its place
        running.add_done_callback(self._calls.discard)
        await asyncio.wait({running}, timeout=timeout_s)
        if not running.done():
            context.cancelled = True
            running.cancel()
            await asyncio.wait({running}, timeout=TIDY_S)
            fault = Fault("TimeoutError", f"no end within {timeout_s:g} s")
            return self._ended(Outcome.TIMED_OUT, started_s, fault=fault)
        if running.cancelled():
            return self._ended(Outcome.FAILED, started_s, fault=Fault("WorkerStopped", "the worker was stopped"))
        return self._of_verdict(running.result(), started_s)

    def _of_verdict(self, verdict: Verdict, started_s: float) -> Answer:
        if isinstance(verdict, Raised):
            log.warning("an action failed: %s", verdict.failure.traceback or verdict.failure.message)
            kind, message = verdict.failure.type, verdict.failure.message
            fault = Fault(clip(kind, ERROR_TYPE_MAX), clip(message, ERROR_MESSAGE_MAX))
            return self._ended(Outcome.FAILED, started_s, fault=fault)
        result, note = encode_result(verdict.value)
        if note is not None:
            return self._ended(Outcome.SUCCEEDED, started_s, fault=Fault("ResultDropped", note))
        return Answer(
            outcome=Outcome.SUCCEEDED, worker=self._link.worker_id, duration_s=_since(started_s), result=result
        )

    def _ended(self, outcome: Outcome, started_s: float, *, fault: Fault) -> Answer:
        return Answer(outcome=outcome, worker=self._link.worker_id, duration_s=_since(started_s), error=fault)


def _since(started_s: float) -> float:
    return asyncio.get_running_loop().time() - started_s
