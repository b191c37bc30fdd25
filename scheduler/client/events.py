"""Events as a program sees them: watched as they come, or read from the past; each once, in order, without a gap."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from msgspec import Struct
from nats.aio.client import Client as NatsClient

from scheduler.client.requests import Instant, instant_text
from scheduler.core.errors import InvalidArgument, PermissionDenied, ScheddError, Unavailable
from scheduler.jetstream.errors import from_exception, refusal
from scheduler.jetstream.event_feed import NatsEventFeed
from scheduler.jetstream.requests import Requests
from scheduler.ports.feeds import Told
from scheduler.wire import events
from scheduler.wire.event_data import EventData, read_data
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.instants import parse_instant
from scheduler.wire.names import Names

BATCH = 256
LOOK_S = 5.0  # how long nothing may come until the leader is asked
AGAIN_S = (0.1, 0.5, 1.0, 2.0)  # pauses after trouble; the last one for ever
OPEN_S = 5.0  # how long it may take until events can be read at all: without schedd there is no stream
NOW = "now"
Since = Instant | int


class Event(Struct, frozen=True, kw_only=True):
    """One CloudEvent. `seq` is its place: `watch(since=event.seq)` goes on behind it. `schedule` is None for what is
    about no schedule. `body` is the CloudEvent as JSON."""

    seq: int
    id: str
    kind: str
    schedule: str | None
    at: datetime
    data: dict[str, Any]
    body: bytes

    @property
    def details(self) -> EventData | None:
        """The data as a struct of `scheduler.wire.event_data`, for example `Finished`; None for a kind without one."""
        return read_data(self.kind, self.data)


class Watch:
    """An async iterator of events, and an async context manager:

        async for event in client.watch(kinds=["finished"]): ...

        async with client.watch() as events:      # from here on nothing is missed
            await client.schedules.trigger("a")
            async for event in events: ...

    With `is_finite` it ends behind what was there when it began; otherwise it goes on through reconnects and changes of
    servers, for ever: leave the loop, or cancel it. Raises PermissionDenied where the user may not read events, and
    Unavailable when the connection is closed.
    """

    def __init__(
        self,
        connection: NatsClient,
        names: Names,
        *,
        kinds: Iterable[str] | None,
        schedule: str | None,
        since: Since,
        is_finite: bool = False,
        open_s: float | None = OPEN_S,
    ) -> None:
        self._open_s = open_s
        self._requests = Requests(connection)
        self._feed = NatsEventFeed(self._requests, names)
        self._kinds, self._schedule = _kinds(kinds), _schedule(schedule)
        self._at = 0
        self._since = _place(since)
        self._is_finite = is_finite
        self._last: int | None = None
        self._is_open = False
        self._found: list[Event] = []

    async def open(self) -> Self:
        """Fix the place from which on events are seen; the first event asked for does so, too. Idempotent.

        Raises Unavailable if nobody has events within a few seconds, PermissionDenied.
        """
        if not self._is_open:
            try:
                if not self._requests.is_open:
                    await self._requests.open()
            except Exception as problem:
                raise from_exception(problem, "reading events") from None
            await self._persist(self._begin, self._open_s)
            self._is_open = True
        return self

    async def aclose(self) -> None:
        """Let go of everything; idempotent."""
        if self._requests.is_open:
            if not self._requests.client.is_closed:
                await self._feed.close()
            await self._requests.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            await self.open()
            while not self._found:
                if self._last is not None and self._at >= self._last:
                    raise StopAsyncIteration
                await self._persist(self._fill, self._open_s if self._is_finite else None)
        except Exception:  # not a cancellation: who waited too long may go on where it was
            await self.aclose()
            raise
        return self._found.pop(0)

    async def _begin(self) -> None:
        if isinstance(self._since, int):
            self._at = max(0, self._since)
        elif self._since is None:
            self._at = await self._feed.newest()
        else:
            self._at = await self._feed.before(self._since)
        if self._is_finite:
            self._last = await self._feed.last(self._kinds, self._schedule)

    async def _fill(self) -> None:
        page = await self._feed.read(self._at, self._kinds, self._schedule, most=BATCH, wait_s=LOOK_S)
        if page.items:  # nothing waits between this and the next page: a caller that is cancelled loses nothing
            self._at = page.items[-1].seq
        found = [event for each in page.items if (event := _event(each)) is not None]
        self._found = [event for event in found if self._last is None or event.seq <= self._last]

    async def _persist(self, step: Callable[[], Awaitable[None]], within_s: float | None) -> None:
        """One step, repeated until it succeeds, or that time is up."""
        clock = asyncio.get_running_loop().time
        until_s = math.inf if within_s is None else clock() + within_s
        for pause_s in _pauses():
            refused_before = self._requests.client.last_error
            try:
                await step()
            except Unavailable as problem:
                self._give_up_if_hopeless(problem, refused_before)
                if clock() + pause_s > until_s:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return

    def _give_up_if_hopeless(self, problem: ScheddError, refused_before: object) -> None:
        client = self._requests.client
        if client.is_closed:
            raise problem
        refused = refusal(client)
        if refused and client.last_error is not refused_before:
            raise PermissionDenied(f"events: NATS does not permit it: {refused}") from None


def _place(since: Since) -> int | datetime | None:
    """None: the newest event of the moment. Raises InvalidArgument."""
    if isinstance(since, int):
        return since
    text = None if since == NOW else instant_text(since, "since")
    return None if text is None else parse_instant(text, field="since")


def _pauses() -> Iterable[float]:
    yield from AGAIN_S
    while True:
        yield AGAIN_S[-1]


def _schedule(schedule: str | None) -> str | None:
    return None if schedule is None else check_schedule_id(schedule, field="schedule")


def _kinds(kinds: Iterable[str] | None) -> Sequence[str]:
    """What to listen to; none for all. Raises InvalidArgument: a misspelled kind would be silence for ever."""
    if kinds is None:
        return ()
    wanted = [kinds] if isinstance(kinds, str) else list(dict.fromkeys(kinds))
    for kind in wanted:
        if kind not in list(events.Kind):
            raise InvalidArgument(f"{kind!r:.40} is no kind of event: use {', '.join(events.Kind)}", field="kinds")
    if not wanted:
        raise InvalidArgument("kinds: name at least one, or leave it out for all", field="kinds")
    return wanted


def _event(told: Told) -> Event | None:
    """None for what is no event of ours: whoever may publish there may have written anything."""
    event = told.event
    if event is None:
        return None
    return Event(
        seq=told.seq,
        id=event.id,
        kind=event.kind,
        schedule=event.schedule_id,
        at=event.at,
        data=event.data,
        body=told.body,
    )
