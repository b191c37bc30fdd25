"""Twin of the cancel messages: whoever listens at that moment hears it."""

from __future__ import annotations

from scheduler.core.model.execution import Action
from scheduler.memory.server import MemoryServer
from scheduler.wire.reports import Cancel


class MemoryCancels:
    """Implements `ports.queues.Cancels`. Listeners, and all that was sent, are the server's."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def send(self, queue: str, execution_id: str, action: Action, grace_s: float | None, drive: int = 0) -> None:
        self._server.check()
        self._server.cancel(queue, execution_id, Cancel(action=action, grace_s=grace_s, drive=drive or None))
