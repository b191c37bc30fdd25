"""Who works: the rows of SDK workers, as of a moment ago, with those that left (mechanisms.md, part 7).

Read incrementally and only when somebody asks. A row ends by a marker when its worker stops on purpose, and silently
when it does not: then it is simply not there any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.wire.reports import WorkerRow, decode

LOOK_EVERY_S = 1.0
MARGIN = timedelta(seconds=5)  # a worker that stops hands its tasks back a moment before its row goes
KEPT = timedelta(hours=24)  # as long as signals are kept
WORKERS_MAX = 10_000


class _Span(Struct):
    """From when until when a worker was there, and what it served."""

    row: WorkerRow
    since: datetime
    until: datetime | None = None

    @property
    def is_unknown(self) -> bool:
        """Only its end was seen."""
        return not self.row.queues

    def covers(self, at: datetime) -> bool:
        return self.since - MARGIN <= at and (self.until is None or at <= self.until + MARGIN)


class Workers:
    """The workers bucket."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket, self._clock = bucket, clock
        self._spans: dict[str, _Span] = {}
        self._revision = 0
        self._looked_s: float | None = None

    async def keep_up(self) -> None:
        """Take in what has changed, at most once a second: a row that comes and goes unseen cannot be told from none.

        Raises Unsure, Unavailable.
        """
        now_s = self._clock.boottime_s()
        if self._looked_s is not None and now_s - self._looked_s < LOOK_EVERY_S:
            return
        newest = await self._bucket.last_revision()
        if newest > self._revision:
            for entry in await self._bucket.changes_since(self._revision, newest):
                self._apply(entry)
            self._revision = newest
        self._looked_s = now_s

    async def look(self) -> None:
        """Take in everything up to now, rows that have silently expired included. Raises Unsure, Unavailable."""
        self._looked_s = None
        await self.keep_up()
        await self._note_vanished()

    def served(self, queue: str, at: datetime) -> bool:
        """Whether an SDK worker was there for this queue at that time; one whose row was never seen may have been."""
        spans = (span for span in self._spans.values() if span.covers(at))
        return any(queue in span.row.queues or span.is_unknown for span in spans)

    def handled(self, queue: str, task_type: str, at: datetime) -> bool:
        """Whether one of them knew the type."""
        spans = (span for span in self._spans.values() if span.covers(at))
        return any(span.is_unknown or (queue in span.row.queues and task_type in span.row.types) for span in spans)

    async def rows(self, workers: Sequence[str]) -> dict[str, WorkerRow]:
        """The rows of these workers that exist now (leader reads). Raises Unsure, Unavailable."""
        keys = sorted({each for each in workers if _is_key(each)})
        if not keys:
            return {}
        rows = {key: _row_of(entry) for key, entry in zip(keys, await self._bucket.get_many(keys), strict=True)}
        return {key: row for key, row in rows.items() if row is not None}

    def _apply(self, entry: Entry) -> None:
        span = self._spans.get(entry.key)
        row = _row_of(entry)
        if row is not None:
            since = row.started_at or entry.at
            self._spans[entry.key] = _Span(row, since if span is None else span.since)
        elif span is None:
            self._spans[entry.key] = _Span(WorkerRow(worker=entry.key), entry.at, entry.at)
        elif span.until is None:
            span.until = entry.at

    async def _note_vanished(self) -> None:
        there = [key for key, span in self._spans.items() if span.until is None]
        now = self._clock.now()
        if there:
            for key, entry in zip(there, await self._bucket.get_many(there), strict=True):
                if entry is None or entry.deleted:
                    self._spans[key].until = now
        ended = [key for key, span in self._spans.items() if span.until is not None and now - span.until > KEPT]
        for key in (*ended, *list(self._spans)[: max(0, len(self._spans) - WORKERS_MAX)]):
            self._spans.pop(key, None)


def _row_of(entry: Entry | None) -> WorkerRow | None:
    if entry is None or entry.deleted:
        return None
    try:
        return decode(entry.value, WorkerRow)
    except InvalidArgument:
        return None


def _is_key(text: str) -> bool:
    """Whether a worker's name can be the key of a row: workers in other languages may call themselves anything."""
    return bool(text) and text.isascii() and all(char.isalnum() or char in "-_=" for char in text)
