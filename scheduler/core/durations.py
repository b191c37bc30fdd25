"""Durations as people type them: `250ms`, `10m`, `1h30m`. Exact: whole milliseconds by integer arithmetic."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?(ms|[smhdw])", re.ASCII)
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,6})?(?:ms|[smhdw])){1,6}", re.ASCII)


def duration_ms(text: str) -> int | None:
    """Whole milliseconds, cut; None if the text is no duration. A day is 24 hours, a week seven days."""
    if not _DURATION.fullmatch(text):
        return None
    total_micro = 0
    for whole, fraction, unit in _PART.findall(text):
        total_micro += (int(whole) * 1_000_000 + int(fraction.ljust(6, "0") or "0")) * _UNITS_MS[unit]
    return total_micro // 1_000_000


def has_civil_units(text: str) -> bool:
    """Whether it counts in days or weeks, which in `every` would be days of the calendar."""
    return "d" in text or "w" in text


def format_duration(span: timedelta) -> str:
    """The shortest text that reads back as the same span: `1h30m`, `250ms`, `0s`. It must not be negative."""
    left_ms = span // timedelta(milliseconds=1)
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, left_ms = divmod(left_ms, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
