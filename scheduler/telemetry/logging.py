"""Log lines: text for people, JSON for machines, one line per record, on standard error.

    log.info("took office", extra={"event": "leader.elected", "epoch": 812})

`event` is the stable name of what happened; every other key of `extra` becomes a field of the line. What could carry a
payload (`payload`, `body`, `headers`, `result`, bytes) is never written. Text from outside cannot forge a line: control
characters are escaped, and every part has a limit.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import format_instant

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
MESSAGE_MAX = 4_000
FIELD_MAX = 1_000
FIELDS_MAX = 30
TRACEBACK_MAX = 16_000
HIDDEN = frozenset({"payload", "payload_base64", "body", "headers", "result", "password", "token", "seed", "creds"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "taskName", "color_message"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_QUIET = ("nats", "uvicorn", "asyncio")  # libraries: only their warnings, unless we debug


def configure_logging(log_format: str = "text", level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send every log line of the process to `stream` (default: standard error). Raises InvalidArgument."""
    if log_format not in FORMATS:
        raise InvalidArgument(f"{log_format!r} is not a log format: use text or json", field="log_format")
    if level not in LEVELS:
        raise InvalidArgument(f"{level!r} is not a log level: use {', '.join(LEVELS)}", field="log_level")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a broken log line or a closed pipe is no reason to write tracebacks


def clean(text: str, limit: int) -> str:
    """The text on one line: control, direction and surrogate characters escaped, cut with a mark at `limit`."""
    cut = text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more)"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), cut)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra` brought, besides the event; long values cut, secrets and payloads hidden, at most FIELDS_MAX."""
    extra = [(name, value) for name, value in vars(record).items() if name not in _STANDARD]
    return {clean(name, FIELD_MAX): _shown(name, value) for name, value in extra[:FIELDS_MAX]}


def _shown(name: str, value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if name.lower() in HIDDEN:
        return "<hidden>"
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_instant(value.astimezone(UTC))
    return clean(str(value), FIELD_MAX)


def _common(record: logging.LogRecord) -> dict[str, str]:
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        message = f"{record.msg!r} (its arguments do not fit)"
    at = datetime.fromtimestamp(record.created, UTC)
    event = str(getattr(record, "event", None) or record.name)
    return {
        "at": format_instant(at),
        "level": record.levelname.lower(),
        "event": clean(event, FIELD_MAX),
        "message": clean(message, MESSAGE_MAX),
    }


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The newest lines of the record's traceback, each on one line."""
    if not record.exc_info:
        return []
    text = formatter.formatException(record.exc_info)[-TRACEBACK_MAX:]
    return [clean(line, MESSAGE_MAX) for line in text.split("\n")]


class TextLines(logging.Formatter):
    """`2026-11-21T08:00:00.000Z INFO    leader.elected: took office (epoch=812)`; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        common = _common(record)
        fields = ", ".join(f"{name}={value}" for name, value in fields_of(record).items())
        line = f"{common['at']} {common['level'].upper():<7} {common['event']}: {common['message']}"
        line += f" ({fields})" if fields else ""
        return "\n    | ".join([line, *_traceback(self, record)])


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, event, message, logger, the fields, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {**_common(record), "logger": clean(record.name, FIELD_MAX)}
        line |= _without(fields_of(record), line)
        if traceback := _traceback(self, record):
            line["traceback"] = "\n".join(traceback)
        return msgspec.json.encode(line).decode()


def _without(fields: Mapping[str, object], taken: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in taken and name != "traceback"}
