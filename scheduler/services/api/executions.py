"""Use cases of executions: list and get. Records are shown as they are stored, byte for byte.

Lists are newest first, by nominal time. Without a schedule they answer from the index of recent executions, never by
reading the whole bucket; with one, from the keys of that schedule, read in portions that a walk over the pages shares.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from msgspec import Raw, Struct

from scheduler.core.errors import Internal, InvalidArgument, NotFound
from scheduler.core.model.execution import State
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import BYTES_MAX, Page
from scheduler.services.executions import ExecutionIndex
from scheduler.wire import api
from scheduler.wire.ids import check_queue, check_schedule_id, format_nominal, parse_execution_id
from scheduler.wire.instants import parse_optional
from scheduler.wire.record import Summary, read_states, summary_of

READ_CHUNK = 100  # records read at once
READS_MAX = 5_000  # records read for one page, however few of them match
PORTION_MAX = 100_000  # keys of a schedule kept for the following pages
PORTIONS_MAX = 4
PORTION_S = 60.0
_NOMINAL_LENGTH = len("20261121T080000000Z")

Position = tuple[str, str]


class _Filter(Struct, frozen=True):
    """What a list was asked for. Nominal times as in the id, where they sort as text."""

    schedule: str | None
    states: frozenset[State]
    queue: str | None
    type: str | None
    reason: str | None
    since: str | None
    until: str | None

    def has_time(self, execution_id: str) -> bool:
        nominal = position_of(execution_id)[0]
        return (self.since is None or nominal >= self.since) and (self.until is None or nominal < self.until)

    def has(self, summary: Summary) -> bool:
        return (
            (not self.states or summary.state in self.states)
            and self.queue in {None, summary.queue}
            and self.type in {None, summary.type}
            and (self.reason is None or self.reason in _reasons(summary))
        )


def _reasons(summary: Summary) -> tuple[str | None, ...]:
    return (summary.reason, None if summary.error is None else summary.error.type)


class _Portion(Struct):
    """The newest keys of one schedule that are older than `before` (None: than nothing), oldest first.

    Within one schedule ids sort as their nominal times do. `is_whole`: there are none older than these.
    """

    before: str | None
    keys: list[str]
    is_whole: bool
    read_s: float


def position_of(execution_id: str) -> Position:
    """Where an execution stands in a list: by nominal time, then by id."""
    return execution_id.rpartition(".")[2][:_NOMINAL_LENGTH], execution_id


class Executions:
    """Reads records of the executions bucket."""

    def __init__(self, *, bucket: Bucket, index: ExecutionIndex, clock: Clock, bytes_max: int = BYTES_MAX) -> None:
        self._bucket, self._index, self._clock = bucket, index, clock
        self._bytes_max = bytes_max
        self._portions: OrderedDict[str, _Portion] = OrderedDict()

    @answers("execution.get", api.Id)
    async def get(self, request: api.Id) -> Raw:
        """The record. Raises NotFound (for a text that can be no id, too), Internal (unreadable), Unavailable."""
        try:
            parse_execution_id(request.id)
        except InvalidArgument:
            hint = "an id is SCHEDULE.YYYYMMDDTHHMMSSmmmZ, see execution.list"
            raise NotFound(f"there is no execution {request.id!r:.200}: {hint}", field="id") from None
        entry = await self._bucket.get(request.id)
        if entry is None or entry.deleted:
            raise NotFound(f"there is no execution {request.id!r}", field="id")
        if summary_of(entry.value) is None:
            raise Internal(f"the record of execution {request.id!r} cannot be read")
        return Raw(entry.value)

    @answers("execution.list", api.ListExecutions)
    async def list(self, request: api.ListExecutions) -> api.ExecutionList:
        """Raises InvalidArgument, Unavailable."""
        wanted = _filter_of(request)
        cursor = None if request.cursor is None else _checked_cursor(request.cursor, wanted.schedule)
        page: Page[Raw] = Page(self._clock, request.limit, self._bytes_max)
        if wanted.schedule is None:
            await self._fill(page, await self._recent(wanted, cursor), wanted)
        else:
            await self._list_schedule(wanted.schedule, page, wanted, cursor)
        older = wanted.schedule is None and not self._index.is_whole
        return api.ExecutionList(items=page.items, cursor=page.cursor, older=older)

    # --- candidates

    async def _recent(self, wanted: _Filter, cursor: str | None) -> Iterator[str]:
        await self._index.current()
        behind = None if cursor is None else position_of(cursor)
        found = [seen.id for seen in self._index.recent() if wanted.has(seen.summary) and wanted.has_time(seen.id)]
        left = found if behind is None else [each for each in found if position_of(each) < behind]
        return iter(sorted(left, key=position_of, reverse=True))

    async def _list_schedule(self, schedule_id: str, page: Page[Raw], wanted: _Filter, cursor: str | None) -> None:
        """Portion after portion, until the page is closed or the keys are used up."""
        before = cursor
        while True:
            portion = await self._portion(schedule_id, before)
            if not await self._fill(page, _older(portion, schedule_id, before, wanted), wanted):
                return
            if portion.is_whole or not portion.keys:
                return
            before = portion.keys[0]
            if wanted.since is not None and before < f"{schedule_id}.{wanted.since}":
                return
            page.skip(before)
            if page.is_over_time:
                page.end()
                return

    async def _portion(self, schedule_id: str, before: str | None) -> _Portion:
        """A first page reads the keys anew; the pages after it go on in what was read then, as long as it reaches."""
        kept = self._portions.get(schedule_id)
        if before is not None and kept is not None and self._reaches(kept, before):
            return kept
        keys = await self._bucket.keys(f"{schedule_id}.*")
        left = sorted(key for key in keys if _is_record(key) and (before is None or key < before))
        portion = _Portion(before, left[-PORTION_MAX:], len(left) <= PORTION_MAX, self._clock.boottime_s())
        self._portions[schedule_id] = portion
        self._portions.move_to_end(schedule_id)
        while len(self._portions) > PORTIONS_MAX:
            self._portions.popitem(last=False)
        return portion

    def _reaches(self, kept: _Portion, before: str) -> bool:
        """Whether what follows a position begins in this portion."""
        if self._clock.boottime_s() - kept.read_s > PORTION_S or not kept.keys:
            return False
        begins = kept.before is None or kept.before >= before
        return begins and (kept.is_whole or kept.keys[0] < before)

    # --- records

    async def _fill(self, page: Page[Raw], ids: Iterator[str], wanted: _Filter) -> bool:
        """Read the records and add those that match; False once the page is closed."""
        reads = 0
        while chunk := list(islice(ids, READ_CHUNK)):
            if reads and (reads >= READS_MAX or page.is_over_time):
                page.end()
                return False
            reads += len(chunk)
            for execution_id, entry in zip(chunk, await self._bucket.get_many(chunk), strict=True):
                summary = None if entry is None or entry.deleted else summary_of(entry.value)
                if entry is None or summary is None or not wanted.has(summary):
                    page.skip(execution_id)
                elif not page.add(execution_id, Raw(entry.value), len(entry.value) + 1):
                    return False
        return True


def _older(portion: _Portion, schedule_id: str, before: str | None, wanted: _Filter) -> Iterator[str]:
    """The keys of a portion that are older than a position and within the times asked for, newest first."""
    keys = portion.keys
    first = 0 if wanted.since is None else bisect_left(keys, f"{schedule_id}.{wanted.since}")
    ends = [bisect_left(keys, end) for end in (before, wanted.until and f"{schedule_id}.{wanted.until}") if end]
    return (keys[number] for number in range(min(ends, default=len(keys)) - 1, first - 1, -1))


def _filter_of(request: api.ListExecutions) -> _Filter:
    since = parse_optional(request.since, field="since")
    until = parse_optional(request.until, field="until")
    return _Filter(
        schedule=None if request.schedule is None else check_schedule_id(request.schedule, field="schedule"),
        states=read_states(request.state),
        queue=None if request.queue is None else check_queue(request.queue),
        type=request.type,
        reason=request.reason,
        since=_nominal(since),
        until=_nominal(until),
    )


def _nominal(at: datetime | None) -> str | None:
    return None if at is None else format_nominal(at)


def _checked_cursor(cursor: str, schedule_id: str | None) -> str:
    """A cursor is a key that was looked at, whatever was stored under it."""
    if not _is_record(cursor):
        raise InvalidArgument("cursor is none that a list gave", field="cursor")
    if schedule_id is not None and cursor.rpartition(".")[0] != schedule_id:
        raise InvalidArgument("cursor belongs to another list: send it with the same schedule", field="cursor")
    return cursor


def _is_record(key: str) -> bool:
    """Whether a key can be an execution's: somebody may have put anything into the bucket."""
    tail = key.rpartition(".")[2]
    return len(tail) >= _NOMINAL_LENGTH and tail[_NOMINAL_LENGTH - 1] == "Z"
