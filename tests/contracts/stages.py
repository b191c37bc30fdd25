"""What a contract suite plays on, whether memory or NATS, and the words that suites share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from scheduler.core.model.occurrence import Occurrence
from scheduler.ports.actions import Actions
from scheduler.ports.feeds import EventFeed
from scheduler.ports.logs import Logs
from scheduler.ports.queues import Cancels, Events, Reports, Signals, TaskQueues
from scheduler.ports.storage import Storage
from scheduler.ports.timeline import Timeline
from scheduler.wire.names import Names

T = TypeVar("T")


class Task(NamedTuple):
    """What a worker pulled."""

    subject: str
    body: bytes
    headers: dict[str, str]
    seq: int
    delivered: int
    token: str


class Worker(Protocol):
    """A plain worker on one queue."""

    async def pull(self, batch: int, expires_s: float) -> list[Task]: ...
    async def ack(self, token: str) -> None: ...
    async def nak(self, token: str, delay_s: float) -> None: ...
    async def term(self, token: str, reason: str) -> None: ...


class Stage(Protocol):
    """The ports under test and what a suite needs around them."""

    names: Names
    timeline: Timeline
    queues: TaskQueues
    reports: Reports
    signals: Signals
    cancels: Cancels
    actions: Actions
    events: Events
    logs: Logs
    storage: Storage
    feed: EventFeed
    dropped: list[str]

    def now(self) -> datetime: ...
    async def sleep(self, seconds: float) -> None: ...
    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that waits for time to pass."""

    async def put(self, subject: str, body: bytes) -> None:
        """Publish as anybody might."""

    async def listen(self, queue: str) -> list[tuple[str, bytes]]:
        """From now on (subject, body) of every cancel message for a queue, as its workers get them."""

    async def offer(self, schedule_id: str, action: str, listener: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Listen for an action as a worker does."""

    async def stored(self, subject: str) -> list[bytes]:
        """Bodies of the events stream under a subject."""

    async def lose_readers(self) -> None:
        """Somebody deletes every consumer of the events stream."""

    async def worker(self, queue: str) -> Worker: ...
    async def set_limits(self, queue: str | None, *, ack_wait_s: float, max_deliver: int = 0) -> None:
        """Of a task queue's consumer; None: of the due consumer."""

    def lose_ack_next(self) -> None: ...
    def land_late(self) -> None: ...
    async def land(self) -> None:
        """What was to land late arrives."""

    async def cut_off(self) -> None:
        """From here on nothing reaches the server."""


async def collected(stage: Stage, pull: Callable[[int, float], Awaitable[Sequence[T]]], count: int) -> list[T]:
    """Pull until there are that many, or nothing more comes for a second and a half."""

    async def work() -> list[T]:
        found: list[T] = []
        while len(found) < count:
            more = await pull(256, 1.5)
            if not more:
                break
            found += more
        return found

    return await stage.run(work())


async def nothing_more(stage: Stage, pull: Callable[[int, float], Awaitable[Sequence[T]]], seconds: float) -> bool:
    """Whether nothing arrives for that long."""

    async def work() -> bool:
        return not await pull(256, seconds)

    return await stage.run(work())


def occurrence(schedule_id: str, nominal_at: datetime, *, delay_s: float = 0.0, generation: int = 1) -> Occurrence:
    return Occurrence(schedule_id, nominal_at, nominal_at + timedelta(seconds=delay_s), generation)
