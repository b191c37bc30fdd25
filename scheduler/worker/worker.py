"""`Worker`: what users import. Options and functions come in here; `session` does the work."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from nats.aio.client import Client as NatsClient

from scheduler.core.errors import Conflict, InvalidArgument, ScheddError
from scheduler.core.model.schedule import Backoff
from scheduler.jetstream.connection import ConnectionSettings
from scheduler.jetstream.requests import Requests
from scheduler.system.clock import SystemClock
from scheduler.wire.actions import OFFERS_MAX
from scheduler.wire.ids import check_queue, check_schedule_id, check_type
from scheduler.wire.names import Names
from scheduler.worker.acting import Action, make_action
from scheduler.worker.backoff import Span, span_s
from scheduler.worker.connecting import connect_when_there, host_label, read_settings
from scheduler.worker.declaring import Declared, declare
from scheduler.worker.handlers import GRACE_S, Handlers, Layer, check_concurrency, make_handler, make_layer
from scheduler.worker.link import Link, log
from scheduler.worker.registering import Registrar
from scheduler.worker.session import Session

STOP_GRACE = "30s"
CLOSE_S = 3.0
FORCE_UPDATE = "SCHEDULER_FORCE_UPDATE"

Function = TypeVar("Function", bound=Callable[..., Any])


class Declaration(NamedTuple):
    """A schedule as its decorator was given it."""

    function: Callable[..., Any]
    queue: str
    type: str | None
    on_conflict: str
    fields: Mapping[str, Any]


class Worker:
    """Runs functions for the tasks of one or more queues.

    Args:
        queues: names of queues; they need not exist yet.
        concurrency: functions running at once, over all queues.
        nats: server URLs, one text (with commas) or several; default: NATS_URL, then this machine.
        context: name of a context of the NATS CLI; default: NATS_CONTEXT, then the selected one.
        namespace: of the daemon; default: SCHEDD_NAMESPACE, then `schedd`.
        stop_grace: how long what runs may take to end when the worker stops.
        name: of the program; marks the schedules that it declares as its own (label `schedd-worker`).

    Raises:
        InvalidArgument: names the option and the fix.
    """

    def __init__(
        self, *queues: str, concurrency: int = 10, nats: str | Sequence[str] | None = None, context: str | None = None,
        namespace: str | None = None, stop_grace: Span = STOP_GRACE, name: str | None = None,
    ) -> None:  # fmt: skip
        if not queues:
            raise InvalidArgument('name at least one queue, as in Worker("EMAIL")', field="queues")
        self.queues = tuple(dict.fromkeys(check_queue(queue) for queue in queues))
        self.concurrency = check_concurrency(concurrency)
        self.id = f"{host_label()}-{secrets.token_hex(6)}"
        self._nats, self._context, self._namespace = nats, context, namespace
        self._grace_s = span_s(stop_grace, field="stop_grace")
        self.name = None if name is None else check_type(name, field="name")
        self.handlers = Handlers()
        self.layers: list[Layer] = []
        self.actions: list[Action] = []
        self._declared: dict[str, Declaration] = {}
        self._stop: asyncio.Event | None = None
        self._hurry: asyncio.Event | None = None
        self._over: asyncio.Event | None = None

    @property
    def types(self) -> list[str]:
        """The types that this worker has functions for."""
        return self.handlers.types

    def task(
        self, type: str, *, max_tries: int | None = None, timeout: Span | None = None,  # noqa: A002 - the contract's word
        backoff: Backoff | Mapping[str, Any] | None = None, queue: str | None = None, concurrency: int | None = None,
        grace: Span = GRACE_S,
    ) -> Callable[[Function], Function]:  # fmt: skip
        """Register the function below for a type: `f(payload)` or `f(payload, ctx)`, async or not. `"*"` is every type
        that no other function is for. One that times out is cancelled, and once more when the `grace` is over.

        The smaller `max_tries` and the shorter `timeout` of these and the schedule's win. `backoff` is the pause before
        the next try: {"initial": "1s", "max": "5m", "factor": 2, "jitter": 0.2}, which is the default. A sync function
        runs in a thread of its own. A payload parameter annotated with a dataclass, a msgspec.Struct or any other type
        gets the payload as that; one that does not fit ends the execution as failed, without further tries. `bytes`
        gets the body as it is, JSON or not. What a function may raise: `Retry`, `Fail`, `Cancel`.

        `concurrency`: how many of this type run at once in this worker, beside the worker's own limit. `queue`: one of
        the worker's; tasks of the type in its other queues are not for this function.
        Raises InvalidArgument, and Conflict for a second function of one type (in one queue).
        """
        if queue is not None and queue not in self.queues:
            fix = f"Worker({', '.join(repr(each) for each in (*self.queues, queue))})"
            raise InvalidArgument(f"queue: this worker does not serve {queue!r}: write {fix}", field="queue")

        def register(function: Function) -> Function:
            handler = make_handler(
                type, function, max_tries=max_tries, timeout=timeout, backoff=backoff, queue=queue,
                concurrency=concurrency, grace=grace,
            )  # fmt: skip
            self.handlers.add(handler)
            return function

        return register

    def middleware(self, function: Function) -> Function:
        """Register a function around each attempt of each task: `f(call_next, payload, ctx)`, async or not.

            @worker.middleware
            async def timed(call_next, payload, ctx):
                began = time.monotonic()
                try:
                    return await call_next(payload, ctx)
                finally:
                    ctx.log.info("took %.3f s", time.monotonic() - began)

        The first one registered is the outermost. It gets the payload as the function takes it, and may hand on another
        one; what it returns is the result, what it raises is as if the function had raised it. `call_next` can be
        called once; without it the function does not run. The timeout holds for all of it. A sync one runs in a thread,
        a sync function that follows it in the same; its `call_next` is then not awaited.
        Raises InvalidArgument.
        """
        self.layers.append(make_layer(function))
        return function

    def action(
        self, schedule_id: str, title: str, *, name: str | None = None, timeout: Span | None = None
    ) -> Callable[[Function], Function]:
        """Offer the function below as an action of a schedule, for people to call by hand: `f()`, `f(payload)` or
        `f(payload, ctx)`, async or not; what it returns is shown to them.

            @worker.action("search-index", "Rebuild index", timeout="2m")
            async def rebuild(payload): ...

        `schedctl action invoke search-index rebuild-index` calls it on one of the workers that offer it. Its name is
        made of the title (of the function's name where the title has no Latin letters), or given by `name`. It is no
        execution: no record, no retry, no middleware. `timeout` is 5 minutes at most, and whoever calls may give less.
        Raises InvalidArgument, and Conflict for a second action of one name.
        """

        def register(function: Function) -> Function:
            action = make_action(schedule_id, title, function, name=name, timeout=timeout)
            key = (action.offer.schedule, action.offer.action)
            if key in {(each.offer.schedule, each.offer.action) for each in self.actions}:
                raise Conflict(f"there is an action {key[1]!r} of schedule {key[0]!r} in this worker already")
            if len(self.actions) >= OFFERS_MAX:
                raise InvalidArgument(f"a worker has at most {OFFERS_MAX} actions")
            self.actions.append(action)
            return function

        return register

    def schedule(
        self, schedule_id: str, *, queue: str | None = None, type: str | None = None,  # noqa: A002 - the contract's word
        on_conflict: str = "keep", **fields: Any,
    ) -> Callable[[Function], Function]:  # fmt: skip
        """Declare a schedule for the function below; it is registered when the worker starts.

            @worker.schedule("report-daily", cron="0 9 * * *", timezone="Europe/Berlin")
            @worker.task("email:report")
            async def report(payload): ...

        Args:
            schedule_id: its id.
            queue: default: the function's, else the worker's first queue.
            type: default: the function's type; a function without one becomes the task of type `schedule_id`.
            on_conflict: when another definition is stored: `keep` it, `update` it, or `fail`: the worker ends. With
                SCHEDULER_FORCE_UPDATE=true in the environment the code wins in any case. A pause is always kept.
            fields: the fields of the schedule JSON (`cron`, `every`, `payload`, `overlap`, ...).

        Raises InvalidArgument that names the field, Conflict for a second schedule of one id.
        """
        if schedule_id in self._declared:
            raise Conflict(f"there is a schedule {schedule_id!r} in this worker already", field="schedule_id")
        check_schedule_id(schedule_id)

        def register(function: Function) -> Function:
            handler = self.handlers.of_function(function)
            named = queue or (handler and handler.queue) or self.queues[0]
            self._declared[schedule_id] = Declaration(function, named, type, on_conflict, fields)
            self._declare(schedule_id, type or "preview")  # a mistake shows where it is made
            return function

        return register

    def declared(self) -> list[Declared]:
        """The schedules of this worker as they will be registered; functions without a type get theirs now."""
        found = []
        for schedule_id, each in self._declared.items():
            handler = self.handlers.of_function(each.function)
            if each.type is None and handler is None:
                self.task(schedule_id)(each.function)
            name = each.type or (schedule_id if handler is None else handler.type)
            found.append(self._declare(schedule_id, name))
        return found

    def _declare(self, schedule_id: str, type_name: str) -> Declared:
        each = self._declared[schedule_id]
        return declare(
            schedule_id,
            each.fields,
            queue=each.queue,
            type=type_name,
            owner=self.name,
            on_conflict=each.on_conflict,
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then as `stop`, and return.

        A second signal ends the waiting. An error leaves the process with one sentence and its exit code.
        """
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        ended = threading.Event()
        try:
            asyncio.run(self._run(ended))
        except ScheddError as problem:
            print(f"worker: {problem.message}", file=sys.stderr)  # noqa: T201 - the last words of a process
            raise SystemExit(problem.exit_code) from None
        finally:
            ended.set()

    async def serve(self, *, nats: str | Sequence[str] | None = None, namespace: str | None = None) -> None:
        """Serve until `stop`, in a running event loop. Waits for NATS and for queues that do not exist yet.

        `nats` and `namespace` go before those of the constructor and of the environment.
        Raises Unavailable when NATS closes the connection for good, Conflict when it is serving already. If the task
        that serves is cancelled, what runs is handed back at once.
        """
        if self._over is not None:
            raise Conflict("this worker is serving already")
        stop, hurry, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._stop, self._hurry, self._over = stop, hurry, over
        try:
            settings = read_settings(nats or self._nats, None if nats else self._context, namespace or self._namespace)
            await self._serve(settings, stop, hurry)
        finally:
            self._stop = self._hurry = self._over = None
            over.set()

    async def stop(self) -> None:
        """Stop pulling, let what runs end within `stop_grace`, hand back the rest; returns when all is over."""
        over = self._over
        if over is not None and self._stop is not None:
            self._stop.set()
            await over.wait()

    async def _serve(self, settings: ConnectionSettings, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        declared = self.declared()
        sessions: list[Session] = []

        def on_reconnect() -> None:
            for session in sessions:
                session.on_reconnect()

        name = f"schedd worker {self.id}"
        client = await connect_when_there(settings, name=name, stop=stop, on_reconnect=on_reconnect)
        if client is None:
            return
        try:
            link = Link(client, Requests(client), Names(settings.namespace), SystemClock(), self.id)
            sessions.append(
                Session(
                    link, self.queues, self.handlers, self.concurrency, middleware=self.layers, actions=self.actions
                )
            )
            about = ", ".join(self.queues)
            log.info("worker %s serves %s", self.id, about, extra={"event": "worker.started"})
            await self._work(sessions[0], declared, client, settings.namespace, stop, hurry)
            log.info("worker %s has stopped", self.id, extra={"event": "worker.stopped"})
        finally:
            await client.close()

    async def _work(
        self, session: Session, declared: Sequence[Declared], client: NatsClient, namespace: str, stop: asyncio.Event,
        hurry: asyncio.Event,
    ) -> None:  # fmt: skip
        """Serve, and register beside it; a refusal of what is declared is the end of both, and is raised."""
        if not declared and self.name is None:
            await session.run(stop, hurry, self._grace_s)
            return
        force = os.environ.get(FORCE_UPDATE, "").lower() in {"1", "true", "yes"}
        registrar = Registrar(client, namespace, declared, owner=self.name, force=force)
        registering = asyncio.create_task(registrar.run(), name="register schedules")
        registering.add_done_callback(lambda task: None if task.cancelled() or not task.exception() else stop.set())
        try:
            await session.run(stop, hurry, self._grace_s)
        finally:
            registering.cancel()
            await asyncio.gather(registering, return_exceptions=True)
        if not registering.cancelled() and (problem := registering.exception()):
            raise problem

    async def _run(self, ended: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        await self.serve()
        threading.Thread(target=_leave_if_stuck, args=(ended,), daemon=True).start()

    def _on_signal(self) -> None:
        if self._stop is None or self._hurry is None:
            return
        (self._hurry if self._stop.is_set() else self._stop).set()


def _leave_if_stuck(ended: threading.Event) -> None:
    """A function that swallows its cancellation, or a thread that hangs, must not keep a stopped worker from ending.

    Everything is on record by now; the loop is only waiting for those that do not listen.
    """
    if ended.wait(CLOSE_S):
        return
    log.error("a task function does not end: leaving it", extra={"event": "worker.left_behind"})
    logging.shutdown()
    os._exit(0)
