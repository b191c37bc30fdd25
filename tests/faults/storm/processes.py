"""The real run: nats-servers, three replicas, plain workers, and kill -9 of whoever leads. Comes to a `History`.

history = await storm(plan, folder, tell=print)
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tests.acceptance.evidence import Delivery
from tests.acceptance.harness import TERMINAL, Site, eventually, roomy_server, utc_now
from tests.acceptance.processes import PlainWorker, Replica
from tests.faults.storm.asking import audits, states
from tests.faults.storm.figures import History, Kill, Plan, Term
from tests.faults.storm.load import QUEUES, Load, load_of
from tests.nats_servers import Cluster

REPLICAS = ("a", "b", "c")
WORKERS_PER_QUEUE = 2
AHEAD = timedelta(seconds=10)
"""Between the first put and the first fire: every schedule is known by then."""
PUTS_AT_ONCE = 50
AWAY_S = (0.0, 1.0)
"""A replica that was killed is started again after so long."""
SETTLE_S, SETTLE_EVERY_S = 90.0, 5.0
TELL_EVERY_S = 10.0
Tell = Callable[[str], None]


class Line(Struct):
    """What we need of a line of evidence; a long run has hundreds of thousands."""

    id: str
    seq: int
    delivered: int
    at: datetime
    nominal_at: datetime


_LINE = msgspec.json.Decoder(Line)


def delivery_in(text: bytes) -> Delivery:
    """One line of evidence."""
    line = _LINE.decode(text)
    return Delivery(id=line.id, seq=line.seq, delivered=line.delivered, at=line.at, nominal_at=line.nominal_at)


class Evidence:
    """The files of all workers, read on from where the last look ended."""

    def __init__(self, workers: list[PlainWorker]) -> None:
        self._places: dict[Path, int] = {each.evidence_place: 0 for each in workers}
        self.deliveries: list[Delivery] = []
        self.ids: set[str] = set()

    def read_on(self) -> None:
        for place, read in self._places.items():
            with place.open("rb") as file:
                file.seek(read)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._places[place] = read + len(whole) + len(newline)
            for text in whole.split(b"\n") if newline else ():
                self._keep(delivery_in(text))

    def _keep(self, delivery: Delivery) -> None:
        self.ids.add(delivery.id)
        self.deliveries.append(delivery)


class Killer:
    """Kills whoever leads, at its pace, and starts it again."""

    def __init__(self, site: Site, plan: Plan, env: Mapping[str, str]) -> None:
        self._site, self._plan, self._env = site, plan, env
        self._dice = random.Random(plan.seed)
        self._dead: set[str] = set()
        self._returning: set[asyncio.Task[None]] = set()
        self.kills: list[Kill] = []
        self.ends: dict[str, datetime] = {}
        """When each process that was killed had ended, by its name."""
        self.gave_up: list[str] = []
        """Replicas that ended by themselves, with their exit codes; they are started again, as a supervisor would."""

    @property
    def wanted(self) -> bool:
        return not self._plan.undisturbed

    async def run(self, until: datetime) -> None:
        """Until then; at each turn it waits for a leader that it has not killed yet."""
        try:
            while (next_at := utc_now() + timedelta(seconds=self._plan.kill_every_s)) < until:
                await asyncio.sleep((next_at - utc_now()).total_seconds())
                victim = await self._leader(within_s=(until - utc_now()).total_seconds())
                if victim is not None:
                    await self._kill(victim)
        finally:
            await asyncio.gather(*self._returning)

    async def _leader(self, *, within_s: float) -> Replica | None:
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            self._tend()
            with contextlib.suppress(Exception):  # NATS is busy: look again
                held = await self._site.leader_record()
                if held.get("holder") and held["holder"] not in self._dead:
                    found = running(self._site, str(held["replica"]))
                    if found is not None:
                        self._dead.add(held["holder"])
                        return found
            await asyncio.sleep(0.05)
        return None

    async def _kill(self, victim: Replica) -> None:
        label = label_of(victim.name)
        self.kills.append(Kill(utc_now(), label))
        await victim.kill()
        self.ends[victim.name] = utc_now()
        task = asyncio.create_task(self._return(label, self._dice.uniform(*AWAY_S)))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    def _tend(self) -> None:
        for each in [each for each in self._site.processes if isinstance(each, Replica)]:
            if each.exit_code is not None and each.name not in self.ends:
                self.ends[each.name] = utc_now()
                self.gave_up.append(f"{each.name}: {each.exit_code}")
                self._site.replica(label_of(each.name), **self._env)

    async def _return(self, label: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._site.replica(label, **self._env)


def running(site: Site, label: str) -> Replica | None:
    """The process of that label that runs; there is at most one."""
    for each in site.processes:
        if isinstance(each, Replica) and label_of(each.name) == label and each.exit_code is None:
            return each
    return None


def terms_of(site: Site, ends: Mapping[str, datetime], over: datetime) -> list[Term]:
    """Every term that a replica has logged, oldest first."""
    replicas = [each for each in site.processes if isinstance(each, Replica)]
    found = [
        term for each in replicas for term in terms_in(each.lines(), label_of(each.name), ends.get(each.name, over))
    ]
    return sorted(found, key=lambda term: term.began)


def terms_in(lines: Iterable[Mapping[str, Any]], replica: str, end: datetime) -> list[Term]:
    """The terms in one log; the last one ends by the replica's own word, or with its process or the run."""
    found: list[Term] = []
    gained: tuple[int, datetime] | None = None
    for line in [*lines, {"event": "leadership_lost", "at": end.isoformat()}]:
        if line.get("event") not in {"leadership_gained", "leadership_lost"}:
            continue
        at = datetime.fromisoformat(str(line["at"]))
        if gained is not None:
            epoch, began = gained
            found.append(Term(epoch, replica, began, max(began, at)))
        gained = (int(line["epoch"]), at) if line["event"] == "leadership_gained" else None
    return found


