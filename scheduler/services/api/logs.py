"""The use case `execution.logs`: what an execution logged, oldest first, in the order in which the server got it.

A cursor is a place in the logs stream. A page ends early when it is large or took long, however few lines matched.
"""

from __future__ import annotations

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.ports.clock import Clock
from scheduler.ports.logs import Logs
from scheduler.services.api.endpoint import answers
from scheduler.services.api.executions import Executions
from scheduler.services.api.paging import BYTES_MAX, Page
from scheduler.wire import api
from scheduler.wire.ids import parse_execution_id
from scheduler.wire.lines import Line, check_level, read_line

READ_CHUNK = 500
READS_MAX = 5_000  # lines read for one page, however few of them match
_SEQ_MAX = 2**63


class _Filter(Struct, frozen=True):
    attempt: int | None
    level: str | None

    @property
    def has_all(self) -> bool:
        return self.attempt is None and self.level is None

    def has(self, line: Line) -> bool:
        """A line that does not tell its attempt belongs to each."""
        of_attempt = self.attempt is None or line.attempt in {None, self.attempt}
        return of_attempt and (self.level is None or line.is_at_least(self.level))


class ExecutionLogs:
    """Reads lines of the logs stream."""

    def __init__(self, *, logs: Logs, executions: Executions, clock: Clock, bytes_max: int = BYTES_MAX) -> None:
        self._logs, self._executions, self._clock, self._bytes_max = logs, executions, clock, bytes_max

    @answers("execution.logs", api.ListLines)
    async def list(self, request: api.ListLines) -> api.LineList:
        """Raises InvalidArgument, NotFound (no such execution, and no line of it), Unsure, Unavailable."""
        wanted = _Filter(request.attempt, None if request.level is None else check_level(request.level))
        after = 0 if request.cursor is None else _checked_cursor(request.cursor)
        page: Page[Line] = Page(self._clock, request.limit, self._bytes_max)
        chunk = min(READ_CHUNK, request.limit + 1) if wanted.has_all else READ_CHUNK
        end = await self._fill(page, request.id if _is_id(request.id) else None, wanted, after, chunk)
        if end == 0:
            await self._executions.get(api.Id(id=request.id))
        cursor = str(end) if request.follow and page.cursor is None else page.cursor
        return api.LineList(items=page.items, cursor=cursor)

    async def _fill(self, page: Page[Line], execution_id: str | None, wanted: _Filter, after: int, chunk: int) -> int:
        """Add the lines that match; the place behind which there is nothing left, or nothing looked at."""
        reads = 0
        while execution_id is not None:
            lines = await self._logs.after(execution_id, after, chunk)
            for stored in lines:
                line = read_line(stored.body, stored.at)
                if not wanted.has(line):
                    page.skip(str(stored.seq))
                elif not page.add(str(stored.seq), line, len(api.encode(line)) + 1):
                    return after
                after = stored.seq
            reads += len(lines)
            if len(lines) < chunk:
                break
            if reads >= READS_MAX or page.is_over_time:
                page.end()
                break
        return after


def _is_id(text: str) -> bool:
    try:
        parse_execution_id(text)
    except InvalidArgument:
        return False
    return True


def _checked_cursor(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit()) or int(cursor[:20]) >= _SEQ_MAX:
        raise InvalidArgument("cursor is none that a list gave", field="cursor")
    return int(cursor[:20])
