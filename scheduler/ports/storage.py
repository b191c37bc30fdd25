"""How full the server is: what an operator wants to know, and nothing that a decision is made by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class StoreState(Struct, frozen=True, kw_only=True):
    """One stream, or the one under a bucket. `bytes_max` and `messages_max` are None where it has no such limit.

    `copies` of `copies_wanted` are up to date; 0: the server has elected no leader for it, so nobody can write.
    """

    name: str
    messages: int
    size: int
    bytes_max: int | None = None
    messages_max: int | None = None
    copies: int = 1
    copies_wanted: int = 1

    @property
    def fill(self) -> float | None:
        """The share of its limit that it uses, of the tighter one if it has two; None if it has none."""
        limits = ((self.size, self.bytes_max), (self.messages, self.messages_max))
        return max((used / most for used, most in limits if most is not None), default=None)


class Room(Struct, frozen=True):
    """Bytes on disk that the account uses, and may use (None: no limit of its own)."""

    used: int
    limit: int | None = None

    @property
    def fill(self) -> float:
        """The share of the limit that is used; 0 if there is none."""
        return self.used / self.limit if self.limit else 0.0


class Storage(Protocol):
    """The streams and buckets of the namespace, as the server describes them."""

    async def stores(self) -> Sequence[StoreState]:
        """All of them, by name. Raises Unavailable, PermissionDenied."""

    async def room(self) -> Room:
        """Raises Unavailable, PermissionDenied."""
