"""The client of the API for Python programs: `async with Client.connect() as client: ...`.

    client.schedules.put, get, list, delete, pause, resume, trigger, preview, backfill
    client.backfills.get, list, cancel
    client.schedules.put, get, list, delete, pause, resume, trigger, preview, audit
    client.executions.get, list
    client.calendars.put, get, list, delete
    client.status

Bodies are those of `scheduler.wire.api`, instants are text in UTC. Every method raises the errors of
`scheduler.core.errors`, and nothing else. Every call is bounded by `timeout_s`,
however often it is repeated. Repeated
is what cannot do harm: whatever nobody has received, every read, a `put` (the daemon writes an equal definition only
once, and an expected revision is read back), a `trigger` (its nonce names the execution), a `backfill` (by its id).
After `Unsure` the others
(`delete`, `pause`, `resume`) may or may not have happened: look before you repeat them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from nats.aio.client import Client as NatsClient
from nats.errors import NoRespondersError

from scheduler.core.backfilling import RATE_DEFAULT
from scheduler.core.errors import Conflict, Internal, InvalidArgument, PermissionDenied, Unavailable, Unsure
from scheduler.core.model.execution import State
from scheduler.jetstream.connection import ConnectionSettings, connect
from scheduler.jetstream.errors import from_exception, refusal
from scheduler.wire import api
from scheduler.wire.ids import check_backfill_id, check_calendar_name, check_nonce, check_queue, check_schedule_id
from scheduler.wire.instants import cut, format_instant, parse_instant
from scheduler.wire.names import DEFAULT_NAMESPACE, Names
from scheduler.wire.record import Record
from scheduler.wire.schedule_json import encode_document, encode_value, keep_pause_raw, same_definition

TIMEOUT_S = 20.0
NOBODY_S = 1.0  # how long "no responders" is taken for a replica that is just being replaced
COUNT_DEFAULT = api.COUNT_DEFAULT
PAGE = 250  # items per page
PAUSES_S = (0.1, 0.2, 0.4, 0.8)  # between repeats; the last one for ever

T = TypeVar("T", bound=Struct)
T_co = TypeVar("T_co", covariant=True)
Instant = datetime | str
Definition = Mapping[str, Any]


class Patience(NamedTuple):
    """How long one try may take, and until when a call whose outcome is unknown may be tried again."""

    try_s: float
    repeat_s: float


READ = Patience(3.0, 6.0)
LONG = Patience(13.0, 6.0)  # a day of a schedule that fires each second is read for some seconds
ONCE = Patience(8.0, 0.0)  # the daemon waits up to 5 s until a write is applied
REPEATED = Patience(8.0, 15.0)


class Nobody(Unavailable):
    """No responders: the request reached nobody, so repeating it is always safe."""


class Calls:
    """Requests to the micro service, repeated where that is safe, errors raised as classes."""

    def __init__(self, connection: NatsClient, namespace: str, timeout_s: float) -> None:
        self._connection = connection
        self._names = Names(namespace)
        self._timeout_s = timeout_s

    def deadline(self) -> float:
        """The loop time at which a call that begins now has to be over."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def fetch(
        self, endpoint: str, request: api.Request, patience: Patience | None = None, deadline: float | None = None
    ) -> bytes:
        """The reply's body as it came. Raises ScheddError, Unsure if it may have happened without our knowing."""
        clock = asyncio.get_running_loop().time
        start, body = clock(), api.encode(request)
        patience = patience or READ
        deadline = deadline or self.deadline()
        for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            try:
                return await self._once(endpoint, body, max(0.05, min(patience.try_s, deadline - clock())))
            except Unavailable as problem:
                repeat_s = max(NOBODY_S, patience.repeat_s) if isinstance(problem, Nobody) else patience.repeat_s
                if clock() + pause_s >= min(start + repeat_s, deadline):
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses never end")

    async def _once(self, endpoint: str, body: bytes, timeout_s: float) -> bytes:
        try:
            reply = await self._connection.request(self._names.api(endpoint), body, timeout=timeout_s)
        except NoRespondersError:
            fix = "start one with `schedd run`, or check --nats and --namespace"
            raise Nobody(f"no schedd daemon answers {self._where()}: {fix}") from None
        except TimeoutError:
            if refused := refusal(self._connection):
                raise PermissionDenied(f"{endpoint}: NATS does not permit it: {refused}") from None
            raise Unsure(f"{endpoint}: the schedd daemon {self._where()} did not answer in time") from None
        except Exception as problem:
            raise from_exception(problem, endpoint) from None
        error = api.decode_error(reply.headers, reply.data)
        if error is not None:
            raise error
        return reply.data

    def _where(self) -> str:
        url = self._connection.connected_url
        server = f" at {url.hostname}:{url.port}" if url is not None else ""
        return f"for namespace {self._names.namespace!r}{server}"

    async def call(
        self,
        endpoint: str,
        request: api.Request,
        kind: type[T],
        patience: Patience | None = None,
        deadline: float | None = None,
    ) -> T:
        return api.decode_reply(await self.fetch(endpoint, request, patience, deadline), kind)

    async def pages(self, endpoint: str, request: Any) -> AsyncIterator[Raw]:
        """Every item of every page, as raw JSON."""
        while True:
            page = await self.call(endpoint, request, _Page)
            for item in page.items:
                yield item
            if page.cursor is None:
                return
            if page.cursor == request.cursor:
                raise Internal(f"{endpoint}: the daemon gave the same cursor twice")
            request = msgspec.structs.replace(request, cursor=page.cursor)


