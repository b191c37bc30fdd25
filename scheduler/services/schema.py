"""The version of the stored shapes in force, `schedd-control/schema`: an older replica must not touch newer data.

The leader writes it once and notes the tzdata it plans by. An older one is migrated, a version at a time, once every
live replica knows the next one (mechanisms.md, part 10): its step is done, then the version is raised, so a leader that
dies in between repeats the step, which must bear that. From then on older replicas refuse to start, and one that lived
on unheard (stopped or cut off while it was asked) ends. There has been one version so far, so there is no step yet;
whoever makes the second one adds it to `STEPS`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
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
LOOK_EVERY_S = 5.0
Step = Callable[[], Awaitable[None]]
STEPS: Mapping[int, Step] = {}  # by the version that it starts from


class Outdated(Unavailable):
    """A newer release has migrated what is stored: this replica must not touch it."""


class _Body(Struct, frozen=True):
    schema: Annotated[int, Meta(ge=1)]
    tzdata: str = ""


_DECODER = msgspec.json.Decoder(_Body)


class Schema:
    """The version in force. `known` is the newest that this replica can read; `live` asks for the newest one that all
    live replicas can read, and is set where they can be asked."""

    def __init__(
        self, control: Bucket, clock: Clock, *, known: int = SCHEMA, steps: Mapping[int, Step] = STEPS
    ) -> None:
        self._control, self._clock, self._known, self._steps = control, clock, known, steps
        self.live: Callable[[], Awaitable[int]] | None = None

    async def check(self) -> None:
        """Raises Outdated when a newer replica wrote what is stored, Unavailable when nothing can be read now."""
        body = _read(await self._control.get(SCHEMA_KEY))
        if body is not None and body.schema > self._known:
            raise Outdated(f"what is stored has schema {body.schema}, this replica knows {self._known}: upgrade it")

    async def outlived(self) -> str:
        """Wait until a newer schema is in force; the reason to end."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await self.check()
            except Outdated as problem:
                return problem.message
            except ScheddError:
                continue

    async def run(self, tenure: Tenure) -> None:
        """Keep it written while leading. Raises Deposed when the term is over, or not ours to lead."""
        while True:
            tenure.check()
            with contextlib.suppress(ScheddError):
                await self._keep()
                await self._migrate(tenure)
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

    async def _migrate(self, tenure: Tenure) -> None:
        """Raise an older version, as far as everybody can follow. Raises Deposed, Conflict, Unsure, Unavailable."""
        while (entry := await self._control.get(SCHEMA_KEY)) is not None:
            body = _read(entry)
            if body is None or body.schema >= self._known or self.live is None:
                return
            if await self.live() <= body.schema:
                extra = {"event": "migration_waits", "schema": body.schema}
                log.info("a migration waits until every replica knows the next schema", extra=extra)
                return
            if step := self._steps.get(body.schema):
                await step()
            tenure.check()
            raised = msgspec.structs.replace(body, schema=body.schema + 1)
            await self._control.put(SCHEMA_KEY, msgspec.json.encode(raised), expect=entry.revision)
            log.warning("migrated", extra={"event": "migrated", "schema": raised.schema})


def _read(entry: Entry | None) -> _Body | None:
    """None for one that is missing or cannot be read: the leader writes it anew."""
    if entry is None or entry.deleted:
        return None
    try:
        return _DECODER.decode(entry.value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
