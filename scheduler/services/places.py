"""Where a reader of a stream has got to, kept in the control bucket: a successor goes on from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from scheduler.core.errors import Conflict, Unavailable
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket
from scheduler.wire.alerts import Place, decode_place, encode_place
from scheduler.wire.instants import format_instant

EVERY_S = 1.0


class PlaceKeeper:
    """One place. Written by compare-and-set: of two leaders, only one goes on."""

    def __init__(self, control: Bucket, key: str, clock: Clock) -> None:
        self._control, self._key, self._clock = control, key, clock
        self._seq = self._revision = 0
        self._written_s = clock.boottime_s()

    async def open(self, newest: Callable[[], Awaitable[int]]) -> int:
        """The stored place; without one, what is newest, and that is noted. Raises Unsure, Unavailable."""
        entry = await self._control.get(self._key)
        place = None if entry is None or entry.deleted else decode_place(entry.value)
        self._revision = 0 if entry is None else entry.revision
        if place is None:
            self._seq = -1
            await self.move(await newest(), at_once=True)
        else:
            self._seq = place.seq
        return self._seq

    async def move(self, seq: int, *, at_once: bool = False) -> None:
        """Note the place, at most once a second unless it has to be now. Raises Unsure, Unavailable."""
        now_s = self._clock.boottime_s()
        if seq == self._seq or (not at_once and now_s - self._written_s < EVERY_S):
            return
        body = encode_place(Place(seq, format_instant(self._clock.now())))
        try:
            self._revision = await self._control.put(self._key, body, expect=self._revision)
        except Conflict:
            raise Unavailable(f"another replica has written {self._key}") from None
        self._seq, self._written_s = seq, now_s
