"""Use cases of schedules: put, get, list, delete, pause, resume, trigger, preview.

Writes read the stored value at the store's leader, decide, and write by compare-and-set; after silence or a lost race
they read and decide again, so that repeating is harmless. They answer once the edit is applied.
"""

from __future__ import annotations

import asyncio
import bisect
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec import UNSET

from scheduler.core.arming import fires_left, state_of
from scheduler.core.chain import begin, is_chained, to_come
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.core.model.schedule import Definition, Schedule
from scheduler.core.model.status import StatusRow
from scheduler.core.previewing import COUNT_MAX, PreviewedFire, fire_of, preview
from scheduler.core.triggers import FIRST, LAST, compile_trigger
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.api.auditing import past_fire
from scheduler.services.api.changing import DELETE, LEAVE, Decide, Decision, ScheduleChanges, check_expectation
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import BYTES_MAX, Page
from scheduler.services.api.triggering import ManualRuns
from scheduler.services.api.views import NEXT_COUNT, next_fires, schedule_item
from scheduler.services.applied import AppliedWatermark
from scheduler.services.auditing import Auditor
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import Known, ScheduleCache, require_valid
from scheduler.wire import api
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.instants import format_instant, parse_instant, parse_optional
from scheduler.wire.schedule import (
    ScheduleLimits,
    keep_pause_raw,
    labels_of,
    parse_for_preview,
    parse_schedule,
    same_definition,
    warnings_for,
    with_pause,
)
from scheduler.wire.selectors import Selector, parse_selector

ACK_WAIT_S = 30.0
EXCLUDES = re.compile(rb'"exclude"|\\u')  # an escape may spell it, too
YIELD_EVERY = 500  # schedules looked at before other tasks get a turn
PREVIEW_SLICE = 50  # fires computed before other tasks get a turn
PREVIEW_ID = "preview"  # the id of a definition that has none: only `H` depends on it


