"""Listeners: functions that are called with events, each in a task of its own, for as long as the client is open."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from nats.aio.client import Client as NatsClient

from scheduler.client.events import Event, Since, Watch
from scheduler.core.errors import ScheddError
from scheduler.wire.names import Names

log = logging.getLogger("scheduler.client")
Listener = TypeVar("Listener", bound=Callable[[Event], Any])


class Listeners:
    """Those of one client."""

    def __init__(self, connection: NatsClient, names: Names) -> None:
        self._connection, self._names = connection, names
        self._tasks: list[asyncio.Task[None]] = []
        self._opening: list[asyncio.Future[None]] = []

    def add(self, kinds: Iterable[str] | None, schedule: str | None, since: Since) -> Callable[[Listener], Listener]:
        """See `Client.on`."""
        watch = Watch(self._connection, self._names, kinds=kinds, schedule=schedule, since=since, open_s=None)

        def register(function: Listener) -> Listener:
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._opening.append(opened)
            task = asyncio.create_task(_listen(watch, function, opened), name=f"listener {_name(function)}")
            self._tasks.append(task)
            return function

        return register

    async def ready(self) -> None:
        """Until each of them hears, however long that takes. Raises what keeps one of them from it for good."""
        opening, self._opening = self._opening, []
        await asyncio.gather(*opening)

    async def close(self) -> None:
        """Call nobody any more, and wait until those that are being called have ended or were cancelled."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for opened in self._opening:
            opened.cancel()


async def _listen(watch: Watch, function: Callable[[Event], Any], opened: asyncio.Future[None]) -> None:
    """One after the other, in order. What a listener raises is logged, and the next event comes all the same."""
    try:
        async with watch:
            opened.set_result(None)
            async for event in watch:
                await _call(function, event)
    except ScheddError as problem:
        if not opened.done():
            opened.set_exception(problem)
            opened.exception()  # whoever asks for `ready` gets it; nobody has to
        text = "listener %s hears nothing any more: %s"
        log.error(text, _name(function), problem.message, extra={"event": "client.listener_ended"})
    except Exception as problem:
        if not opened.done():
            opened.set_exception(problem)
            opened.exception()
        log.exception("listener %s hears nothing any more", _name(function), extra={"event": "client.listener_ended"})


async def _call(function: Callable[[Event], Any], event: Event) -> None:
    try:
        answer = function(event)
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        extra = {"event": "client.listener_failed", "event_id": event.id, "kind": event.kind}
        log.exception("listener %s failed", _name(function), extra=extra)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
