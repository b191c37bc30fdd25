"""Status rows: read, change purely, write by compare-and-set, many at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from msgspec import Struct

from scheduler.core.errors import Conflict, ScheddError, Unavailable, Unsure
from scheduler.core.model.status import StatusRow
from scheduler.ports.stores import Bucket, Entry, Write
from scheduler.wire.status import decode_status, encode_status

ROUNDS_MAX = 20  # many replicas may want the same row; each round at least one of them gets through

Edit = Callable[[StatusRow], StatusRow]


class _Attempted(Struct):
    """An edit under way. After a silence `intended` is what the write without an answer would have stored."""

    edit: Edit
    row: StatusRow = StatusRow()
    intended: bytes | None = None
    silence: Unsure | None = None


def row_of(entry: Entry | None) -> StatusRow:
    return StatusRow() if entry is None or entry.deleted else decode_status(entry.value)


def is_in_use(row: StatusRow) -> bool:
    """Whether runs hold slots in it, or late ones wait for their verdict: then it outlives its schedule."""
    return bool(row.active or row.waiting or row.late_from is not None or row.deciding is not None)


class StatusRows:
    """The status bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def get(self, schedule_id: str) -> StatusRow:
        return row_of(await self.bucket.get(schedule_id))

    async def get_many(self, schedule_ids: list[str]) -> list[StatusRow]:
        return [row_of(entry) for entry in await self.bucket.get_many(schedule_ids)]

    async def change(self, edits: Mapping[str, Edit], *, create: bool = True) -> dict[str, StatusRow]:
        """Apply an edit to each row; returns the rows as they stand. See `try_change`. Raises Unsure, Unavailable."""
        rows: dict[str, StatusRow] = {}
        for schedule_id, result in (await self.try_change(edits, create=create)).items():
            if isinstance(result, ScheddError):
                raise result
            rows[schedule_id] = result
        return rows

    async def forget(self, schedule_id: str, before_write: Callable[[], None] = lambda: None) -> bool:
        """Delete the row, unless it is in use; whether there is none now. Raises Unsure, Unavailable.

        `before_write` may raise to keep it from being written.
        """
        for _ in range(ROUNDS_MAX):
            entry = await self.bucket.get(schedule_id)
            if entry is None or entry.deleted:
                return True
            row = row_of(entry)
            if is_in_use(row):
                return False
            before_write()
            with contextlib.suppress(Conflict):
                await self.bucket.delete(schedule_id, expect=entry.revision)
                return True
        raise Unavailable(f"the status row of {schedule_id!r} keeps changing")

    async def try_change(self, edits: Mapping[str, Edit], *, create: bool = True) -> dict[str, StatusRow | ScheddError]:
        """Apply an edit to each row; one that fails keeps no other from being changed.

        An edit may run several times; the last run is the one that counts. Rows that do not change are not written,
        and with `create` false neither are rows that are not there. A write without an answer is read back: Unsure is
        left only where it may still land.
        """
        done: dict[str, StatusRow | ScheddError] = {}
        pending = {schedule_id: _Attempted(edit) for schedule_id, edit in edits.items()}
        for _ in range(ROUNDS_MAX):
            if not pending:
                break
            pending = await self._round(pending, done, create=create)
        for schedule_id, each in pending.items():
            done[schedule_id] = each.silence or Unavailable(f"the status row of {schedule_id!r} keeps changing")
        return done

    async def _round(
        self, pending: dict[str, _Attempted], done: dict[str, StatusRow | ScheddError], *, create: bool
    ) -> dict[str, _Attempted]:
        try:
            entries = await self.bucket.get_many(list(pending))
        except ScheddError as problem:
            done.update((schedule_id, each.silence or problem) for schedule_id, each in pending.items())
            return {}
        writes = [
            write
            for (schedule_id, each), entry in zip(pending.items(), entries, strict=True)
            if (write := _write_of(schedule_id, each, entry, create=create)) is not None
        ]
        written = {write.key for write in writes}
        done.update((schedule_id, each.row) for schedule_id, each in pending.items() if schedule_id not in written)
        again: dict[str, _Attempted] = {}
        for write, result in zip(writes, await self.bucket.put_many(writes), strict=True):
            each = pending[write.key]
            is_first_silence = isinstance(result, Unsure) and each.silence is None
            if isinstance(result, Conflict) or is_first_silence:
                each.silence = result if isinstance(result, Unsure) else None
                each.intended = write.value
                again[write.key] = each
            else:
                done[write.key] = result if isinstance(result, ScheddError) else each.row
        return again


def _write_of(schedule_id: str, each: _Attempted, entry: Entry | None, *, create: bool) -> Write | None:
    """The write that makes the edit of this row; None if there is nothing (more) to write."""
    is_there = entry is not None and not entry.deleted
    if each.silence is not None and entry is not None and entry.value == each.intended:
        return None
    before = row_of(entry)
    each.row = each.edit(before)
    wanted = each.row != before if is_there else create
    return (
        Write(schedule_id, encode_status(each.row), expect=0 if entry is None else entry.revision) if wanted else None
    )
