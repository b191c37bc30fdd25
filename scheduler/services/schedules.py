"""The schedules as they are now, parsed and compiled, on every replica; bad values are kept apart, not thrown away."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument, NotFound, ScheddError
from scheduler.core.model.schedule import Definition
from scheduler.core.overlap import takes_slot
from scheduler.core.triggers import compile_trigger
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.mirror import Mirror
from scheduler.wire.ids import is_schedule_id
from scheduler.wire.schedule import ScheduleLimits, parse_schedule

log = logging.getLogger(__name__)
CHANGES_MAX = 100_000  # beyond this many unread changes a reader scans the schedules instead


class Known(Struct, frozen=True):
    """What the bucket holds under one key: a definition in force, or an error, or a delete marker."""

    id: str
    revision: int
    at: datetime
    raw: bytes
    in_force: InForce | None = None
    error: str | None = None
    deleted: bool = False

    @property
    def absent_reason(self) -> str:
        return "invalid" if self.error is not None else "deleted"


class ScheduleCache:
    """All schedules in memory. `fresh()` proves that nothing older than the call is missing."""

    def __init__(self, bucket: Bucket, clock: Clock, limits: ScheduleLimits) -> None:
        self.mirror = Mirror(bucket, clock, self._apply)
        self._limits = limits
        self._known: dict[str, Known] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=CHANGES_MAX)
        self._invalid_keys: dict[str, int] = {}  # with the revision of their newest write

    async def start(self) -> None:
        await self.mirror.start()

    async def stop(self) -> None:
        await self.mirror.stop()

    async def fresh(self) -> int:
        """See `Mirror.fresh`."""
        return await self.mirror.fresh()

    def get(self, schedule_id: str) -> Known | None:
        """What is known of a schedule, its delete marker included."""
        return self._known.get(schedule_id)

    def __iter__(self) -> Iterator[Known]:
        return iter(self._known.values())

    def live_ids(self) -> list[str]:
        """Ids of the schedules that exist, valid or not, sorted."""
        return sorted(known.id for known in self._known.values() if not known.deleted)

    def holds_slot(self, schedule_id: str) -> bool:
        """Whether runs of the schedule take slots now; of an unknown one they may."""
        known = self._known.get(schedule_id)
        if known is None or known.in_force is None:
            return True
        schedule = known.in_force.definition.schedule
        return takes_slot(schedule.overlap, schedule.max_running)

    @property
    def invalid_keys(self) -> frozenset[str]:
        """Keys in the bucket that can be no schedule id; they have no row."""
        return frozenset(self._invalid_keys)

    def invalid_keys_after(self, revision: int) -> list[tuple[str, int]]:
        """Those written after `revision`, each with its newest, by ascending revision."""
        found = [(key, written) for key, written in self._invalid_keys.items() if written > revision]
        return sorted(found, key=lambda each: each[1])

    def changed_after(self, revision: int) -> list[Known]:
        """Every key whose newest write is after `revision`, by ascending revision, markers included."""
        if self._changes and self._changes[0][0] <= revision + 1:
            ids = {schedule_id for changed_at, schedule_id in self._changes if changed_at > revision}
            found = [self._known[each] for each in ids if each in self._known]
        else:
            found = [known for known in self._known.values() if known.revision > revision]
        return sorted(found, key=lambda known: known.revision)

    def forget(self, schedule_id: str, revision: int) -> None:
        """Drop a delete marker that the daemon removed from the bucket."""
        known = self._known.get(schedule_id)
        if known is not None and known.deleted and known.revision == revision:
            del self._known[schedule_id]

    def _apply(self, entry: Entry) -> None:
        if not is_schedule_id(entry.key):
            self._note_invalid_key(entry)
            return
        self._known[entry.key] = self._read(entry)
        self._changes.append((entry.revision, entry.key))

    def _note_invalid_key(self, entry: Entry) -> None:
        if entry.deleted:
            self._invalid_keys.pop(entry.key, None)
            return
        self._invalid_keys[entry.key] = entry.revision
        log.warning("a key in the schedules bucket is no schedule id", extra={"event": "invalid_key", "key": entry.key})

    def _read(self, entry: Entry) -> Known:
        if entry.deleted:
            return Known(entry.key, entry.revision, entry.at, b"", deleted=True)
        previous = self._known.get(entry.key)
        try:
            schedule = parse_schedule(entry.key, entry.value, self._limits)
            definition = Definition(schedule=schedule, generation=entry.revision, effective_at=entry.at)
            in_force = InForce(definition, compile_trigger(schedule))
            return Known(entry.key, entry.revision, entry.at, entry.value, in_force=in_force)
        except ScheddError as problem:
            error = problem.message if problem.field is None else f"{problem.field}: {problem.message}"
        except Exception as problem:  # a value that breaks the parser must not stop every other schedule
            log.exception("a schedule broke the parser", extra={"event": "parser_broke", "schedule": entry.key})
            error = f"cannot be read: {type(problem).__name__}"
        if previous is None or previous.error != error:
            log.warning("invalid schedule", extra={"event": "invalid_schedule", "schedule": entry.key, "error": error})
        return Known(entry.key, entry.revision, entry.at, entry.value, error=error)


def require_valid(known: Known | None, schedule_id: str) -> InForce:
    """The definition in force. Raises NotFound, or InvalidArgument with what is wrong with the stored one."""
    if known is None or known.deleted:
        raise NotFound(f"there is no schedule {schedule_id!r}", field="id")
    if known.in_force is None:
        raise InvalidArgument(f"schedule {schedule_id!r} is invalid: {known.error}", field="id")
    return known.in_force
