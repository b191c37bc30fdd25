"""One delivery from its arrival to its acknowledgement: claim, run, report, acknowledge, in this order only.

Whatever fails before the end is on record leaves the task unacknowledged: it is delivered again after the ack wait, and
what the reports say then decides (`deciding`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence

from nats.aio.msg import Msg

from scheduler.core.ending import GRACE_S
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.jetstream.delivery import read_reply
from scheduler.wire.reports import Cancel as CancelRequest
from scheduler.wire.reports import Finished, Running
from scheduler.worker.attempt import Brake, Ended, finish, limits_of, run_attempt
from scheduler.worker.calling import Verdict
from scheduler.worker.claiming import Claimed, settle
from scheduler.worker.context import TaskContext
from scheduler.worker.deciding import Bury, Done, How, Limits, Tries, Wait
from scheduler.worker.handlers import Handler, Handlers, Layer
from scheduler.worker.link import Binding, Link, log
from scheduler.worker.outbox import Outbox
from scheduler.worker.reporting import report_finished
from scheduler.worker.slots import Slots
from scheduler.worker.task import Task, parse_task
from scheduler.worker.turns import AllTurns, Keep, Return, Turns, decide_full

NO_HANDLER_DELAY_S = 5.0


class Run:
    """One delivered task in hand. `attempt` is 0 until it is claimed."""

    def __init__(self, task: Task, handler: Handler, binding: Binding, message: Msg) -> None:
        self.task = task
        self.handler = handler
        self.binding = binding
        self.message = message
        self.deliveries = read_reply(message.reply).delivered
        self.attempt = 0
        self.is_waiting = False
        self.brake = Brake()

    def renew(self, message: Msg) -> None:
        """The queue delivered it to us once more: from now on this delivery is the one to answer."""
        self.message, self.deliveries = message, read_reply(message.reply).delivered


class Runner:
    """Carries out deliveries. `in_hand` is by stream sequence: a task in hand is never taken up a second time."""

    def __init__(
        self, link: Link, handlers: Handlers, slots: Slots, turns: AllTurns, outbox: Outbox, *,
        middleware: Sequence[Layer], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._link = link
        self._handlers = handlers
        self._slots, self._turns = slots, turns
        self._middleware = middleware
        self._outbox = outbox
        self._changed = changed
        self._strange_types: set[str] = set()
        self._beats: set[asyncio.Future[None]] = set()
        self.in_hand: dict[int, Run] = {}
        self.stopping = False

    def running(self) -> list[Running]:
        """The attempts that this worker has claimed and not finished."""
        return [Running(run.task.execution_id, run.attempt) for run in self.in_hand.values() if run.attempt]

    def in_loop(self) -> list[str]:
        """Types of what runs in the event loop now."""
        return [run.task.type for run in self.in_hand.values() if run.attempt and run.handler.is_async]

    def messages(self) -> Iterable[Msg]:
        """What the queues must hear of: everything in hand."""
        return [run.message for run in self.in_hand.values()]

    def cancel(self, execution_id: str, request: CancelRequest) -> None:
        """A cancel message came for an execution; nothing happens if it is not in hand, or is in another drive."""
        grace_s = request.grace_s
        if grace_s is None:
            grace_s = GRACE_S if request.action == "cancel" else 0.0
        for run in self.in_hand.values():
            if run.task.execution_id == execution_id and run.task.drive == (request.drive or 0):
                run.brake.stop(How.CANCELLED, grace_s)

    def interrupt_all(self, grace_s: float) -> None:
        """The worker stops: end everything that still runs and hand it back."""
        for run in self.in_hand.values():
            run.brake.stop(How.STOPPED, grace_s)

    def send_back_waiting(self) -> None:
        """The worker stops: what waits for its turn need not wait here."""
        for run in self.in_hand.values():
            if run.is_waiting:
                run.brake.stop(How.STOPPED, 0.0)

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
            return await self._in_turn(run, seq)
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
        handler = self._handlers.find(task.queue, task.type)
        if handler is not None:
            return Run(task, handler, binding, message)
        if task.type not in self._strange_types and len(self._strange_types) < 1000:
            self._strange_types.add(task.type)
            text = "no function for type %r in this worker: its tasks are handed back"
            log.warning(text, task.type, extra={"event": "worker.no_handler", "queue": task.queue})
        await self._link.hand_back(message, NO_HANDLER_DELAY_S)
        return None

    async def _in_turn(self, run: Run, seq: int) -> asyncio.Task[Verdict] | None:
        """Carry it out in one of the places of its type, which is free again when the function has really ended."""
        turns = self._turns.of(run.handler)
        if turns is None:
            return await self._carry_out(run, seq)
        if not turns.places.try_reserve() and not await self._wait_for_turn(run, turns):
            return None
        left_behind = None
        try:
            left_behind = await self._carry_out(run, seq)
        finally:
            if left_behind is None:
                turns.release()
            else:
                left_behind.add_done_callback(lambda _: turns.release())
        return left_behind

    async def _wait_for_turn(self, run: Run, turns: Turns) -> bool:
        """Whether it has its place now; else it was handed back."""
        step = decide_full(
            deliveries=run.deliveries,
            max_deliver=run.binding.max_deliver,
            max_tries=limits_of(run.task, run.handler, self._link.clock.now()).max_tries,
            waiting=turns.waiting,
            places=turns.places.count,
        )
        if isinstance(step, Keep):
            run.is_waiting = True
            try:
                if await turns.wait(self._slots, run.brake.interrupt, step.for_s):
                    return True
            finally:
                run.is_waiting = False
        await self._link.hand_back(run.message, step.delay_s if isinstance(step, Return) else 0.0)
        return False

    async def _carry_out(self, run: Run, seq: int) -> asyncio.Task[Verdict] | None:
        task, limits = run.task, limits_of(run.task, run.handler, self._link.clock.now())
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
        ended = await run_attempt(
            task, run.handler, limits, run.brake,
            now=self._link.clock.now(), context=lambda: self._context(run, limits), middleware=self._middleware,
        )  # fmt: skip
        await self._conclude(run, seq, step, self._finished(run, limits, ended))
        return ended.left_behind

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

    def _finished(self, run: Run, limits: Limits, ended: Ended) -> Finished:
        tries = Tries(
            attempt=run.attempt,
            attempts_before=run.task.attempts_before,
            max_tries=limits.max_tries,
            deliveries=run.deliveries,
            max_deliver=run.binding.max_deliver,
        )
        spread = random.random()  # noqa: S311 - spreads retries, no secret
        return finish(ended, run.task, run.handler, tries, spread=spread, at=self._link.clock.now())

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


def _about(run: Run) -> dict[str, object]:
    return {"execution_id": run.task.execution_id, "attempt": run.attempt, "queue": run.task.queue}
