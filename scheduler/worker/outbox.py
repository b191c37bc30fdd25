"""Progress and log lines on their way out: in order, never in the way of the work, confirmed, bounded.

A line waits while NATS is away, and is sent again until its stream has confirmed it; its message id tells a repeat. So
a lost connection loses none. What is given up (too many wait, refused for what it is or by permissions, a worker that
ends without a connection) is counted, and told in the worker's own log, where the lines stand as well.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass

from nats.aio.msg import Msg

from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.jetstream.errors import refusal
from scheduler.jetstream.requests import read_ack
from scheduler.wire import headers as h
from scheduler.worker.link import Link, log

OUTBOX_MAX = 10_000
TRIES_MAX = 10
CONFIRM_S = 2.0
AGAIN_S = 0.2


@dataclass(slots=True)
class _Line:
    subject: str
    body: bytes
    number: int
    tries: int = 0


class Outbox:
    """At most `OUTBOX_MAX` lines wait, or are sent and not confirmed; above that the oldest that waits is dropped."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[_Line] = deque()
        self._sent: deque[tuple[_Line, asyncio.Future[Msg]]] = deque()
        self._numbers = itertools.count(1)
        self._to_send = asyncio.Event()
        self._to_confirm = asyncio.Event()
        self._untold = 0
        self.dropped = 0

    def put(self, subject: str, body: bytes) -> None:
        """From the event loop only."""
        if len(self._waiting) + len(self._sent) >= OUTBOX_MAX:
            self._drop()
            if not self._waiting:
                return
            self._waiting.popleft()
        self._waiting.append(_Line(subject, body, next(self._numbers)))
        self._to_send.set()

    def wake(self) -> None:
        """The connection is there again."""
        self._to_send.set()

    async def run(self) -> None:
        """Send and confirm until cancelled."""
        await asyncio.gather(self._keep_sending(), self._keep_confirming())

    async def flush(self) -> None:
        """Send what waits; what cannot be sent now goes on waiting. Raises nothing."""
        while self._waiting:
            line = self._waiting.popleft()
            headers = {h.MSG_ID: f"{self._link.worker_id}.{line.number}"}
            try:
                reply = await self._link.requests.send(line.subject, line.body, headers)
            except InvalidArgument:
                self._drop()
                continue
            except ScheddError:
                self._waiting.appendleft(line)
                break
            self._sent.append((line, reply))
            self._to_confirm.set()
        self._tell()

    async def close(self) -> None:
        """The worker ends: a last attempt; what is still not confirmed then is told as dropped."""
        for _ in range(2):
            await self.flush()
            if self._sent and self._link.client.is_connected:
                await self._confirm()
        self._drop(len(self._waiting) + len(self._sent))
        self._waiting.clear()
        self._sent.clear()
        self._tell()

    async def _keep_sending(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            await self.flush()
            if self._waiting:
                await asyncio.sleep(AGAIN_S)
                self._to_send.set()

    async def _keep_confirming(self) -> None:
        while True:
            await self._to_confirm.wait()
            self._to_confirm.clear()
            await self._confirm()

    async def _confirm(self) -> None:
        """Wait for the answers to what is sent so far; what has none is to be sent again, before everything else."""
        sent = list(self._sent)
        replies = await self._link.requests.collect([reply for _, reply in sent], CONFIRM_S)
        again: list[_Line] = []
        for (line, _), reply in zip(sent, replies, strict=True):
            self._sent.popleft()
            answer = read_ack(reply, line.subject)
            if isinstance(answer, ScheddError):
                line.tries += 1
                if line.tries < TRIES_MAX and not self._is_refused(line, answer):
                    again.append(line)
                else:
                    self._drop()
        self._waiting.extendleft(reversed(again))
        if again:
            self._to_send.set()
        self._tell()

    def _is_refused(self, line: _Line, answer: ScheddError) -> bool:
        """For what it is, or because this worker may not publish there: of the latter there is only silence."""
        family = ".".join(line.subject.split(".")[:2]).lower()
        return isinstance(answer, InvalidArgument) or family in refusal(self._link.client).lower()

    def _drop(self, count: int = 1) -> None:
        self.dropped += count
        self._untold += count

    def _tell(self) -> None:
        if self._untold:
            log.warning("%d progress or log lines dropped", self._untold, extra={"event": "worker.lines_dropped"})
            self._untold = 0
