"""`at`: fixed instants, each once. `manual`: never; the same thing without any instant."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime


class Once:
    """The given instants. They must ascend and not repeat."""

    __slots__ = ("instants",)

    def __init__(self, instants: tuple[datetime, ...]) -> None:
        self.instants = instants

    def next_after(self, at: datetime) -> datetime | None:
        index = bisect_right(self.instants, at)
        return self.instants[index] if index < len(self.instants) else None

    def previous_before(self, at: datetime) -> datetime | None:
        index = bisect_left(self.instants, at)
        return self.instants[index - 1] if index else None

    def yields(self, nominal: datetime) -> bool:
        index = bisect_left(self.instants, nominal)
        return index < len(self.instants) and self.instants[index] == nominal

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        return ()
