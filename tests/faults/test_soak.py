"""Everything at once, for minutes, in an order the seed decides; a quarter of the time is quiet.

It only counts if its faults really occurred: take-overs, redeliveries, refused or repeated work.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from tests.acceptance.evidence import Expected, on_grid
from tests.acceptance.harness import Site, utc_now
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import PlainWorker, Replica
from tests.faults.proxy import Proxy
from tests.nats_servers import Server

ENV = {"SCHEDD_HORIZON": "30s", "SCHEDD_ACK_WAIT": "2s"}
"""Longer than any outage here: what an edited definition owed between the watermark and the edit, nobody knows any more
once it is replaced unseen (history 1), so that an edit in a longer outage takes back what was not armed."""
Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """Breaks one thing at a time and mends it."""

    def __init__(self, site: Site, server: Server, proxy: Proxy, dice: random.Random) -> None:
        self.site, self.server, self.proxy, self.dice = site, server, proxy, dice
        self.done: Counter[str] = Counter()
        self.deck: list[Fault] = []

    def start(self, name: str) -> Replica:
        url = self.proxy.url if name == "far" else self.site.url
        return self.site.replica(name, NATS_URL=url, **ENV)

    def alive(self) -> list[Replica]:
        return [each for each in self.site.processes if isinstance(each, Replica) and each.exit_code is None]

    async def kill_a_replica(self) -> None:
        victim = self.dice.choice(self.alive())
        await victim.kill()
        await asyncio.sleep(self.dice.uniform(0, 1))
        self.start(victim.name.split(".")[0])

    async def kill_all_replicas(self) -> None:
        names = [each.name.split(".")[0] for each in self.alive()]
        await asyncio.gather(*(each.kill() for each in self.alive()))
        await asyncio.sleep(self.dice.uniform(0, 3))
        for name in names:
            self.start(name)

    async def restart_a_replica(self) -> None:
        victim = self.dice.choice(self.alive())
        victim.signal(signal.SIGTERM)
        code = await victim.ended()
        assert code == 0 or not victim.events("ready"), code
        self.start(victim.name.split(".")[0])

    async def stall_a_replica(self) -> None:
        victim = self.dice.choice(self.alive())
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.5, 6))
        victim.signal(signal.SIGCONT)

    async def kill_nats(self) -> None:
        await self.server.kill()
        await asyncio.sleep(self.dice.uniform(0, 3))
        await self.server.start()

    async def stall_nats(self) -> None:
        self.server.pause()
        await asyncio.sleep(self.dice.uniform(0.5, 5))
        self.server.resume()

    async def cut_a_link(self) -> None:
        for _ in range(self.dice.randint(1, 3)):
            self.proxy.cut()
            await asyncio.sleep(self.dice.uniform(0, 1))

    async def silence_a_link(self) -> None:
        self.proxy.silence()
        await asyncio.sleep(self.dice.uniform(0.5, 6))
        self.proxy.heal()

    async def stall_a_worker(self) -> None:
        victim = self.dice.choice([each for each in self.site.processes if isinstance(each, PlainWorker)])
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(3, 5))  # longer than the ack wait
        victim.signal(signal.SIGCONT)

    async def nothing(self) -> None:
        await asyncio.sleep(2)

    def tend(self) -> None:
        """What a supervisor does: a replica that could not start while NATS was away is started again."""
        for name in {"a", "b", "far"} - {each.name.split(".")[0] for each in self.alive()}:
            self.done["gave_up"] += 1
            self.start(name)

    async def strike(self) -> None:
        self.tend()
        if not self.deck:
            self.deck = self.shuffled()
        fault = self.deck.pop()
        print(f"{utc_now():%H:%M:%S.%f} {fault.__name__}")
        self.done[fault.__name__] += 1
        await fault()
        await asyncio.sleep(self.dice.uniform(0, 2))

    def shuffled(self) -> list[Fault]:
        """Each fault once, and as much quiet as makes a quarter."""
        faults: list[Fault] = [
            self.kill_a_replica, self.kill_all_replicas, self.restart_a_replica, self.stall_a_replica, self.kill_nats,
            self.stall_nats, self.cut_a_link, self.silence_a_link, self.stall_a_worker, *[self.nothing] * 3,
        ]  # fmt: skip
        self.dice.shuffle(faults)
        return faults


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run_s", [180])
async def test_a_soak_loses_and_doubles_nothing(site: Site, server: Server, dice: random.Random, run_s: int) -> None:
    """Fifty schedules that stay as they are, and some that are edited all the time: the grid of each is kept."""
    async with Proxy(site.url) as proxy:
        nemesis = Nemesis(site, server, proxy, dice)
        started = [nemesis.start(name) for name in ("a", "b", "far")]
        await asyncio.gather(*(replica.ready() for replica in started))
        workers = [site.worker("herd"), site.worker("herd")]
        puts = await put_many(site, 50)
        tick = {"every": "1s", "queue": "herd", "type": "edited", "overlap": "allow"}
        edited = {f"edited-{n}": await site.put(f"edited-{n}", tick) for n in range(5)}
        await asyncio.sleep(3)
        until, edits = utc_now() + timedelta(seconds=run_s), 0

        async def edit() -> None:
            nonlocal edits
            while True:
                await asyncio.sleep(0.7)
                edits += 1
                try:
                    await site.put(f"edited-{edits % 5}", {**tick, "payload": edits})
                except Exception:  # NATS is away: an edit more or less
                    await asyncio.sleep(0.5)

        editing = asyncio.create_task(edit())
        try:
            while utc_now() < until:
                await nemesis.strike()
        finally:
            editing.cancel()
            await asyncio.gather(editing, return_exceptions=True)
        nemesis.tend()
        await asyncio.sleep(20)
        print(dict(nemesis.done), f"{edits} edits")
        expected: Expected = expected_of(puts)
        for id_, put in edited.items():
            expected |= on_grid(
                id_, timedelta(seconds=1), put.at, utc_now(), may_until=utc_now() + timedelta(minutes=5)
            )
        findings = await site.verify(expected, workers, late_max_s=60, within_s=120)
    assert sum(nemesis.done.values()) > run_s / 8
    assert findings.redelivered, "no worker was ever stalled or cut off: nothing was tested"
