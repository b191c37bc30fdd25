"""Twin of the event feed: the events stream of the memory server, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scheduler.core.errors import InvalidArgument
from scheduler.memory.messages import Message, matches
from scheduler.memory.server import MemoryServer
from scheduler.ports.feeds import Page, Told
from scheduler.wire.events import Event, decode_event

_LOOK_S = 0.05


class MemoryEventFeed:
    """Implements `ports.feeds.EventFeed`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._at: tuple[int, list[str]] = (0, [])

    async def newest(self) -> int:
        self._server.check()
        return self._server.events.last_seq

    async def last(self, kinds: Sequence[str], schedule: str | None = None) -> int:
        self._server.check()
        found = self._behind(0, self._server.names.event_subjects(kinds, schedule))
        return found[-1].seq if found else 0

    async def before(self, at: datetime) -> int:
        self._server.check()
        later = [message.seq for message in self._server.events.after(0) if message.at >= at]
        return min(later, default=self._server.events.last_seq + 1) - 1

    async def read(
        self, after: int, kinds: Sequence[str], schedule: str | None = None, *, most: int, wait_s: float
    ) -> Page:
        clock, subjects = self._server.clock, self._server.names.event_subjects(kinds, schedule)
        until_s = clock.boottime_s() + wait_s
        while True:
            self._server.check()
            found = self._behind(after if after <= self._server.events.last_seq else 0, subjects)
            if found or clock.boottime_s() >= until_s:
                taken = [Told(message.seq, message.data, _event(message.data)) for message in found[:most]]
                self._at = (taken[-1].seq if taken else after, subjects)
                return Page(taken, len(found) - len(taken))
            await clock.sleep(_LOOK_S)

    async def pending(self) -> int:
        return len(self._behind(*self._at))

    async def close(self) -> None:
        """Nothing to close."""

    def _behind(self, after: int, subjects: Sequence[str]) -> list[Message]:
        behind = self._server.events.after(after)
        return [each for each in behind if any(matches(each.subject, subject) for subject in subjects)]


def _event(body: bytes) -> Event | None:
    try:
        return decode_event(body)
    except InvalidArgument:
        return None
