"""Alerts as events, and the health of schedules as it is kept in the control bucket under `health.<schedule id>`.

An alert's id follows from that of the event it comes from, so whoever derives it twice tells it twice under one id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.core.alerting import HEALTHY, Alert, Health, Outcome
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.wire.events import Event
from scheduler.wire.evidence import VERDICTS, read_range
from scheduler.wire.instants import format_instant, parse_instant

FINISHED, DELETED = "finished", "deleted"
SOURCES = (FINISHED, VERDICTS, DELETED)  # the kinds of events that alerts come from
MESSAGE_MAX = 500


class _Row(Struct, frozen=True, omit_defaults=True):
    seq: int
    outcomes: str = ""
    failures: int = 0
    since: str | None = None
    flapping: bool = False


class Place(Struct, frozen=True):
    """Up to where a stream was read. `at`: when that was written."""

    seq: int
    at: str = ""


class _Finished(Struct):
    execution_id: str
    state: State
    kind: Kind = Kind.AUTO
    drive: int = 0
    lateness_s: float | None = None
    finished_at: str | None = None


_ROW, _PLACE = msgspec.json.Decoder(_Row), msgspec.json.Decoder(Place)


def finished_id(execution_id: str, drive: int) -> str:
    """The id of the event that tells the end of an execution, in one of its drives: whoever tells it."""
    return f"{FINISHED}-{execution_id}-{drive}"


def finished_data(execution: Execution) -> dict[str, object]:
    """The data of an event `finished`."""
    return {
        "execution_id": execution.id,
        "state": execution.state.value,
        "reason": execution.reason,
        "kind": execution.kind.value,
        "type": execution.type,
        "queue": execution.queue,
        "attempt": execution.attempt,
        "drive": execution.drive,
        "nominal_at": format_instant(execution.nominal_at),
        "finished_at": None if execution.finished_at is None else format_instant(execution.finished_at),
        "lateness_s": execution.lateness_s,
        "duration_s": execution.duration_s,
        "error": _error(execution),
    }


def _error(execution: Execution) -> dict[str, str] | None:
    if execution.error is None:
        return None
    return {"type": execution.error.type, "message": execution.error.message[:MESSAGE_MAX]}


def outcome_of(event: Event) -> Outcome | None:
    """What an event says about its schedule; None if nothing. Raises InvalidArgument for one that cannot be read."""
    if event.kind == VERDICTS:
        told = read_range(event.data)
        return Outcome(State.MISSED, event.at, told.count) if told.verdict == State.MISSED else None
    if event.kind == FINISHED:
        ended = _finished(event)
        return Outcome(ended.state, event.at, counts=ended.kind is not Kind.BACKFILL)
    return None


def lateness_of(event: Event) -> float | None:
    """Seconds from fire time to dispatch, of an execution that ended; None where there was none, of a backfill, or of a
    retry: the dispatch was that of its first drive."""
    if event.kind != FINISHED:
        return None
    ended = _finished(event)
    return None if ended.kind is Kind.BACKFILL or ended.drive else ended.lateness_s


def _finished(event: Event) -> _Finished:
    try:
        return msgspec.convert(event.data, _Finished)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise InvalidArgument(f"event {event.id}: {problem}") from None


def alert_data(alert: Alert, source: Mapping[str, Any]) -> dict[str, object]:
    """The data of an alert: that of the event it comes from, and what the fold knows."""
    return {**source, **{name: _plain(value) for name, value in alert.data.items()}}


def _plain(value: object) -> object:
    return format_instant(value) if isinstance(value, datetime) else value


def alert_id(alert: Alert, source_id: str) -> str:
    return f"{alert.kind}-{source_id}"


# --- what is kept


def encode_health(health: Health, seq: int) -> bytes:
    """`seq`: the place of the newest event in it."""
    since = None if health.since is None else format_instant(health.since)
    return msgspec.json.encode(_Row(seq, health.outcomes, health.failures, since, health.flapping))


def decode_health(body: bytes) -> tuple[Health, int]:
    """What cannot be read is taken for healthy, at place 0."""
    try:
        row = _ROW.decode(body)
        since = None if row.since is None else parse_instant(row.since)
    except (msgspec.DecodeError, ValueError, RecursionError, InvalidArgument):
        return HEALTHY, 0
    return Health(row.outcomes, row.failures, since, row.flapping), row.seq


def encode_place(place: Place) -> bytes:
    return msgspec.json.encode(place)


def decode_place(body: bytes) -> Place | None:
    """None for what cannot be read: then it begins anew."""
    try:
        return _PLACE.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
