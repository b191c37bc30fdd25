"""An index of executions in memory: the recent ones, for lists; the open ones and the last ends, for the reconciler.

It follows the executions bucket from a bounded point, so that a start costs the same however much history there is,
and it keeps a summary of each record only: it sees every write, thousands a second. All parts are bounded; what falls
out is counted. What it says is a hint: whoever acts on it, or shows it, reads the record.

Nothing that is due waits for it: a replica dispatches while its index is still being read, and only who asks it waits.
What is open and was last written before that bounded point is found by its task, which lies in a queue until it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.errors import ScheddError, Unavailable
from scheduler.core.lifecycle import TERMINAL
from scheduler.core.model.execution import State
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.telemetry import Telemetry
from scheduler.services.backlog import Backlog
from scheduler.services.mirror import Mirror
from scheduler.services.together import sleep_unless
from scheduler.wire.record import Summary, summary_of

log = logging.getLogger(__name__)
RECENT_MAX = 10_000
OPEN_MAX = 200_000
ENDS_MAX = 50_000  # 12 MB
ENDS_KEPT = timedelta(minutes=5)  # the leader compares them within a minute; of what is longer ago, the bucket is read
START_WINDOW = 100_000  # writes before the newest that a start looks at
CURRENT_S = 0.25  # how long a reader waits for a watch that is behind
READ_S = 3.0  # and for the first reading, after a start
AGAIN_S = 1.0
_LOOK_S = 0.01
_NONCES = "_nonce."


class Seen(Struct, frozen=True, gc=False):
    """The summary of a record, its revision, and the server's time of that write."""

    summary: Summary
    revision: int
    at: datetime

    @property
    def id(self) -> str:
        return self.summary.id

    @property
    def state(self) -> State:
        return self.summary.state


class End(Struct, frozen=True, gc=False):
    """A terminal write: of which execution, in which drive; its revision, and the server's time of it."""

    id: str
    drive: int
    revision: int
    at: datetime


