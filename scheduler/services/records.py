"""Execution records: read, create, and move on by the lifecycle table, many at a time, always by compare-and-set.

Whoever has a terminal record written gets told so exactly once per write that won (`ended`), and passes it to
`Settlement`, which frees the slot. A crash between the two is the reconciler's to find.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import Struct

from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable
from scheduler.core.lifecycle import Event, advance, is_terminal
from scheduler.core.model.execution import Execution
from scheduler.ports.stores import Bucket, Entry, Write
from scheduler.ports.telemetry import Telemetry
from scheduler.wire.record import decode_execution, encode_execution

log = logging.getLogger(__name__)
ROUNDS_MAX = 6  # compare-and-set rounds before a change is given up as unavailable


class Stored(Struct, frozen=True):
    """A record with its revision."""

    execution: Execution
    revision: int


class Change(Struct, frozen=True):
    """Events to apply to one record, in order; an illegal one is skipped and counted, the others still apply."""

    id: str
    events: tuple[Event, ...]


class Changed(Struct, frozen=True):
    """What came of a change. `ended`: this very write made the record terminal. `execution` None: no record."""

    execution: Execution | None
    ended: bool = False
    moved: bool = False


class Records:
    """The executions bucket in the services' words."""

    def __init__(self, bucket: Bucket, telemetry: Telemetry, *, claim_floor_s: float) -> None:
        self.bucket = bucket
        self._telemetry = telemetry
        self._claim_floor_s = claim_floor_s

    async def get_many(self, ids: Sequence[str]) -> list[Stored | None]:
        """Leader reads; None where there is no readable record. Raises Unsure, Unavailable."""
        return [self._read(entry) for entry in await self.bucket.get_many(ids)]

    async def get(self, execution_id: str) -> Stored | None:
        (stored,) = await self.get_many([execution_id])
        return stored

    def _read(self, entry: Entry | None) -> Stored | None:
        if entry is None or entry.deleted:
            return None
        try:
            return Stored(decode_execution(entry.value), entry.revision)
        except InvalidArgument as problem:
            log.error("unreadable record", extra={"event": "bad_record", "key": entry.key, "error": problem.message})
            self._telemetry.dropped(what="record", reason="unreadable")
            return None

    def write_of(self, execution: Execution, expect: int) -> Write:
        """The write of a record: a terminal one lives for its retention, never shorter than the claim floor."""
        ttl_s = None
        if is_terminal(execution):
            ttl_s = max(1, int(max(execution.retention_s, self._claim_floor_s)))
        return Write(execution.id, encode_execution(execution), expect=expect, ttl_s=ttl_s)

    async def create_many(self, executions: Sequence[Execution]) -> list[Stored | ScheddError]:
        """Create records; Conflict where one exists already."""
        results = await self.bucket.put_many([self.write_of(execution, 0) for execution in executions])
        created: list[Stored | ScheddError] = []
        for execution, result in zip(executions, results, strict=True):
            created.append(result if isinstance(result, ScheddError) else Stored(execution, result))
        return created

    async def replace_many(self, records: Sequence[Stored]) -> list[Stored | ScheddError]:
        """Replace each record, expecting its revision."""
        results = await self.bucket.put_many([self.write_of(each.execution, each.revision) for each in records])
        replaced: list[Stored | ScheddError] = []
        for each, result in zip(records, results, strict=True):
            replaced.append(result if isinstance(result, ScheddError) else Stored(each.execution, result))
        return replaced

    async def advance_many(self, changes: Sequence[Change]) -> list[Changed]:
        """Observe, decide by the table, apply; conflicts are read and decided again. Raises Unsure, Unavailable."""
        done: dict[int, Changed] = {}
        open_changes = list(enumerate(changes))
        for _ in range(ROUNDS_MAX):
            open_changes = await self._advance_round(open_changes, done)
            if not open_changes:
                return [done[number] for number in range(len(changes))]
        raise Unavailable(f"the record of {open_changes[0][1].id} keeps changing")

    async def advance(self, execution_id: str, *events: Event) -> Changed:
        (changed,) = await self.advance_many([Change(execution_id, events)])
        return changed

    async def _advance_round(
        self, changes: list[tuple[int, Change]], done: dict[int, Changed]
    ) -> list[tuple[int, Change]]:
        stored = await self.get_many([change.id for _, change in changes])
        writes: list[tuple[int, Change, Stored, Execution]] = []
        again: list[tuple[int, Change]] = []
        taken: set[str] = set()
        for (number, change), each in zip(changes, stored, strict=True):
            if change.id in taken:  # two changes of one record: the second sees the first's result next round
                again.append((number, change))
                continue
            taken.add(change.id)
            moved = None if each is None else self._fold(each.execution, change.events)
            if each is None or moved is None:
                done[number] = Changed(None if each is None else each.execution)
            else:
                writes.append((number, change, each, moved))
        results = await self.replace_many([Stored(moved, each.revision) for _, _, each, moved in writes])
        for (number, change, each, moved), result in zip(writes, results, strict=True):
            if isinstance(result, Stored):
                done[number] = self._note(each.execution, moved)
            elif isinstance(result, Conflict):
                again.append((number, change))
            else:
                raise result
        return again

    def _fold(self, execution: Execution, events: Sequence[Event]) -> Execution | None:
        """The execution after all legal events; None if none of them changed anything."""
        moved: Execution | None = None
        for event in events:
            following = advance(moved or execution, event)
            if following is None:
                self._telemetry.dropped(what="transition", reason=f"{(moved or execution).state}")
            else:
                moved = following
        return moved

    def _note(self, before: Execution, after: Execution) -> Changed:
        ended = is_terminal(after) and not is_terminal(before)
        if ended:
            self.count_end(after)
        return Changed(after, ended=ended, moved=True)

    def count_end(self, execution: Execution) -> None:
        """Once per record, by the write that made it terminal."""
        if execution.queue:
            state, duration_s = execution.state.value, execution.duration_s
            self._telemetry.finished(queue=execution.queue, state=state, duration_s=duration_s)
