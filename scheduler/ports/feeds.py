"""The events in order, from a place on: what webhooks, alerts and whoever makes sure of events read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from scheduler.wire.events import Event


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
    """Reads the events stream in order, for one reader. Sequences only ever grow, even over a loss of the stream.

    `kinds`: only these; none named means all. `schedule`: only what is about exactly this one.
    """

    async def newest(self) -> int:
        """Place of the newest event, whatever its kind; 0 if there never was one. Raises Unsure, Unavailable."""

    async def last(self, kinds: Sequence[str], schedule: str | None = None) -> int:
        """Place of the newest event of these; 0 if there is none. Raises Unsure, Unavailable."""

    async def before(self, at: datetime) -> int:
        """The place behind which everything was stored at `at` or later. Raises Unsure, Unavailable."""

    async def read(
        self, after: int, kinds: Sequence[str], schedule: str | None = None, *, most: int, wait_s: float
    ) -> Page:
        """Up to `most` events behind the place `after`; waits up to about `wait_s` for the first one.

        None is left out: an empty page means that the stream's leader knows of nothing more. Reading on where the page
        before ended is cheap. A place that the stream has not reached is that of a stream which was made anew since:
        everything in it is new. May be cancelled. Raises Unsure, Unavailable: then ask again.
        """

    async def pending(self) -> int:
        """How many events there are behind the last page, as well as is known. Raises nothing."""

    async def close(self) -> None:
        """Idempotent; a later `read` begins anew."""


Feeds = Callable[[], EventFeed]
