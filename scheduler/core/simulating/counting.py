"""One day at a time in 86,400 counters, reduced to fires per hour and the busiest second and minute."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import Final, Literal

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
_ORDER: Final[Literal["little", "big"]] = "little" if sys.byteorder == "little" else "big"
_HOUR_MS: Final = HOUR_S * 1000


def zeros(count: int) -> array[int]:
    return array("I", bytes(4 * count))


class Day:
    """The counters of one UTC day; `start` is its first second, counted from 1970."""

    __slots__ = ("_layers", "counts", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.counts = zeros(DAY_S)
        self._layers = 0

    def lay(self, layer: bytes) -> None:
        """Add 86,400 counters at once: as one long number, which needs no loop (no counter comes near its 32 bits)."""
        self._layers += int.from_bytes(layer, _ORDER)

    def total(self) -> array[int]:
        """The sum of everything."""
        if self._layers:
            whole = self._layers + int.from_bytes(self.counts.tobytes(), _ORDER)
            self.counts, self._layers = array("I", whole.to_bytes(4 * DAY_S, _ORDER)), 0
        return self.counts


class Days:
    """The days `first` <= day < `last`, counted from 1970; each is reduced before the next one begins."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._hours: list[int] = []
        self.busiest_second = (0, 0)
        """Its fires, and when it is."""
        self.busiest_minute = (0, 0)

    def __iter__(self) -> Iterator[Day]:
        for number in range(self._first, self._last):
            day = Day(number * DAY_S)
            yield day
            self._reduce(day)

    def _reduce(self, day: Day) -> None:
        counts = day.total()
        minutes = [sum(counts[at : at + 60]) for at in range(0, DAY_S, 60)]
        self._hours += [sum(minutes[at : at + 60]) for at in range(0, DAY_S // 60, 60)]
        if (most := max(counts)) > self.busiest_second[0]:
            self.busiest_second = most, day.start + counts.index(most)
        if (most := max(minutes)) > self.busiest_minute[0]:
            self.busiest_minute = most, day.start + 60 * minutes.index(most)

    def hours_between(self, start_ms: int, end_ms: int) -> tuple[int, ...]:
        """Fires of every hour that has a part in [start, end)."""
        begin = self._first * 24
        return tuple(self._hours[start_ms // _HOUR_MS - begin : -(-end_ms // _HOUR_MS) - begin])
