"""The agenda: which schedule has its next nominal time when, as a heap. Planning costs what is due, not what exists."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime


class Agenda:
    """Entries go stale when a schedule is edited: whoever takes one compares its generation."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, nominal_at: datetime | None, schedule_id: str, generation: int) -> None:
        """Enter a schedule's next nominal time; None (it has no more) enters nothing."""
        if nominal_at is not None:
            heapq.heappush(self._heap, (nominal_at, schedule_id, generation))

    def take_until(self, until: datetime) -> Iterator[tuple[str, int]]:
        """Remove and yield (schedule id, generation) of every entry at or before `until`, earliest first."""
        while self._heap and self._heap[0][0] <= until:
            _, schedule_id, generation = heapq.heappop(self._heap)
            yield schedule_id, generation
