"""What an audit judges by, gathered so that nothing falls between two reads; the judging is `core.auditing`.

An occurrence goes from armed to due, from there to its record or to the leader's catch-up, and from that to a record or
a range of verdicts. The reads go the same way, so whatever moves on meanwhile is met further down, and what is nowhere
was nowhere. Everything is bounded; what cannot be known any more is an error that says from when on it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from scheduler.core.auditing import Case, Change, Judged, OnItsWay, OnRecord, VerdictRange, judged
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.triggers import FIRST, LAST
from scheduler.ports.clock import Clock
from scheduler.ports.queues import Events, Recorded
from scheduler.ports.stores import Entry
from scheduler.ports.timeline import Timeline
from scheduler.services.announcing import EVENTS_MAX
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows, row_of
from scheduler.services.schedules import Known, ScheduleCache
from scheduler.services.watermarks import WatermarkCopy
from scheduler.wire.evidence import CHANGES, VERDICTS, read_change, read_range
from scheduler.wire.ids import format_nominal, parse_nominal
from scheduler.wire.instants import format_instant
from scheduler.wire.record import verdict_of

WINDOW = timedelta(days=7)  # how far back an audit goes; events are kept for 30 days, records for their retention
SLACK = timedelta(minutes=1)  # asked for the whole window, it is a moment shorter by the time we look
SETTLED = timedelta(seconds=5)
EXPIRES = timedelta(seconds=5)  # records expire by whole seconds
READ_CHUNK = 500
YIELD_EVERY = 250
_NOMINAL_LENGTH = len("20261121T080000000Z")


class Window(Struct, frozen=True):
    """Nominal times from `since` up to before `until`, of those that have fired by `settled`."""

    since: datetime
    until: datetime
    settled: datetime


class Auditor:
    """Audits one schedule at a time, whatever has become of it: edited, invalid, deleted."""

    def __init__(
        self,
        *,
        schedules: ScheduleCache,
        timeline: Timeline,
        events: Events,
        rows: StatusRows,
        records: Records,
        first_start: WatermarkCopy,
        clock: Clock,
        claim_floor_s: float,
    ) -> None:
        self._schedules, self._timeline, self._events = schedules, timeline, events
        self._rows, self._records, self._first_start = rows, records, first_start
        self._clock, self._claim_floor = clock, timedelta(seconds=claim_floor_s)

    async def audit(self, schedule_id: str, since: datetime, until: datetime | None = None) -> list[Judged]:
        """Every occurrence with since <= nominal < until that was to fire so far, ascending.

        Without `until`: all that have had a few seconds to get their verdict. Raises NotFound, InvalidArgument
        (`since`: before what can be known, or too much at once), Unsure, Unavailable.
        """
        now = self._clock.now()
        settled = now - SETTLED if until is None else now
        return await self._audit(schedule_id, Window(since, until or settled, settled), now, SLACK)

    async def latest(self, schedule_id: str, count: int) -> list[Judged]:
        """The last `count` occurrences that were to fire so far, ascending; fewer where no more can be known.

        Raises NotFound, Unsure, Unavailable.
        """
        now = self._clock.now()
        settled, found = now - SETTLED, list[Judged]()
        await self._schedules.fresh()
        since = self._guess(schedule_id, count, settled)
        while True:
            more = await self._audit(schedule_id, Window(since, settled, settled), now, WINDOW)
            found = more[-count:]
            if len(more) >= count or since <= now - WINDOW:
                return found
            since = max(now - WINDOW, settled - 4 * (settled - since))

    def _guess(self, schedule_id: str, count: int, settled: datetime) -> datetime:
        """From when on there are so many, as far as the definition in force tells."""
        known = self._schedules.get(schedule_id)
        since: datetime | None = settled
        for _ in range(count):
            if known is None or known.in_force is None or since is None or since <= settled - WINDOW:
                break
            since = known.in_force.trigger.previous_before(since)
        return max(settled - WINDOW, since or FIRST)

    async def _audit(self, schedule_id: str, window: Window, now: datetime, slack: timedelta) -> list[Judged]:
        """A window that begins too early by up to `slack` is cut to what can be known."""
        case, window = await self._case(schedule_id, _cut(window, now - WINDOW, slack), now, slack)
        found: list[Judged] = []
        for number, each in enumerate(judged(case, window.since, min(window.until, LAST)), start=1):
            found.append(each)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return found

    async def _case(self, schedule_id: str, window: Window, now: datetime, slack: timedelta) -> tuple[Case, Window]:
        mark, started_at, _ = await asyncio.gather(
            self._timeline.watermark(), self._first_start.since(), self._schedules.fresh()
        )
        known = self._schedules.get(schedule_id)
        armed = await self._timeline.armed(schedule_id)
        due = await self._timeline.undispatched(schedule_id)
        row = await self._rows.bucket.get(schedule_id)
        complete_since = await self._events.complete_since()
        told = await self._events.recorded(schedule_id, (*CHANGES, VERDICTS), most=EVENTS_MAX)
        watermark = None if mark is None else mark.watermark
        way = OnItsWay(
            armed=frozenset(armed),
            due=frozenset(due),
            planned_until=started_at if watermark is None else watermark.until,
            applied=0 if watermark is None else watermark.applied,
            row=row_of(row),
        )
        changes, known_since = _changes(schedule_id, told, known)
        keys = await self._keys(schedule_id, window)
        if not changes and not keys:
            raise NotFound(f"there is no schedule {schedule_id!r}, and nothing on record of one", field="id")
        known_from = now - self._shortest_retention(changes, window.since) + EXPIRES
        window = _cut(window, max(complete_since, known_since), slack)
        if window.since < known_from <= window.since + slack:
            window = _cut(window, known_from, slack)
        case = Case(
            changes=changes,
            records=await self._read(keys),
            ranges=_ranges(told),
            on_its_way=way,
            started_at=started_at,
            known_from=known_from,
            now=window.settled,
        )
        return case, window

    def _shortest_retention(self, changes: Sequence[Change], since: datetime) -> timedelta:
        """How long a record of the window is kept at least: no shorter than its claim."""
        ends = [*(change.at for change in changes[1:]), LAST]
        in_force = [change.in_force for change, end in zip(changes, ends, strict=False) if end > since]
        ages = [each.definition.schedule.retention_age for each in in_force if each is not None]
        return max(min(ages, default=WINDOW), self._claim_floor)

    # --- records

    async def _keys(self, schedule_id: str, window: Window) -> list[str]:
        """Keys of the window's automatic executions, ascending."""
        first, end = format_nominal(window.since), format_nominal(window.until)
        begin = len(schedule_id) + 1
        keys = await self._records.bucket.keys(f"{schedule_id}.*")
        return sorted(key for key in keys if len(key) == begin + _NOMINAL_LENGTH and first <= key[begin:] < end)

    async def _read(self, keys: Sequence[str]) -> tuple[OnRecord, ...]:
        found: list[OnRecord] = []
        for start in range(0, len(keys), READ_CHUNK):
            entries = await self._records.bucket.get_many(keys[start : start + READ_CHUNK])
            found += [each for entry in entries if (each := _on_record(entry)) is not None]
        return tuple(found)