class _Page(api.Reply):
    items: list[Raw]
    cursor: str | None = None


class Schedules:
    """What can be done with schedules."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self, schedule_id: str, schedule: Definition, *, expected_revision: int | None = None
    ) -> api.PutReply:
        """Store a definition and wait until it is applied. `expected_revision` 0: create only, else Conflict."""
        request = api.PutSchedule(
            id=check_schedule_id(schedule_id),
            schedule=Raw(encode_document(schedule)),
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
        self, *, prefix: str | None = None, labels: Mapping[str, str] | None = None, state: str | None = None
    ) -> AsyncIterator[api.ScheduleItem]:
        """All schedules that match, by id, page after page."""
        request = schedules_request(prefix=prefix, labels=labels, state=state)
        async for item in self._calls.pages("schedule.list", request):
            yield api.decode_reply(bytes(item), api.ScheduleItem)

    async def delete(self, schedule_id: str) -> api.Revision:
        """Raises NotFound."""
        request = api.Id(id=check_schedule_id(schedule_id))
        return await self._calls.call("schedule.delete", request, api.Revision, ONCE)

    async def pause(self, schedule_id: str, *, note: str | None = None, until: Instant | None = None) -> api.Revision:
        """Nothing fires from now on, until `until` if it is given. Raises NotFound."""
        request = api.PauseSchedule(id=check_schedule_id(schedule_id), note=note, until=_instant(until, "until"))
        return await self._calls.call("schedule.pause", request, api.Revision, ONCE)

    async def resume(self, schedule_id: str) -> api.Revision:
        """Raises NotFound."""
        request = api.Id(id=check_schedule_id(schedule_id))
        return await self._calls.call("schedule.resume", request, api.Revision, ONCE)

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
        return await self._calls.call("backfill.get", _backfill(backfill_id), api.BackfillItem)

    async def list(self, *, schedule: str | None = None) -> AsyncIterator[api.BackfillItem]:
        """All that are kept, newest first."""
        async for item in self._calls.pages("backfill.list", backfills_request(schedule=schedule)):
            yield api.decode_reply(bytes(item), api.BackfillItem)

    async def cancel(self, backfill_id: str) -> api.BackfillItem:
        """Start nothing more of it. What is over stays so. Raises NotFound."""
        return await self._calls.call("backfill.cancel", _backfill(backfill_id), api.BackfillItem, REPEATED)


class Executions:
    """What can be done with executions."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, execution_id: str) -> Record:
        """Raises NotFound."""
        return await self._calls.call("execution.get", api.Id(id=execution_id), Record)

    async def cancel(self, execution_id: str, *, grace: str | None = None) -> Record:
        """End it: at once where no worker has it in hand, else its worker is asked to, with `grace` ("10s") to tidy up.

        Returns the record as it is then. Raises Conflict if it has ended otherwise.
        """
        return await self._calls.call("execution.cancel", api.CancelExecution(id=execution_id, grace=grace), Record)

    async def list(
        self,
        *,
        schedule: str | None = None,
        state: str | None = None,
        queue: str | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
    ) -> AsyncIterator[Record]:
        """Executions that match, newest first; nominal times from `since` up to before `until`."""
        request = executions_request(schedule=schedule, state=state, queue=queue, since=since, until=until)
        async for item in self._calls.pages("execution.list", request):
            yield api.decode_reply(bytes(item), Record)


