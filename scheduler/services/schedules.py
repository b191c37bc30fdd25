"""The schedules as they are now, parsed and compiled, on every replica; bad values are kept apart, not thrown away."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, takewhile

from msgspec import Struct

from scheduler.core.arming import next_wanted
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.model.schedule import Definition
from scheduler.core.overlap import Terms, terms_of
from scheduler.core.triggers import compile_trigger
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.mirror import Mirror
from scheduler.wire.ids import is_schedule_id
from scheduler.wire.schedule import ScheduleLimits, parse_schedule

log = logging.getLogger(__name__)
OUT_OF_TOUCH_S = 1800.0  # well below the age at which delete markers are removed from the bucket
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
    """All schedules in memory. `fresh()` proves that nothing older than the call is missing.

    Delete markers are removed from the bucket after an hour, so a replica that was cut off for long may never hear of a
    deletion: once it is back, what the bucket has no key of any more is dropped.
    """

    def __init__(self, bucket: Bucket, clock: Clock, limits: ScheduleLimits) -> None:
        self.mirror = Mirror(bucket, clock, self._apply)
        self._clock = clock
        self._limits = limits
        self._known: dict[str, Known] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=CHANGES_MAX)
        self._invalid_keys: dict[str, Known] = {}
        self._proven_s = clock.boottime_s()

    async def start(self) -> None:
        await self.mirror.start()
        self._proven_s = self._clock.boottime_s()

    async def stop(self) -> None:
        await self.mirror.stop()

    async def fresh(self) -> int:
        """See `Mirror.fresh`."""
        asked_s = self._clock.boottime_s()
        newest = await self.mirror.fresh()
        if asked_s - self._proven_s > OUT_OF_TOUCH_S:
            await self._drop_vanished(newest)
        self._proven_s = max(asked_s, self._proven_s)
        return newest

    async def _drop_vanished(self, newest: int) -> None:
        keys = frozenset(await self.mirror.bucket.keys())
        for place in (self._known, self._invalid_keys):
            for known in [each for each in place.values() if each.revision <= newest and each.id not in keys]:
                log.warning("deleted while cut off", extra={"event": "deletion_missed", "schedule": known.id})
                place.pop(known.id, None)

    def get(self, schedule_id: str) -> Known | None:
        """What is known of a schedule, its delete marker included."""
        return self._known.get(schedule_id)

    def __iter__(self) -> Iterator[Known]:
        return iter(self._known.values())

    def live_ids(self) -> list[str]:
        """Ids of the schedules that exist, valid or not, sorted."""
        return sorted(known.id for known in self._known.values() if not known.deleted)

    def terms_of(self, schedule_id: str) -> Terms:
        """What holds for its runs now; of one that is unknown or invalid one runs at a time."""
        known = self._known.get(schedule_id)
        return Terms() if known is None or known.in_force is None else terms_of(known.in_force.definition.schedule)

    def holds_slot(self, schedule_id: str) -> bool:
        """Whether runs of the schedule take slots now; of an unknown one they may."""
        return self.terms_of(schedule_id).takes_slot

    def next_nominal(self, schedule_id: str, after: datetime) -> datetime | None:
        """The first nominal time after that instant that is to fire; an unknown or invalid schedule has none."""
        known = self._known.get(schedule_id)
        return None if known is None or known.in_force is None else next_wanted(known.in_force, after)

    @property
    def invalid_keys(self) -> frozenset[str]:
        """Keys in the bucket that can be no schedule id; they have no row."""
        return frozenset(key for key, known in self._invalid_keys.items() if not known.deleted)

    def invalid_keys_after(self, revision: int) -> list[tuple[str, int]]:
        """Those written after `revision`, each with its newest, by ascending revision."""
        found = [each for each in self._invalid_keys.values() if each.revision > revision and not each.deleted]
        return sorted(((each.id, each.revision) for each in found), key=lambda each: each[1])

    def changed_after(self, revision: int) -> list[Known]:
        """Every schedule whose newest write is after `revision`, by ascending revision, markers included."""
        if self._changes and self._changes[0][0] <= revision + 1:
            newer = takewhile(lambda change: change[0] > revision, reversed(self._changes))
            ids = {schedule_id for _, schedule_id in newer}
            found = [self._known[each] for each in ids if each in self._known]
        else:
            found = [known for known in self._known.values() if known.revision > revision]
        return sorted(found, key=lambda known: known.revision)

    def markers(self) -> Iterator[Known]:
        """Everything that was deleted and is remembered, of invalid keys too."""
        return (known for known in chain(self._known.values(), self._invalid_keys.values()) if known.deleted)

    def forget(self, key: str, revision: int) -> None:
        """Drop a delete marker that the daemon removed from the bucket."""
        place = self._known if is_schedule_id(key) else self._invalid_keys
        known = place.get(key)
        if known is not None and known.deleted and known.revision == revision:
            del place[key]

    def _apply(self, entry: Entry) -> None:
        if not is_schedule_id(entry.key):
            self._note_invalid_key(entry)
            return
        self._known[entry.key] = self._read(entry)
        self._changes.append((entry.revision, entry.key))

    def _note_invalid_key(self, entry: Entry) -> None:
        self._invalid_keys[entry.key] = Known(entry.key, entry.revision, entry.at, b"", deleted=entry.deleted)
        if not entry.deleted:
            extra = {"event": "invalid_key", "key": entry.key}
            log.warning("a key in the schedules bucket is no schedule id", extra=extra)

    def _read(self, entry: Entry) -> Known:
        if entry.deleted:
            return Known(entry.key, entry.revision, entry.at, b"", deleted=True)
        previous = self._known.get(entry.key)
        try:
            schedule = parse_schedule(entry.key, entry.value, self._limits)
            definition = Definition(schedule=schedule, generation=entry.revision, effective_at=entry.at)
            in_force = InForce(definition, compile_trigger(schedule))
            return Known(entry.key, entry.revision, entry.at, entry.value, in_force=in_force)
        except InvalidArgument as problem:
            error = problem.sentence
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
