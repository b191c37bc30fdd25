"""What can be done, noun by noun."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType
from nats.aio.client import Client as NatsClient

from scheduler.client import following
from scheduler.client.calls import LONG, ONCE, REPEATED, Calls, Nobody, Patience
from scheduler.client.requests import (
    COUNT_DEFAULT,
    LINES,
    PAGE,
    Definition,
    Instant,
    audit_request,
    backfill_request,
    backfills_request,
    executions_request,
    instant_text,
    is_stored,
    lines_request,
    named_backfill,
    preview_request,
    put_calendar_request,
    raw_of,
    retry_request,
    schedules_request,
    trigger_request,
    workers_request,
)
from scheduler.core.backfilling import RATE_DEFAULT
from scheduler.core.errors import Conflict, Unavailable
from scheduler.wire import api
from scheduler.wire.ids import check_calendar_name, check_schedule_id
from scheduler.wire.lines import Line
from scheduler.wire.record import Record


class Schedules:
    """What can be done with schedules."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self, schedule_id: str, schedule: Definition | Raw, *, expected_revision: int | None = None
    ) -> api.PutReply:
        """Store a definition (Raw: JSON text, as it is) and wait until it is applied. `expected_revision` 0: create
        only, else Conflict."""
        request = api.PutSchedule(
            id=check_schedule_id(schedule_id),
            schedule=raw_of(schedule),
            expected_revision=expected_revision,
        )
        deadline = self._calls.deadline()
        if expected_revision is None:
            return await self._put(request, REPEATED, deadline)
        try:
            return await self._put(request, ONCE, deadline)
        except Nobody:
            raise
        except Unavailable:
            return await self._put_again(request, deadline)

    async def _put_again(self, request: api.PutSchedule, deadline: float) -> api.PutReply:
        """The first put may have landed: then the expectation fails, and what is stored tells whether it was ours."""
        try:
            return await self._put(request, REPEATED, deadline)
        except Conflict:
            stored = await self.get(request.id)
            if not is_stored(bytes(request.schedule), bytes(stored.schedule)):
                raise
        request = msgspec.structs.replace(request, expected_revision=stored.revision)
        return await self._put(request, REPEATED, deadline)

    async def _put(self, request: api.PutSchedule, patience: Patience, deadline: float) -> api.PutReply:
        return await self._calls.call("schedule.put", request, api.PutReply, patience, deadline)

    async def get(self, schedule_id: str) -> api.ScheduleItem:
        """Raises NotFound."""
        return await self._calls.call("schedule.get", api.Id(id=check_schedule_id(schedule_id)), api.ScheduleItem)

    async def list(
        self,
        *,
        prefix: str | None = None,
        labels: Mapping[str, str] | None = None,
        selector: str | None = None,
        state: str | None = None,
    ) -> AsyncIterator[api.ScheduleItem]:
        """All schedules that match, by id, page after page. `selector`: `team=crm,env!=prod,tier in (a,b),!legacy`."""
        request = schedules_request(prefix=prefix, labels=labels, selector=selector, state=state)
        async for item in self._calls.pages("schedule.list", request):
            yield api.decode_reply(bytes(item), api.ScheduleItem)

    async def delete(self, schedule_id: str, *, expected_revision: int | None = None) -> api.Revision:
        """Raises NotFound, Conflict if it is no longer of the expected revision."""
        request = api.DeleteSchedule(id=check_schedule_id(schedule_id), expected_revision=expected_revision)
        return await self._calls.call("schedule.delete", request, api.Revision, ONCE)

    async def pause(self, schedule_id: str, *, note: str | None = None, until: Instant | None = None) -> api.Revision:
        """Nothing fires from now on, until `until` if it is given. Raises NotFound."""
        request = api.PauseSchedule(id=check_schedule_id(schedule_id), note=note, until=instant_text(until, "until"))
        return await self._calls.call("schedule.pause", request, api.Revision, REPEATED)

    async def resume(self, schedule_id: str) -> api.Revision:
        """Raises NotFound."""
        request = api.Id(id=check_schedule_id(schedule_id))
        return await self._calls.call("schedule.resume", request, api.Revision, REPEATED)

    async def trigger(
        self,
        schedule_id: str,
        *,
        payload: Any | UnsetType = UNSET,
        nonce: str | None = None,
        overlap: str | None = None,
    ) -> api.TriggerReply:
        """Run it now. The same `nonce` (one is made up if none is given) answers with the same execution again."""
        request = trigger_request(schedule_id, payload=payload, nonce=nonce, overlap=overlap)
        return await self._calls.call("schedule.trigger", request, api.TriggerReply, REPEATED)

    async def backfill(
        self,
        schedule_id: str,
        start: Instant,
        end: Instant,
        *,
        dry_run: bool,
        max_count: int | None = None,
        rate: float = RATE_DEFAULT,
        overlap: str | None = None,
        backfill_id: str | None = None,
    ) -> api.BackfillReply:
        """Run what the schedule would have fired from `start` until before `end`; a dry run only lists it.

        The same `backfill_id` (one is made up if none is given) is the same backfill. Raises NotFound, Conflict.
        """
        request = backfill_request(
            schedule_id, start, end, dry_run=dry_run, max_count=max_count, rate=rate, overlap=overlap,
            backfill_id=backfill_id,
        )  # fmt: skip
        return await self._calls.call("schedule.backfill", request, api.BackfillReply, REPEATED)

    async def preview(
        self,
        schedule_id: str | None = None,
        schedule: Definition | None = None,
        *,
        after: Instant | None = None,
        count: int = COUNT_DEFAULT,
    ) -> Sequence[api.Fire]:
        """The next fires of a stored schedule, or of a definition, after an instant (exclusive; default now)."""
        request = preview_request(schedule_id, schedule, after=after, count=count)
        return (await self._calls.call("schedule.preview", request, api.PreviewReply)).fires

    async def audit(self, schedule_id: str, *, since: Instant, until: Instant | None = None) -> api.AuditReply:
        """What became of every nominal time from `since` up to before `until` (default: now, less five seconds).

        Raises NotFound, InvalidArgument (`since` is before what can be known; or too much at once: ask for less).
        """
        request = audit_request(schedule_id, since=since, until=until)
        return api.decode_reply(await self.audit_body(request), api.AuditReply)

    async def audit_body(self, request: api.AuditSchedule) -> bytes:
        """The reply of `schedule.audit` as it came."""
        return await self._calls.fetch("schedule.audit", request, LONG)


