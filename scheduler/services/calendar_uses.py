"""Which schedules use which calendars, so that an edit of one finds them, and nobody else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


class CalendarUses:
    """An index of both directions. A schedule uses a name also while there is no such calendar: it waits for it."""

    def __init__(self) -> None:
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._names: dict[str, frozenset[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def put(self, schedule_id: str, names: Iterable[str]) -> None:
        """The schedule uses exactly these."""
        before, now = self._names.pop(schedule_id, frozenset()), frozenset(names)
        for name in before - now:
            self._users[name].discard(schedule_id)
            if not self._users[name]:
                del self._users[name]
        for name in now:
            self._users[name].add(schedule_id)
        if now:
            self._names[schedule_id] = now

    def of(self, name: str) -> frozenset[str]:
        """Ids of the schedules that use the calendar."""
        return frozenset(self._users.get(name, ()))
