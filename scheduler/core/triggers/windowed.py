"""`starts_at`, `ends_at`: a window of nominal time around any trigger, half-open."""

from __future__ import annotations

from datetime import datetime

from scheduler.core.triggers.base import FIRST, LAST, MILLISECOND, CompiledTrigger


class Windowed:
    """What the trigger within yields with starts_at <= nominal < ends_at. Make it with `windowed`."""

    __slots__ = ("_end", "_start", "inner")

    def __init__(self, inner: CompiledTrigger, start: datetime, end: datetime) -> None:
        self.inner = inner
        self._start, self._end = start, end

    def next_after(self, at: datetime) -> datetime | None:
        if at >= self._end:
            return None
        found = self.inner.next_after(max(at, self._start - MILLISECOND))
        return None if found is None or found >= self._end else found

    def previous_before(self, at: datetime) -> datetime | None:
        if at <= self._start:
            return None
        found = self.inner.previous_before(min(at, self._end))
        return None if found is None or found < self._start else found

    def yields(self, nominal: datetime) -> bool:
        return self._start <= nominal < self._end and self.inner.yields(nominal)

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        return self.inner.notes_at(nominal)

    def within(self, after: datetime, until: datetime) -> tuple[datetime, datetime]:
        """That part of (after, until] that lies in the window; it may be empty."""
        return max(after, self._start - MILLISECOND), min(until, self._end - MILLISECOND)


def windowed(trigger: CompiledTrigger, starts_at: datetime | None, ends_at: datetime | None) -> CompiledTrigger:
    """The trigger within these bounds; the trigger itself where there are none."""
    if starts_at is None and ends_at is None:
        return trigger
    return Windowed(
        trigger, FIRST if starts_at is None else starts_at, LAST + MILLISECOND if ends_at is None else ends_at
    )
