"""The version of the stored shapes in force, `schedd-control/schema`: an older replica must not touch newer data.

The leader writes it once and notes the tzdata it plans by. There has been one version so far. Whoever makes a second
one raises it only when every live replica knows it (mechanisms.md, part 10); from then on older ones refuse to start.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from scheduler.core.errors import ScheddError, Unavailable
from scheduler.core.zones import tzdata_version
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry
from scheduler.services.leader import Deposed, Tenure
from scheduler.wire.names import SCHEMA_KEY

log = logging.getLogger(__name__)
SCHEMA = 1
EVERY_S = 30.0


class _Body(Struct, frozen=True):
    schema: Annotated[int, Meta(ge=1)]
    tzdata: str = ""


_DECODER = msgspec.json.Decoder(_Body)


class Schema:
    """The version in force. `known` is the newest that this replica can read."""

    def __init__(self, control: Bucket, clock: Clock, *, known: int = SCHEMA) -> None:
        self._control, self._clock, self._known = control, clock, known

    async def check(self) -> None:
        """Raises Unavailable when a newer replica wrote what is stored, or when nothing can be read now."""
        body = _read(await self._control.get(SCHEMA_KEY))
        if body is not None and body.schema > self._known:
            raise Unavailable(f"what is stored has schema {body.schema}, this replica knows {self._known}: upgrade it")

    async def run(self, tenure: Tenure) -> None:
        """Keep it written while leading. Raises Deposed when the term is over, or not ours to lead."""
        while True:
            tenure.check()
            with contextlib.suppress(ScheddError):
                await self._keep()
            await self._clock.sleep(EVERY_S)

    async def _keep(self) -> None:
        entry = await self._control.get(SCHEMA_KEY)
        body, wanted = _read(entry), _Body(self._known, tzdata_version())
        if body is not None and body.schema > self._known:
            raise Deposed(f"schema {body.schema} is in force, this replica knows {self._known}")
        if body is None or body.tzdata != wanted.tzdata:
            wanted = wanted if body is None else msgspec.structs.replace(wanted, schema=body.schema)
            expect = 0 if entry is None else entry.revision
            await self._control.put(SCHEMA_KEY, msgspec.json.encode(wanted), expect=expect)
            log.info("schema noted", extra={"event": "schema_noted", "schema": wanted.schema, "tzdata": wanted.tzdata})


def _read(entry: Entry | None) -> _Body | None:
    """None for one that is missing or cannot be read: the leader writes it anew."""
    if entry is None or entry.deleted:
        return None
    try:
        return _DECODER.decode(entry.value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
