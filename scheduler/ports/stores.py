"""Key-value buckets, as services see them: five instances of one port.

Every read here is a *leader read*: what it returns was true at the stream's leader when it answered. Every write is
a compare-and-set unless `expect` is None. Errors: `Conflict` (the expectation failed), `Unsure` (no answer in time:
it may have happened), `Unavailable` (refused for now).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from scheduler.core.errors import ScheddError


class Entry(Struct, frozen=True):
    """One stored value. `revision` is its sequence in the bucket; `at` the server's timestamp of the write.

    `deleted` marks a delete (or expiry) marker, whose value is empty.
    """

    key: str
    value: bytes
    revision: int
    at: datetime
    deleted: bool = False


class Write(Struct, frozen=True):
    """One write of a batch. `expect`: 0 creates, n replaces revision n, None overwrites. `ttl_s` whole seconds >= 1."""

    key: str
    value: bytes
    expect: int | None = None
    ttl_s: int | None = None


class Leaf(Struct, frozen=True):
    """A part of a walk through a bucket. `until`: the sequence looked at last; None: nothing is behind."""

    entries: tuple[Entry, ...] = ()
    until: int | None = None


class StreamSeen(Struct, frozen=True):
    """A stream under a bucket, or any other of ours: when it was made, and the sequence of its newest message.

    A server whose disk was damaged throws away what it cannot read any more: then `last` goes back, and what is written
    next takes sequences that others had.
    """

    born: str
    last: int = 0


class Bucket(Protocol):
    """One bucket."""

    async def get(self, key: str) -> Entry | None:
        """The newest entry of the key, delete markers included; None if there never was one."""

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        """`get` of each key, pipelined, in order. Raises Unavailable if any read found no answer."""

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> int:
        """Write one value and return its revision. Raises Conflict, Unsure, Unavailable."""

    async def put_many(self, writes: Sequence[Write]) -> list[int | ScheddError]:
        """The writes, pipelined; for each its revision or the error (never raised) that met it."""

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        """Leave a delete marker and return its revision. Raises Conflict, Unsure, Unavailable."""

    async def keys(self, pattern: str = ">") -> list[str]:
        """Keys that exist under a subject pattern (`a.*`), delete markers included, unordered."""

    async def last_revision(self) -> int:
        """Sequence of the newest write to the bucket, markers included."""

    async def changes_since(self, revision: int, until: int = 0) -> list[Entry]:
        """The newest entry of every key written after `revision`, markers included, by ascending revision.

        `until`: what `last_revision` said before; raises Unavailable where who answers now knows less. Raises Unsure.
        """

    async def leaf(self, after: int, most: int) -> Leaf:
        """What stands in `most` sequences, the first of them that of the first entry behind `after`; markers included.
        Raises Unsure, Unavailable."""

    async def expire(self, revision: int) -> None:
        """Remove the single entry with this revision (housekeeping of old delete markers)."""

    def watch(self, revision: int, deliver: Callable[[Sequence[Entry]], None]) -> Watch:
        """Start delivering every entry after `revision`, in ascending order, in batches, until stopped.

        Delivery is a hint and may stall or lag without notice: compare with `last_revision` before relying on it.
        A gap is never skipped: after a loss the watch restarts behind the last delivered revision by itself.
        """


class Watch(Protocol):
    """A running watch."""

    def restart(self, revision: int) -> None:
        """Drop the subscription and begin again behind `revision`: somebody found it stale."""

    async def stop(self) -> None:
        """Stop it; idempotent."""