def label_of(name: str) -> str:
    """Of a process; the second of a label is called `a.1`."""
    return name.partition(".")[0]


@contextlib.asynccontextmanager
async def servers(nodes: int, folder: Path) -> AsyncIterator[str]:
    """One nats-server or a cluster; its URLs."""
    if nodes > 1:
        async with Cluster(nodes) as cluster:
            yield cluster.urls
        return
    server = roomy_server(folder)
    await server.start()
    try:
        yield server.url
    finally:
        await server.kill()


async def storm(plan: Plan, folder: Path, *, tell: Tell) -> History:
    """Run it. Raises AssertionError where the run cannot even begin."""
    env = {
        "SCHEDD_LEASE": f"{plan.lease_s:g}",
        "SCHEDD_HORIZON": f"{plan.horizon_s:g}s",
        "SCHEDD_STREAM_REPLICAS": str(plan.nodes),
    }
    async with servers(plan.nodes, folder) as url, Site(folder, url, env=env) as site:
        await site.replicas(*REPLICAS)
        await site.leader()
        workers = [site.worker(queue) for queue in QUEUES for _ in range(WORKERS_PER_QUEUE)]
        evidence = Evidence(workers)
        load = load_of(plan.rate, utc_now() + AHEAD, plan.length_s)
        await _put_all(site, load)
        tell(f"{len(load.definitions)} schedules; the first fires at {load.began:%H:%M:%S}")
        killer = Killer(site, plan, env)
        await _through(load, killer, evidence, tell)
        await _settled(site, load, evidence, tell)
        tell("reading records, auditing every schedule")
        return History(
            began=load.began,
            ended=load.ended,
            expected=load.owed(),
            deliveries=evidence.deliveries,
            records=await states(site),
            audits=await audits(site, load),
            kills=killer.kills,
            terms=terms_of(site, killer.ends, load.ended),
            gave_up=killer.gave_up,
        )


async def _put_all(site: Site, load: Load) -> None:
    turns = asyncio.Semaphore(PUTS_AT_ONCE)

    async def put(id_: str) -> None:
        async with turns:
            await site.put(id_, load.definitions[id_])

    await asyncio.gather(*(put(id_) for id_ in load.definitions))
    left_s = (load.began - utc_now()).total_seconds()
    assert left_s > 1.5, f"the machine is too slow: {left_s:.1f} s are left when all schedules are stored"


async def _through(load: Load, killer: Killer, evidence: Evidence, tell: Tell) -> None:
    """From now to the end of the load, with the killer at work if there is one."""
    await asyncio.sleep((load.began - utc_now()).total_seconds())
    killing = asyncio.create_task(killer.run(load.ended)) if killer.wanted else None
    try:
        while (left_s := (load.ended - utc_now()).total_seconds()) > 0:
            await asyncio.sleep(min(left_s, TELL_EVERY_S))
            evidence.read_on()
            left_s = max(0.0, left_s - TELL_EVERY_S)
            tell(f"{len(evidence.ids)} delivered, {len(killer.kills)} kills, {left_s:.0f} s left")
        if killing is not None:
            await killing
    finally:
        if killing is not None:
            killing.cancel()


async def _settled(site: Site, load: Load, evidence: Evidence, tell: Tell) -> None:
    """Until everything is delivered and every record has its end; what is not by then is told by the checker."""
    must = load.owed().must.keys()
    until_s = time.monotonic() + SETTLE_S

    async def delivered() -> bool:
        evidence.read_on()
        return must <= evidence.ids

    with contextlib.suppress(AssertionError):
        await eventually(delivered, within_s=SETTLE_S)
    while time.monotonic() < until_s:
        stored = await states(site)
        left = sum(stored.get(id_, {}).get("state") not in TERMINAL for id_ in must)
        if not left:
            return
        tell(f"{left} records have not ended yet")
        await asyncio.sleep(SETTLE_EVERY_S)
