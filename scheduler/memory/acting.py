"""Twin of the calls of custom actions: `listeners` of the server by schedule and action."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from scheduler.core.errors import Internal, InvalidArgument, Unavailable, Unsure
from scheduler.memory.server import MemoryServer
from scheduler.wire.actions import Answer, Call, decode_answer
from scheduler.wire.reports import encode

Listener = Callable[[bytes], Awaitable[bytes]]


class MemoryActions:
    """Implements `ports.actions.Actions`. A listener gets the body of a call and gives that of an answer."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self.listeners: dict[tuple[str, str], Listener] = {}

    async def call(self, schedule_id: str, action: str, call: Call, within_s: float) -> Answer:
        self._server.check()
        listener = self.listeners.get((schedule_id, action))
        if listener is None:
            raise Unavailable(f"no worker listens for action {action!r} of schedule {schedule_id!r}")
        try:
            async with asyncio.timeout(within_s):
                body = await listener(encode(call))
        except TimeoutError:
            raise Unsure(f"no worker answered within {within_s:g} s") from None
        try:
            return decode_answer(body)
        except InvalidArgument as problem:
            raise Internal(f"a worker's answer makes no sense: {problem.message}") from None
