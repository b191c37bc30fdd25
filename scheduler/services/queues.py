"""The queues: their settings, kept so that a consumer which somebody deletes comes back as it was.

What a queue is set to stands in its consumer; the copy in the control bucket follows it. An edit goes the other way
round: copy first, by compare-and-set, so that of two edits at once one comes after the other and includes it; then the
consumer. JetStream knows no compare-and-set there, so whoever has set it looks at the copy again, and sets it once more
if that has moved on. Who dies in between leaves a consumer that has missed an edit, and the leader makes up for it
(`core.queueing`). A deletion begins with the copy as well, and is finished by the leader.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.core.model.queue import QueueEdit, QueueSettings
from scheduler.core.queueing import Found, QueueChanges, Upkeep, at, changed, decide_upkeep, in_force
from scheduler.ports.clock import Clock
from scheduler.ports.queues import QueueState, TaskQueues
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.telemetry import Telemetry
from scheduler.wire.names import QUEUE_KEYS, queue_key
from scheduler.wire.queue import decode_edit, encode_edit

log = logging.getLogger(__name__)

ROUNDS_MAX = 12
RACE_PAUSE_S = 0.01


class QueueKeeper:
    """`defaults`: of queues that nobody has set. `max_pending`: of those that have none of their own, whenever made."""

    def __init__(
        self,
        *,
        queues: TaskQueues,
        control: Bucket,
        clock: Clock,
        telemetry: Telemetry,
        defaults: QueueSettings,
        max_pending: int,
    ) -> None:
        self._queues, self._control, self._clock, self._telemetry = queues, control, clock, telemetry
        self._defaults, self._max_pending = defaults, max_pending

    def max_pending(self, settings: QueueSettings) -> int:
        return settings.max_pending or self._max_pending

    async def ensure(self, queue: str) -> None:
        """Make the consumer if it is missing, as it was if there ever was one. Raises Unavailable."""
        _, copy = await self._copy(queue)
        await self._queues.ensure(queue, copy)

    # --- edits

    async def change(self, queue: str, changes: QueueChanges) -> None:
        """Make it so, and the queue if there is none. Raises InvalidArgument, Conflict, Unsure, Unavailable."""
        problem: ScheddError = Unavailable(f"queue {queue!r} keeps changing: try again")
        for number in range(ROUNDS_MAX):
            entry, copy = await self._copy(queue)
            found = await self._found(queue)
            now = self._clock.now()
            before = in_force(found, copy, self._defaults)
            wanted = changed(before.settings, changes, self._defaults, now)
            if found is not None and found.edit == before.number and wanted == at(found.settings, now):
                return
            edit = QueueEdit(wanted, before.number + 1)
            try:
                revision = await self._write(queue, edit, entry)
            except Conflict:
                await self._clock.sleep(RACE_PAUSE_S * (number + 1))
            except Unsure as silence:
                problem = silence
            else:
                await self._apply(queue, edit, revision)
                return
        raise problem

    async def _write(self, queue: str, edit: QueueEdit, entry: Entry | None) -> int:
        expect = 0 if entry is None else entry.revision
        return await self._control.put(queue_key(queue), encode_edit(edit), expect=expect)

    async def _apply(self, queue: str, edit: QueueEdit, revision: int) -> None:
        """Set the consumer, until what it was set to is the newest edit. Raises Conflict if the queue was deleted."""
        for _ in range(ROUNDS_MAX):
            await self._set(queue, edit)
            entry, copy = await self._copy(queue)
            if entry is None or copy is None:
                raise Conflict(f"queue {queue!r} was deleted meanwhile", field="id")
            if entry.revision == revision:
                return
            revision, edit = entry.revision, copy
        raise Unavailable(f"queue {queue!r} keeps changing: try again")

    async def _set(self, queue: str, edit: QueueEdit) -> None:
        try:
            await self._queues.configure(queue, edit)
        except NotFound:
            await self._queues.ensure(queue, edit)
            await self._queues.configure(queue, edit)  # if somebody else was faster

    async def delete(self, queue: str, check: Callable[[QueueState | None], None]) -> int:
        """Delete it if `check`, which may raise, lets it go; the revision. Raises NotFound, Conflict, Unavailable."""
        entry, copy = await self._copy(queue)
        state = await self._queues.queue(queue)
        if state is None and copy is None:
            raise NotFound(f"there is no queue {queue!r}", field="id")
        check(state)
        revision = await self._control.delete(queue_key(queue), expect=0 if entry is None else entry.revision)
        await self._queues.drop(queue)
        _, again = await self._copy(queue)
        if again is not None:  # put again in this very moment: that holds
            await self._queues.ensure(queue, again)
        return revision

    # --- what is there

    async def _copy(self, queue: str) -> tuple[Entry | None, QueueEdit | None]:
        entry = await self._control.get(queue_key(queue))
        return entry, self._read(entry)

    def _read(self, entry: Entry | None) -> QueueEdit | None:
        if entry is None or entry.deleted:
            return None
        try:
            return decode_edit(entry.value)
        except InvalidArgument as problem:
            extra = {"event": "bad_queue_copy", "key": entry.key, "error": problem.message}
            log.error("the copy of a queue's settings cannot be read", extra=extra)
            self._telemetry.dropped(what="queue_copy", reason="unreadable")
            return None

    async def _found(self, queue: str) -> Found | None:
        state = await self._queues.queue(queue)
        return None if state is None else _found_of(state)

    # --- upkeep, by the leader

    async def keep_up(self, used: Collection[str], check: Callable[[], None]) -> list[str]:
        """Restore, make up for and finish; the queues that it was necessary for. `check` may raise before each write.

        Raises Unsure, Unavailable.
        """
        states = {state.queue: state for state in await self._queues.queues()}
        keys = await self._control.keys(QUEUE_KEYS)
        entries = {entry.key: entry for entry in await self._control.get_many(keys) if entry is not None}
        names = {*states, *used, *(key.partition(".")[2] for key in entries)}
        return [
            queue
            for queue in sorted(names)
            if await self._keep(queue, states.get(queue), entries.get(queue_key(queue)), queue in used, check)
        ]

    async def _keep(
        self, queue: str, state: QueueState | None, entry: Entry | None, is_used: bool, check: Callable[[], None]
    ) -> bool:
        found, copy = None if state is None else _found_of(state), self._read(entry)
        deleted_at = entry.at if entry is not None and entry.deleted else None
        upkeep = decide_upkeep(found, copy, deleted_at=deleted_at, is_used=is_used, now=self._clock.now())
        if upkeep is Upkeep.NOTHING:
            return False
        check()
        match upkeep:
            case Upkeep.RESTORE:
                await self._queues.ensure(queue, copy)
            case Upkeep.APPLY if copy is not None and entry is not None:
                await self._apply(queue, copy, entry.revision)
            case Upkeep.DELETE:
                await self._queues.drop(queue)
            case _:
                await self._adopt(queue, found, copy, entry)
                return False
        log.warning("a queue was not as it should be", extra={"event": f"queue_{upkeep.value}", "queue": queue})
        return True

    async def _adopt(self, queue: str, found: Found | None, copy: QueueEdit | None, entry: Entry | None) -> None:
        """What an operator's tools set is what holds: the copy follows."""
        edit = in_force(found, copy, self._defaults)
        edit = QueueEdit(at(edit.settings, self._clock.now()), edit.number)
        try:
            await self._write(queue, edit, entry)
        except Conflict:
            return  # an edit is under way
        if found is not None and (found.edit, found.settings.max_pending) != (edit.number, edit.settings.max_pending):
            await self._queues.configure(queue, edit)
        log.info("the settings of a queue are noted", extra={"event": "queue_adopted", "queue": queue})


def _found_of(state: QueueState) -> Found:
    return Found(state.settings, state.edit, state.made_at, state.holds == 0)
