"""A mirror of one bucket in memory that can prove it is fresh.

The watch is a hint: it may stall or drop without telling anybody. So whoever relies on the mirror calls `fresh()`,
which asks the bucket's leader for the newest revision and reads what the watch has not delivered yet. Entries reach
`apply` in ascending order of revision, each once, whichever way they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from scheduler.core.triggers import EPOCH
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry, Watch

log = logging.getLogger(__name__)

ASKED_AT_ONCE = 500
PATIENCE_S = 0.05  # how long `fresh` lets the watch deliver before it reads by itself


class Mirror:
    """`apply` is called with each entry, markers included; it must not raise for bad values."""

    def __init__(self, bucket: Bucket, clock: Clock, apply: Callable[[Entry], None]) -> None:
        self.bucket = bucket
        self.applied = 0
        self.newest_at = EPOCH
        """When the newest entry that was ever applied was written, by the server's time."""
        self.changed = asyncio.Event()
        self._clock = clock
        self._apply = apply
        self._watch: Watch | None = None

    async def start(self, revision: int = 0) -> None:
        """Read everything written after `revision`, then keep up. Raises Unavailable."""
        self.applied = revision
        await self._catch_up()
        self._watch = self.bucket.watch(self.applied, self._deliver)

    async def stop(self) -> None:
        if self._watch is not None:
            await self._watch.stop()

    async def fresh(self) -> int:
        """Make sure that everything written before this call is applied; the newest revision at that moment.

        Raises Unsure, Unavailable.
        """
        newest = await self.bucket.last_revision()
        if self.applied >= newest:
            return newest
        await self._clock.sleep(PATIENCE_S)
        if self.applied < newest:
            behind = self.applied
            await self._read_to(newest)
            if self._watch is not None:
                log.info("read past a slow watch", extra={"event": "watch_behind", "from": behind, "to": newest})
                self._watch.restart(self.applied)
        return newest

    async def vanished(self, known: Iterable[str]) -> list[str]:
        """Which of these keys have no value any more: not among all keys, and not when they are asked for themselves.

        Raises Unsure, Unavailable.
        """
        listed = frozenset(await self.bucket.keys())
        missing = [each for each in known if each not in listed]
        found: list[Entry | None] = []
        for start in range(0, len(missing), ASKED_AT_ONCE):
            found += await self.bucket.get_many(missing[start : start + ASKED_AT_ONCE])
        return [key for key, entry in zip(missing, found, strict=True) if entry is None or entry.deleted]

    async def reread(self, revision: int) -> None:
        """Apply everything written after `revision` again. Raises Unsure, Unavailable."""
        self.applied = revision
        await self._catch_up()
        if self._watch is not None:
            self._watch.restart(self.applied)

    async def _catch_up(self) -> None:
        await self._read_to(await self.bucket.last_revision())

    async def _read_to(self, newest: int) -> None:
        self._deliver(await self.bucket.changes_since(self.applied, newest))
        self.applied = max(self.applied, newest)

    def _deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.revision > self.applied:
                self._apply(entry)
                self.applied, self.newest_at = entry.revision, max(entry.at, self.newest_at)
        self.changed.set()
