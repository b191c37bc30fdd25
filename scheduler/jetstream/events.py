"""Events out: into a bounded buffer at once, from there into the stream, each repeated until it is acknowledged.

An event is made once, with its id, time and body, and repeated under the same `Nats-Msg-Id`; so a repeat within the
stream's duplicate window is stored once, and a later one is recognised by its CloudEvents id.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice

from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.jetstream.event_log import EventLog
from scheduler.jetstream.requests import Ack, Message, Requests
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Fact, Recorded
from scheduler.wire import headers as h
from scheduler.wire.events import encode_event
from scheduler.wire.names import Names

BUFFER_MAX = 10_000
BATCH = 256
RETRY_S = 1.0
CLOSE_S = 1.5

FULL, REFUSED, UNREADABLE, UNSENT = "buffer_full", "refused", "not_json", "closed"


class NatsEvents:
    """Implements `ports.queues.Events`. `dropped` is told the reason of every event that is given up, once each."""

    def __init__(
        self,
        requests: Requests,
        names: Names,
        clock: Clock,
        *,
        dropped: Callable[[str], None],
        buffer_max: int = BUFFER_MAX,
    ) -> None:
        self._requests = requests
        self._names = names
        self._log = EventLog(requests, names)
        self._clock = clock
        self._dropped = dropped
        self._buffer_max = buffer_max
        self._buffer: deque[Message] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="events")

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is left, for at most that long; idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for _ in range(len(self._buffer)):
            self._dropped(UNSENT)
        self._buffer.clear()

    async def publish(
        self, kind: str, schedule_id: str | None, data: dict[str, object], *, event_id: str | None = None
    ) -> None:
        if len(self._buffer) >= self._buffer_max:
            self._dropped(FULL)
            return
        try:
            message = self._message(kind, schedule_id, data, event_id)
        except InvalidArgument:
            self._dropped(UNREADABLE)
            return
        self._buffer.append(message)
        self._emptied.clear()
        self._filled.set()

    async def store(self, facts: Sequence[Fact]) -> None:
        messages = [self._message(each.kind, each.schedule_id, each.data, each.id) for each in facts]
        for result in await self._requests.publish_many(messages):
            if isinstance(result, ScheddError):
                raise result

    async def complete_since(self) -> datetime:
        return await self._log.complete_since() or self._clock.now()

    async def recorded(self, schedule_id: str, kinds: Sequence[str], *, most: int) -> list[Recorded]:
        return await self._log.of(schedule_id, kinds, most=most)

    def _message(
        self, kind: str, schedule_id: str | None, data: dict[str, object], event_id: str | None = None
    ) -> Message:
        event_id = event_id or secrets.token_hex(16)
        at = self._clock.now()
        body = encode_event(self._names, event_id=event_id, kind=kind, schedule_id=schedule_id, at=at, data=data)
        return Message(self._names.event(kind, schedule_id), body, {h.MSG_ID: event_id})

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            if not await self._send():
                await asyncio.sleep(RETRY_S)
            if not self._buffer:
                self._filled.clear()
                self._emptied.set()

    async def _send(self) -> bool:
        """Send one batch; what was not acknowledged stays first in the buffer. False: try again later."""
        batch = list(islice(self._buffer, BATCH))
        results = await self._requests.publish_many(batch)
        for _ in batch:
            self._buffer.popleft()
        again = [message for message, result in zip(batch, results, strict=True) if self._is_open(result)]
        self._buffer.extendleft(reversed(again))
        return not again

    def _is_open(self, result: Ack | ScheddError) -> bool:
        """Whether the event must go again. Refused for what it is (too large), it never gets in."""
        if isinstance(result, InvalidArgument):
            self._dropped(REFUSED)
        return isinstance(result, ScheddError) and not isinstance(result, InvalidArgument)
