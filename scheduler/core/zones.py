"""Time zones: always from the `tzdata` wheel, never from the host, so that every replica agrees.

A zone is read as *segments*, stretches of time with one UTC offset. Triggers do their arithmetic on whole seconds:
an *instant* is seconds since 1970 in UTC, a *wall* is the same count read off a local clock (instant + offset).
Segments are found by probing `zoneinfo` in steps of half a day and bisecting each change; two changes that undo each
other within half a day would be missed, and the tests hold every zone of the wheel to its own transition table.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import import_module, resources
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from scheduler.core.errors import InvalidArgument

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FOREVER: Final = 1 << 60
_BLOCK_BITS: Final = 24  # segments are made per block of 2**24 seconds, about half a year
_PROBE_S: Final = 43_200


class Segment(NamedTuple):
    """The instants start <= t < end have this offset from UTC; all in seconds.

    Every wall time before `shown` has been on the clocks before the segment began: after a gap that is the gap's
    first wall time, after clocks went back it is the wall time at which they did. Every wall time from `again` on is
    still to come when the segment is over: before clocks go back that is where they go back to.
    """

    start: int
    end: int
    offset: int
    shown: int
    again: int


class Place(NamedTuple):
    """Where a wall time lies: the first instant that clocks show it, and the second, if they show it twice.

    For a wall time that does not exist (a gap) `first` is the transition, the first moment after the gap.
    """

    exists: bool
    first: int
    second: int | None


class Zone:
    """One time zone. Make it with `zone_of`, which keeps it: the segments are worth sharing."""

    def __init__(self, name: str, tz: ZoneInfo) -> None:
        self.name = name
        self.tz = tz
        self._blocks: dict[int, tuple[Segment, ...]] = {}
        self._only = Segment(-_FOREVER, _FOREVER, 0, -_FOREVER, _FOREVER) if name in _UTC_NAMES else None

    def segment_at(self, instant: int) -> Segment:
        """The segment that holds the instant. A segment may end (at a block) without a change of offset."""
        if self._only is not None:
            return self._only
        index = instant >> _BLOCK_BITS
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = self._probe_block(index)
        for segment in block:
            if instant < segment.end:
                return segment
        raise AssertionError("segments cover their block")

    def place(self, wall: int) -> Place:
        """Which instants clocks show `wall` at; the transition, where they never do."""
        segment = self.segment_at(wall - _OFFSET_MAX)
        while wall - segment.offset >= segment.end:
            segment = self.segment_at(segment.end)
        first = wall - segment.offset
        if first < segment.start:
            return Place(exists=False, first=segment.start, second=None)
        return Place(exists=True, first=first, second=self._shown_again(wall, first, segment))

    def _shown_again(self, wall: int, first: int, segment: Segment) -> int | None:
        while segment.end <= first + _OFFSET_MAX:
            segment = self.segment_at(segment.end)
            instant = wall - segment.offset
            if first < segment.start <= instant < segment.end:
                return instant
        return None

    def changes(self, start: int, until: int) -> Iterator[int]:
        """The instants in (start, until] at which the offset changes."""
        segment = self.segment_at(start)
        while segment.end <= until:
            following = self.segment_at(segment.end)
            if following.offset != segment.offset:
                yield following.start
            segment = following

    def local(self, at: datetime) -> datetime:
        """The instant on the clocks of the zone."""
        return at.astimezone(self.tz)

    def _offset(self, instant: int) -> int:
        offset = (EPOCH + timedelta(seconds=instant)).astimezone(self.tz).utcoffset()
        return 0 if offset is None else offset // timedelta(seconds=1)

    def _probe_block(self, index: int) -> tuple[Segment, ...]:
        start, stop = index << _BLOCK_BITS, (index + 1) << _BLOCK_BITS
        segments: list[Segment] = []
        offset, low = self._offset(start), start
        shown = self._shown_at(start, offset)
        while low < stop:
            high = min(low + _PROBE_S, stop)
            if self._offset(high) != offset:
                high = self._first_with_another(offset, low, high)
                if high < stop:
                    following = self._offset(high)
                    segments.append(Segment(start, high, offset, shown, high + following))
                    start, shown, offset = high, high + offset, following
            low = high
        return (*segments, Segment(start, stop, offset, shown, self._again_at(stop)))

    def _shown_at(self, start: int, offset: int) -> int:
        """`shown` of a block's first segment: a change within the day before still has its say."""
        earlier = self._offset(start - _OFFSET_MAX)
        if earlier == offset:
            return start + offset
        change = self._first_with_another(earlier, start - _OFFSET_MAX, start)
        return change + earlier if change == start else max(start + offset, change + earlier)

    def _again_at(self, stop: int) -> int:
        """`again` of a block's last segment: a change within the day after already has its say."""
        offset, later = self._offset(stop), self._offset(stop + _OFFSET_MAX)
        if later == offset:
            return stop + offset
        return min(stop + offset, self._first_with_another(offset, stop, stop + _OFFSET_MAX) + later)

    def _first_with_another(self, offset: int, low: int, high: int) -> int:
        """The first instant in (low, high] whose offset is not `offset`."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
        return high


_OFFSET_MAX: Final = 86_400  # no zone was ever a whole day from UTC
_UTC_NAMES: Final = frozenset({"UTC", "Etc/UTC", "Zulu", "Etc/Zulu", "UCT", "Etc/UCT", "Etc/Universal", "Universal"})


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every name the wheel knows, aliases included."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


def tzdata_version() -> str:
    """The release of the IANA database in use, as in `2026a`."""
    return str(import_module("tzdata").IANA_VERSION)


@lru_cache(maxsize=1024)
def _load(name: str) -> Zone:
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return Zone(name, ZoneInfo.from_file(data, key=name))


def zone_of(name: str, *, field: str = "timezone") -> Zone:
    """The zone with this IANA name. Raises InvalidArgument for one the wheel does not list (so no path gets in)."""
    if not isinstance(name, str) or name not in zone_names():
        raise InvalidArgument(f"{name!r:.80} is not a time zone of tzdata {tzdata_version()}{_hint(name)}", field=field)
    try:
        return _load(name)
    except (OSError, ValueError, EOFError):  # listed, and yet gone or damaged
        raise InvalidArgument(f"{name!r:.80} cannot be read from tzdata {tzdata_version()}", field=field) from None


def _hint(name: object) -> str:
    if not isinstance(name, str) or len(name) > 64:
        return ""
    by_low = {known.lower(): known for known in zone_names()}
    close = difflib.get_close_matches(name.lower().replace(" ", "_"), by_low, n=1, cutoff=0.7)
    return f"; did you mean {by_low[close[0]]!r}?" if close else ': use an IANA name, as in "Europe/Berlin"'
