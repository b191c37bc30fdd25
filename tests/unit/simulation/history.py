"""One history: a seed's schedules, edits and troubles, and then the quiet in which everything must come to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from scheduler.core.model.execution import Kind
from scheduler.core.model.schedule import After
from scheduler.memory.clock import START
from scheduler.wire.instants import format_instant
from tests.unit.simulation.clients import Client, Regret
from tests.unit.simulation.nemesis import Nemesis
from tests.unit.simulation.site import Site
from tests.unit.simulation.upheaval import Upheaval
from tests.unit.simulation.workers import PlainWorkers, SdkWorkers, Workers

ACTIVE_S = 40.0
QUIET_MAX_S = 600.0
PEACE_MAX_S = 200.0  # twice the longest that a repair may take


class History:
    """A run of the world, up to the quiet at its end."""

    def __init__(
        self, site: Site, *, evil: float, regret: bool = False, traps: bool = False, upheaval: bool = False
    ) -> None:
        self.site = site
        self.regret = Regret(site) if regret else None
        self.evil = evil
        self.client = Client(site, site.rng.randint(3, 8))
        self.nemesis = Nemesis(site, site.rng.choice([1, 2, 3, 3]), evil, traps=traps)
        self.upheaval = Upheaval(site, self.nemesis.labels) if upheaval else None
        self.workers: list[Workers] = [PlainWorkers(site, "plain"), SdkWorkers(site, "sdk")]
        self.closed_at: datetime | None = None
        self.stopped: list[str] = []
        """Chains that did not go on in peace."""
        self.audits: dict[str, Any] = {}
        """What an audit said of each schedule in the end."""

    async def run(self) -> None:
        nemesis = asyncio.ensure_future(self.nemesis.run())
        others = (self.client, self.regret, self.upheaval)
        people = [asyncio.ensure_future(each.run()) for each in others if each is not None]
        for each in self.workers:
            each.reliable = not self.evil
            each.begin()
        try:
            await asyncio.sleep(ACTIVE_S)
        finally:
            for each_of_them in people:
                await _cancelled(each_of_them)
            await _cancelled(nemesis)
        await self.end()

    async def end(self) -> None:
        """Peace, until all has come to its end; then what became of it is asked for, and everybody stops."""
        self.closed_at = self.site.now()
        chains = self.chains()
        self.client.close(besides=chains)
        if self.upheaval is not None:
            await self.upheaval.end()
        await self.nemesis.end()
        for each in self.workers:
            each.reliable = True
        self.stopped = await self._stopped(chains)
        self.client.close()
        await self._quiet()
        for each in self.workers:
            await each.end()
        await self._audit()
        for replica in self.site.alive:
            await replica.stop()

    def chains(self) -> list[str]:
        """Schedules with a fixed delay whose last version is valid, has no end, and is in no pause without one."""
        newest = {schedule_id: each[-1].definition for schedule_id, each in self.site.journal.versions.items()}
        return [
            schedule_id
            for schedule_id, each in newest.items()
            if each is not None
            and isinstance(each.schedule.trigger, After)
            and each.schedule.ends_at is None
            and not (each.schedule.paused and each.schedule.paused_until is None)
        ]

    async def _stopped(self, chains: Sequence[str]) -> list[str]:
        """Those that do not end two occurrences in a row once all is well."""
        since = self.site.now()
        until = since + timedelta(seconds=PEACE_MAX_S)
        left = list(chains)
        while left and self.site.now() < until:
            await asyncio.sleep(1.0)
            records = self.site.journal.last().values()
            ended = Counter(
                each.schedule
                for each in records
                if each.kind is Kind.AUTO and each.finished_at is not None and each.nominal_at > since
            )
            left = [each for each in left if ended[each] < 2]
        return left

    async def _audit(self) -> None:
        """Ask whoever is there what became of everything."""
        (wiring, *_) = [each.wiring for each in self.site.alive if each.wiring is not None]
        for schedule_id in self.client.schedules:
            body = msgspec.json.encode({"id": schedule_id, "since": format_instant(START - timedelta(minutes=1))})
            self.audits[schedule_id] = msgspec.json.decode((await wiring.api.answer("schedule.audit", body)).body)

    async def _quiet(self) -> None:
        until = self.site.now() + timedelta(seconds=QUIET_MAX_S)
        await asyncio.sleep(10.0)  # what was on its way has arrived
        while self.unrest() and self.site.now() < until:
            await asyncio.sleep(2.0)

    def unrest(self) -> list[str]:
        """What is not at its end yet."""
        server = self.site.server
        found = [f"{key} is {each.state}" for key, each in self.site.journal.last().items() if each.finished_at is None]
        found += [f"{subject} is armed" for subject in server.timeline.subjects(self.site.names.all_arms)
                  if server.timeline.last_of(subject).target]  # type: ignore[union-attr]  # fmt: skip
        found += [f"{subject} is due" for subject in server.timeline.subjects(self.site.names.all_due)]
        found += [f"{subject} waits" for subject in server.tasks.subjects(self.site.names.all_tasks)]
        rows = self.held()
        found += [f"the row of {key} holds {ids}" for key, ids in rows.items() if ids]
        found += [f"the row of {key} has late ones that nobody has decided" for key in self.late()]
        found += [f"the row of {key} is left, though it is gone" for key in rows if self._is_gone(key)]
        told = self.site.journal.told_ends
        found += [f"the end of {each.id} is not told" for each in self.site.journal.ends()
                  if (each.id, each.drive) not in told]  # fmt: skip
        marks = self.site.journal.marks
        newest = self.site.buckets["schedules"].stream.last_seq
        if not marks or marks[-1].applied < newest:
            found.append(f"edits up to {newest} are not applied: {marks[-1:]}")
        return found

    def _is_gone(self, schedule_id: str) -> bool:
        newest = self.site.buckets["schedules"].stream.last_of(f"$KV.{self.site.names.schedules}.{schedule_id}")
        return newest is None or "KV-Operation" in newest.headers

    def late(self) -> list[str]:
        """Schedules whose catch-up is to come."""
        return [key for key, row in self._rows().items() if row["late_from"] is not None]

    def held(self) -> dict[str, list[str]]:
        """Slots by row."""
        return {key: row["active"] + row["waiting"] for key, row in self._rows().items()}

    def _rows(self) -> dict[str, dict[str, Any]]:
        bucket = self.site.buckets["status"]
        rows = {m.subject.removeprefix(f"$KV.{bucket.name}."): m.data for m in bucket.stream.messages.values()}
        return {key: msgspec.json.decode(data) for key, data in rows.items() if data}


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
