"""What webhooks need from the world: the events in order, from a place on, and somebody who posts to an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from scheduler.core.delivering import Answer
from scheduler.wire.events import Event
from scheduler.wire.targets import Target


class Told(Struct, frozen=True):
    """A stored event: its place in the stream, its body as it was stored, and what that says (None: no event)."""

    seq: int
    body: bytes
    event: Event | None


class Page(Struct, frozen=True):
    """Events in order. `pending`: how many more of the same kinds there were behind the last one."""

    items: Sequence[Told]
    pending: int = 0


class EventFeed(Protocol):
    """Reads the events stream in order, for one reader. Sequences only ever grow, even over a loss of the stream."""

    async def newest(self) -> int:
        """Place of the newest event, whatever its kind; 0 if there never was one. Raises Unsure, Unavailable."""

    async def read(self, after: int, kinds: Sequence[str], *, most: int, wait_s: float) -> Page:
        """Up to `most` events of these kinds behind the place `after`; waits up to about `wait_s` for the first one.

        None is left out. Reading on where the page before ended is cheap. Raises Unsure, Unavailable.
        """

    async def pending(self) -> int:
        """How many events there are behind the last page, as well as is known. Raises nothing."""

    async def close(self) -> None:
        """Idempotent; a later `read` begins anew."""


class Post(Struct, frozen=True):
    """One request. `headers` go out as they are; nothing of it may be logged."""

    target: Target
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float


class Poster(Protocol):
    """Posts to the outside."""

    async def post(self, post: Post) -> Answer:
        """What came of it, within `timeout_s`, whatever the endpoint does. Raises nothing; may be cancelled."""


Feeds = Callable[[], EventFeed]
