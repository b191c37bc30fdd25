"""Requests, checked: what the methods of the client and the commands send."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from scheduler.core.backfilling import RATE_DEFAULT
from scheduler.core.errors import InvalidArgument
from scheduler.wire import api
from scheduler.wire.ids import (
    check_backfill_id,
    check_calendar_name,
    check_nonce,
    check_queue,
    check_schedule_id,
)
from scheduler.wire.instants import cut, format_instant, parse_instant
from scheduler.wire.lines import check_level
from scheduler.wire.queue import changes_of_document
from scheduler.wire.record import read_states
from scheduler.wire.schedule_json import encode_document, encode_value, keep_pause_raw, same_definition

COUNT_DEFAULT = api.COUNT_DEFAULT
PAGE = 250  # items per page
LINES = 1000  # lines per page

Instant = datetime | str
Definition = Mapping[str, Any]


def schedules_request(
    *,
    prefix: str | None = None,
    labels: Mapping[str, str] | None = None,
    selector: str | None = None,
    state: str | None = None,
    limit: int = PAGE,
) -> api.ListSchedules:
    """A page of `schedule.list`. Raises InvalidArgument for an unknown state or a selector that is none."""
    labels = dict(labels) if labels else None
    return api.ListSchedules(prefix=prefix, labels=labels, selector=selector, state=state, limit=limit)


def raw_of(definition: Definition | Raw) -> Raw:
    """As it is sent; what is JSON text already stays what it is, to the byte."""
    return definition if isinstance(definition, Raw) else Raw(encode_document(definition))


def put_calendar_request(
    name: str, calendar: Definition | Raw, expected_revision: int | None = None
) -> api.PutCalendar:
    raw = raw_of(calendar)
    return api.PutCalendar(id=check_calendar_name(name), calendar=raw, expected_revision=expected_revision)


def put_queue_request(queue: str, settings: Definition) -> api.PutQueue:
    """Raises InvalidArgument that names the setting."""
    changes_of_document(settings)
    return api.PutQueue(id=check_queue(queue, field="id"), queue=Raw(encode_document(settings)))


def named_queue(queue: str) -> api.Id:
    return api.Id(id=check_queue(queue, field="id"))


def executions_request(
    *,
    schedule: str | None = None,
    state: str | None = None,
    queue: str | None = None,
    type_: str | None = None,
    reason: str | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    limit: int = PAGE,
) -> api.ListExecutions:
    """A page of `execution.list`; `state` may name several, with commas. Raises InvalidArgument with its field."""
    read_states(state)
    return api.ListExecutions(
        schedule=None if schedule is None else check_schedule_id(schedule, field="schedule"),
        state=state,
        queue=None if queue is None else check_queue(queue),
        type=type_,
        reason=reason,
        since=instant_text(since, "since"),
        until=instant_text(until, "until"),
        limit=limit,
    )


def lines_request(
    execution_id: str,
    *,
    attempt: int | None = None,
    level: str | None = None,
    follow: bool = False,
    limit: int = PAGE,
) -> api.ListLines:
    """A page of `execution.logs`. Raises InvalidArgument that names the field."""
    if attempt is not None and attempt < 1:
        raise InvalidArgument(f"attempt: {attempt} is out of range: they count from 1", field="attempt")
    checked = None if level is None else check_level(level)
    return api.ListLines(id=execution_id, attempt=attempt, level=checked, follow=follow, limit=limit)


def workers_request(*, queue: str | None = None, limit: int = PAGE) -> api.ListWorkers:
    """A page of `worker.list`."""
    return api.ListWorkers(queue=None if queue is None else check_queue(queue), limit=limit)


def trigger_request(
    schedule_id: str, *, payload: Any | UnsetType = UNSET, nonce: str | None = None, overlap: str | None = None
) -> api.TriggerSchedule:
    return api.TriggerSchedule(
        id=check_schedule_id(schedule_id),
        payload=UNSET if payload is UNSET else Raw(encode_value(payload, "payload")),
        nonce=secrets.token_hex(8) if nonce is None else check_nonce(nonce),
        overlap=overlap,
    )


def retry_request(execution_id: str, expected_drive: int, *, payload: Any | UnsetType = UNSET) -> api.RetryExecution:
    return api.RetryExecution(
        id=execution_id,
        payload=UNSET if payload is UNSET else Raw(encode_value(payload, "payload")),
        expected_drive=expected_drive,
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
        start=instant_text(start, "from") or "",
        end=instant_text(end, "to") or "",
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


def named_backfill(backfill_id: str) -> api.Id:
    return api.Id(id=check_backfill_id(backfill_id, field="id"))


def audit_request(schedule_id: str, *, since: Instant, until: Instant | None = None) -> api.AuditSchedule:
    begin = instant_text(since, "since")
    assert begin is not None
    return api.AuditSchedule(id=check_schedule_id(schedule_id), since=begin, until=instant_text(until, "until"))


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
        after=instant_text(after, "after"),
        count=count,
        last=last,
    )


def is_stored(sent: bytes, stored: bytes) -> bool:
    """Whether what is stored is what was sent; a put without state fields keeps the pause that was stored before."""
    try:
        return same_definition(keep_pause_raw(sent, stored), stored)
    except InvalidArgument:
        return False


def instant_text(given: Instant | None, field: str) -> str | None:
    """As the wire spells it; a naive datetime is refused, it could mean any zone."""
    if given is None:
        return None
    if isinstance(given, str):
        return format_instant(parse_instant(given, field=field))
    if given.tzinfo is None:
        raise InvalidArgument(f"{field}: the datetime needs a time zone", field=field)
    return format_instant(cut(given))
