"""Twin of the advisories stream: `MemoryServer.queue` writes what the server would."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.errors import InvalidArgument
from scheduler.memory.messages import Delivery
from scheduler.memory.server import MemoryServer
from scheduler.ports.queues import Poison, Progress, Signal
from scheduler.wire.advisories import decode_advisory


class MemorySignals:
    """Implements `ports.queues.Signals`; one instance per replica."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def pull(self, batch: int, expires_s: float) -> list[Signal | Poison]:
        self._server.check()
        return [self._read(delivery) for delivery in await self._server.signals.pull(batch, expires_s)]

    async def ack(self, tokens: Sequence[str]) -> None:
        self._server.check()
        for token in tokens:
            self._server.signals.ack(token)

    async def progress(self) -> Progress:
        self._server.check()
        newest = max(self._server.advisories.messages, default=0)
        return Progress(self._server.signals.ack_floor, newest)

    def _read(self, delivery: Delivery) -> Signal | Poison:
        message = delivery.message
        try:
            found = decode_advisory(self._server.names, message.data)
        except InvalidArgument as problem:
            return Poison(subject=message.subject, ack=delivery.token, problem=problem.message)
        return Signal.of(found, ack=delivery.token)
