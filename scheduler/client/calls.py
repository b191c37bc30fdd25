"""Requests to the micro service, repeated where that is safe, errors raised as classes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct
from nats.aio.client import Client as NatsClient
from nats.errors import NoRespondersError

from scheduler.core.errors import Internal, PermissionDenied, Unavailable, Unsure
from scheduler.jetstream.errors import from_exception, refusal
from scheduler.wire import api
from scheduler.wire import headers as h
from scheduler.wire.names import Names

NOBODY_S = 1.0  # how long "no responders" is taken for a replica that is just being replaced
PAUSES_S = (0.1, 0.2, 0.4, 0.8)  # between repeats; the last one for ever

T = TypeVar("T", bound=Struct)


class Patience(NamedTuple):
    """How long one try may take, and until when a call whose outcome is unknown may be tried again."""

    try_s: float
    repeat_s: float


READ = Patience(3.0, 6.0)
LONG = Patience(13.0, 6.0)  # a day of a schedule that fires each second is read for some seconds
ONCE = Patience(8.0, 0.0)  # the daemon waits up to 5 s until a write is applied
REPEATED = Patience(8.0, 15.0)


class Nobody(Unavailable):
    """No responders: the request reached nobody, so repeating it is always safe."""


class Calls:
    """Requests to the micro service, repeated where that is safe, errors raised as classes."""

    def __init__(self, connection: NatsClient, namespace: str, timeout_s: float, name: str = "") -> None:
        self._connection = connection
        self.names = Names(namespace)
        self._timeout_s = timeout_s
        self._headers = {h.CLIENT: name} if name.isascii() and name.isprintable() and name.strip() else None

    def deadline(self) -> float:
        """The loop time at which a call that begins now has to be over."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def fetch(
        self, endpoint: str, request: api.Request, patience: Patience | None = None, deadline: float | None = None
    ) -> bytes:
        """The reply's body as it came. Raises ScheddError, Unsure if it may have happened without our knowing."""
        clock = asyncio.get_running_loop().time
        start, body = clock(), api.encode(request)
        patience = patience or READ
        deadline = deadline or self.deadline()
        for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            try:
                return await self._once(endpoint, body, max(0.05, min(patience.try_s, deadline - clock())))
            except Unavailable as problem:
                repeat_s = max(NOBODY_S, patience.repeat_s) if isinstance(problem, Nobody) else patience.repeat_s
                if self._connection.is_closed or clock() + pause_s >= min(start + repeat_s, deadline):
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses never end")

    async def _once(self, endpoint: str, body: bytes, timeout_s: float) -> bytes:
        before = self._connection.last_error
        try:
            subject, headers = self.names.api(endpoint), self._headers and dict(self._headers)
            reply = await self._connection.request(subject, body, timeout=timeout_s, headers=headers)
        except NoRespondersError:
            fix = "start one with `schedd run`, or check --nats and --namespace"
            raise Nobody(f"no schedd daemon answers {self._where()}: {fix}") from None
        except TimeoutError:
            refused = refusal(self._connection)
            if refused and self._connection.last_error is not before:  # what was refused earlier was something else
                raise PermissionDenied(f"{endpoint}: NATS does not permit it: {refused}") from None
            raise Unsure(f"{endpoint}: the schedd daemon {self._where()} did not answer in time") from None
        except Exception as problem:
            raise from_exception(problem, endpoint) from None
        error = api.decode_error(reply.headers, reply.data)
        if error is not None:
            raise error
        return reply.data

    def _where(self) -> str:
        url = self._connection.connected_url
        server = f" at {url.hostname}:{url.port}" if url is not None else ""
        return f"for namespace {self.names.namespace!r}{server}"

    async def call(
        self,
        endpoint: str,
        request: api.Request,
        kind: type[T],
        patience: Patience | None = None,
        deadline: float | None = None,
    ) -> T:
        return api.decode_reply(await self.fetch(endpoint, request, patience, deadline), kind)

    async def pages(self, endpoint: str, request: Any, told: ListNotes | None = None) -> AsyncIterator[Raw]:
        """Every item of every page, as raw JSON; `told` gets what the pages say beside their items."""
        while True:
            page = await self.call(endpoint, request, _Page)
            if told is not None:
                told.older = told.older or page.older
            for item in page.items:
                yield item
            if page.cursor is None:
                return
            if page.cursor == request.cursor:
                raise Internal(f"{endpoint}: the daemon gave the same cursor twice")
            request = msgspec.structs.replace(request, cursor=page.cursor)


class ListNotes(Struct):
    """What a list says beside its items. `older`: there are older ones, which it did not look at."""

    older: bool = False


class _Page(api.Reply):
    items: list[Raw]
    cursor: str | None = None
    older: bool = False
