"""A stage of whole replicas in virtual time: one chain, one plain worker that does its work; how a scene is played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from unittest import mock

import msgspec

from scheduler.core.chain import next_of
from scheduler.core.model.execution import Execution, Kind
from scheduler.core.model.status import Chain
from scheduler.wire.status import decode_status
from tests.unit.simulation.playing import seeded
from tests.unit.simulation.site import Site
from tests.unit.simulation.virtual_time import SimulatedClock, VirtualLoop
from tests.unit.simulation.workers import TYPE, PlainWorkers


class Stage:
    """One chain, one plain worker that does its work, and replicas."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.workers = PlainWorkers(site, "plain")
        self.workers.reliable = True
        self.workers.begin()

    def put(self, **fields: Any) -> None:
        document = {"after": "2s", "queue": "plain", "type": TYPE, **fields}
        self.site.put("c", msgspec.json.encode(document))

    def runs(self) -> list[Execution]:
        """The records of the chain, by nominal time."""
        records = self.site.journal.last().values()
        return sorted((each for each in records if each.kind is Kind.AUTO), key=lambda each: each.nominal_at)

    def chain(self) -> Chain | None:
        message = self.site.buckets["status"].stream.last_of(f"$KV.{self.site.names.status}.c")
        return None if message is None or not message.data else decode_status(message.data).chain

    def to_come(self) -> datetime | None:
        return next_of(self.chain())

    async def waits_after(self, count: int) -> None:
        """Until so many runs are over and the next one is armed."""
        await self.until(lambda: len(self.runs()) == count and self.to_come() is not None and self.armed() != [])

    async def ask(self, endpoint: str, **body: Any) -> Any:
        wiring = self.site.alive[0].wiring
        assert wiring is not None
        answer = await wiring.api.answer(endpoint, msgspec.json.encode(body))
        return msgspec.json.decode(answer.body)

    def counted(self, name: str, **values: str) -> int:
        calls = [call for replica in self.site.replicas for call in replica.telemetry.of(name)]
        return sum(call == values for call in calls)

    def armed(self) -> list[str]:
        timeline = self.site.server.timeline
        subjects = timeline.subjects(self.site.names.all_arms)
        return [each for each in subjects if (found := timeline.last_of(each)) is not None and found.target]

    async def until(self, condition: Callable[[], bool], within_s: float = 60.0) -> None:
        for _ in range(int(within_s / 0.05)):
            if condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {within_s} s: {self.runs()[-2:]} {self.chain()}")

    async def end(self) -> None:
        await self.workers.end()
        for replica in self.site.alive:
            await replica.stop()


def play(seed: int, scene: Callable[[Stage], Any]) -> Any:
    """A scene in virtual time, on a network that is never slow; errors that were logged fail it."""
    at_once = mock.patch("tests.unit.simulation.network.SLOW_SHARE", 0.0)
    with seeded(seed) as errors, at_once, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)

        async def run() -> Any:
            stage = Stage(Site(SimulatedClock(loop), seed))
            try:
                return await scene(stage)
            finally:
                await stage.end()

        result = runner.run(run())
        assert not errors.told
        return result
