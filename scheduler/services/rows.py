"""Status rows: read, change purely, write by compare-and-set, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scheduler.core.errors import Conflict, ScheddError, Unavailable
from scheduler.core.model.status import StatusRow
from scheduler.ports.stores import Bucket, Entry, Write
from scheduler.wire.status import decode_status, encode_status

ROUNDS_MAX = 20  # many replicas may want the same row; each round at least one of them gets through

Edit = Callable[[StatusRow], StatusRow]


def row_of(entry: Entry | None) -> StatusRow:
    return StatusRow() if entry is None or entry.deleted else decode_status(entry.value)


class StatusRows:
    """The status bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def get(self, schedule_id: str) -> StatusRow:
        return row_of(await self.bucket.get(schedule_id))

    async def get_many(self, schedule_ids: list[str]) -> list[StatusRow]:
        return [row_of(entry) for entry in await self.bucket.get_many(schedule_ids)]

    async def change(self, edits: Mapping[str, Edit]) -> dict[str, StatusRow]:
        """Apply an edit to each row; an edit may run several times. Rows that do not change are not written.

        Returns the rows as they stand. Raises Unsure (a write may have landed: repeat, edits are idempotent),
        Unavailable.
        """
        rows: dict[str, StatusRow] = {}
        pending = dict(edits)
        for _ in range(ROUNDS_MAX):
            if not pending:
                return rows
            pending = await self._round(pending, rows)
        if pending:
            raise Unavailable(f"the status row of {next(iter(pending))!r} keeps changing")
        return rows

    async def _round(self, edits: dict[str, Edit], rows: dict[str, StatusRow]) -> dict[str, Edit]:
        ids = list(edits)
        writes: list[Write] = []
        for schedule_id, entry in zip(ids, await self.bucket.get_many(ids), strict=True):
            before = row_of(entry)
            rows[schedule_id] = after = edits[schedule_id](before)
            if after != before or entry is None or entry.deleted:
                expect = 0 if entry is None else entry.revision
                writes.append(Write(schedule_id, encode_status(after), expect=expect))
        results = await self.bucket.put_many(writes)
        conflicts: dict[str, Edit] = {}
        for write, result in zip(writes, results, strict=True):
            if isinstance(result, Conflict):
                conflicts[write.key] = edits[write.key]
            elif isinstance(result, ScheddError):
                raise result
        return conflicts
