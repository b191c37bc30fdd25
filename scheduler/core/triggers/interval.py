"""`every`: the grid anchor + n * interval, n any whole number. Lateness never moves the grid."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduler.core.triggers.base import FIRST, LAST


class Interval:
    """Every `interval` on a grid through `anchor`; elapsed time, so no zone has a say in it."""

    __slots__ = ("anchor", "interval")

    def __init__(self, interval: timedelta, anchor: datetime) -> None:
        self.interval = interval
        self.anchor = anchor

    def next_after(self, at: datetime) -> datetime | None:
        if at < FIRST:
            return self._from_first()
        if at >= LAST:
            return None
        nominal = self.anchor + ((at - self.anchor) // self.interval + 1) * self.interval
        return nominal if nominal <= LAST else None

    def _from_first(self) -> datetime | None:
        if self.yields(FIRST):
            return FIRST
        return self.next_after(FIRST)

    def previous_before(self, at: datetime) -> datetime | None:
        if at > LAST:
            return LAST if self.yields(LAST) else self.previous_before(LAST)
        if at <= FIRST:
            return None
        nominal = self.anchor - ((self.anchor - at) // self.interval + 1) * self.interval
        return nominal if nominal >= FIRST else None

    def yields(self, nominal: datetime) -> bool:
        return FIRST <= nominal <= LAST and not (nominal - self.anchor) % self.interval

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        return ()