def _on_record(entry: Entry | None) -> OnRecord | None:
    """None for what is gone, and for what is no record: that explains nothing."""
    verdict = None if entry is None or entry.deleted else verdict_of(entry.value)
    if entry is None or verdict is None:
        return None
    try:
        nominal = parse_nominal(entry.key[-_NOMINAL_LENGTH:])
    except ValueError:
        return None
    return OnRecord(nominal, entry.key, *verdict)


# --- definitions and ranges


def _changes(schedule_id: str, told: Sequence[Recorded], known: Known | None) -> tuple[tuple[Change, ...], datetime]:
    """The writes to the schedule that were applied, and the newest one, applied or not; by generation, each once.

    Beside them, since when that is all: an event that cannot be read any more is the end of what is known.
    """
    found: dict[tuple[int, int], Change] = {}
    is_whole = True
    for each in told:
        if each.kind not in CHANGES:
            continue
        try:
            change = read_change(schedule_id, each.kind, each.data)
        except InvalidArgument:
            found.clear()
            is_whole = False
            continue
        found.setdefault(
            (change.generation, change.calendars), change
        )  # told again by a successor: it has planned further
    if known is not None and (known.revision, known.calendars) > max(found, default=(0, 0)):
        found[known.revision, known.calendars] = _unapplied(known)
    changes = tuple(found[each] for each in sorted(found))
    return changes, FIRST if is_whole or not changes else changes[0].at


def _unapplied(known: Known) -> Change:
    reason = "deleted" if known.deleted else "invalid" if known.in_force is None else "edited"
    return Change(
        generation=known.revision,
        at=known.effective_at,
        in_force=known.in_force,
        calendars=known.calendars,
        reason=reason,
    )


def _ranges(told: Sequence[Recorded]) -> tuple[VerdictRange, ...]:
    found: dict[str, VerdictRange] = {}
    for each in told:
        if each.kind == VERDICTS:
            try:
                found[each.id] = read_range(each.data)
            except InvalidArgument:
                continue
    return tuple(found.values())


# --- what can be known


def _cut(window: Window, first: datetime, slack: timedelta) -> Window:
    """The window from `first` on. Raises InvalidArgument when it begins earlier by more than the slack."""
    if window.since + slack < first:
        raise _too_early(first)
    return Window(max(window.since, first), max(window.until, first), window.settled)


def _too_early(first: datetime) -> InvalidArgument:
    at = format_instant(first)
    return InvalidArgument(f"since is before what this audit can know: ask from {at} on", field="since")