class Schedules:
    """`ack_wait_of`: how long a queue waits for an acknowledgement, if that is known, else `ack_wait_s`; a longer
    timeout is a warning."""

    def __init__(
        self,
        *,
        bucket: Bucket,
        cache: ScheduleCache,
        rows: StatusRows,
        applied: AppliedWatermark,
        runs: ManualRuns,
        clock: Clock,
        limits: ScheduleLimits,
        auditor: Auditor,
        ack_wait_s: float = ACK_WAIT_S,
        ack_wait_of: Callable[[str], float | None] | None = None,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._cache, self._rows = cache, rows
        self._applied, self._runs, self._clock, self._auditor = applied, runs, clock, auditor
        self._limits, self._bytes_max = limits, bytes_max
        self._ack_wait_s, self._ack_wait_of = ack_wait_s, ack_wait_of
        self._changes = ScheduleChanges(bucket, clock)
        self._sorted: tuple[int, list[str]] = (-1, [])

    # --- writing

    @answers("schedule.put", api.PutSchedule)
    async def put(self, request: api.PutSchedule) -> api.PutReply:
        """Store a definition; an equal one is not written again, a stored pause stays unless the new one names one.

        Raises InvalidArgument (the field of the schedule), Conflict (`expected_revision`), Unavailable.
        """
        schedule_id, sent = check_schedule_id(request.id), bytes(request.schedule)
        await self._know_calendars(sent)
        parse_schedule(schedule_id, sent, self._limits, self._cache.calendar_of)
        stored = b""

        def decide(entry: Entry | None) -> Decision:
            nonlocal stored
            check_expectation(f"schedule {schedule_id!r}", request.expected_revision, entry)
            stored = self._with_stored_pause(schedule_id, sent, entry)
            return LEAVE if entry is not None and same_definition(stored, entry.value) else stored

        revision = await self._changes.change(schedule_id, decide)
        await self._applied.wait(revision)
        await self._know_calendars(stored)
        return await self._put_reply(schedule_id, stored, revision)

    async def _know_calendars(self, raw: bytes) -> None:
        """A definition that excludes something is read with the calendars as they are now."""
        if EXCLUDES.search(raw) is not None and self._cache.calendars is not None:
            await self._cache.calendars.fresh()

    def _with_stored_pause(self, schedule_id: str, sent: bytes, entry: Entry | None) -> bytes:
        """A pause that was stored in a broken definition may be broken too: then the new definition is not paused."""
        kept = keep_pause_raw(sent, None if entry is None else entry.value)
        if kept is sent:
            return sent
        try:
            parse_schedule(schedule_id, kept, self._limits, self._cache.calendar_of)
        except InvalidArgument:
            return sent
        return kept

    async def _put_reply(self, schedule_id: str, stored: bytes, revision: int) -> api.PutReply:
        now = self._clock.now()
        schedule = parse_schedule(schedule_id, stored, self._limits, self._cache.calendar_of)
        definition = Definition(schedule=schedule, generation=revision, effective_at=now)
        in_force = InForce(definition, compile_trigger(schedule, self._cache.calendar_of))
        needs_row = is_chained(in_force) or schedule.max_fires is not None
        row = await self._rows.get(schedule_id) if needs_row else StatusRow()
        fires = next_fires(in_force, now, NEXT_COUNT, row)
        return api.PutReply(
            id=schedule_id,
            revision=revision,
            generation=revision,
            next=[format_instant(at) for at in fires],
            warnings=self._warnings(schedule, now),
        )

    def _warnings(self, schedule: Schedule, now: datetime) -> list[str]:
        known_s = None if self._ack_wait_of is None else self._ack_wait_of(schedule.queue)
        return warnings_for(schedule, known_s or self._ack_wait_s, now=now, calendar_of=self._cache.calendar_of)

    @answers("schedule.delete", api.DeleteSchedule)
    async def delete(self, request: api.DeleteSchedule) -> api.Revision:
        """Raises NotFound, Conflict (`expected_revision`), Unavailable."""
        schedule_id = check_schedule_id(request.id)

        def decide(entry: Entry | None) -> Decision:
            check_expectation(f"schedule {schedule_id!r}", request.expected_revision, _require(schedule_id, entry))
            return DELETE

        return await self._applied_revision(schedule_id, decide)

    @answers("schedule.pause", api.PauseSchedule)
    async def pause(self, request: api.PauseSchedule) -> api.Revision:
        """Raises NotFound, InvalidArgument (`until`, `note`, or a stored value that is no JSON object), Unavailable."""
        schedule_id = check_schedule_id(request.id)
        until = parse_optional(request.until, field="until")
        if until is not None and until <= self._clock.now():
            raise InvalidArgument("until is past: a pause ends in the future, or leave until out", field="until")
        return await self._set_pause(schedule_id, paused=True, note=request.note, until=until)

    @answers("schedule.resume", api.Id)
    async def resume(self, request: api.Id) -> api.Revision:
        """End a pause now; its note and its end go with it. Raises NotFound, InvalidArgument, Unavailable."""
        return await self._set_pause(check_schedule_id(request.id), paused=False)

    async def _set_pause(
        self, schedule_id: str, *, paused: bool, note: str | None = None, until: datetime | None = None
    ) -> api.Revision:
        def decide(entry: Entry | None) -> Decision:
            value = _require(schedule_id, entry).value
            changed = with_pause(value, paused=paused, note=note, until=until)
            if same_definition(changed, value):
                return LEAVE
            self._keep_valid(schedule_id, value, changed)
            return changed

        return await self._applied_revision(schedule_id, decide)

    def _keep_valid(self, schedule_id: str, before: bytes, after: bytes) -> None:
        """A note that cannot be stored must not turn a valid schedule into an invalid one."""
        try:
            parse_schedule(schedule_id, after, self._limits, self._cache.calendar_of)
        except InvalidArgument as problem:
            if problem.field == "pause_note" or self._is_valid(schedule_id, before):
                field = {"pause_note": "note", "paused_until": "until"}.get(problem.field or "", problem.field)
                raise InvalidArgument(problem.message, field=field) from None

    def _is_valid(self, schedule_id: str, raw: bytes) -> bool:
        try:
            parse_schedule(schedule_id, raw, self._limits, self._cache.calendar_of)
        except InvalidArgument:
            return False
        return True

    async def _applied_revision(self, schedule_id: str, decide: Decide) -> api.Revision:
        revision = await self._changes.change(schedule_id, decide)
        await self._applied.wait(revision)
        return api.Revision(id=schedule_id, revision=revision)

    # --- reading

    @answers("schedule.get", api.Id)
    async def get(self, request: api.Id) -> api.ScheduleItem:
        """Raises NotFound, Unavailable."""
        schedule_id = check_schedule_id(request.id)
        await self._cache.fresh()
        known = self._cache.get(schedule_id)
        if known is None or known.deleted:
            raise NotFound(f"there is no schedule {schedule_id!r}", field="id")
        return schedule_item(known, await self._rows.get(schedule_id), self._clock.now())

    @answers("schedule.list", api.ListSchedules)
    async def list(self, request: api.ListSchedules) -> api.ScheduleList:
        """By id; every filter must match. Raises Unavailable."""
        await self._cache.fresh()
        page: Page[api.ScheduleItem] = Page(self._clock, request.limit, self._bytes_max)
        found, reached = await self._matching(request, page)
        rows = await self._rows.get_many([known.id for known in found])
        now = self._clock.now()
        for known, row in zip(found, rows, strict=True):
            item = schedule_item(known, row, now)
            if not page.add(known.id, item, len(api.encode(item)) + 1):
                break
        return api.ScheduleList(items=page.items, cursor=page.cursor or reached)

    async def _matching(
        self, request: api.ListSchedules, page: Page[api.ScheduleItem]
    ) -> tuple[Sequence[Known], str | None]:
        """Up to one more than asked for, so that the page knows whether it is the last one; and how far it got, if
        the time was over before the end."""
        found: list[Known] = []
        now, selector = self._clock.now(), parse_selector(request.selector) if request.selector else None
        for number, schedule_id in enumerate(self._ids_behind(request.prefix or "", request.cursor or ""), start=1):
            known = self._cache.get(schedule_id)
            if (
                known is not None
                and not known.deleted
                and _matches(known, request, selector, now, await self._fires(known, request))
            ):
                found.append(known)
                if len(found) > request.limit:
                    break
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                if page.is_over_time:
                    return found, schedule_id
        return found, None

    async def _fires(self, known: Known, request: api.ListSchedules) -> int:
        """How often it has fired, where its state depends on that and is asked for."""
        if request.state is None or known.in_force is None or known.in_force.definition.schedule.max_fires is None:
            return 0
        return (await self._rows.get(known.id)).fires

    def _ids_behind(self, prefix: str, cursor: str) -> Iterable[str]:
        ids = self._sorted_ids()
        start = max(bisect.bisect_left(ids, prefix), bisect.bisect_right(ids, cursor) if cursor else 0)
        for number in range(start, len(ids)):
            if not ids[number].startswith(prefix):
                return
            yield ids[number]

    def _sorted_ids(self) -> Sequence[str]:
        """Sorted once per change of the bucket: a walk over many pages would sort them all for each."""
        applied = self._cache.mirror.applied
        if self._sorted[0] != applied:
            self._sorted = (applied, self._cache.live_ids())
        return self._sorted[1]

    # --- firing

    @answers("schedule.trigger", api.TriggerSchedule)
    async def trigger(self, request: api.TriggerSchedule) -> api.TriggerReply:
        """Run a schedule now, paused or not. Raises NotFound, InvalidArgument, PayloadTooLarge, Unavailable."""
        schedule_id = check_schedule_id(request.id)
        await self._cache.fresh()
        in_force = require_valid(self._cache.get(schedule_id), schedule_id)
        return await self._runs.trigger(in_force, request, self._limits.payload_bytes_max)

    @answers("schedule.preview", api.PreviewSchedule)
    async def preview(self, request: api.PreviewSchedule) -> api.PreviewReply:
        """The next fires of a stored schedule or of a definition. Raises NotFound, InvalidArgument, Unavailable."""
        in_force = await self._previewed(request)
        after = self._clock.now() if request.after is None else parse_instant(request.after, field="after")
        if not FIRST <= after <= LAST:
            raise InvalidArgument("after is outside of what schedd can count: use 1970 to 2199", field="after")
        if is_chained(in_force):
            return await self._preview_chain(in_force, request)
        last = await self._last_nominal(in_force, after)
        fires: list[PreviewedFire] = []
        while len(fires) < request.count:
            count = min(PREVIEW_SLICE, request.count - len(fires))
            more = preview(in_force.definition, in_force.trigger, after=after, count=count)
            fires += more
            if len(more) < count:
                break
            after = more[-1].nominal_at
            await asyncio.sleep(0)
        shown = [_fire(each) for each in fires if each.nominal_at <= last]
        return api.PreviewReply(fires=shown, past=await self._past(request))

    async def _last_nominal(self, in_force: InForce, after: datetime) -> datetime:
        """The last nominal time that `max_fires` allows, if none before it is skipped. Of a stored schedule so many are
        left from now on, of a definition all of them from `after` on. LAST where more are left than a preview shows."""
        definition, trigger = in_force.definition, in_force.trigger
        stored = definition.generation > 0
        left = fires_left(in_force, (await self._rows.get(definition.id)).fires if stored else 0)
        if left is None or left > COUNT_MAX:
            return LAST
        last = self._clock.now() if stored else after
        for number in range(left):
            following = trigger.next_after(last)
            if following is None:
                break
            last = following
            if number % PREVIEW_SLICE == 0:
                await asyncio.sleep(0)
        return last

    async def _past(self, request: api.PreviewSchedule) -> Sequence[api.Past] | None:
        """The last occurrences of a stored schedule, as an audit judges them."""
        if not request.last:
            return None
        if request.id is None or request.schedule is not UNSET:
            raise InvalidArgument("last is for a stored schedule: give its id alone", field="last")
        return [past_fire(each) for each in await self._auditor.latest(request.id, request.last)]

    async def _preview_chain(self, in_force: InForce, request: api.PreviewSchedule) -> api.PreviewReply:
        """The one that is to come: those behind it depend on the ends of runs, as its note says."""
        definition, after = in_force.definition, parse_optional(request.after, field="after")
        stored = definition.generation > 0
        chain = (await self._rows.get(definition.id)).chain if stored else begin(in_force, definition.effective_at)
        occurrence = to_come(chain, in_force)
        if occurrence is None or (after is not None and occurrence.nominal_at <= after):
            return api.PreviewReply(fires=[])
        return api.PreviewReply(fires=[_fire(fire_of(definition.schedule, in_force.trigger, occurrence.nominal_at))])

    async def _previewed(self, request: api.PreviewSchedule) -> InForce:
        if request.schedule is UNSET:
            if request.id is None:
                raise InvalidArgument("give the id of a schedule, or a definition in schedule", field="id")
            schedule_id = check_schedule_id(request.id)
            await self._cache.fresh()
            return require_valid(self._cache.get(schedule_id), schedule_id)
        schedule_id = PREVIEW_ID if request.id is None else check_schedule_id(request.id)
        await self._know_calendars(bytes(request.schedule))
        schedule = parse_for_preview(schedule_id, bytes(request.schedule), self._limits, self._cache.calendar_of)
        now = self._clock.now()
        definition = Definition(schedule=schedule, generation=0, effective_at=now)
        return InForce(definition, compile_trigger(schedule, self._cache.calendar_of))


def _require(schedule_id: str, entry: Entry | None) -> Entry:
    if entry is None:
        raise NotFound(f"there is no schedule {schedule_id!r}", field="id")
    return entry


def _matches(known: Known, request: api.ListSchedules, selector: Selector | None, now: datetime, fires: int) -> bool:
    if request.labels or selector is not None:
        labels = labels_of(known.raw) if known.in_force is None else known.in_force.definition.schedule.labels
        if any(labels.get(name) != value for name, value in (request.labels or {}).items()):
            return False
        if selector is not None and not selector.matches(labels):
            return False
    return request.state is None or state_of(known.in_force, now, fires).value == request.state


def _fire(fire: PreviewedFire) -> api.Fire:
    return api.Fire(
        nominal_at=format_instant(fire.nominal_at),
        fire_at=format_instant(fire.fire_at),
        local=fire.local,
        notes=list(fire.notes),
    )
