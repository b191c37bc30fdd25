"""Log lines as they are read: from the SDK as contract, part 4 has them, from anybody else as well as can be.

A worker in another language may leave out fields, misspell them, or send plain text: the line is shown all the same.
What is missing comes from the server (`at`), is null (`attempt`, `worker`) or `info` (`level`); fields that nobody
knows join `values`. What is larger than the SDK lets a line be is cut, so that no line is too large to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import cut, format_instant, parse_instant
from scheduler.wire.reports import LOG_MESSAGE_MAX, LOG_VALUES_MAX, WORKER_MAX, clip

LEVELS = ("debug", "info", "warning", "error", "critical")
LEVEL_MAX = 32
_SYNONYMS: Mapping[str, str] = {
    "trace": "debug", "verbose": "debug", "information": "info", "notice": "info", "warn": "warning", "err": "error",
    "exception": "error", "fatal": "critical", "panic": "critical", "alert": "critical", "emergency": "critical",
}  # fmt: skip
_MESSAGES = ("message", "msg", "text")
_KNOWN = frozenset({"at", "level", "message", "values", "attempt", "worker"})
_INT_MAX = 2**53


class Line(Struct, frozen=True, kw_only=True):
    """One line of an execution's log. `level` is one of `LEVELS` unless its worker has levels of its own."""

    at: str
    level: str = "info"
    message: str = ""
    values: dict[str, Any] = {}
    attempt: int | None = None
    worker: str | None = None

    def is_at_least(self, level: str) -> bool:
        """Whether it is that important; of a level that nobody knows it cannot be said that it is not."""
        return self.level not in LEVELS or LEVELS.index(self.level) >= LEVELS.index(level)


def check_level(text: str) -> str:
    """One of `LEVELS`, from its name or a synonym. Raises InvalidArgument."""
    level = text.strip().lower()
    level = _SYNONYMS.get(level, level)
    if level not in LEVELS:
        raise InvalidArgument(f"{text!r:.40} is no level of a line: use {', '.join(LEVELS)}", field="level")
    return level


def read_line(body: bytes, stored_at: datetime) -> Line:
    """The line that a body stands for; never raises."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        found = body.decode("utf-8", "replace")
    if not isinstance(found, dict):
        return Line(at=format_instant(cut(stored_at)), message=clip(_text(found), LOG_MESSAGE_MAX))
    message_field = next((name for name in _MESSAGES if name in found), "message")
    attempt = found.get("attempt")
    worker = found.get("worker")
    return Line(
        at=_at(found.get("at"), stored_at),
        level=_level(found.get("level")),
        message=clip(_text(found.get(message_field, "")), LOG_MESSAGE_MAX),
        values=_values(found, message_field),
        attempt=attempt if type(attempt) is int and 0 < attempt < _INT_MAX else None,
        worker=None if worker is None else clip(_text(worker), WORKER_MAX),
    )


def _at(given: Any, stored_at: datetime) -> str:
    try:
        return format_instant(parse_instant(given, field="at") if isinstance(given, str) else stored_at)
    except InvalidArgument:
        return format_instant(cut(stored_at))


def _level(given: Any) -> str:
    if given is None or given == "":
        return "info"
    text = clip(_text(given), LEVEL_MAX).strip().lower()
    return _SYNONYMS.get(text, text)


def _values(found: dict[str, Any], message_field: str) -> dict[str, Any]:
    """Its values and whatever else it has, within the limit."""
    own = found.get("values")
    values = own if isinstance(own, dict) else {} if own is None else {"values": own}
    rest = {name: value for name, value in found.items() if name not in _KNOWN and name != message_field}
    values = {**rest, **values}
    try:
        size = len(msgspec.json.encode(values))
    except (
        ValueError,
        OverflowError,
        RecursionError,
    ) as problem:  # a number or a text that JSON has and we cannot send
        return {"dropped": f"values that cannot be shown: {problem}"[:LOG_VALUES_MAX]}
    return values if size <= LOG_VALUES_MAX else {"dropped": f"{size} bytes of values are more than {LOG_VALUES_MAX}"}


def _text(value: Any) -> str:
    """Whatever it is as text that can be sent on."""
    try:
        return value.encode().decode() if isinstance(value, str) else msgspec.json.encode(value).decode()
    except (ValueError, OverflowError, RecursionError):
        return ascii(value)
