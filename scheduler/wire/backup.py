"""A backup as JSON lines, one thing a line, so that it can be read, cut and compared with the usual tools. Pure.

    {"schedd_backup": 1, "namespace": "schedd", "exported_at": "2026-11-21T15:20:00.000Z"}        the first line
    {"kind": "schedule", "id": "daily", "revision": 7, "state": "active", "schedule": {...}}
    {"kind": "calendar", "id": "holidays", "revision": 3, "calendar": {...}}
    {"kind": "queue", "id": "EMAIL", "queue": {...}}
    {"kind": "execution", "record": {...}}                                          with --history, for people only
    {"kind": "end", "counts": {"schedule": 1, "calendar": 1, "queue": 1, "execution": 1}}          the last line

A stored value that is no JSON stands in `raw_base64`. `schema` 1 is the number in the first line: a reader refuses a
newer one, and what has no last line is a part of a backup, which is refused too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.schedule_json import STATE_FIELDS, encode_document, fields_of, same_definition

SCHEMA = 1
LINE_MAX = 16_000_000
EXHAUSTED = "exhausted"


class Part(StrEnum):
    """What a line can be, in the order in which things are restored: what others need comes first."""

    CALENDAR = "calendar"
    QUEUE = "queue"
    SCHEDULE = "schedule"
    EXECUTION = "execution"


class Header(Struct, frozen=True):
    """The first line."""

    schedd_backup: int
    namespace: str = ""
    exported_at: str = ""


class Line(Struct, frozen=True, omit_defaults=True):
    """One thing. `value`: its definition as it was stored; None where that was no JSON."""

    kind: str
    id: str = ""
    revision: int = 0
    state: str = ""
    value: Raw | None = None
    raw_base64: str | None = None


class _Wire(Struct, omit_defaults=True):
    kind: str
    id: str = ""
    revision: int = 0
    state: str = ""
    schedule: Raw | UnsetType = UNSET
    calendar: Raw | UnsetType = UNSET
    queue: Raw | UnsetType = UNSET
    record: Raw | UnsetType = UNSET
    raw_base64: str | None = None
    counts: dict[str, int] = field(default_factory=dict)


class Backup(Struct, frozen=True):
    """All of one; `histories` executions were in it, which nobody restores."""

    header: Header
    lines: tuple[Line, ...]
    histories: int = 0


_HEADER, _LINE = msgspec.json.Decoder(Header), msgspec.json.Decoder(_Wire)


def encode_header(namespace: str, at: datetime) -> bytes:
    return msgspec.json.encode(Header(SCHEMA, namespace, format_instant(at)))


def encode_line(line: Line) -> bytes:
    name = "record" if line.kind == Part.EXECUTION else line.kind
    wire = _Wire(line.kind, line.id, line.revision, line.state, raw_base64=line.raw_base64)
    setattr(wire, name, UNSET if line.value is None else line.value)
    return msgspec.json.encode(wire)


def encode_end(counts: Mapping[str, int]) -> bytes:
    return msgspec.json.encode({"kind": "end", "counts": {part.value: counts.get(part, 0) for part in Part}})


def read_backup(lines: Iterable[bytes]) -> Backup:
    """Raises InvalidArgument that names the line: no backup, a newer one, a part of one, something twice."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    header = _header(next(numbered, (1, b"")))
    found: list[Line] = []
    counts: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for number, text in numbered:
        wire = _decoded(number, text)
        if wire.kind == "end":
            _check_end(wire.counts, counts, numbered)
            histories = counts[Part.EXECUTION]
            return Backup(header, tuple(sorted(found, key=lambda line: list(Part).index(Part(line.kind)))), histories)
        counts[wire.kind] += 1
        if wire.kind == Part.EXECUTION:
            continue
        line = _line(number, wire)
        if (line.kind, line.id) in seen:
            raise InvalidArgument(f"line {number}: {line.kind} {line.id!r} is in it twice", field="file")
        seen.add((line.kind, line.id))
        found.append(line)
    raise InvalidArgument("it has no last line: this is only a part of a backup", field="file")


def _header(numbered: tuple[int, bytes]) -> Header:
    try:
        header = _HEADER.decode(numbered[1])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidArgument("no backup of schedd: the first line does not say so", field="file") from None
    if header.schedd_backup > SCHEMA:
        told = f"it has version {header.schedd_backup}, this schedctl knows {SCHEMA}"
        raise InvalidArgument(f"{told}: use a newer schedctl", field="file")
    if header.schedd_backup < 1:
        raise InvalidArgument(f"there is no version {header.schedd_backup}", field="file")
    return header


def _decoded(number: int, text: bytes) -> _Wire:
    try:
        return _LINE.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise InvalidArgument(f"line {number}: {problem}", field="file") from None


def _line(number: int, wire: _Wire) -> Line:
    if wire.kind not in set(Part):
        raise InvalidArgument(f"line {number}: there is no kind {wire.kind!r:.40}", field="file")
    found = getattr(wire, wire.kind)
    value = None if found is UNSET else found  # null is JSON, too
    if not wire.id or (value is None and wire.raw_base64 is None):
        raise InvalidArgument(f"line {number}: a {wire.kind} has an id and a {wire.kind}", field="file")
    return Line(wire.kind, wire.id, wire.revision, wire.state, value, wire.raw_base64)


def _check_end(told: Mapping[str, int], counts: Mapping[str, int], rest: Iterable[tuple[int, bytes]]) -> None:
    for kind, count in told.items():
        if counts.get(kind, 0) != count:
            problem = f"it has {counts.get(kind, 0)} of kind {kind} and says {count}"
            raise InvalidArgument(f"{problem}: this is only a part of a backup", field="file")
    for number, _ in rest:
        raise InvalidArgument(f"line {number}: something follows the last line", field="file")


# --- comparing


def same(kind: str, one: bytes, other: bytes) -> bool:
    """Whether two definitions of a kind say the same."""
    return same_definition(_plain(kind, one), _plain(kind, other))


def _plain(kind: str, body: bytes) -> bytes:
    """Not paused is the default of a schedule; of a queue each setting that is null is."""
    default = {Part.QUEUE: b"null", Part.SCHEDULE: b"false"}.get(Part(kind))
    try:
        fields = fields_of(body)
    except InvalidArgument:
        return body
    names = fields if kind == Part.QUEUE else ("paused",)
    told = {name: value for name, value in fields.items() if name not in names or bytes(value) != default}
    return body if len(told) == len(fields) else encode_document(told)


# --- restoring


def restored(schedule: bytes) -> bytes:
    """A schedule as it is put over another one: what is not paused says so, else a stored pause would stay."""
    try:
        fields = fields_of(schedule)
    except InvalidArgument:
        return schedule
    if not fields or any(name in fields for name in STATE_FIELDS):
        return schedule
    return b'{"paused":false,' + schedule.lstrip()[1:]  # what is wrong with the rest stays wrong


def still_to_come(schedule: bytes, exported_at: str) -> bytes | None:
    """A schedule without the `at` times that had passed when it was exported: made anew it would take them for late,
    and fire them again. None: no other is left."""
    try:
        fields, since = fields_of(schedule), parse_instant(exported_at)
        instants = msgspec.json.decode(fields.get("at", b"null"), type=str | list[str] | None)
        listed = [instants] if isinstance(instants, str) else instants or []
        left = [each for each in listed if parse_instant(each) > since]
    except (InvalidArgument, msgspec.MsgspecError):
        return schedule  # for others to refuse
    if len(left) == len(listed):
        return schedule
    return encode_document({**fields, "at": left}) if left else None
