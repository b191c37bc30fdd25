"""Durations and backoffs as users give them, in code and in the header of a task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Backoff
from scheduler.wire.instants import parse_duration

BACKOFF_FIELDS = frozenset({"initial", "max", "factor", "jitter"})

Span = str | float | timedelta
"""A duration as users give it: "30s", seconds, or a timedelta."""


def span_s(span: Span, *, field: str) -> float:
    """Seconds of a duration given by a user. Raises InvalidArgument unless it is positive."""
    if isinstance(span, timedelta):
        seconds = span.total_seconds()
    elif isinstance(span, str):
        try:
            seconds = parse_duration(span, field=field).total_seconds()
        except InvalidArgument as problem:
            raise InvalidArgument(f"{field}: {problem.message}", field=field) from None
    else:
        seconds = float(span)
    if not 0 < seconds < 1e9:
        raise InvalidArgument(f'{field}: {span!r} is not a positive duration: write "30s"', field=field)
    return seconds


def read_backoff(given: Backoff | Mapping[str, Any]) -> Backoff:
    """The backoff, its fields spelled as in a schedule: {"initial": "1s", "max": "5m", "factor": 2, "jitter": 0.2}."""
    if isinstance(given, Backoff):
        return given
    unknown = sorted(given.keys() - BACKOFF_FIELDS)
    if unknown:
        raise InvalidArgument(f"backoff.{unknown[0]}: no such field", field=f"backoff.{unknown[0]}")
    default = Backoff()
    spans = {
        name: timedelta(seconds=span_s(given[name], field=f"backoff.{name}"))
        for name in ("initial", "max")
        if name in given
    }
    factor, jitter = (_fraction(given, name, getattr(default, name)) for name in ("factor", "jitter"))
    backoff = Backoff(**spans, factor=factor, jitter=jitter)
    if not 1 <= backoff.factor <= 1000:
        raise InvalidArgument("backoff.factor: use 1 to 1000", field="backoff.factor")
    if not 0 <= backoff.jitter <= 1:
        raise InvalidArgument("backoff.jitter: use 0 to 1", field="backoff.jitter")
    return backoff


def _fraction(given: Mapping[str, Any], name: str, default: float) -> float:
    try:
        return float(given.get(name, default))
    except (TypeError, ValueError):
        raise InvalidArgument(f"backoff.{name}: {given[name]!r:.40} is no number", field=f"backoff.{name}") from None