class ExecutionIndex:
    """`recent` by write order, bounded; `open` all executions seen that are not terminal."""

    def __init__(
        self,
        bucket: Bucket,
        clock: Clock,
        telemetry: Telemetry,
        *,
        recent_max: int = RECENT_MAX,
        open_max: int = OPEN_MAX,
        start_window: int = START_WINDOW,
        backlog: Backlog | None = None,
        ends_max: int = ENDS_MAX,
    ) -> None:
        self.mirror = Mirror(bucket, clock, self._apply)
        self._clock, self._telemetry = clock, telemetry
        self._recent_max, self._open_max, self._start_window = recent_max, open_max, start_window
        self._backlog = backlog
        self._is_read = asyncio.Event()
        self._begins_at: datetime | None = None  # the time of the first write that was looked at
        self._ends_max = ends_max
        self._recent: OrderedDict[str, Seen] = OrderedDict()
        self._open: OrderedDict[str, Seen] = OrderedDict()
        self._ends: deque[End] = deque()
        self.ends_after = 0
        """The revision behind which all ends are in memory."""
        self.newest_task_seq = 0
        """The highest sequence of a task that a record tells of."""
        self.is_whole = True
        """Whether `recent` has all there are."""
        self.on_seen: Callable[[Seen], None] = lambda seen: None  # told of every write; set where everything is wired

    async def run(self) -> None:
        """Read, however often it takes, and keep up until cancelled."""
        if not self._is_read.is_set():
            await self._insist(self.start)
        if not self.is_whole:
            await self._insist(self._read_backlog)
        await asyncio.Event().wait()

    async def start(self) -> None:
        """Read the last writes, then keep up. Raises Unavailable."""
        newest = await self.mirror.bucket.last_revision()
        self.is_whole = newest <= self._start_window
        self.ends_after = max(0, newest - self._start_window)
        await self.mirror.start(self.ends_after)
        self._is_read.set()

    async def is_behind_itself(self) -> bool:
        """Whether the newest record seen is older in the bucket than it was, or gone: the bucket lost its end.

        Raises Unsure, Unavailable.
        """
        newest = next(self.recent(), None)
        if newest is None:
            return False
        entry = await self.mirror.bucket.get(newest.id)
        return entry is None or entry.revision < newest.revision

    async def reread(self) -> None:
        """Forget everything and read the last writes again: some of what is known was lost. Raises Unavailable."""
        newest = await self.mirror.bucket.last_revision()
        self._recent.clear()
        self._open.clear()
        self._ends.clear()
        self._begins_at = None
        self.ends_after = max(0, newest - self._start_window)
        self.is_whole = newest <= self._start_window
        await self.mirror.reread(self.ends_after)
        if not self.is_whole:
            await self._read_backlog()

    async def stop(self) -> None:
        await self.mirror.stop()

    async def _insist(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await step()
            except ScheddError as problem:
                extra = {"event": "executions_wait", "error": problem.message}
                log.warning("executions are read a little later", extra=extra)
                await self._clock.sleep(AGAIN_S)

    async def _read_backlog(self) -> None:
        """What is open and older than the writes that `start` looked at. Raises Unsure, Unavailable."""
        if self._backlog is not None:
            async for entries in self._backlog.records(self._begins_at or self._clock.now()):
                self._adopt(entries)
            self._open = OrderedDict(sorted(self._open.items(), key=lambda item: item[1].revision))

    async def current(self) -> None:
        """Include what was written before this call, if the watch delivers it soon; read past the watch if not.

        Raises Unsure, Unavailable.
        """
        await self._until_read()
        newest = await self.mirror.bucket.last_revision()
        until_s = self._clock.boottime_s() + CURRENT_S
        while self.mirror.applied < newest:
            if self._clock.boottime_s() >= until_s:
                await self.mirror.fresh()
                return
            await self._clock.sleep(_LOOK_S)

    async def _until_read(self) -> None:
        if not self._is_read.is_set():
            await sleep_unless(self._is_read, self._clock, READ_S)
        if not self._is_read.is_set():
            raise Unavailable("this replica has just started and still reads the executions: ask again")

    def __len__(self) -> int:
        return len(self._recent)

    def get(self, execution_id: str) -> Seen | None:
        """The execution as last seen, if it is recent or open."""
        return self._recent.get(execution_id) or self._open.get(execution_id)

    def recent(self) -> Iterator[Seen]:
        """The most recently written executions, newest write first."""
        return reversed(self._recent.values())

    @property
    def open_count(self) -> int:
        return len(self._open)

    def open_before(self, at: datetime) -> list[Seen]:
        """Executions that are not terminal and were last written before `at`, longest untouched first."""
        found: list[Seen] = []
        for seen in self._open.values():  # in the order of their last writes
            if seen.at >= at:
                break
            found.append(seen)
        return found

    def open_ids(self, older_than: datetime) -> list[str]:
        """The ids of `open_before`."""
        return [seen.id for seen in self.open_before(older_than)]

    async def ends_since(self, revision: int) -> tuple[list[End], int]:
        """The terminal writes after a revision, oldest first, and up to which revision these are all.

        A record that has been opened again since may be missing. Raises Unsure, Unavailable.
        """
        await self._until_read()
        if revision >= self.ends_after:
            return [each for each in self._ends if each.revision > revision], self.mirror.applied
        newest = await self.mirror.bucket.last_revision()
        entries = await self.mirror.bucket.changes_since(revision, newest)
        return [end for each in entries if (end := _end_of(each)) is not None], newest

    def forget(self, execution_id: str, revision: int) -> None:
        """Drop a record that the daemon removed from the bucket."""
        for place in (self._recent, self._open):
            seen = place.get(execution_id)
            if seen is not None and seen.revision == revision:
                del place[execution_id]

    # --- fed by the mirror

    def _apply(self, entry: Entry) -> None:
        self._begins_at = self._begins_at or entry.at
        key = entry.key
        if key.startswith(_NONCES):
            return
        if entry.deleted:
            self._recent.pop(key, None)
            self._open.pop(key, None)
            return
        seen = self._read(entry)
        if seen is not None:
            self._put(seen)

    def _read(self, entry: Entry) -> Seen | None:
        summary = summary_of(entry.value)
        if summary is None or summary.id != entry.key:
            self._telemetry.dropped(what="execution_index", reason="unreadable")
            return None
        return Seen(summary, entry.revision, entry.at)

    def _put(self, seen: Seen) -> None:
        self.on_seen(seen)
        self.newest_task_seq = max(self.newest_task_seq, seen.summary.task_seq or 0)
        self._recent[seen.id] = seen
        self._recent.move_to_end(seen.id)
        if len(self._recent) > self._recent_max:
            self._recent.popitem(last=False)
            self.is_whole = False
            self._telemetry.dropped(what="execution_index", reason="recent_full")
        if seen.state in TERMINAL:
            self._open.pop(seen.id, None)
            self._note_end(End(seen.id, seen.summary.drive, seen.revision, seen.at))
            return
        self._open[seen.id] = seen
        self._open.move_to_end(seen.id)
        if len(self._open) > self._open_max:
            self._open.popitem(last=False)
            self._telemetry.dropped(what="execution_index", reason="open_full")

    def _note_end(self, end: End) -> None:
        self._ends.append(end)
        while len(self._ends) > self._ends_max or end.at - self._ends[0].at > ENDS_KEPT:
            self.ends_after = self._ends.popleft().revision

    # --- fed by the backlog

    def _adopt(self, entries: Sequence[Entry]) -> None:
        """Those that are open and not known yet."""
        for entry in entries:
            seen = None if self.get(entry.key) else self._read(entry)
            if seen is not None and seen.state not in TERMINAL and len(self._open) < self._open_max:
                self.on_seen(seen)
                self._open[seen.id] = seen


def _end_of(entry: Entry) -> End | None:
    summary = None if entry.deleted or entry.key.startswith(_NONCES) else summary_of(entry.value)
    if summary is None or summary.id != entry.key or summary.state not in TERMINAL:
        return None
    return End(summary.id, summary.drive, entry.revision, entry.at)
