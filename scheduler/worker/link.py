"""What the rooms of a worker share: the connection, the names, the clock, and who we are."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import datetime

from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from scheduler.core.errors import ScheddError
from scheduler.jetstream.delivery import ACK, WORKING, answer
from scheduler.jetstream.requests import Requests
from scheduler.ports.clock import Clock
from scheduler.wire.names import Names

log = logging.getLogger("scheduler.worker")
REASON_MAX = 200


@dataclass(slots=True)
class Link:
    """One connected worker. `worker_id` is the key of its row and the `worker` of its reports.

    `back_at_s` is when the connection last came back, in seconds of the event loop.
    """

    client: NatsClient
    requests: Requests
    names: Names
    clock: Clock
    worker_id: str
    back_at_s: float = -math.inf

    async def ack(self, message: Msg) -> None:
        """The task is done with."""
        await self._answer(message, ACK)

    async def working(self, message: Msg) -> None:
        """The task is still being worked on: its ack wait begins anew."""
        await self._answer(message, WORKING)

    async def hand_back(self, message: Msg, delay_s: float) -> None:
        """Give the task back to its queue, to be delivered again after the delay."""
        body = f'-NAK {{"delay": {int(delay_s * 1e9)}}}' if delay_s > 0 else "-NAK"
        await self._answer(message, body.encode())

    async def refuse(self, message: Msg, reason: str) -> None:
        """Nobody can do anything with it: never deliver it again."""
        await self._answer(message, b"+TERM " + reason.encode()[:REASON_MAX])

    async def _answer(self, message: Msg, body: bytes) -> None:
        """Not confirmed, and no error: what is lost comes back after the ack wait, and the reports then decide."""
        try:
            await answer(self.client, [message.reply], body)
        except ScheddError as problem:
            log.debug("an answer was not sent: %s", problem, extra={"event": "worker.answer_lost"})


@dataclass(frozen=True, slots=True)
class Binding:
    """The durable consumer of a queue, as the server last described it. `at` is the server's time of that."""

    queue: str
    ack_wait_s: float
    max_deliver: int
    at: datetime
