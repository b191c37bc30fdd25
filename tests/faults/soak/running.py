"""The phases of a soak: warm-up, rest, soak, rest. Comes to a `Soak`, and to the evidence of workers in its folder."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path

from tests.acceptance.evidence import Delivery
from tests.acceptance.harness import Site, roomy_server, utc_now
from tests.faults.proxy import Proxy
from tests.faults.soak import load
from tests.faults.soak.clients import LONGEST_S, Clients
from tests.faults.soak.history import Plan, Rest, Soak, Window
from tests.faults.soak.nemesis import MORTAL, SURVIVOR, Nemesis
from tests.faults.soak.resources import Sampler
from tests.faults.soak.watching import Watcher
from tests.faults.storm.processes import delivery_in, terms_of
from tests.nats_servers import Cluster, Server

LEAD = timedelta(seconds=6)
"""Between the puts and the first fire."""
WORKERS = ((load.HERD, "ack"), (load.HERD, "ack"), (load.BUSY, f"{load.BUSY_S}"))
TAKEN_S = 30.0
"""The end of a rest, whose samples are looked at."""
SETTLE_S = 60.0
EMPTIED = ("KV_schedd-executions", "KV_schedd-schedules", "SCHEDD_TASKS", "SCHEDD_TIMELINE")
"""Nothing is left in them but what stands for ever."""
Tell = Callable[[str], None]


@contextlib.asynccontextmanager
async def nodes(count: int, folder: Path) -> AsyncIterator[tuple[str, Mapping[str, Server]]]:
    """One nats-server or a cluster: its URLs, and the servers by name."""
    if count > 1:
        async with Cluster(count) as cluster:
            yield cluster.urls, cluster.servers
        return
    server = roomy_server(folder)
    await server.start()
    try:
        yield server.url, {server.name: server}
    finally:
        await server.kill()


async def soak(plan: Plan, folder: Path, *, tell: Tell) -> Soak:
    """Run it. Raises AssertionError where the run cannot even begin."""
    env = {**load.SHORT, "SCHEDD_STREAM_REPLICAS": str(plan.nodes), "SCHEDD_LEASE": "3"}
    async with (
        nodes(plan.nodes, folder) as (url, servers),
        Site(folder, url) as site,
        Proxy(url.split(",")[0]) as proxy,
    ):
        nemesis = Nemesis(site, servers, proxy, random.Random(plan.seed), env)
        started = [nemesis.start(label) for label in (*MORTAL, SURVIVOR)]
        await asyncio.gather(*(replica.ready() for replica in started))
        for queue, how in WORKERS:
            site.worker(queue, how)
        await site.leader()
        run = _Run(plan, site, nemesis, Sampler(site, servers), tell)
        sampling = asyncio.create_task(run.sampler.run())
        try:
            return await run.through()
        finally:
            sampling.cancel()


class _Run:
    def __init__(self, plan: Plan, site: Site, nemesis: Nemesis, sampler: Sampler, tell: Tell) -> None:
        self.plan, self.site, self.nemesis, self.sampler, self.tell = plan, site, nemesis, sampler, tell
        self.rests: list[Rest] = []

    async def through(self) -> Soak:
        warm = await self._put(self.plan.warm_s)
        await self._calm(warm, random.Random(self.plan.seed))
        await self._rest()
        window = await self._put(self.plan.length_s)
        clients = Clients(self.site, random.Random(self.plan.seed), window)
        watcher = Watcher(self.site, _ticking(self.plan.rate, window), window)
        await self._storm(window, clients, watcher)
        await self._settle(clients, watcher)
        await self._rest()
        return Soak(
            plan=self.plan,
            warm=warm,
            soak=window,
            rests=self.rests,
            operations=clients.operations,
            strikes=self.nemesis.strikes,
            samples=self.sampler.samples,
            records=watcher.records,
            audits=watcher.audits,
            terms=terms_of(self.site, self.nemesis.ends, utc_now()),
            leftovers={stream: await self._subjects(stream) for stream in EMPTIED},
            survivor_exits=self._exits(),
        )

    async def _put(self, length_s: float) -> Window:
        """Put everything for a window that begins soon, between two instants of the grid."""
        began = (utc_now() + LEAD).replace(microsecond=900_000)
        window = Window(began, began + timedelta(seconds=round(length_s)))
        for id_, definition in load.standing(self.plan.rate, window).items():
            await self.site.put(id_, definition)
        assert utc_now() < began - timedelta(seconds=1), "the machine is too slow: not everything is put yet"
        self.tell(f"{self.plan.rate} fires a second from {window.began:%H:%M:%S} to {window.ended:%H:%M:%S}")
        return window

    async def _calm(self, window: Window, dice: random.Random) -> None:
        """The clients at work, and nothing broken: what is made on first use is made now. A server that has recovered
        from a kill holds more memory than one that never had to: like is compared with like."""
        clients = Clients(self.site, dice, window)
        await self._until(window, clients.run())
        await asyncio.sleep(LONGEST_S)
        await self._work_off()
        await clients.finish()
        if not self.plan.calm:
            await self.nemesis.restart_all_nats()

    async def _storm(self, window: Window, clients: Clients, watcher: Watcher) -> None:
        watching = asyncio.create_task(watcher.run())
        breaking = asyncio.create_task(self._break(window))
        try:
            await self._until(window, clients.run())
            await breaking
        finally:
            for each in (watching, breaking):
                each.cancel()
            await asyncio.gather(watching, breaking, return_exceptions=True)

    async def _break(self, window: Window) -> None:
        if not self.plan.calm:
            await asyncio.sleep((window.began - utc_now()).total_seconds())
            await self.nemesis.run(window.ended, self.tell)

    async def _until(self, window: Window, work: object) -> None:
        """Let clients work from the beginning of a window to its end; what they raise is raised at once."""
        assert asyncio.iscoroutine(work)
        await asyncio.sleep((window.began - utc_now()).total_seconds())
        task = asyncio.create_task(work)
        await asyncio.wait([task], timeout=(window.ended - utc_now()).total_seconds())
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _settle(self, clients: Clients, watcher: Watcher) -> None:
        """Everything is delivered, one-shots are over, what was parked is worked off, and the last is audited."""
        await asyncio.sleep(LONGEST_S)
        await self._work_off()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await watcher.read_once_more()
                while unsettled := watcher.unsettled():
                    self.tell(f"{len(unsettled)} records have not ended yet: {unsettled[:3]}")
                    await asyncio.sleep(5)
                    await watcher.read_once_more()
        await watcher.finish()
        await clients.finish()

    async def _work_off(self) -> None:
        """A worker for what was parked, for a moment."""
        worker = self.site.worker(load.PARKED)
        await asyncio.sleep(6)
        await worker.kill()

    async def _rest(self) -> None:
        self.tell(f"rest of {self.plan.rest_s:g} s")
        await asyncio.sleep(self.plan.rest_s)
        began = utc_now()
        await asyncio.sleep(TAKEN_S)
        self.rests.append(Rest(began, utc_now()))
        self._keep(f"connections.{len(self.rests)}.json", await self.sampler.connections())

    def _keep(self, name: str, what: bytes) -> None:
        (self.site.folder / name).write_bytes(what)

    async def _subjects(self, stream: str) -> list[str]:
        """The subjects that a stream holds messages on."""
        info = await self.site.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
        return sorted(info["state"].get("subjects") or {})

    def _exits(self) -> list[str]:
        return [] if self.nemesis.survivor.exit_code is None else [str(self.nemesis.survivor.exit_code)]


def _ticking(rate: int, window: Window) -> list[str]:
    """The ids of what fires on the grid: all but those that clients trigger."""
    return [id_ for id_, definition in load.standing(rate, window).items() if "every" in definition]


def deliveries_in(folder: Path) -> list[Delivery]:
    """The evidence of all workers of a run; a last line that a kill -9 cut short was never answered."""
    lines = (place.read_bytes().split(b"\n")[:-1] for place in sorted(folder.glob("*.evidence")))
    return [delivery_in(line) for found in lines for line in found]
