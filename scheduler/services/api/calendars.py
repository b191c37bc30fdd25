"""Use cases of calendars: put, get, list, delete. As for schedules, writes answer once they are applied."""

from __future__ import annotations

import base64

from msgspec import Raw

from scheduler.core.errors import Conflict, InvalidArgument, NotFound
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Entry
from scheduler.services.api.changing import DELETE, LEAVE, Decision, ScheduleChanges, check_expectation
from scheduler.services.api.endpoint import answers
from scheduler.services.api.paging import BYTES_MAX, Page
from scheduler.services.api.views import is_json
from scheduler.services.applied import AppliedWatermark
from scheduler.services.calendars import CalendarCache, KnownCalendar
from scheduler.services.schedules import ScheduleCache
from scheduler.wire import api
from scheduler.wire.calendar import parse_calendar
from scheduler.wire.ids import check_calendar_name
from scheduler.wire.schedule import same_definition

CALENDARS_MAX = 1000
USERS_SHOWN = 100
USERS_NAMED = 5  # in a sentence


class Calendars:
    """`applied` waits for C, the calendars' part of the watermark."""

    def __init__(
        self, *, calendars: CalendarCache, schedules: ScheduleCache, applied: AppliedWatermark, clock: Clock
    ) -> None:
        self._cache, self._schedules, self._applied, self._clock = calendars, schedules, applied, clock
        self._changes = ScheduleChanges(calendars.mirror.bucket, clock, noun="calendar")

    @answers("calendar.put", api.PutCalendar)
    async def put(self, request: api.PutCalendar) -> api.PutCalendarReply:
        """Store a calendar; an equal one is not written again. Raises InvalidArgument, Conflict, Unavailable."""
        name, sent = check_calendar_name(request.id), bytes(request.calendar)
        parse_calendar(name, sent)
        await self._schedules.fresh(calendars=True)
        self._check_room(name)

        def decide(entry: Entry | None) -> Decision:
            check_expectation(f"calendar {name!r}", request.expected_revision, entry)
            return LEAVE if entry is not None and same_definition(sent, entry.value) else sent

        revision = await self._changes.change(name, decide)
        await self._applied.wait(revision)
        return api.PutCalendarReply(id=name, revision=revision, used_by=len(self._schedules.users_of(name)))

    def _check_room(self, name: str) -> None:
        names = self._cache.live_names()
        if name not in names and len(names) >= CALENDARS_MAX:
            raise InvalidArgument(f"there are {CALENDARS_MAX} calendars already: delete one first", field="id")

    @answers("calendar.delete", api.Id)
    async def delete(self, request: api.Id) -> api.Revision:
        """Raises NotFound, Conflict while schedules use it, Unavailable."""
        name = check_calendar_name(request.id)
        await self._schedules.fresh(calendars=True)
        users = [known.id for known in self._schedules.users_of(name)]
        if users:
            raise Conflict(
                f"calendar {name!r} is used by {_listed(users)}: take it out of their exclude first", field="id"
            )

        def decide(entry: Entry | None) -> Decision:
            if entry is None:
                raise NotFound(f"there is no calendar {name!r}", field="id")
            return DELETE

        revision = await self._changes.change(name, decide)
        await self._applied.wait(revision)
        return api.Revision(id=name, revision=revision)

    @answers("calendar.get", api.Id)
    async def get(self, request: api.Id) -> api.CalendarItem:
        """Raises NotFound, Unavailable."""
        name = check_calendar_name(request.id)
        await self._schedules.fresh(calendars=True)
        known = self._cache.get(name)
        if known is None or known.deleted:
            raise NotFound(f"there is no calendar {name!r}", field="id")
        return self._item(known)

    @answers("calendar.list", api.ListCalendars)
    async def list(self, request: api.ListCalendars) -> api.CalendarList:
        """By name. Raises Unavailable."""
        await self._schedules.fresh(calendars=True)
        page: Page[api.CalendarItem] = Page(self._clock, request.limit, BYTES_MAX)
        for name in self._cache.live_names():
            known = self._cache.get(name)
            if known is None or not name.startswith(request.prefix or "") or name <= (request.cursor or ""):
                continue
            item = self._item(known)
            if not page.add(name, item, len(api.encode(item)) + 1):
                break
        return api.CalendarList(items=page.items, cursor=page.cursor)

    def _item(self, known: KnownCalendar) -> api.CalendarItem:
        shown = known.calendar is not None or is_json(known.raw)
        return api.CalendarItem(
            id=known.name,
            revision=known.revision,
            calendar=Raw(known.raw) if shown else api.NULL,
            used_by=[user.id for user in self._schedules.users_of(known.name)[:USERS_SHOWN]],
            error=known.error,
            raw_base64=None if shown else base64.b64encode(known.raw[:CUT_TO]).decode(),
        )


CUT_TO = 65_536  # bytes of a value that is no JSON


def _listed(ids: list[str]) -> str:
    more = f" and {len(ids) - USERS_NAMED} more" if len(ids) > USERS_NAMED else ""
    return ", ".join(ids[:USERS_NAMED]) + more
