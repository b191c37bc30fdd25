"""Execution records: read, create, and move on by the lifecycle table, many at a time, always by compare-and-set.

Whoever has a terminal record written gets told so exactly once per write that won (`ended`), and passes it to
`Settlement`, which frees the slot. A crash between the two is the reconciler's to find. He counts it, too; twice only
where a write was lost without an answer and a rival had written the very same (two replicas folding one report).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from msgspec import Struct, structs

from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable, Unsure
from scheduler.core.lifecycle import Event, Queue, advance, is_terminal
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


Decide = Callable[[Execution], tuple[Event, ...]]


class Change(Struct, frozen=True):
    """Events to apply to one record, in order; an illegal one is skipped and counted, the others still apply.

    `events` may be a function of the record as it stands: then every conflict is decided anew. `drive`: nothing of it
    holds for any other one (None: it says itself whom it means).
    """

    id: str
    events: tuple[Event, ...] | Decide
    drive: int | None = None


class Changed(Struct, frozen=True):
    """What came of a change. `ended`: this very write made the record terminal; `fired`: it set `queued_at`.

    `execution` None: no record.
    """

    execution: Execution | None
    ended: bool = False
    moved: bool = False
    fired: bool = False


class _Attempted(Struct):
    """A change under way. `intended` is what a write without an answer would have stored, over `before`."""

    number: int
    change: Change
    before: Execution | None = None
    intended: Execution | None = None
    silence: Unsure | None = None


class Records:
    """The executions bucket in the services' words."""

    def __init__(self, bucket: Bucket, telemetry: Telemetry, *, claim_floor_s: float) -> None:
        self.bucket = bucket
        self._telemetry = telemetry
        self._claim_floor_s = claim_floor_s
        self.claim_floor = timedelta(seconds=claim_floor_s)

    async def get_many(self, ids: Sequence[str]) -> list[Stored | None]:
        """Leader reads; None where there is no readable record. Raises Unsure, Unavailable."""
        return [self.read(entry) for entry in await self.bucket.get_many(ids)]

    async def get(self, execution_id: str) -> Stored | None:
        (stored,) = await self.get_many([execution_id])
        return stored

    async def exist(self, ids: Sequence[str]) -> set[str]:
        """Those that have a record, readable or not. Raises Unsure, Unavailable."""
        entries = await self.bucket.get_many(ids)
        return {each for each, entry in zip(ids, entries, strict=True) if entry is not None and not entry.deleted}

    def read(self, entry: Entry | None) -> Stored | None:
        """The record in an entry; None if it has none that can be read, which is counted."""
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
        """Create records; Conflict where one exists already. One that is born terminal is counted as its verdict.

        Unsure about a claimed one: read it, and go on as with one of somebody else. It may be that.
        """
        created = await self._write([Stored(execution, 0) for execution in executions])
        verdicts = [number for number, execution in enumerate(executions) if is_terminal(execution)]
        read = await self._read_back([executions[number] for number in verdicts], [created[n] for n in verdicts])
        for number, result in zip(verdicts, read, strict=True):
            created[number] = result
            if isinstance(result, Stored):
                self._count_end(result.execution)
        return created

    async def move_many(self, moves: Sequence[tuple[Stored, Event]]) -> list[Stored | ScheddError]:
        """Apply one legal event to each record as it was read; Conflict where somebody changed it meanwhile."""
        intended: list[Stored] = []
        for stored, event in moves:
            after = advance(stored.execution, event)
            assert after is not None, f"{event} is illegal in {stored.execution.state}"
            intended.append(Stored(after, stored.revision))
        results = await self._read_back([each.execution for each in intended], await self._write(intended))
        for (before, _), result in zip(moves, results, strict=True):
            if isinstance(result, Stored):
                self._note(before.execution, result.execution)
        return results

    async def _write(self, records: Sequence[Stored]) -> list[Stored | ScheddError]:
        """Write each, expecting its revision."""
        results = await self.bucket.put_many([self.write_of(each.execution, each.revision) for each in records])
        written: list[Stored | ScheddError] = []
        for each, result in zip(records, results, strict=True):
            written.append(result if isinstance(result, ScheddError) else Stored(each.execution, result))
        return written

    async def _read_back(
        self, intended: Sequence[Execution], results: list[Stored | ScheddError]
    ) -> list[Stored | ScheddError]:
        """The results; of writes without an answer what is there, and Unsure only where it is not there (yet)."""
        silent = [number for number, result in enumerate(results) if isinstance(result, Unsure)]
        if silent:
            with contextlib.suppress(ScheddError):
                found = await self.get_many([intended[number].id for number in silent])
                for number, there in zip(silent, found, strict=True):
                    if there is not None and there.execution == intended[number]:
                        results[number] = there
        return results

    async def advance_many(self, changes: Sequence[Change]) -> list[Changed]:
        """Observe, decide by the table, apply; conflicts are read and decided again. Raises Unsure, Unavailable."""
        changed: list[Changed] = []
        for result in await self.try_advance_many(changes):
            if isinstance(result, ScheddError):
                raise result
            changed.append(result)
        return changed

    async def advance(self, execution_id: str, *events: Event) -> Changed:
        (changed,) = await self.advance_many([Change(execution_id, events)])
        return changed

    async def try_advance_many(
        self, changes: Sequence[Change], known: Mapping[str, Stored] | None = None
    ) -> list[Changed | ScheddError]:
        """As `advance_many`, but one change that fails keeps no other from being made and told about.

        A write without an answer is read back: if it landed, this was the write that won. `known`: all of these
        records as read a moment ago (those left out do not exist), so that the first round need not read.
        """
        done: dict[int, Changed | ScheddError] = {}
        pending = [_Attempted(number, change) for number, change in enumerate(changes)]
        for round_number in range(ROUNDS_MAX):
            pending = await self._advance_round(pending, done, known if round_number == 0 else None)
            if not pending:
                break
        for each in pending:
            done[each.number] = each.silence or Unavailable(f"the record of {each.change.id} keeps changing")
        return [done[number] for number in range(len(changes))]

    async def _advance_round(
        self,
        pending: list[_Attempted],
        done: dict[int, Changed | ScheddError],
        known: Mapping[str, Stored] | None,
    ) -> list[_Attempted]:
        ids = [each.change.id for each in pending]
        try:
            stored = await self.get_many(ids) if known is None else [known.get(each) for each in ids]
        except ScheddError as problem:
            done.update((each.number, each.silence or problem) for each in pending)
            return []
        writes: list[tuple[_Attempted, Stored]] = []
        again: list[_Attempted] = []
        taken: set[str] = set()
        for each, found in zip(pending, stored, strict=True):
            if each.change.id in taken:  # two changes of one record: the second sees the first's result next round
                again.append(each)
                continue
            taken.add(each.change.id)
            moved = None if found is None else self._move(each, found.execution, done)
            if found is not None and moved is not None:
                writes.append((each, Stored(moved, found.revision)))
            elif each.number not in done:
                done[each.number] = Changed(None if found is None else found.execution)
        again += await self._write_round(writes, done)
        return again

    def _move(self, each: _Attempted, execution: Execution, done: dict[int, Changed | ScheddError]) -> Execution | None:
        """The execution to write; None if there is nothing to write, because it was written after all for example."""
        if each.intended is not None and each.before is not None and _landed(execution, each.intended, each.before):
            done[each.number] = structs.replace(self._note(each.before, each.intended), execution=execution)
            return None
        events = each.change.events
        each.before = execution
        if each.change.drive not in (None, execution.drive):
            self._telemetry.dropped(what="transition", reason="past_drive")
            return None
        return self._fold(execution, events(execution) if callable(events) else events)

    async def _write_round(
        self, writes: list[tuple[_Attempted, Stored]], done: dict[int, Changed | ScheddError]
    ) -> list[_Attempted]:
        again: list[_Attempted] = []
        results = await self._write([stored for _, stored in writes])
        for (each, intended), result in zip(writes, results, strict=True):
            each.intended, each.silence = None, None
            if isinstance(result, Stored) and each.before is not None:
                done[each.number] = self._note(each.before, result.execution)
            elif isinstance(result, Conflict):
                again.append(each)
            elif isinstance(result, Unsure):
                each.intended, each.silence = intended.execution, result
                again.append(each)
            elif isinstance(result, ScheddError):
                done[each.number] = result
        return again

    def _fold(self, execution: Execution, events: Sequence[Event]) -> Execution | None:
        """The execution after all legal events; None if none of them changed anything."""
        moved: Execution | None = None
        for event in events:
            following = advance(moved or execution, event)
            if following is not None:
                moved = following
            elif not isinstance(event, Queue):  # dispatcher and tracker both tell that, and whoever is second is right
                self._telemetry.dropped(what="transition", reason=f"{(moved or execution).state}")
        return moved

    def _note(self, before: Execution, after: Execution) -> Changed:
        """What a write that won has changed; counted here, and so once per record."""
        fired = after.queued_at is not None and before.queued_at is None
        if fired:
            self._count_fired(after)
        if after.drive > before.drive:
            self._telemetry.redriven(queue=after.queue)
        ended = is_terminal(after) and not is_terminal(before)
        if ended:
            self._count_end(after)
        return Changed(after, ended=ended, moved=True, fired=fired)

    def _count_fired(self, execution: Execution) -> None:
        """By the write that set `queued_at`."""
        self._telemetry.verdict(verdict="fired", reason=execution.kind.value)
        if execution.lateness_s is not None:
            self._telemetry.lateness(execution.lateness_s)

    def _count_end(self, execution: Execution) -> None:
        """By the write that made the record terminal; what was never queued has its verdict only now."""
        if execution.queued_at is None:
            self._telemetry.verdict(verdict=execution.state.value, reason=execution.reason or "")
        if execution.queue:
            state, duration_s = execution.state.value, execution.duration_s
            self._telemetry.finished(queue=execution.queue, state=state, duration_s=duration_s)


def _landed(found: Execution, intended: Execution, before: Execution) -> bool:
    """Whether a record is what a write over `before` would have stored, or has become of that since."""
    length = len(intended.history)
    return found == intended or (length > len(before.history) and found.history[:length] == intended.history)
