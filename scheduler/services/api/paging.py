"""One page of a list: bounded in items, in bytes and in time, whatever is asked for.

A cursor is the id of the last item that was looked at, matching or not. It is a position, not a snapshot: what is
written meanwhile shows if it sorts behind it, and nothing is shown twice.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from scheduler.ports.clock import Clock

BYTES_MAX = 1_000_000  # under NATS's default max_payload, with room for the frame around the items
PAGE_S = 1.5  # a page that takes longer ends early, with a cursor to go on from
T = TypeVar("T")


class Page(Generic[T]):
    """Filled in the list's order. `cursor` is set when it ended before the list did."""

    def __init__(self, clock: Clock, limit: int, bytes_max: int = BYTES_MAX) -> None:
        self.items: list[T] = []
        self.cursor: str | None = None
        self._limit, self._bytes_left = limit, bytes_max
        self._clock = clock
        self._until_s = clock.boottime_s() + PAGE_S
        self._last: str | None = None

    def skip(self, item_id: str) -> None:
        """This one was looked at and does not belong to the list."""
        self._last = item_id

    def add(self, item_id: str, item: T, size: int) -> bool:
        """Append the item; False, and the page is closed, if there is no room. The first one always fits."""
        if self.items and (len(self.items) >= self._limit or size > self._bytes_left):
            self.cursor = self._last
            return False
        self.items.append(item)
        self._bytes_left -= size
        self._last = item_id
        return True

    @property
    def is_over_time(self) -> bool:
        return self._clock.boottime_s() >= self._until_s

    def end(self) -> None:
        """Close the page behind what was looked at so far."""
        self.cursor = self._last
