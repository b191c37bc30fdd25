"""One life of a worker on one connection: its rooms are built here, started together and ended in order."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

from nats.aio.msg import Msg

from scheduler.core.errors import InvalidArgument, Unavailable
from scheduler.wire.reports import Cancel, decode
from scheduler.worker.acting import Action, ActionServer
from scheduler.worker.attempt import TIDY_S
from scheduler.worker.handlers import Handlers, Layer
from scheduler.worker.lag import LagWatch
from scheduler.worker.link import Link, log
from scheduler.worker.outbox import Outbox
from scheduler.worker.presence import Presence
from scheduler.worker.pulling import QueuePuller
from scheduler.worker.running import Runner
from scheduler.worker.slots import Slots
from scheduler.worker.turns import AllTurns

LOOK_S = 0.5
REPORT_S = 5.0
"""How long the last reports may take when a worker stops."""


class Session:
    """Serves until `stop` is set; then gives what runs `grace_s`, or until `hurry` is set, and hands back the rest."""

    def __init__(
        self, link: Link, queues: Sequence[str], handlers: Handlers, concurrency: int, *,
        middleware: Sequence[Layer], actions: Sequence[Action],
    ) -> None:  # fmt: skip
        self._link = link
        self._queues = queues
        self._changed = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        self._outbox = Outbox(link)
        slots, turns = Slots(concurrency), AllTurns()
        self._runner = Runner(
            link, handlers, slots, turns, self._outbox, middleware=middleware, changed=self._changed.set
        )
        self._pullers = [
            QueuePuller(
                link,
                queue,
                slots,
                self._runner.handle,
                self._working,
                queues=len(queues),
                bound=self._changed.set,
                room=functools.partial(turns.room, handlers.of_queue(queue)),
            )
            for queue in queues
        ]
        self._lag = LagWatch(self._runner.in_loop)
        self._actions = ActionServer(link, actions, self._working)
        self._presence = Presence(
            link, self._runner, self._ack_waits, queues=queues, types=handlers.types, concurrency=concurrency,
            actions=[each.offer for each in actions], changed=self._changed,
        )  # fmt: skip

    def _ack_waits(self) -> list[float]:
        return [puller.binding.ack_wait_s for puller in self._pullers if puller.binding is not None]

    def on_reconnect(self) -> None:
        """NATS is there again: tell it at once what is in hand."""
        self._link.back_at_s = asyncio.get_running_loop().time()
        self._outbox.wake()
        self._changed.set()

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Serve. Raises Unavailable when the connection is closed for good."""
        await self._link.requests.open()
        for queue in self._queues:
            await self._link.client.subscribe(self._link.names.cancel(queue, ">"), cb=self._on_cancel)
        await self._actions.start()
        pulling = [asyncio.create_task(puller.run(), name="pull") for puller in self._pullers]
        others = [asyncio.create_task(room.run(), name="room") for room in (self._presence, self._outbox, self._lag)]
        try:
            await self._until_over(stop, [*pulling, *others])
        except BaseException:
            grace_s = 0.0
            raise
        finally:
            await self._shut_down(pulling, hurry, grace_s)
            await _end(others)
            await self._presence.leave()
            await self._outbox.close()
            await self._link.requests.close()

    async def _until_over(self, stop: asyncio.Event, rooms: list[asyncio.Task[None]]) -> None:
        """Until `stop`; a room that ends, or a closed connection, is the end as well."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        waiting: set[asyncio.Task[None] | asyncio.Task[bool]] = {stopping, *rooms}
        try:
            while not stopping.done():
                await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if self._link.client.is_closed:
                    problem = self._link.client.last_error
                    raise Unavailable(f"NATS closed the connection for good: {problem or 'no reason given'}")
                for room in rooms:
                    if room.done():
                        room.result()
        finally:
            await _end([stopping])

    async def _shut_down(self, pulling: list[asyncio.Task[None]], hurry: asyncio.Event, grace_s: float) -> None:
        """No more tasks; what runs may end; the rest is interrupted and handed back; nothing is left running."""
        self._runner.stopping = True
        await self._actions.leave()
        await _end(pulling)
        for puller in self._pullers:
            await puller.drain()
        self._runner.send_back_waiting()
        if self._working and grace_s > 0:
            log.info("stopping: %d tasks may end within %g s", len(self._working), grace_s)
            await self._finish(hurry, grace_s)
        self._runner.interrupt_all(TIDY_S)
        self._actions.interrupt()
        if self._working and not self._link.client.is_closed:
            await asyncio.wait(self._working, timeout=TIDY_S + REPORT_S)
        await _end(list(self._working))

    async def _finish(self, hurry: asyncio.Event, grace_s: float) -> None:
        hurrying = asyncio.create_task(hurry.wait(), name="hurry")
        ended = asyncio.create_task(asyncio.wait(set(self._working)), name="ended")
        await asyncio.wait({hurrying, ended}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        await _end([hurrying, ended])

    async def _on_cancel(self, message: Msg) -> None:
        names = self._link.names
        _, _, execution_id = message.subject.removeprefix(f"{names.namespace}.cancel.").partition(".")
        try:
            request = decode(message.data or b"{}", Cancel)
        except InvalidArgument as problem:
            log.warning("a cancel message was ignored: %s", problem, extra={"event": "worker.cancel_ignored"})
            return
        self._runner.cancel(execution_id, request)


async def _end(tasks: Sequence[asyncio.Task[object]] | Sequence[asyncio.Task[None]]) -> None:
    """Cancel them and wait until they are over; what they raised was raised already, or is of no interest now."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
