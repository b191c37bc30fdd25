"""The agenda: which schedule is due when, as a heap. Planning costs what is due, not what exists."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime

SPARE = 1000  # entries out of date that may lie in the heap beside as many as there are schedules


class Agenda:
    """At most one entry per schedule: the next one replaces it, whatever edits there were in between."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str, int]] = []
        self._entries: dict[str, tuple[datetime, str, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, schedule_id: str) -> bool:
        return schedule_id in self._entries

    @property
    def stored(self) -> int:
        """Entries in memory, those out of date included."""
        return len(self._heap)

    def put(self, at: datetime | None, schedule_id: str, generation: int) -> None:
        """Enter when a schedule is due next, in place of what is there; None: never again."""
        self._entries.pop(schedule_id, None)
        if at is not None:
            self._entries[schedule_id] = entry = (at, schedule_id, generation)
            heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + SPARE:
            self._heap = sorted(self._entries.values())

    @property
    def first(self) -> datetime | None:
        """When the earliest is due."""
        while self._heap and self._is_outdated(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_until(self, until: datetime) -> Iterator[tuple[datetime, str, int]]:
        """Remove and yield (when it is due, schedule id, generation) of every entry up to `until`, earliest first."""
        while (first := self.first) is not None and first <= until:
            entry = heapq.heappop(self._heap)
            del self._entries[entry[1]]
            yield entry

    def _is_outdated(self, entry: tuple[datetime, str, int]) -> bool:
        return self._entries.get(entry[1]) is not entry
