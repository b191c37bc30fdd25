"""A stage for catch-up: the dispatch stage with a leader's duty beside it, and what became of each nominal time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import datetime
from typing import Any

from scheduler.core.leadership import Term
from scheduler.core.model.status import ScheduleState, StatusRow
from scheduler.memory.clock import START
from scheduler.memory.events import MemoryEvents
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.announcing import Announcer, told_of
from scheduler.services.calendars import CalendarCache
from scheduler.services.late import Late
from scheduler.services.leader import Deposed, Tenure
from scheduler.wire.ids import parse_execution_id
from scheduler.wire.instants import parse_instant
from tests.unit.services.dispatch_stage import Dispatching, nominal
from tests.unit.services.tracking_stage import Tripwire, World


class LateReplica(Dispatching):
    """A replica that leads, as far as catch-up is concerned."""

    def __init__(
        self,
        world: World,
        wire: Tripwire | None = None,
        *,
        checkpoints: Any = None,
        calendars: CalendarCache | None = None,
    ) -> None:
        super().__init__(world, wire, checkpoints=checkpoints, calendars=calendars)
        self.late = Late(
            rows=self.rows,
            schedules=self.schedules,
            records=self.records,
            launcher=self.launcher,
            events=self.wire.around(MemoryEvents(world.server)),
            announcer=Announcer(self.wire.around(MemoryEvents(world.server))),
            clock=world.clock,
            telemetry=self.telemetry,
            checkpoints=checkpoints,
        )

    def tenure(self, lasts_s: float = 1e9) -> Tenure:
        return Tenure(
            self.world.clock, Term(1, self.world.clock.boottime_s() + lasts_s), Office(7, 1, Watermark(START, 10**9))
        )

    async def lead(self, seconds: float = 5.0) -> None:
        """The duty runs that long; a kill by the tripwire ends it quietly."""
        task = asyncio.ensure_future(self.late.run(self.tenure()))
        await self.world.clock.advance(seconds)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Deposed):
            await task


async def note(world: World, seconds: float, schedule_id: str = "a", **fields: Any) -> None:
    """As a dispatcher would note it."""
    async with Dispatching(world) as replica:
        row = StatusRow(late_from=nominal(seconds), **fields)
        await replica.rows.change({schedule_id: lambda _: row})


async def tell_applied(world: World, schedule_id: str = "a", *, calendars: CalendarCache | None = None) -> None:
    """What stands in the bucket was applied, as evidence has it."""
    async with Dispatching(world, calendars=calendars) as replica:
        known = replica.schedules.get(schedule_id)
        assert known is not None
        await Announcer(MemoryEvents(world.server)).store(
            list(told_of(known, None, ScheduleState.ACTIVE, Watermark(START), 0))
        )


def ranges(world: World, schedule_id: str = "a") -> list[tuple[float, float, int, str, str]]:
    """What was told: from, to (seconds), count, verdict, reason; each fact once."""
    found = {event.id: event.data for event in MemoryEvents(world.server).of("verdicts", schedule_id)}
    return [
        (_seconds(each["from"]), _seconds(each["to"]), each["count"], each["verdict"], each["reason"])
        for each in found.values()
    ]


def _seconds(text: str) -> float:
    return (parse_instant(text) - START).total_seconds()


async def recorded(world: World, schedule_id: str = "a") -> dict[float, str]:
    """Verdicts on record, by nominal time in seconds."""
    found: dict[float, str] = {}
    for key in await world.executions.keys():
        parsed = parse_execution_id(key)
        if parsed.schedule_id == schedule_id:
            found[(parsed.nominal_at - START).total_seconds()] = (await world.record(key)).verdict
    return dict(sorted(found.items()))


async def verdicts(world: World, schedule_id: str = "a", *, step_s: float = 1) -> dict[float, str]:
    """Of each nominal time: its record's, else that of the ranges around it; a repeat of one is an error."""
    told: Counter[float] = Counter()
    found: dict[float, str] = {}
    for first, last, _, verdict, reason in ranges(world, schedule_id):
        for count in range(round((last - first) / step_s) + 1):
            seconds = first + count * step_s
            told[seconds] += 1
            found[seconds] = f"{verdict} {reason}"
    records = await recorded(world, schedule_id)
    assert not [each for each, times in told.items() if times > 1 and each not in records]
    return dict(sorted((found | records).items()))


def at(seconds: float) -> datetime:
    return nominal(seconds)