class Backfills:
    """What can be done with backfills."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, backfill_id: str) -> api.BackfillItem:
        """Raises NotFound."""
        return await self._calls.call("backfill.get", named_backfill(backfill_id), api.BackfillItem)

    async def list(self, *, schedule: str | None = None) -> AsyncIterator[api.BackfillItem]:
        """All that are kept, newest first."""
        async for item in self._calls.pages("backfill.list", backfills_request(schedule=schedule)):
            yield api.decode_reply(bytes(item), api.BackfillItem)

    async def cancel(self, backfill_id: str) -> api.BackfillItem:
        """Start nothing more of it. What is over stays so. Raises NotFound."""
        return await self._calls.call("backfill.cancel", named_backfill(backfill_id), api.BackfillItem, REPEATED)


class Executions:
    """What can be done with executions."""

    def __init__(self, calls: Calls, connection: NatsClient) -> None:
        self._calls, self._connection = calls, connection

    async def get(self, execution_id: str) -> Record:
        """Raises NotFound."""
        return await self._calls.call("execution.get", api.Id(id=execution_id), Record)

    async def cancel(self, execution_id: str, *, grace: str | None = None) -> Record:
        """End it: at once where no worker has it in hand, else its worker is asked to, with `grace` ("10s") to tidy up.

        Returns the record as it is then. Raises Conflict if it has ended otherwise.
        """
        return await self._calls.call("execution.cancel", api.CancelExecution(id=execution_id, grace=grace), Record)

    async def retry(
        self, execution_id: str, *, payload: Any | UnsetType = UNSET, expected_drive: int | None = None
    ) -> Record:
        """Carry out again what has ended, under its id and with all its tries; `payload` in place of its own.

        Exactly once, however often the request has to be repeated: what is retried is the drive that has ended by now,
        or `expected_drive` (from a record that was read before). Returns the record as it is then. Raises NotFound,
        Conflict (it has not ended, or was never queued).
        """
        if expected_drive is None:
            expected_drive = (await self.get(execution_id)).drive
        request = retry_request(execution_id, expected_drive, payload=payload)
        return await self._calls.call("execution.retry", request, Record, REPEATED)

    async def list(
        self,
        *,
        schedule: str | None = None,
        state: str | None = None,
        queue: str | None = None,
        type_: str | None = None,
        reason: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
    ) -> AsyncIterator[Record]:
        """Executions that match, newest first, nominal times from `since` up to before `until`. `state` names several
        ("failed,lost"), `reason` is the record's or the type of its error. Without a schedule only recent ones."""
        request = executions_request(
            schedule=schedule, state=state, queue=queue, type_=type_, reason=reason, since=since, until=until
        )
        async for item in self._calls.pages("execution.list", request):
            yield api.decode_reply(bytes(item), Record)

    async def logs(
        self, execution_id: str, *, attempt: int | None = None, level: str | None = None, follow: bool = False
    ) -> AsyncIterator[Line]:
        """What it logged, oldest first: of one attempt, or of at least that level ("warning").

        `follow`: go on with what is still to come, until the execution is over and its last lines are there; survives
        reconnects, and raises Unavailable when nobody has answered for a minute. Raises NotFound.
        """
        async for item in self.raw_logs(execution_id, attempt=attempt, level=level, follow=follow):
            yield api.decode_reply(bytes(item), Line)

    def raw_logs(
        self, execution_id: str, *, attempt: int | None = None, level: str | None = None, follow: bool = False
    ) -> AsyncIterator[Raw]:
        """The same as JSON."""
        if follow:
            return following.follow(self._connection, self._calls, execution_id, attempt=attempt, level=level)
        return self._calls.pages(
            "execution.logs", lines_request(execution_id, attempt=attempt, level=level, limit=LINES)
        )


