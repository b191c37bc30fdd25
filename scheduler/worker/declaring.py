"""Schedules that a program declares in its code, against what is stored: what is to be done. Pure.

A declared schedule is created where there is none. Where another definition is stored, people may have changed it on
purpose, so the code says what happens: `keep` it (and tell how it differs), `update` it, or `fail` (the worker ends).
State is not definition: a pause that somebody set is kept in any case.

A worker with a `name` marks its schedules with a label, so that what the code no longer declares can be told and, by
hand, pruned. Nothing is ever deleted by starting a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.applying import OWNER_LABEL
from scheduler.wire.schedule import ScheduleLimits, parse_document
from scheduler.wire.schedule_json import STATE_FIELDS, encode_document, keep_pause_raw, same_definition

SHOWN_FIELDS = 8
_ANY_LIMITS = ScheduleLimits(payload_bytes_max=2**26, minimum_interval=timedelta(milliseconds=1))  # the daemon knows


class OnConflict(StrEnum):
    """What to do with a stored definition that differs from the declared one."""

    KEEP = "keep"
    UPDATE = "update"
    FAIL = "fail"


class Declared(Struct, frozen=True):
    """A schedule as the code wants it. `definition` is its JSON, its label of ownership included."""

    id: str
    definition: Mapping[str, Any]
    on_conflict: OnConflict


class Stored(Struct, frozen=True):
    """What the daemon has under an id."""

    revision: int
    raw: bytes


class Put(Struct, frozen=True):
    """Write it, if what is stored is still of this revision (0: nothing)."""

    expected_revision: int


class Nothing(Struct, frozen=True):
    """It is there already."""


class Kept(Struct, frozen=True):
    """Something else is there, and stays; `fields` differ."""

    fields: tuple[str, ...]


class Refused(Struct, frozen=True):
    """Something else is there, and the code says that this must not be."""

    fields: tuple[str, ...]


def declare(
    schedule_id: str, fields: Mapping[str, Any], *, queue: str, type: str, owner: str | None, on_conflict: str  # noqa: A002 - the contract's word
) -> Declared:  # fmt: skip
    """A declaration, checked as the daemon will check it (its own limits aside). Raises InvalidArgument."""
    if on_conflict not in list(OnConflict):
        raise InvalidArgument(f"on_conflict: use {', '.join(OnConflict)}, not {on_conflict!r:.40}", field="on_conflict")
    stateful = [name for name in STATE_FIELDS if name in fields]
    if stateful:
        raise InvalidArgument(f"{stateful[0]} is not for code: pause a schedule with schedctl", field=stateful[0])
    definition: dict[str, Any] = {"queue": queue, "type": type, **fields}
    if owner is not None:
        definition["labels"] = {**definition.get("labels", {}), OWNER_LABEL: owner}
    parse_document(schedule_id, definition, _ANY_LIMITS)
    return Declared(schedule_id, definition, OnConflict(on_conflict))


def decide(declared: Declared, stored: Stored | None, *, force: bool) -> Put | Nothing | Kept | Refused:
    """What to do about one schedule. `force`: code wins, whatever it says itself."""
    if stored is None:
        return Put(0)
    wanted = encode_document(declared.definition)
    try:
        same = same_definition(keep_pause_raw(wanted, stored.raw), stored.raw)
    except InvalidArgument:  # no JSON is stored: nothing that anybody could want to keep
        same = False
    if same:
        return Nothing()
    if force or declared.on_conflict is OnConflict.UPDATE:
        return Put(stored.revision)
    fields = differing_fields(declared.definition, stored.raw)
    return Refused(fields) if declared.on_conflict is OnConflict.FAIL else Kept(fields)


def differing_fields(definition: Mapping[str, Any], raw: bytes) -> tuple[str, ...]:
    """Names of the fields that are not the same on both sides, state left out; the first few."""
    try:
        stored = dict(msgspec.json.decode(raw))
    except (ValueError, TypeError, RecursionError):
        return ("everything: what is stored is no JSON object",)
    wanted = dict(msgspec.json.decode(encode_document(definition)))
    names = sorted({*wanted, *stored} - set(STATE_FIELDS))
    missing = object()
    return tuple(name for name in names if wanted.get(name, missing) != stored.get(name, missing))[:SHOWN_FIELDS]


def orphans(declared: Iterable[Declared], owned: Iterable[str]) -> list[str]:
    """Ids that carry our label and that the code does not declare any more."""
    return sorted(set(owned) - {each.id for each in declared})
