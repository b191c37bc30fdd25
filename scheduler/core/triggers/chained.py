"""`after`: no rule yields its instants; they follow from the ends of runs and stand in the status row (core/chain)."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduler.core.durations import format_duration


class Chained:
    """Yields nothing to plan ahead. Any instant may be one of it: which one is, the status row knows."""

    __slots__ = ("delay",)

    def __init__(self, delay: timedelta) -> None:
        self.delay = delay

    def next_after(self, at: datetime) -> datetime | None:
        return None

    def previous_before(self, at: datetime) -> datetime | None:
        return None

    def yields(self, nominal: datetime) -> bool:
        return True

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        return (f"then {format_duration(self.delay)} after the end of each run",)
