"""Twin of the logs stream."""

from __future__ import annotations

from itertools import islice

from scheduler.memory.messages import Write
from scheduler.memory.server import MemoryServer
from scheduler.ports.logs import StoredLine


class MemoryLogs:
    """Implements `ports.logs.Logs`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def after(self, execution_id: str, seq: int, most: int) -> list[StoredLine]:
        self._server.check()
        subject = self._server.names.log(execution_id)
        lines = (each for each in self._server.logs.after(seq) if each.subject == subject)
        return [StoredLine(each.seq, each.at, each.data) for each in islice(lines, most)]

    def put(self, execution_id: str, body: bytes) -> None:
        """What a worker publishes; for tests."""
        self._server.logs.store([Write(self._server.names.log(execution_id), body)])
