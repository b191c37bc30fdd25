"""The nemesis: breaks one thing at a time and mends it, in an order that the seed decides, with quiet in between.

Each fault says whether it was seen to happen: the process is gone, every thread of it stopped, a connection was cut.
One replica is never killed, so that its memory tells of the whole run; it is stopped and cut off all the more.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from tests.acceptance.harness import Site, utc_now
from tests.acceptance.processes import PlainWorker, Process, Replica
from tests.faults.proxy import Proxy
from tests.faults.soak.history import Strike
from tests.nats_servers import Server

SURVIVOR = "far"
MORTAL = ("a", "b")
QUIET_SHARE = 0.25
QUIET_S = 4.0
BETWEEN_S = (0.5, 3.0)
Fault = Callable[[], Awaitable[bool]]
Tell = Callable[[str], None]


class Nemesis:
    """`env`: settings of every replica. The survivor is behind the proxy, the workers are not."""

    def __init__(
        self, site: Site, servers: Mapping[str, Server], proxy: Proxy, dice: random.Random, env: Mapping[str, str]
    ) -> None:
        self._site, self._servers, self._proxy, self._dice, self._env = site, servers, proxy, dice, env
        self._deck: list[Fault] = []
        self.strikes: list[Strike] = []
        self.ends: dict[str, datetime] = {}
        """When each replica that was killed had ended, by the name of its process."""

    def start(self, label: str) -> Replica:
        url = self._proxy.url if label == SURVIVOR else self._site.url
        return self._site.replica(label, **{**self._env, "NATS_URL": url})

    def tend(self) -> None:
        """What a supervisor does: a replica that could not start while NATS was away is started again."""
        for label in set(MORTAL) - {_label(each) for each in self._replicas()}:
            self.start(label)

    @property
    def survivor(self) -> Replica:
        return next(each for each in self._site.processes if isinstance(each, Replica) and _label(each) == SURVIVOR)

    async def run(self, until: datetime, tell: Tell) -> None:
        """Until then. What it began it mends."""
        while utc_now() < until:
            self.tend()
            fault = self._next()
            began = utc_now()
            happened = await fault()
            self.strikes.append(Strike(_name(fault), began, utc_now(), happened))
            tell(f"{_name(fault)}, {(utc_now() - began).total_seconds():.1f} s{'' if happened else ': DID NOT HAPPEN'}")
            await asyncio.sleep(self._dice.uniform(*BETWEEN_S))
        self.tend()

    def _next(self) -> Fault:
        if not self._deck:
            self._deck = self._shuffled()
        return self._deck.pop()

    def _shuffled(self) -> list[Fault]:
        """Each fault once, in any order, and some quiet: see `quiet`."""
        faults: list[Fault] = [
            self.kill_replica, self.kill_every_replica, self.restart_replica, self.stop_replica, self.stop_survivor,
            self.kill_nats, self.restart_nats, self.stop_nats, self.kill_worker, self.stop_worker,
        ]  # fmt: skip
        # the nodes of a cluster tell clients of each other: whoever is cut off from one is soon beside the proxy
        links: list[Fault] = [self.cut_link, self.silence_link]
        faults += [self.kill_most_of_nats] if len(self._servers) > 1 else links
        quiet = round(len(faults) * QUIET_SHARE / (1 - QUIET_SHARE))
        deck = [*faults, *[self.quiet] * quiet]
        self._dice.shuffle(deck)
        return deck

    # --- replicas

    async def kill_replica(self) -> bool:
        return await self._end_replicas([self._dice.choice(self._mortals())], within_s=1)

    async def kill_every_replica(self) -> bool:
        """The survivor is stopped for so long: nobody is there."""
        stopped = await self._stop(self.survivor)
        killed = await self._end_replicas(self._mortals(), within_s=3)
        self.survivor.signal(signal.SIGCONT)
        return stopped and killed

    async def restart_replica(self) -> bool:
        """SIGTERM, and a successor once it has ended."""
        victim = self._dice.choice(self._mortals())
        victim.signal(signal.SIGTERM)
        code = await victim.ended(within_s=30)
        self.ends[victim.name] = utc_now()
        self.start(_label(victim))
        return code == 0 or not victim.events("ready")

    async def stop_replica(self) -> bool:
        return await self._stop_for_a_while(self._dice.choice(self._mortals()), 0.5, 6)

    async def stop_survivor(self) -> bool:
        return await self._stop_for_a_while(self.survivor, 0.5, 6)

    # --- NATS

    async def kill_nats(self) -> bool:
        return await self._end_nodes(1, hard=True)

    async def restart_nats(self) -> bool:
        return await self._end_nodes(1, hard=False)

    async def kill_most_of_nats(self) -> bool:
        """Two of three: no majority."""
        return await self._end_nodes(len(self._servers) // 2 + 1, hard=True)

    async def restart_all_nats(self) -> bool:
        """One after the other, by kill -9. No fault of the deck: it ends the warm-up."""
        for server in self._servers.values():
            await server.kill()
            await server.start()
        return True

    async def stop_nats(self) -> bool:
        server = self._dice.choice(list(self._servers.values()))
        server.pause()
        await asyncio.sleep(self._dice.uniform(0.5, 5))
        happened = server.is_stopped
        server.resume()
        return happened

    # --- links and workers

    async def cut_link(self) -> bool:
        happened = False
        for _ in range(self._dice.randint(1, 3)):
            happened |= self._proxy.is_used
            self._proxy.cut()
            await asyncio.sleep(self._dice.uniform(0, 1))
        return happened

    async def silence_link(self) -> bool:
        happened = self._proxy.is_used
        self._proxy.silence()
        await asyncio.sleep(self._dice.uniform(0.5, 6))
        self._proxy.heal()
        return happened

    async def kill_worker(self) -> bool:
        """Its evidence stays; its successor has a file of its own."""
        victim = self._dice.choice(self._workers())
        await victim.kill()
        self._site.worker(victim.queue, victim.how)
        return victim.exit_code == -signal.SIGKILL

    async def stop_worker(self) -> bool:
        """For longer than the ack wait."""
        return await self._stop_for_a_while(self._dice.choice(self._workers()), 4, 6)

    async def quiet(self) -> bool:
        await asyncio.sleep(QUIET_S)
        return True

    # --- how

    def _replicas(self) -> list[Replica]:
        return [each for each in self._site.processes if isinstance(each, Replica) and each.exit_code is None]

    def _mortals(self) -> list[Replica]:
        self.tend()
        return [each for each in self._replicas() if _label(each) != SURVIVOR]

    def _workers(self) -> list[PlainWorker]:
        return [each for each in self._site.processes if isinstance(each, PlainWorker) and each.exit_code is None]

    async def _end_replicas(self, victims: list[Replica], *, within_s: float) -> bool:
        await asyncio.gather(*(each.kill() for each in victims))
        self.ends |= {each.name: utc_now() for each in victims}
        await asyncio.sleep(self._dice.uniform(0, within_s))
        for each in victims:
            self.start(_label(each))
        return all(each.exit_code == -signal.SIGKILL for each in victims)

    async def _end_nodes(self, count: int, *, hard: bool) -> bool:
        victims = self._dice.sample(list(self._servers.values()), count)
        await asyncio.gather(*(each.kill() if hard else each.stop() for each in victims))
        happened = all(each.pid is None for each in victims)
        await asyncio.sleep(self._dice.uniform(0, 3))
        for each in victims:
            each.spawn()
        await asyncio.gather(*(each.ready() for each in victims))
        return happened

    async def _stop(self, victim: Process) -> bool:
        victim.signal(signal.SIGSTOP)
        await victim.stopped()
        return victim.is_stopped

    async def _stop_for_a_while(self, victim: Process, least_s: float, most_s: float) -> bool:
        happened = await self._stop(victim)
        await asyncio.sleep(self._dice.uniform(least_s, most_s))
        victim.signal(signal.SIGCONT)
        return happened


def _label(replica: Process) -> str:
    return replica.name.partition(".")[0]


def _name(fault: Fault) -> str:
    return str(getattr(fault, "__name__", fault))
