"""Twin of the events stream: every event is there to be read at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from scheduler.core.errors import InvalidArgument
from scheduler.core.triggers import EPOCH
from scheduler.memory.messages import Write
from scheduler.memory.server import MemoryServer
from scheduler.ports.queues import Fact, Recorded
from scheduler.wire.events import Event, decode_event, encode_event


class MemoryEvents:
    """Implements `ports.queues.Events`. `dropped` is told the reason of every event that is given up."""

    def __init__(self, server: MemoryServer, *, dropped: Callable[[str], None] = lambda reason: None) -> None:
        self._server = server
        self._dropped = dropped
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def store(self, facts: Sequence[Fact]) -> None:
        names, at = self._server.names, self._server.clock.now()
        writes = [
            Write(
                names.event(each.kind, each.schedule_id),
                encode_event(
                    names, event_id=each.id, kind=each.kind, schedule_id=each.schedule_id, at=at, data=each.data
                ),
            )
            for each in facts
        ]
        for write in writes:
            self._server.write(self._server.events, [write])

    async def publish(
        self, kind: str, schedule_id: str | None, data: dict[str, object], *, event_id: str | None = None
    ) -> None:
        names, at = self._server.names, self._server.clock.now()
        event_id = event_id or f"{id(self):x}-{next(self._numbers)}"
        try:
            body = encode_event(names, event_id=event_id, kind=kind, schedule_id=schedule_id, at=at, data=data)
        except InvalidArgument:
            self._dropped("not_json")
        else:  # even while the server is down: the real one buffers
            self._server.events.store([Write(names.event(kind, schedule_id), body)])

    async def complete_since(self) -> datetime:
        self._server.check()
        stream = self._server.events
        if len(stream.messages) == stream.last_seq:
            return EPOCH
        return min((message.at for message in stream.messages.values()), default=self._server.clock.now())

    async def recorded(self, schedule_id: str, kinds: Sequence[str], *, most: int) -> list[Recorded]:
        self._server.check()
        subjects = {self._server.names.event(kind, schedule_id) for kind in kinds}
        messages = [each for each in self._server.events.messages.values() if each.subject in subjects]
        if len(messages) > most:
            raise InvalidArgument(f"schedule {schedule_id!r} has {len(messages)} events, more than {most} to look at")
        found: list[Recorded] = []
        for message in messages:
            with suppress(InvalidArgument):
                told = decode_event(message.data)
                found.append(Recorded(message.seq, told.id, told.kind, told.at, told.data))
        return found

    def of(self, kind: str, schedule_id: str | None = None) -> list[Event]:
        """Every event of that kind so far (of one schedule, if given), oldest first; for tests."""
        found = [decode_event(message.data) for message in self._server.events.messages.values()]
        return [event for event in found if event.kind == kind and schedule_id in (None, event.schedule_id)]
