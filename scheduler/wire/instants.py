"""Instants and durations as text: RFC 3339 in UTC with exactly three decimals, and "1h30m" style durations.

Input needs an offset and is cut to milliseconds (contract, part 2). Inside the program every instant is an aware
UTC `datetime` cut to milliseconds and every span a `timedelta`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from scheduler.core.errors import InvalidArgument

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DURATION_MAX = timedelta(days=3650)
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|w)", re.ASCII)
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,6})?(?:ms|s|m|h|d|w)){1,6}", re.ASCII)
_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.(?P<fraction>\d{1,9}))?(?P<zone>[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def cut(at: datetime) -> datetime:
    """The instant in UTC, cut (not rounded) to whole milliseconds."""
    at = at.astimezone(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def format_instant(at: datetime) -> str:
    """`2026-11-21T08:00:00.000Z`. The instant must be aware and in UTC (it is everywhere inside schedd)."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def format_optional(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)


def parse_instant(text: str, *, field: str | None = None) -> datetime:
    """An RFC 3339 instant with an offset, cut to milliseconds. Raises InvalidArgument that names `field`."""
    match = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        shown = repr(text)[:60]
        message = f"{shown} is not an instant: write RFC 3339 with an offset, as in 2026-11-21T08:00:00Z"
        raise InvalidArgument(message, field=field)
    fraction = (match["fraction"] or "")[:3].ljust(3, "0")
    head = text[:10] + "T" + text[11:19]
    zone = "+00:00" if match["zone"] in "Zz" else match["zone"]
    try:
        return datetime.fromisoformat(f"{head}.{fraction}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise InvalidArgument(f"{text!r} is not an instant: {problem}", field=field) from None


def parse_optional(text: str | None, *, field: str | None = None) -> datetime | None:
    return None if text is None else parse_instant(text, field=field)


def parse_duration(text: str, *, field: str | None = None) -> timedelta:
    """`250ms`, `10m`, `1h30m`; here 1d is 24 h. Raises InvalidArgument above ten years or for anything else."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        shown = repr(text)[:60]
        raise InvalidArgument(f'{shown} is not a duration: write "250ms", "10m" or "1h30m"', field=field)
    total_ms = sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
    if total_ms > DURATION_MAX / timedelta(milliseconds=1):
        raise InvalidArgument(f"{text!r} is longer than ten years", field=field)
    return timedelta(milliseconds=int(total_ms))


def format_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads back: `1h30m`, `250ms`, `0s`."""
    left_ms = span // timedelta(milliseconds=1)
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, left_ms = divmod(left_ms, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def milliseconds(at: datetime) -> int:
    """Whole milliseconds since 1970 of an aware UTC instant."""
    return (at - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(count: int) -> datetime:
    return EPOCH + timedelta(milliseconds=count)
