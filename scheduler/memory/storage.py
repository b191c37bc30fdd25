"""Twin of the storage port: a test says how full everything is."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.memory.server import MemoryServer
from scheduler.memory.streams import MemoryStream
from scheduler.ports.storage import Room, StoreState


class MemoryStorage:
    """Implements `ports.storage.Storage`. `told`, if set, is the answer; else the streams as they are."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self.told: Sequence[StoreState] | None = None
        self.limit: int | None = None

    async def stores(self) -> Sequence[StoreState]:
        self._server.check()
        if self.told is not None:
            return self.told
        server = self._server
        streams = (server.advisories, server.events, server.reports, server.tasks, server.timeline)
        return sorted(map(_state_of, streams), key=lambda state: state.name)

    async def room(self) -> Room:
        return Room(sum(state.size for state in await self.stores()), self.limit)


def _state_of(stream: MemoryStream) -> StoreState:
    size = sum(len(each.subject) + len(each.data) for each in stream.messages.values())
    return StoreState(name=stream.name, messages=len(stream.messages), size=size)
