"""Waiting until somebody is there to connect to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from nats.aio.client import Client as NatsClient

from scheduler.core.errors import Unavailable
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.worker.link import log

RETRY_S = 1.0


def read_settings(nats: str | Sequence[str] | None, context: str | None, namespace: str | None) -> ConnectionSettings:
    """What was given, else the environment (contract, part 8). Raises InvalidArgument."""
    urls = nats if nats is None or isinstance(nats, str) else ",".join(nats)
    return ConnectionSettings.from_environment(urls, context, namespace)


async def connect_when_there(
    settings: ConnectionSettings, *, name: str, stop: asyncio.Event, on_reconnect: Callable[[], None]
) -> NatsClient | None:
    """Connect, trying each second and saying so once; None if `stop` was set first.

    Raises PermissionDenied and InvalidArgument: those do not get better by waiting.
    """
    log.info("connecting to NATS at %s", settings.where, extra={"event": "worker.connecting"})
    told = False
    while not stop.is_set():
        try:
            return await connect(settings, name=name, on_reconnect=on_reconnect)
        except Unavailable as problem:
            if not told:
                log.warning("waiting for NATS: %s", problem, extra={"event": "worker.waiting"})
            told = True
        try:
            async with asyncio.timeout(RETRY_S):
                await stop.wait()
        except TimeoutError:
            continue
    return None


def host_label() -> str:
    """The host name as part of a key: letters, digits and dashes."""
    label = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in socket.gethostname())
    return label.strip("-")[:40] or "host"
