"""The schedule JSON (contract, part 3): the whole table, parsed and checked; anything unknown is an error.

A typo must not fire, so an unknown field is refused, with the field that was probably meant. A field whose behaviour
is not built yet is checked all the same and then refused as "not supported yet". What comes out is a
`core.model.Schedule` whose trigger is known to compile.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from scheduler.core.calendars import CalendarOf, no_calendars
from scheduler.core.durations import format_duration
from scheduler.core.errors import InvalidArgument, PayloadTooLarge
from scheduler.core.model.schedule import (
    EPOCH,
    After,
    At,
    Backoff,
    CatchUp,
    Cron,
    Every,
    EveryDays,
    Manual,
    Overlap,
    RRule,
    Schedule,
)
from scheduler.core.previewing import WARNINGS_MAX, clock_warnings, weekend_warnings
from scheduler.core.triggers import LAST, CompiledTrigger, compile_trigger, shortest_gap
from scheduler.core.triggers.cron_text import long_step
from scheduler.core.zones import zone_of
from scheduler.wire import schedule_values as read
from scheduler.wire import schedule_when as when
from scheduler.wire.headers import is_reserved
from scheduler.wire.ids import check_queue, check_schedule_id, check_type
from scheduler.wire.instants import format_instant
from scheduler.wire.schedule_json import (
    STATE_FIELDS,
    encode_document,
    encode_value,
    keep_pause,
    keep_pause_raw,
    labels_of,
    read_document,
    same_definition,
    with_pause,
)
from scheduler.wire.schedule_unbuilt import check_built

__all__ = [
    "FIELDS",
    "STATE_FIELDS",
    "ScheduleLimits",
    "encode_document",
    "keep_pause",
    "keep_pause_raw",
    "labels_of",
    "parse_document",
    "parse_for_preview",
    "parse_schedule",
    "same_definition",
    "warnings_for",
    "with_pause",
]

FIELDS: Final = frozenset(
    {
        *("name", "description", "labels"),
        *when.WHEN_FIELDS,
        *("queue", "type", "payload", "payload_base64", "headers"),
        *("overlap", "max_running", "catch_up", "start_deadline", "deadline", "timeout", "max_tries", "backoff"),
        *STATE_FIELDS,
        "retention",
    }
)
HEADERS_MAX: Final = 64
LABELS_MAX: Final = 64
_MILLISECOND: Final = timedelta(milliseconds=1)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ScheduleLimits:
    """What configuration may set. The payload is counted as the worker gets it."""

    payload_bytes_max: int = 65_536
    minimum_interval: timedelta = timedelta(seconds=1)
    claim_floor: timedelta = timedelta(minutes=30)

    @property
    def document_bytes_max(self) -> int:
        """The stored JSON: room for a payload in base64 and 64 KiB for everything else."""
        return self.payload_bytes_max * 4 // 3 + 65_536


_DEFAULT_LIMITS: Final = ScheduleLimits()


def parse_schedule(
    schedule_id: str, raw: bytes, limits: ScheduleLimits = _DEFAULT_LIMITS, calendar_of: CalendarOf = no_calendars
) -> Schedule:
    """The schedule in a stored value, whatever bytes those are; `calendar_of` finds the calendars it names.

    Raises InvalidArgument (PayloadTooLarge for size) with `.field`; nothing else.
    """
    check_schedule_id(schedule_id)
    document, payload = read_document(raw, limits.document_bytes_max)
    return _build(schedule_id, read.fields_of(document, None, FIELDS), payload, limits, calendar_of)


def parse_for_preview(
    schedule_id: str, raw: bytes, limits: ScheduleLimits = _DEFAULT_LIMITS, calendar_of: CalendarOf = no_calendars
) -> Schedule:
    """As `parse_schedule`, but queue and type may be left out: they play no part in when it fires."""
    check_schedule_id(schedule_id)
    document, payload = read_document(raw, limits.document_bytes_max)
    given = read.fields_of(document, None, FIELDS)
    return _build(schedule_id, {"queue": "preview", "type": "preview", **given}, payload, limits, calendar_of)


def parse_document(
    schedule_id: str,
    document: Mapping[str, Any],
    limits: ScheduleLimits = _DEFAULT_LIMITS,
    calendar_of: CalendarOf = no_calendars,
) -> Schedule:
    """The schedule in a decoded document. A payload that is `msgspec.Raw` stays as it is."""
    check_schedule_id(schedule_id)
    read.fields_of(document, None, FIELDS)
    payload = encode_value(document["payload"], "payload") if "payload" in document else None
    return _build(schedule_id, document, payload, limits, calendar_of)


def _build(
    schedule_id: str,
    document: Mapping[str, Any],
    payload: bytes | None,
    limits: ScheduleLimits,
    calendar_of: CalendarOf,
) -> Schedule:
    get = _Reader(document)
    retention_age = get("retention", _retention, timedelta(days=7))
    body, is_json = _payload(document, payload, limits)
    schedule = Schedule(
        id=schedule_id,
        queue=check_queue(_required(document, "queue")),
        type=check_type(_required(document, "type")),
        **when.read_when(document),
        payload=body,
        payload_is_json=is_json,
        headers=get("headers", _headers, {}),
        overlap=get("overlap", _overlap, Overlap.SKIP),
        max_running=get("max_running", lambda value, field: read.integer(value, field, 1, 1000), None),
        catch_up=get("catch_up", _catch_up, CatchUp()),
        start_deadline=get("start_deadline", read.duration, None),
        deadline=get("deadline", read.duration, None),
        timeout=get("timeout", read.duration, None),
        max_tries=get("max_tries", lambda value, field: read.integer(value, field, 1, 100), 3),
        backoff=get("backoff", _backoff, Backoff()),
        paused=get("paused", read.flag, "paused_until" in document),
        pause_note=get("pause_note", lambda value, field: read.text(value, field, longest=1024, lines=True), None),
        paused_until=get("paused_until", read.instant, None),
        retention_age=retention_age,
        known_for=_known_for(retention_age, limits.claim_floor),
        name=get("name", lambda value, field: read.text(value, field, longest=256), None),
        description=get("description", lambda value, field: read.text(value, field, longest=4096, lines=True), None),
        labels=get("labels", _labels, {}),
    )
    check_built(schedule)
    _check_rate(schedule, limits, calendar_of)
    return schedule


class _Reader:
    """Reads a field of the document if it is there."""

    __slots__ = ("_document",)

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def __call__(self, field: str, how: Callable[[Any, str], Any], default: Any) -> Any:
        return how(self._document[field], field) if field in self._document else default


def _required(document: Mapping[str, Any], field: str) -> str:
    if field not in document:
        raise InvalidArgument(f"{field} is required", field=field)
    value = document[field]
    if not isinstance(value, str):
        raise read.wrong(value, field, "text")
    return value


# --- what
def _payload(document: Mapping[str, Any], payload: bytes | None, limits: ScheduleLimits) -> tuple[bytes | None, bool]:
    """The body a worker gets, and whether it is JSON."""
    if "payload_base64" not in document:
        return _within(payload, limits, "payload"), True
    if payload is not None:
        raise InvalidArgument("give payload or payload_base64, not both", field="payload_base64")
    value = document["payload_base64"]
    if not isinstance(value, str):
        raise read.wrong(value, "payload_base64", "text in base64")
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("payload_base64 is not base64", field="payload_base64") from None
    return _within(decoded, limits, "payload_base64"), False


def _within(body: bytes | None, limits: ScheduleLimits, field: str) -> bytes | None:
    if body is not None and len(body) > limits.payload_bytes_max:
        message = f"the payload has {len(body)} bytes, more than {limits.payload_bytes_max}: pass a reference instead"
        raise PayloadTooLarge(message, field=field)
    return body


def _headers(value: Any, field: str) -> dict[str, str]:
    headers = read.text_map(value, field, most=HEADERS_MAX)
    return {_header_name(name): _header_value(name, entry) for name, entry in headers.items()}


def _header_name(name: Any) -> str:
    if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
        rule = "1 to 64 letters, digits and '-'"
        raise InvalidArgument(f"headers has the name {read.shown(name)}: use {rule}", field="headers")
    if is_reserved(name):
        raise InvalidArgument(f"headers has {name!r}, which is reserved for NATS or schedd", field=f"headers.{name}")
    return name


def _header_value(name: str, value: Any) -> str:
    header = read.text(value, f"headers.{name}", longest=1024)
    if len(header.encode("utf-8")) > 1024:
        raise InvalidArgument(f"headers.{name} has more than 1024 bytes", field=f"headers.{name}")
    return header


def _labels(value: Any, field: str) -> dict[str, str]:
    labels = read.text_map(value, field, most=LABELS_MAX)
    found = {}
    for name, entry in labels.items():
        read.text(name, field, longest=128)
        found[name] = read.text(entry, f"labels.{name}", longest=256)
    return found


# --- how
def _overlap(value: Any, field: str) -> Overlap:
    return Overlap(read.choice(value, field, list(Overlap)))


def _catch_up(value: Any, field: str) -> CatchUp:
    given = read.fields_of(value, field, ("mode", "after", "window", "max"))
    plain = CatchUp()
    return CatchUp(
        mode=read.choice(given.get("mode", plain.mode), "catch_up.mode", ("latest", "none", "earliest", "all")),
        after=read.duration_or_zero(given["after"], "catch_up.after") if "after" in given else plain.after,
        window=read.duration_or_zero(given["window"], "catch_up.window") if "window" in given else plain.window,
        max=read.integer(given.get("max", plain.max), "catch_up.max", 1, 10_000),
    )


def _backoff(value: Any, field: str) -> Backoff:
    given = read.fields_of(value, field, ("initial", "max", "factor", "jitter"))
    plain = Backoff()
    initial = read.duration_or_zero(given["initial"], "backoff.initial") if "initial" in given else plain.initial
    most = read.duration_or_zero(given["max"], "backoff.max") if "max" in given else max(plain.max, initial)
    if "initial" not in given:
        initial = min(initial, most)
    if most < initial:
        raise InvalidArgument("backoff.max is shorter than backoff.initial", field="backoff.max")
    return Backoff(
        initial=initial,
        max=most,
        factor=read.number(given.get("factor", plain.factor), "backoff.factor", 1, 1000),
        jitter=read.number(given.get("jitter", plain.jitter), "backoff.jitter", 0, 1),
    )


def _retention(value: Any, field: str) -> timedelta:
    given = read.fields_of(value, field, ("age",))
    return read.duration_or_zero(given["age"], "retention.age") if "age" in given else timedelta(days=7)


def _known_for(retention_age: timedelta, claim_floor: timedelta) -> timedelta:
    """A record is kept for the longer of the two; half a claim floor after it was decided nobody makes one any more."""
    return max(retention_age, claim_floor) - claim_floor / 2


# --- checks across fields
def _check_rate(schedule: Schedule, limits: ScheduleLimits, calendar_of: CalendarOf) -> None:
    """Compile the trigger, which finds a wrong zone or expression, and hold it to the minimum interval."""
    gap = shortest_gap(compile_trigger(schedule, calendar_of))
    if gap is not None and gap < limits.minimum_interval:
        field = {Every: "every", After: "after", RRule: "rrule"}.get(type(schedule.trigger), "cron")
        found, least = format_duration(gap), format_duration(limits.minimum_interval)
        several = isinstance(schedule.trigger, Cron) and len(schedule.trigger.expressions) > 1
        told = f"{field} fires twice within {found}" if several else f"{field} fires every {found}"
        raise InvalidArgument(f"{told}, more often than every {least}", field=field)


def warnings_for(
    schedule: Schedule, ack_wait_s: float, *, now: datetime | None = None, calendar_of: CalendarOf = no_calendars
) -> list[str]:
    """What is valid and probably not meant, one sentence each. With `now`, whether it will ever fire again too."""
    warnings = []
    if schedule.timeout is not None and schedule.timeout > timedelta(seconds=ack_wait_s):
        wait = f"{ack_wait_s:g}s"
        warnings.append(
            f"timeout {format_duration(schedule.timeout)} is above the queue's ack_wait of {wait}: "
            "a plain worker must send in-progress meanwhile, or the task is delivered again"
        )
    if schedule.max_running is not None and schedule.overlap is Overlap.SKIP:
        warnings.append("max_running has no effect with overlap skip, which allows one run: use overlap allow")
    if isinstance(schedule.trigger, Cron):
        plain = (text for text in schedule.trigger.expressions if "@" not in text)
        steps = (f"cron {text!r:.120}: {told}" for text in plain if (told := long_step(text)))
        warnings += islice(steps, WARNINGS_MAX)
    if now is not None:
        warnings += _warnings_of_time(schedule, compile_trigger(schedule, calendar_of), now)
    return warnings


def _warnings_of_time(schedule: Schedule, trigger: CompiledTrigger, now: datetime) -> list[str]:
    if isinstance(schedule.trigger, Manual | After):
        return []
    if trigger.next_after(now) is None and not _is_late(schedule, trigger, now):
        return [f"this schedule will never fire {_why_never(schedule, trigger, now)}"]
    of_weekends = weekend_warnings(schedule, trigger, after=now)
    return [*_warnings_of_anchor(schedule), *of_weekends, *clock_warnings(trigger, after=now)]


def _warnings_of_anchor(schedule: Schedule) -> list[str]:
    """Days of the calendar count from midnight UTC unless an anchor says otherwise: elsewhere that is no midnight."""
    if not isinstance(schedule.trigger, EveryDays) or schedule.trigger.anchor != EPOCH:
        return []
    local = zone_of(schedule.timezone).local(EPOCH)
    if not (local.hour or local.minute or local.second):
        return []
    shown = f"every counts from 1970-01-01T00:00:00Z and so fires at {local:%H:%M} in {schedule.timezone}"
    return [f"{shown}: give an anchor for another time of day"]


def _why_never(schedule: Schedule, trigger: CompiledTrigger, now: datetime) -> str:
    if trigger.previous_before(LAST) is None:
        return f"at all: {_what_is_in_the_way(schedule)}"
    if schedule.ends_at is not None and schedule.ends_at <= now:
        return f"again: ends_at {format_instant(schedule.ends_at)} is past"
    return "again: every instant it names is past"


def _what_is_in_the_way(schedule: Schedule) -> str:
    if schedule.starts_at is None and schedule.ends_at is None:
        return "everything it names is excluded"
    excluded = "is excluded or " if schedule.exclude else ""
    return f"what it names {excluded}lies outside of starts_at and ends_at"


def _is_late(schedule: Schedule, trigger: CompiledTrigger, now: datetime) -> bool:
    """Whether it is a one-shot that, put now, still fires late."""
    last = trigger.previous_before(now + _MILLISECOND) if isinstance(schedule.trigger, At) else None
    reach = min(schedule.reach, schedule.late_after) if schedule.catch_up.mode == "none" else schedule.reach
    return last is not None and last >= now - reach
