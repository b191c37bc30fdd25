"""The schedules as they are now, parsed and compiled, on every replica; bad values are kept apart, not thrown away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, takewhile

from msgspec import Struct, structs

from scheduler.core.arming import next_wanted
from scheduler.core.calendars import Calendar, no_calendars
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Definition
from scheduler.core.overlap import Terms, terms_of
from scheduler.core.planning import owes_until, still_yields
from scheduler.core.triggers import compile_trigger
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.calendar_uses import CalendarUses
from scheduler.services.calendars import CalendarCache
from scheduler.services.mirror import Mirror
from scheduler.wire.ids import is_schedule_id
from scheduler.wire.schedule import ScheduleLimits, parse_schedule

log = logging.getLogger(__name__)
OUT_OF_TOUCH_S = 1800.0  # well below the age at which delete markers are removed from the bucket, an hour by default
YIELD_EVERY = 500  # schedules read again before other tasks get a turn
CHANGES_MAX = 100_000  # beyond this many unread changes a reader scans the schedules instead
REPLACED_MAX = 1000  # definitions that are not in force any more, of all schedules: what older ones owed is forgotten
REPLACED_BYTES_MAX = 4 * 2**20


class Known(Struct, frozen=True):
    """What the bucket holds under one key: a definition in force, or an error, or a delete marker.

    `at` is the server's time of that write, `effective_at` that of the newest one of it and of the calendars it uses,
    `calendars` the newest revision of those, `calendar_values` what they say.
    """

    id: str
    revision: int
    at: datetime
    raw: bytes
    in_force: InForce | None = None
    error: str | None = None
    deleted: bool = False
    calendars: int = 0
    calendars_at: datetime | None = None
    calendar_values: Mapping[str, bytes] = {}

    @property
    def effective_at(self) -> datetime:
        return self.at if self.calendars_at is None else max(self.at, self.calendars_at)

    @property
    def absent_reason(self) -> str:
        return "invalid" if self.error is not None else "deleted"


class Replaced(Struct, frozen=True):
    """A definition that owed something by the time another write took its place."""

    known: Known
    by: Known


class ScheduleCache:
    """All schedules in memory. `fresh()` proves that nothing older than the call is missing.

    The bucket keeps the newest write alone. What was replaced before any leader saw it, and owed something by then, is
    remembered by those who did see it (`replaced`): one of them is the next leader, and tells.

    Delete markers are removed from the bucket after an hour, so a replica that was cut off for long may never hear of a
    deletion: once it is back, what the bucket has no key of any more is dropped.
    """

    def __init__(
        self,
        bucket: Bucket,
        clock: Clock,
        limits: ScheduleLimits,
        calendars: CalendarCache | None = None,
        *,
        out_of_touch_s: float = OUT_OF_TOUCH_S,
    ) -> None:
        self.mirror = Mirror(bucket, clock, self._apply)
        self._clock = clock
        self._limits = limits
        self._known: dict[str, Known] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=CHANGES_MAX)
        self._replaced: deque[Replaced] = deque()
        self._replaced_bytes = 0
        self._invalid_keys: dict[str, Known] = {}
        self._proven_s, self._out_of_touch_s = clock.boottime_s(), out_of_touch_s
        self.calendars = calendars
        self.calendars_applied = 0
        self._uses = CalendarUses()
        self._stale: set[str] = set()
        if calendars is not None:
            calendars.changed = self._calendar_changed

    async def start(self) -> None:
        if self.calendars is not None:
            await self.calendars.start()
        await self.mirror.start()
        self._proven_s = self._clock.boottime_s()

    async def stop(self) -> None:
        await self.mirror.stop()
        if self.calendars is not None:
            await self.calendars.stop()

    async def fresh(self, *, calendars: bool = False) -> int:
        """See `Mirror.fresh`. The calendars are proven too where a schedule uses one, and with `calendars` in any case:
        then every schedule is read with what they say now."""
        asked_s = self._clock.boottime_s()
        newest = await self.mirror.fresh()
        if asked_s - self._proven_s > self._out_of_touch_s:
            await self._drop_vanished(newest)
        self._proven_s = max(asked_s, self._proven_s)
        if self.calendars is not None and (calendars or self._uses):
            await self.calendars.fresh()
            await self._read_stale(self.calendars)
        return newest

    async def _read_stale(self, calendars: CalendarCache) -> None:
        """Read the users of changed calendars again. `calendars_applied`: up to here all of them are."""
        number = 0
        while self._stale:
            known = self._known.get(self._stale.pop())
            if known is not None and not known.deleted:
                self._known[known.id] = self._read(Entry(known.id, known.raw, known.revision, known.at))
            number += 1
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        self.calendars_applied = calendars.mirror.applied

    def _calendar_changed(self, name: str) -> None:
        self._stale |= self._uses.of(name)
        self.mirror.changed.set()

    def users_of(self, calendar: str) -> list[Known]:
        """The schedules that use a calendar, valid or not, by id."""
        found = (self._known.get(schedule_id) for schedule_id in sorted(self._uses.of(calendar)))
        return [known for known in found if known is not None and not known.deleted]

    def calendar_of(self, name: str) -> Calendar:
        """A `CalendarOf`: the calendars as they are known here now."""
        return no_calendars(name) if self.calendars is None else self.calendars.find(name)

    async def _drop_vanished(self, newest: int) -> None:
        gone = await self.mirror.vanished([each.id for each in self._known.values() if each.revision <= newest])
        if self._invalid_keys:
            listed = frozenset(await self.mirror.bucket.keys())
            gone += [key for key in self._invalid_keys if key not in listed]
        for key in gone:
            place = self._known if key in self._known else self._invalid_keys
            if key in place and place[key].revision <= newest:  # else it was put again since
                log.warning("deleted while cut off", extra={"event": "deletion_missed", "schedule": key})
                del place[key]
                self._uses.put(key, ())

    def get(self, schedule_id: str) -> Known | None:
        """What is known of a schedule, its delete marker included."""
        return self._known.get(schedule_id)

    def wants(self, occurrence: Occurrence) -> bool:
        """As things are now: not edited away, not paused."""
        known = self.get(occurrence.schedule_id)
        if known is None or known.in_force is None:
            return False
        definition, nominal = known.in_force.definition, occurrence.nominal_at
        is_yielded = still_yields(definition, known.in_force.trigger, nominal)
        return is_yielded and not definition.schedule.is_paused_at(nominal)

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

    def replaced(self, revisions: Mapping[str, range]) -> list[Replaced]:
        """What of these schedules was replaced, of the revisions beside each; the oldest first, as far as we saw."""
        return [each for each in self._replaced if each.known.revision in revisions.get(each.known.id, ())]

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
        before = self._known.get(entry.key)
        if entry.deleted and before is not None and before.deleted:
            return  # a marker over a marker is no news: one of the two is about to be buried
        self._known[entry.key] = known = self._read(entry)
        self._changes.append((entry.revision, entry.key))
        if before is not None and before.revision < known.revision and _owed(before, known.at):
            self._remember(Replaced(before, known))

    def _remember(self, replaced: Replaced) -> None:
        self._replaced.append(replaced)
        self._replaced_bytes += len(replaced.known.raw)
        while len(self._replaced) > REPLACED_MAX or self._replaced_bytes > REPLACED_BYTES_MAX:
            self._replaced_bytes -= len(self._replaced.popleft().known.raw)

    def _note_invalid_key(self, entry: Entry) -> None:
        before = self._invalid_keys.get(entry.key)
        if entry.deleted and before is not None and before.deleted:
            return
        self._invalid_keys[entry.key] = Known(entry.key, entry.revision, entry.at, b"", deleted=entry.deleted)
        if not entry.deleted:
            extra = {"event": "invalid_key", "key": entry.key}
            log.warning("a key in the schedules bucket is no schedule id", extra=extra)

    def _read(self, entry: Entry) -> Known:
        if entry.deleted:
            self._uses.put(entry.key, ())
            return Known(entry.key, entry.revision, entry.at, b"", deleted=True)
        previous = self._known.get(entry.key)
        names: set[str] = set()

        def calendar_of(name: str) -> Calendar:
            names.add(name)
            return self.calendar_of(name)

        try:
            schedule = parse_schedule(entry.key, entry.value, self._limits, calendar_of)
            trigger = compile_trigger(schedule, calendar_of)
            known = self._with_calendars(Known(entry.key, entry.revision, entry.at, entry.value), names)
            definition = Definition(
                schedule=schedule,
                generation=known.revision,
                effective_at=known.effective_at,
                calendars=known.calendars,
            )
            return structs.replace(known, in_force=InForce(definition, trigger))
        except InvalidArgument as problem:
            error = problem.sentence
        except Exception as problem:  # a value that breaks the parser must not stop every other schedule
            log.exception("a schedule broke the parser", extra={"event": "parser_broke", "schedule": entry.key})
            error = f"cannot be read: {type(problem).__name__}"
        finally:
            self._uses.put(entry.key, names)
        if previous is None or previous.error != error:
            log.warning("invalid schedule", extra={"event": "invalid_schedule", "schedule": entry.key, "error": error})
        return self._with_calendars(Known(entry.key, entry.revision, entry.at, entry.value, error=error), names)

    def _with_calendars(self, known: Known, names: Iterable[str]) -> Known:
        """A calendar that was written later is an edit of the schedule, too."""
        found = [] if self.calendars is None else [self.calendars.get(name) for name in names]
        used = [calendar for calendar in found if calendar is not None]
        if not used:
            return known
        newest = max(calendar.revision for calendar in used)
        return structs.replace(
            known,
            calendars=newest,
            calendars_at=max(calendar.at for calendar in used),
            calendar_values={calendar.name: calendar.raw for calendar in used if not calendar.deleted},
        )


def _owed(known: Known, until: datetime) -> bool:
    return known.in_force is not None and owes_until(known.in_force.definition, known.in_force.trigger, until)


def require_valid(known: Known | None, schedule_id: str) -> InForce:
    """The definition in force. Raises NotFound, or InvalidArgument with what is wrong with the stored one."""
    if known is None or known.deleted:
        raise NotFound(f"there is no schedule {schedule_id!r}", field="id")
    if known.in_force is None:
        raise InvalidArgument(f"schedule {schedule_id!r} is invalid: {known.error}", field="id")
    return known.in_force
