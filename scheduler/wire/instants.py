"""Instants and durations as text: RFC 3339 in UTC with exactly three decimals, and "1h30m" style durations.

Input needs an offset and is cut to milliseconds (contract, part 2). Inside the program every instant is an aware
UTC `datetime` cut to milliseconds and every span a `timedelta`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from scheduler.core.durations import duration_ms, format_duration
from scheduler.core.errors import InvalidArgument

__all__ = [
    "DURATION_MAX",
    "EPOCH",
    "cut",
    "format_duration",
    "format_instant",
    "format_optional",
    "from_milliseconds",
    "milliseconds",
    "parse_duration",
    "parse_instant",
    "parse_optional",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DURATION_MAX = timedelta(days=3650)
_MILLISECOND = timedelta(milliseconds=1)
_DURATION_MAX_MS = DURATION_MAX // _MILLISECOND
_SHOWN_MAX = 60
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.(?P<fraction>\d{1,30}))?(?P<zone>[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def cut(at: datetime) -> datetime:
    """The instant in UTC, cut (not rounded) to whole milliseconds."""
    at = at.astimezone(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@lru_cache(maxsize=4096)  # the few instants of a batch are written a dozen times each
def format_instant(at: datetime) -> str:
    """`2026-11-21T08:00:00.000Z`. The instant must be aware and in UTC (it is everywhere inside schedd)."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def format_optional(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)


def parse_instant(text: str, *, field: str | None = None) -> datetime:
    """An RFC 3339 instant with an offset, cut to milliseconds. Raises InvalidArgument that names `field`."""
    if isinstance(text, str) and _OURS.fullmatch(text):  # as `format_instant` writes it
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    match = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        message = f"{_shown(text)} is not an instant: write RFC 3339 with an offset, as in 2026-11-21T08:00:00Z"
        raise InvalidArgument(message, field=field)
    fraction = (match["fraction"] or "")[:3].ljust(3, "0")
    head = text[:10] + "T" + text[11:19]
    zone = "+00:00" if match["zone"] in "Zz" else match["zone"]
    try:
        return datetime.fromisoformat(f"{head}.{fraction}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise InvalidArgument(f"{_shown(text)} is not an instant: {problem}", field=field) from None


def parse_optional(text: str | None, *, field: str | None = None) -> datetime | None:
    return None if text is None else parse_instant(text, field=field)


def parse_duration(text: str, *, field: str | None = None) -> timedelta:
    """`250ms`, `10m`, `1h30m`; here 1d is 24 h. Raises InvalidArgument above ten years or for anything else."""
    count_ms = duration_ms(text) if isinstance(text, str) else None
    if count_ms is None:
        raise InvalidArgument(f'{_shown(text)} is not a duration: write "250ms", "10m" or "1h30m"', field=field)
    if count_ms > _DURATION_MAX_MS:
        raise InvalidArgument(f"{_shown(text)} is longer than ten years", field=field)
    return timedelta(milliseconds=count_ms)


def milliseconds(at: datetime) -> int:
    """Whole milliseconds since 1970 of an aware UTC instant."""
    return (at - EPOCH) // _MILLISECOND


def from_milliseconds(count: int) -> datetime:
    return EPOCH + timedelta(milliseconds=count)


def _shown(value: object) -> str:
    """The value for an error message: short, whatever it is, and without making a long text of it first."""
    return repr(value[:_SHOWN_MAX] if isinstance(value, str | bytes) else value)[: _SHOWN_MAX + 2]
