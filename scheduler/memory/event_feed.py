"""Twin of the event feed: the events stream of the memory server, in order."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.errors import InvalidArgument
from scheduler.memory.server import MemoryServer
from scheduler.memory.streams import Message, matches
from scheduler.ports.webhooks import Page, Told
from scheduler.wire.events import Event, decode_event

_LOOK_S = 0.05


class MemoryEventFeed:
    """Implements `ports.webhooks.EventFeed`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._at: tuple[int, tuple[str, ...]] = (0, ())

    async def newest(self) -> int:
        self._server.check()
        return self._server.events.last_seq

    async def read(self, after: int, kinds: Sequence[str], *, most: int, wait_s: float) -> Page:
        clock = self._server.clock
        until_s = clock.boottime_s() + wait_s
        while True:
            self._server.check()
            found = self._behind(after, kinds)
            if found or clock.boottime_s() >= until_s:
                taken = [Told(message.seq, message.data, _event(message.data)) for message in found[:most]]
                self._at = (taken[-1].seq if taken else after, tuple(kinds))
                return Page(taken, len(found) - len(taken))
            await clock.sleep(_LOOK_S)

    async def pending(self) -> int:
        return len(self._behind(*self._at))

    async def close(self) -> None:
        """Nothing to close."""

    def _behind(self, after: int, kinds: Sequence[str]) -> list[Message]:
        patterns = [self._server.names.events_of(kind) for kind in kinds]
        behind = self._server.events.after(after)
        return [each for each in behind if any(matches(each.subject, pattern) for pattern in patterns)]


def _event(body: bytes) -> Event | None:
    try:
        return decode_event(body)
    except InvalidArgument:
        return None
