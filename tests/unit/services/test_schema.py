"""The version of what is stored: written once, obeyed by every replica."""

from __future__ import annotations

import asyncio
import json

import pytest

from scheduler.core.errors import Unavailable
from scheduler.core.leadership import Term
from scheduler.core.zones import tzdata_version
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.schema import EVERY_S, LOOK_EVERY_S, SCHEMA, Schema
from scheduler.wire.names import SCHEMA_KEY

NOTED = {"schema": SCHEMA, "tzdata": tzdata_version()}


class Stage:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.control = MemoryBucket(MemoryServer(self.clock), "schedd-control")
        self.schema = Schema(self.control, self.clock)

    async def lead(self, seconds: float) -> asyncio.Task[None]:
        """A term of so long: its task, ended or cancelled by then."""
        office = Office(1, 1, Watermark(self.clock.now()))
        tenure = Tenure(self.clock, Term(1, self.clock.boottime_s() + 1e9), office)
        task = asyncio.ensure_future(self.schema.run(tenure))
        await self.clock.advance(seconds)
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task

    async def stored(self) -> object:
        entry = await self.control.get(SCHEMA_KEY)
        assert entry is not None
        return json.loads(entry.value)


async def test_a_leader_notes_it_once() -> None:
    """Missing: written, with the tzdata in use; there: left alone, however long the term."""
    stage = Stage()
    await stage.schema.check()
    await stage.lead(3 * EVERY_S)
    assert await stage.stored() == NOTED
    assert await stage.control.last_revision() == 1
    await stage.schema.check()
    await stage.lead(EVERY_S)
    assert await stage.control.last_revision() == 1


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"schema": 0}', b'{"schema": "2"}', b"[" * 5000])
async def test_what_cannot_be_read_is_written_anew(value: bytes) -> None:
    """A foreign value keeps nobody from starting or leading."""
    stage = Stage()
    await stage.control.put(SCHEMA_KEY, value)
    await stage.schema.check()
    await stage.lead(1)
    assert await stage.stored() == NOTED


async def test_a_new_tzdata_is_noted_and_the_schema_kept() -> None:
    """The leader's release takes the place of the one before it."""
    stage = Stage()
    stage.schema = Schema(stage.control, stage.clock, known=7)
    await stage.control.put(SCHEMA_KEY, b'{"schema": 3, "tzdata": "1999a"}')
    await stage.lead(1)
    assert await stage.stored() == {"schema": 3, "tzdata": tzdata_version()}


async def test_an_older_replica_neither_starts_nor_leads() -> None:
    """A newer schema is an error that tells what to do; a leader that meets it steps down and leaves it as it is."""
    stage = Stage()
    await stage.control.put(SCHEMA_KEY, b'{"schema": 2, "tzdata": "1999a"}')
    with pytest.raises(Unavailable, match="schema 2, this replica knows 1: upgrade"):
        await stage.schema.check()
    task = await stage.lead(1)
    assert isinstance(task.exception(), Deposed)
    assert await stage.stored() == {"schema": 2, "tzdata": "1999a"}


async def test_an_older_replica_that_lived_on_is_told_to_end() -> None:
    """Whoever was not heard when it was asked finds out by itself, within seconds, and not by an outage."""
    stage = Stage()
    await stage.lead(1)
    waiting = asyncio.ensure_future(stage.schema.outlived())
    await stage.clock.advance(10 * LOOK_EVERY_S)
    assert not waiting.done()
    await stage.control.put(SCHEMA_KEY, b'{"schema": 2}')
    await stage.clock.advance(LOOK_EVERY_S)
    assert "schema 2, this replica knows 1: upgrade" in await waiting


class Migrating(Stage):
    """Schema 1 is stored; this replica knows 3, the others what `live` says."""

    def __init__(self, live: int) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.known_by_all = live
        self.begin()

    def begin(self) -> None:
        self.schema = Schema(self.control, self.clock, known=3, steps={1: self.one, 2: self.two})
        self.schema.live = self.lowest

    async def lowest(self) -> int:
        return self.known_by_all

    async def one(self) -> None:
        self.steps.append(1)

    async def two(self) -> None:
        self.steps.append(2)


@pytest.mark.parametrize(("live", "steps", "schema"), [(3, [1, 2], 3), (2, [1], 2), (1, [], 1), (0, [], 1)])
async def test_an_older_schema_is_migrated(live: int, steps: list[int], schema: int) -> None:
    """A step after the other, as far as every live replica can follow; the rest when they can."""
    stage = Migrating(live)
    await stage.control.put(SCHEMA_KEY, b'{"schema": 1, "tzdata": "1999a"}')
    await stage.schema.check()
    await stage.lead(1)
    assert (stage.steps, await stage.stored()) == (steps, {"schema": schema, "tzdata": tzdata_version()})
    stage.known_by_all = 3
    await stage.lead(1)
    assert (stage.steps, await stage.stored()) == ([1, 2], {"schema": 3, "tzdata": tzdata_version()})


async def test_a_step_that_was_cut_off_is_repeated() -> None:
    """A leader that dies between a step and its note leaves both to the next one."""
    stage = Migrating(3)
    await stage.control.put(SCHEMA_KEY, json.dumps({"schema": 1, "tzdata": tzdata_version()}).encode())

    async def dies() -> None:
        stage.steps.append(9)
        raise Unavailable("electing")

    stage.schema = Schema(stage.control, stage.clock, known=3, steps={1: dies})
    stage.schema.live = stage.lowest
    await stage.lead(0.5)
    assert (await stage.stored()) == {"schema": 1, "tzdata": tzdata_version()}
    stage.begin()
    await stage.lead(0.5)
    assert (stage.steps, await stage.stored()) == ([9, 1, 2], {"schema": 3, "tzdata": tzdata_version()})


async def test_the_schema_never_goes_back() -> None:
    """A leader that slept over a step notes nothing over what its successors have made of it meanwhile."""
    stage = Migrating(3)
    await stage.control.put(SCHEMA_KEY, json.dumps({"schema": 1, "tzdata": tzdata_version()}).encode())
    migrated = {"schema": 3, "tzdata": tzdata_version()}

    async def overtaken() -> None:
        await stage.control.put(SCHEMA_KEY, json.dumps(migrated).encode())

    stage.schema = Schema(stage.control, stage.clock, known=3, steps={1: overtaken, 2: stage.two})
    stage.schema.live = stage.lowest
    await stage.lead(1)
    assert (await stage.stored(), stage.steps) == (migrated, [])