class Calendars:
    """What can be done with calendars."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self, name: str, calendar: Definition, *, expected_revision: int | None = None
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


class Client:
    """The API over one NATS connection, which may be shared; `namespace` as the daemon's."""

    def __init__(
        self, connection: NatsClient, *, namespace: str = DEFAULT_NAMESPACE, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.connection = connection
        self.calls = Calls(connection, namespace, timeout_s)
        self.schedules = Schedules(self.calls)
        self.backfills = Backfills(self.calls)
        self.executions = Executions(self.calls)
        self.calendars = Calendars(self.calls)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        nats: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        *,
        name: str = "schedd-client",
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncIterator[Self]:
        """Connect as the commands do: what is given, then NATS_URL, NATS_CONTEXT, SCHEDD_NAMESPACE, then defaults.

        Raises Unavailable if no server answers within about five seconds.
        """
        settings = ConnectionSettings.from_environment(nats, context, namespace)
        connection = await connect(settings, name=name)
        try:
            yield cls(connection, namespace=settings.namespace, timeout_s=timeout_s)
        finally:
            await connection.close()

    async def status(self) -> api.StatusReply:
        """Leader, replicas, watermark, counts."""
        return await self.calls.call("status.get", api.Nothing(), api.StatusReply)


async def first(items: AsyncIterator[T_co], count: int | None) -> AsyncIterator[T_co]:
    """At most `count` of the items; None: all."""
    async for item in items:
        if count is not None:
            count -= 1
        yield item
        if count == 0:
            return


# --- requests, checked: what the methods above and the commands send


def schedules_request(
    *, prefix: str | None = None, labels: Mapping[str, str] | None = None, state: str | None = None, limit: int = PAGE
) -> api.ListSchedules:
    """A page of `schedule.list`. Raises InvalidArgument for an unknown state."""
    return api.ListSchedules(prefix=prefix, labels=dict(labels) if labels else None, state=state, limit=limit)


def put_calendar_request(name: str, calendar: Definition, expected_revision: int | None = None) -> api.PutCalendar:
    raw = Raw(encode_document(calendar))
    return api.PutCalendar(id=check_calendar_name(name), calendar=raw, expected_revision=expected_revision)


def executions_request(
    *,
    schedule: str | None = None,
    state: str | None = None,
    queue: str | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    limit: int = PAGE,
) -> api.ListExecutions:
    """A page of `execution.list`. Raises InvalidArgument that names the field."""
    if state is not None and state not in list(State):
        raise InvalidArgument(f"{state!r:.40} is no state of an execution: use {', '.join(State)}", field="state")
    return api.ListExecutions(
        schedule=None if schedule is None else check_schedule_id(schedule, field="schedule"),
        state=state,
        queue=None if queue is None else check_queue(queue),
        since=_instant(since, "since"),
        until=_instant(until, "until"),
        limit=limit,
    )


def trigger_request(
    schedule_id: str, *, payload: Any | UnsetType = UNSET, nonce: str | None = None, overlap: str | None = None
) -> api.TriggerSchedule:
    return api.TriggerSchedule(
        id=check_schedule_id(schedule_id),
        payload=UNSET if payload is UNSET else Raw(encode_value(payload, "payload")),
        nonce=secrets.token_hex(8) if nonce is None else check_nonce(nonce),
        overlap=overlap,
    )


def backfill_request(
    schedule_id: str,
    start: Instant,
    end: Instant,
    *,
    dry_run: bool,
    max_count: int | None = None,
    rate: float = RATE_DEFAULT,
    overlap: str | None = None,
    backfill_id: str | None = None,
) -> api.BackfillSchedule:
    """Raises InvalidArgument that names the field."""
    return api.BackfillSchedule(
        id=check_schedule_id(schedule_id),
        start=_instant(start, "from") or "",
        end=_instant(end, "to") or "",
        dry_run=dry_run,
        max=max_count,
        rate=rate,
        overlap=overlap,
        backfill_id=secrets.token_hex(4) if backfill_id is None else check_backfill_id(backfill_id),
    )


def backfills_request(*, schedule: str | None = None, limit: int = PAGE) -> api.ListBackfills:
    """A page of `backfill.list`."""
    schedule = None if schedule is None else check_schedule_id(schedule, field="schedule")
    return api.ListBackfills(schedule=schedule, limit=limit)


def _backfill(backfill_id: str) -> api.Id:
    return api.Id(id=check_backfill_id(backfill_id, field="id"))


def audit_request(schedule_id: str, *, since: Instant, until: Instant | None = None) -> api.AuditSchedule:
    begin = _instant(since, "since")
    assert begin is not None
    return api.AuditSchedule(id=check_schedule_id(schedule_id), since=begin, until=_instant(until, "until"))


def preview_request(
    schedule_id: str | None,
    schedule: Definition | None,
    *,
    after: Instant | None = None,
    count: int = COUNT_DEFAULT,
    last: int = 0,
) -> api.PreviewSchedule:
    """A stored schedule, or a definition (then the id is what `H` hashes). Raises InvalidArgument."""
    if schedule_id is None and schedule is None:
        raise InvalidArgument("give the id of a schedule or a definition", field="id")
    if not 1 <= count <= api.LIMIT_MAX:
        raise InvalidArgument(f"count: {count} is out of range: use 1 to {api.LIMIT_MAX}", field="count")
    return api.PreviewSchedule(
        id=None if schedule_id is None else check_schedule_id(schedule_id),
        schedule=UNSET if schedule is None else Raw(encode_document(schedule)),
        after=_instant(after, "after"),
        count=count,
        last=last,
    )


def is_stored(sent: bytes, stored: bytes) -> bool:
    """Whether what is stored is what was sent; a put without state fields keeps the pause that was stored before."""
    try:
        return same_definition(keep_pause_raw(sent, stored), stored)
    except InvalidArgument:
        return False


def _instant(given: Instant | None, field: str) -> str | None:
    """As the wire spells it; a naive datetime is refused, it could mean any zone."""
    if given is None:
        return None
    if isinstance(given, str):
        return format_instant(parse_instant(given, field=field))
    if given.tzinfo is None:
        raise InvalidArgument(f"{field}: the datetime needs a time zone", field=field)
    return format_instant(cut(given))
