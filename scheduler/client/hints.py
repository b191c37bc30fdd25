"""Being woken in time: plain subscriptions beside what is asked for.

What is awaited is always read from the daemon; a hint only says that it is worth asking now. So a lost one, or a user
who may not subscribe, costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Self

from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from scheduler.jetstream.errors import from_exception, refusal

HEARD_S = 5.0  # between two looks where hints come
DEAF_S = 1.0  # and where they may not
GATHER_S = 0.15  # after a hint: what comes in a burst is looked at once


class Hints:
    """`async with Hints(...) as hints: await hints.wait(...)`. `wakes`: whether a message is worth a look."""

    def __init__(
        self, connection: NatsClient, subjects: Sequence[str], wakes: Callable[[Msg], bool] = lambda _: True
    ) -> None:
        self._connection, self._subjects, self._wakes = connection, subjects, wakes
        self._woken = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self.pause_s = DEAF_S

    async def __aenter__(self) -> Self:
        """Raises Unavailable when the connection is closed."""
        before = self._connection.last_error
        try:
            for subject in self._subjects:
                self._subscriptions.append(await self._connection.subscribe(subject, cb=self._on_message))
        except Exception as problem:
            await self.__aexit__()
            raise from_exception(problem, "subscribing") from None
        with contextlib.suppress(Exception):  # not connected right now: we look more often, that is all
            await self._connection.flush(2)
            if self._connection.last_error is before or not refusal(self._connection):
                self.pause_s = HEARD_S
        return self

    async def __aexit__(self, *_: object) -> None:
        for subscription in self._subscriptions:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
        self._subscriptions.clear()

    async def wait(self, timeout_s: float) -> None:
        """Until a hint, but not longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
                await asyncio.sleep(GATHER_S)
        self._woken.clear()

    async def _on_message(self, message: Msg) -> None:
        if self._wakes(message):
            self._woken.set()
