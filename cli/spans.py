"""`--since` and `--until`: an instant, or a span before now."""

from __future__ import annotations

from datetime import timedelta

from scheduler.core.durations import duration_ms
from scheduler.core.errors import InvalidArgument
from scheduler.system.clock import SystemClock
from scheduler.wire.instants import format_instant, parse_instant

METAVAR = "SPAN|INSTANT"


def instant_of(text: str, *, field: str) -> str:
    """The instant that is meant; a span (24h) is counted back from now, by this machine's clock.

    Raises InvalidArgument.
    """
    count_ms = duration_ms(text)
    if count_ms is not None:
        return format_instant(SystemClock().now() - timedelta(milliseconds=count_ms))
    try:
        return format_instant(parse_instant(text, field=field))
    except InvalidArgument:
        hint = "write a span (24h, 90m) or an instant (2026-11-21T08:00:00Z)"
        raise InvalidArgument(f"--{field} {text[:60]!r}: {hint}", field=field) from None