class Workers:
    """Who works: SDK workers, and others that give signs of life."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self, *, queue: str | None = None) -> AsyncIterator[api.WorkerItem]:
        """Those that serve a queue, or all."""
        async for item in self._calls.pages("worker.list", workers_request(queue=queue)):
            yield api.decode_reply(bytes(item), api.WorkerItem)


class Calendars:
    """What can be done with calendars."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self, name: str, calendar: Definition | Raw, *, expected_revision: int | None = None
    ) -> api.PutCalendarReply:
        """Store a calendar and wait until its users are planned by it. `expected_revision` 0: create only."""
        request = put_calendar_request(name, calendar, expected_revision)
        patience = REPEATED if expected_revision is None else ONCE
        return await self._calls.call("calendar.put", request, api.PutCalendarReply, patience)

    async def get(self, name: str) -> api.CalendarItem:
        """Raises NotFound."""
        return await self._calls.call("calendar.get", api.Id(id=check_calendar_name(name)), api.CalendarItem)

    async def list(self, *, prefix: str | None = None) -> AsyncIterator[api.CalendarItem]:
        """All calendars, by name, page after page."""
        async for item in self._calls.pages("calendar.list", api.ListCalendars(prefix=prefix, limit=PAGE)):
            yield api.decode_reply(bytes(item), api.CalendarItem)

    async def delete(self, name: str) -> api.Revision:
        """Raises NotFound, Conflict while a schedule uses it."""
        return await self._calls.call("calendar.delete", api.Id(id=check_calendar_name(name)), api.Revision, ONCE)
