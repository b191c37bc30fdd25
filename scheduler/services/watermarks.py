"""The copy of the watermark in the control bucket: what a new leader falls back to if the timeline is ever lost.

It also remembers `since`, the first start of schedd. Whoever leads has to know it until everything that was put before
is applied, and the first leader may die before that: a successor must not plan the years since somebody put a schedule.
"""

from __future__ import annotations

import contextlib
from datetime import datetime

import msgspec
from msgspec import Struct

from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable
from scheduler.core.triggers import EPOCH
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.ports.timeline import Timeline, Watermark
from scheduler.services.leader import Deposed, Tenure
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.names import WATERMARK_KEY


class _Body(Struct, frozen=True):
    until: str
    applied: int = 0
    calendars: int = 0
    epoch: int = 0
    since: str = "1970-01-01T00:00:00Z"


_DECODER = msgspec.json.Decoder(_Body)


class WatermarkCopy:
    """Reads and writes the copy."""

    def __init__(self, control: Bucket, clock: Clock) -> None:
        self._control, self._clock = control, clock

    async def first(self) -> Watermark:
        """For a timeline without a watermark: the copy, but no later than it was written; without either: now.

        What the lost timeline still held may not have fired, so the copy's own age bounds what counts as planned;
        planning it again is harmless. Raises Unsure, Unavailable.
        """
        entry = await self._control.get(WATERMARK_KEY)
        body = _read(entry)
        if entry is not None and body is not None:
            return Watermark(min(parse_instant(body.until), entry.at), body.applied, body.calendars)
        now = self._clock.now()
        started = _Body(until=format_instant(now), since=format_instant(now))
        await self._write(started, entry)
        return Watermark(now)

    async def begin(self, timeline: Timeline) -> None:
        """Note the first start, if this is it, before anybody is told that we are ready: what is put from then on is
        owed, though nobody leads yet. Should it not be possible now, whoever leads first does it."""
        with contextlib.suppress(ScheddError):
            if await timeline.watermark() is None:
                await self.first()

    async def since(self) -> datetime:
        """The first start, if this namespace has noted one; else the epoch. Raises Unsure, Unavailable."""
        body = _read(await self._control.get(WATERMARK_KEY))
        return EPOCH if body is None else parse_instant(body.since)

    async def applied(self) -> int:
        """Schedule edits are applied at least up to this revision. Raises Unsure, Unavailable."""
        body = _read(await self._control.get(WATERMARK_KEY))
        return 0 if body is None else body.applied

    async def keep(self, tenure: Tenure) -> None:
        """Copy the watermark of a term. Raises Deposed when a later term has done so, Unsure, Unavailable."""
        entry = await self._control.get(WATERMARK_KEY)
        body, office = _read(entry), tenure.office
        if body is not None and body.epoch > office.epoch:
            raise Deposed(f"epoch {body.epoch} has copied its watermark already")
        mark = office.watermark
        since = format_instant(EPOCH) if body is None else body.since
        tenure.check()
        await self._write(_Body(format_instant(mark.until), mark.applied, mark.calendars, office.epoch, since), entry)

    async def _write(self, body: _Body, entry: Entry | None) -> None:
        try:
            expect = 0 if entry is None else entry.revision
            await self._control.put(WATERMARK_KEY, msgspec.json.encode(body), expect=expect)
        except Conflict as problem:
            raise Unavailable(f"another replica wrote the copy of the watermark: {problem.message}") from None


def _read(entry: Entry | None) -> _Body | None:
    """None for one that is missing or cannot be read: it is ours to rebuild."""
    if entry is None or entry.deleted:
        return None
    try:
        body = _DECODER.decode(entry.value)
        parse_instant(body.until)
        parse_instant(body.since)
    except (msgspec.DecodeError, ValueError, RecursionError, InvalidArgument):
        return None
    return body
