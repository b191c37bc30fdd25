"""The sign of life: in-progress for every task in hand, and the worker's row in the workers bucket (mechanisms.md, 7).

Both every third of the ack wait, the row first: so whoever finds a task delivered again finds a row that is at least as
old. The row is also written soon after what runs has changed, at most once a second; it lives for three periods.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import math
import os
import socket
from collections.abc import Callable, Sequence

import msgspec

from scheduler.core.errors import ScheddError
from scheduler.jetstream.requests import Ack
from scheduler.wire import headers as h
from scheduler.wire.actions import Offer
from scheduler.wire.reports import WorkerRow, encode
from scheduler.worker.link import Link, log
from scheduler.worker.running import Runner

CHANGES_EVERY_S = 1.0
ACK_WAIT_DEFAULT_S = 30.0
BEATS_PER_ACK_WAIT = 3


def version() -> str:
    """Version of the installed distribution, for the row."""
    try:
        return importlib.metadata.version("schedd")
    except importlib.metadata.PackageNotFoundError:
        return "0"


class Presence:
    """Tells the queues and the daemon that this worker lives. `ack_waits` gives those of the queues bound so far."""

    def __init__(
        self, link: Link, runner: Runner, ack_waits: Callable[[], Sequence[float]], *,
        queues: Sequence[str], types: Sequence[str], concurrency: int, actions: Sequence[Offer], changed: asyncio.Event,
    ) -> None:  # fmt: skip
        self._link = link
        self._runner = runner
        self._ack_waits = ack_waits
        self._changed = changed
        self._troubled = False
        self._subject = f"$KV.{link.names.workers}.{link.worker_id}"
        self._row = WorkerRow(
            worker=link.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version(),
            queues=tuple(queues),
            types=tuple(types),
            actions=tuple(actions),
            concurrency=concurrency,
            started_at=link.clock.now(),
        )

    @property
    def period_s(self) -> float:
        """A third of the shortest ack wait among the queues."""
        return min(self._ack_waits(), default=ACK_WAIT_DEFAULT_S) / BEATS_PER_ACK_WAIT

    async def run(self) -> None:
        """Beat until cancelled. A beat that cannot be sent is left out: the next one comes."""
        loop = asyncio.get_running_loop()
        touched_at = row_at = -math.inf
        while True:
            self._changed.clear()
            touch = loop.time() >= touched_at + self.period_s or touched_at < self._link.back_at_s
            if self._link.client.is_connected:
                row_at = loop.time()
                await self._beat(touch=touch)
            touched_at = loop.time() if touch else touched_at
            await self._pause(touched_at + self.period_s, row_at + CHANGES_EVERY_S)

    async def leave(self) -> None:
        """Take the row away: this worker has ended on purpose. The marker goes by itself."""
        headers = {h.KV_OPERATION: "DEL", h.TTL: str(self._ttl_s())}
        try:
            await self._link.client.publish(self._subject, b"", headers=headers)
            await self._link.client.flush(2)
        except Exception as problem:
            log.debug("the worker's row is left to its end: %s", problem)

    async def _pause(self, beat_at: float, change_at: float) -> None:
        """Until the next beat. A change (of what runs, of the ack waits) ends it, but not before `change_at`."""
        now = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, beat_at - now)):
                await self._changed.wait()
                await asyncio.sleep(max(0.0, change_at - asyncio.get_running_loop().time()))

    async def _beat(self, *, touch: bool) -> None:
        try:
            answer = await self._link.requests.send(self._subject, self._body(), {h.TTL: str(self._ttl_s())})
            if touch:
                for message in self._runner.messages():
                    await self._link.working(message)
            (reply,) = await self._link.requests.collect([answer], self.period_s)
            problem = reply.message if isinstance(reply, ScheddError) else _refusal(reply.data)
        except ScheddError as lost:
            problem = lost.message
        self._tell(problem)

    def _body(self) -> bytes:
        running = tuple(self._runner.running())
        return encode(msgspec.structs.replace(self._row, running=running, at=self._link.clock.now()))

    def _ttl_s(self) -> int:
        return max(1, math.ceil(BEATS_PER_ACK_WAIT * self.period_s))

    def _tell(self, problem: str) -> None:
        """Once per trouble: this comes round every few seconds."""
        if problem and not self._troubled:
            log.warning("the worker's row is not written: %s", problem, extra={"event": "worker.row_unwritten"})
        self._troubled = bool(problem)


def _refusal(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=Ack).error
    except msgspec.DecodeError:
        return "unreadable answer"
    return error.description if error is not None else ""
