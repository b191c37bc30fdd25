"""What a bucket of definitions has lost, or what of it cannot be heard of any more; every replica has them in memory.

A damaged block costs one NATS node everything behind the damage. At the end of a bucket that gives sequences back: keys
are as they were some writes ago, and what is written next has sequences that every mirror believes to know already. In
the middle it leaves a gap, and the server says nothing of either. So memory and bucket are compared, key by key: the
newer by the server's time is right, and is written anew, above all sequences that ever were.

What was deleted so long ago that its mark is gone may be there again after a kill, too, since a value that was replaced
stays on the disk (`services.burying`, which is not always enough). Such a ghost is older than the newest we had seen
before, and its time lies where its sequence says; what was written under a sequence that was given twice is younger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Protocol

from msgspec import Struct

from scheduler.core.errors import Conflict, ScheddError
from scheduler.core.triggers import EPOCH
from scheduler.ports.stores import Bucket, Entry, Write
from scheduler.services.mirror import Mirror

BATCH = 500


class KnownValue(Protocol):
    """What memory has of one key."""

    @property
    def revision(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def deleted(self) -> bool: ...


class Rewrite(Struct, frozen=True):
    """Write this value (None: delete the key) unless somebody did meanwhile. `is_ghost`: it was deleted long ago."""

    key: str
    value: bytes | None
    expect: int
    is_ghost: bool = False


class Definitions(Struct, frozen=True):
    """One bucket of definitions, its mirror, and what the mirror made of it. `is_ours`: whether a key can be one.
    `fresh` drops what was deleted while we were out of touch: its mark may be gone, and nothing else tells."""

    stream: str
    mirror: Mirror
    fresh: Callable[[], Awaitable[int]]
    known: Callable[[], Mapping[str, KnownValue]]
    is_ours: Callable[[str], bool] = lambda key: True

    async def lost(self, seen_until: datetime = EPOCH) -> list[Rewrite]:
        """`seen_until`: what is older, and unknown, was deleted. Raises Unsure, Unavailable."""
        await self.fresh()
        applied = self.mirror.applied
        stored = {entry.key: entry for entry in await self.mirror.bucket.changes_since(0)}
        return differences(self.known(), stored, applied, seen_until, self.is_ours)


def differences(
    known: Mapping[str, KnownValue],
    stored: Mapping[str, Entry],
    applied: int,
    seen_until: datetime,
    is_ours: Callable[[str], bool],
) -> list[Rewrite]:
    """Of what the mirror believes to know, up to revision `applied`: what the bucket has otherwise."""
    in_order = _Order(known.values())
    found: list[Rewrite] = []
    for key, value in known.items():
        if key not in stored and not value.deleted and value.revision <= applied:
            found.append(Rewrite(key, value.raw, 0))
    for key, entry in stored.items():
        mine = known.get(key)
        if not is_ours(key) or entry.revision > applied or (entry.deleted and (mine is None or mine.deleted)):
            continue
        if mine is None and entry.at <= seen_until and in_order.fits(entry):
            found.append(Rewrite(key, None, entry.revision, is_ghost=True))
        elif mine is None or mine.at < entry.at:
            found.append(Rewrite(key, None if entry.deleted else entry.value, entry.revision))
        elif mine.revision != entry.revision:
            found.append(Rewrite(key, None if mine.deleted else mine.raw, entry.revision, is_ghost=mine.deleted))
    return found


class _Order:
    """The times of what is known, by revision."""

    def __init__(self, known: Iterable[KnownValue]) -> None:
        by_revision = sorted(known, key=lambda each: each.revision)
        self._revisions = [each.revision for each in by_revision]
        earliest = accumulate((each.at for each in reversed(by_revision)), min)
        self._earliest = list(earliest)[::-1]  # from each place on

    def fits(self, entry: Entry) -> bool:
        """Whether nothing that is known to come behind it is older."""
        place = bisect_right(self._revisions, entry.revision)
        return place == len(self._earliest) or self._earliest[place] >= entry.at


async def rewrite(bucket: Bucket, all_of_them: Iterable[Rewrite]) -> int:
    """How many were written; those that somebody was faster with are left alone. Raises Unsure, Unavailable."""
    rewrites, count = list(all_of_them), 0
    for start in range(0, len(rewrites), BATCH):
        some = rewrites[start : start + BATCH]
        writes = [Write(each.key, each.value, expect=each.expect) for each in some if each.value is not None]
        for result in await bucket.put_many(writes):
            if isinstance(result, ScheddError) and not isinstance(result, Conflict):
                raise result
            count += not isinstance(result, ScheddError)
        for each in some:
            count += each.value is None and await _is_deleted(bucket, each)
    return count


async def _is_deleted(bucket: Bucket, each: Rewrite) -> bool:
    try:
        await bucket.delete(each.key, expect=each.expect)
    except Conflict:
        return False
    return True
