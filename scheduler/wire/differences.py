"""How two definitions of a schedule differ, field by field: what is written differently and means the same does not.

A field left out is its default; `60s` is `1m`; `09:00+01:00` is `08:00Z`. The payload is compared as JSON: order and
spaces apart, while 1, 1.0 and true are three things. Works for invalid definitions too: what cannot be read is
compared as it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import format_duration, format_instant, parse_duration, parse_instant

DEPTH_SHOWN: Final = 6  # below that, parts of a payload are compared as a whole
DEFAULTS: Final[Mapping[str, Any]] = {
    "timezone": "UTC",
    "dst.gap": "next",
    "dst.overlap": "first",
    "jitter": "0s",
    "start_delay": "0s",
    "exclude": [],
    "on_excluded": "skip",
    "overlap": "skip",
    "catch_up.mode": "latest",
    "catch_up.after": "10s",
    "catch_up.window": "24h",
    "catch_up.max": 100,
    "max_tries": 3,
    "backoff.initial": "1s",
    "backoff.max": "5m",
    "backoff.factor": 2,
    "backoff.jitter": 0.2,
    "paused": False,
    "retention.age": "7d",
}
_DURATIONS: Final = frozenset(
    {
        *("after", "jitter", "start_delay", "start_deadline", "deadline", "timeout", "retention.age"),
        *("catch_up.after", "catch_up.window", "backoff.initial", "backoff.max"),
    }
)
_NUMBERS: Final = frozenset({"backoff.factor", "backoff.jitter"})
_INSTANTS: Final = frozenset({"at", "anchor", "starts_at", "ends_at", "paused_until"})
_INNER: Final = frozenset({"dst", "catch_up", "backoff", "retention", "labels", "headers"})
_FREE: Final = frozenset({"payload", "labels", "headers"})  # names of their own: no field of ours
_ONE_OR_MORE: Final = frozenset({"cron", "at", "rrule"})
_EPOCH: Final = "1970-01-01T00:00:00.000Z"
Path = tuple[str, ...]


class Absent:
    """In place of a value: the field is not there."""

    def __repr__(self) -> str:
        return "-"


ABSENT: Final = Absent()


class Difference(Struct, frozen=True):
    """`path` as `catch_up.max` or `payload.to`; a side without the field is ABSENT, or its default if it has one."""

    path: str
    before: Any
    after: Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What changes from one to the other, in the order of the new definition; empty: they mean the same.

    Values are shown as they are written.
    """
    old, new = _meaning(before), _meaning(after)
    return [
        Difference(".".join(path), _shown(old.get(path), path), _shown(new.get(path), path))
        for path in [*new, *(path for path in old if path not in new)]
        if path not in old or path not in new or not _same(old[path].means, new[path].means)
    ]


class _Value(NamedTuple):
    written: Any
    means: Any


def _shown(value: _Value | None, path: Path) -> Any:
    return _default(path) if value is None else value.written


def _default(path: Path) -> Any:
    return DEFAULTS.get(".".join(path), ABSENT) if path[0] not in _FREE else ABSENT


def _same(one: Any, other: Any) -> bool:
    """As JSON: 1, 1.0 and true differ."""
    return _json(one) == _json(other)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _meaning(document: Mapping[str, Any]) -> dict[Path, _Value]:
    """Every field that says something, by its path."""
    found = {}
    for field, value in document.items():
        for path, written in _fields(field, value):
            means = written if path[0] in _FREE else _read(".".join(path), written)
            if not _says_nothing(path, means, document):
                found[path] = _Value(written, means)
    return found


def _fields(field: str, value: Any) -> Iterator[tuple[Path, Any]]:
    if field == "payload":
        yield from _leaves((field,), value)
    elif field in _INNER and isinstance(value, dict):
        yield from (((field, str(name)), inner) for name, inner in value.items())
    else:
        yield (field,), value


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and len(path) < DEPTH_SHOWN:
        for name, inner in value.items():
            yield from _leaves((*path, str(name)), inner)
    else:
        yield path, value


def _read(path: str, value: Any) -> Any:
    """The value in the one way of writing it that all others come to; what cannot be read, as it is."""
    if path in _ONE_OR_MORE and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        return [_read(path, each) for each in value] if path in _INSTANTS else value
    if path in _NUMBERS and type(value) is int:
        return float(value)
    if not isinstance(value, str):
        return value
    try:
        if path in _DURATIONS or (path == "every" and not set("dw") & set(value)):  # days in `every` are not 24 h
            return format_duration(parse_duration(value, field=path))
        if path in _INSTANTS:
            return format_instant(parse_instant(value, field=path))
    except InvalidArgument:
        pass
    return value


def _says_nothing(path: Path, means: Any, document: Mapping[str, Any]) -> bool:
    """Whether it is what holds without it."""
    if path == ("anchor",):
        return "every" in document and means == _EPOCH
    default = _default(path)
    return default is not ABSENT and _same(means, _read(".".join(path), default))
