"""One history: a seed's schedules, edits and troubles, and then the quiet in which everything must come to its end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from scheduler.core.lifecycle import can_redrive
from scheduler.core.model.execution import Execution, Kind
from scheduler.core.model.schedule import After, Overlap
from scheduler.core.overlap import Terms
from scheduler.memory.clock import START
from scheduler.wire.instants import format_instant
from tests.unit.simulation.site import Replica, Site
from tests.unit.simulation.upheaval import Upheaval
from tests.unit.simulation.workers import TYPE, PlainWorkers, SdkWorkers, Workers

ACTIVE_S = 40.0
POLICIES = ("skip", "allow", "allow", "buffer_one", "buffer_all", "latest", "cancel_other", "terminate_other")
QUIET_MAX_S = 600.0
PEACE_MAX_S = 200.0  # twice the longest that a repair may take
TRAPS = ("commit", "commit", "commit", "publish", "put_many", "take_office", "withhold")
GARBAGE = (b"", b"{", b"\xff\x00", b'{"cron": "0 0 30 2 *", "queue": "plain", "type": "t"}', b'{"every": "2s"}')


class Client:
    """Somebody with a NATS client who cannot make up his mind. Queue and overlap policy of a schedule stay."""

    def __init__(self, site: Site, count: int) -> None:
        self.site, self.rng = site, random.Random(site.rng.random())
        self.schedules: dict[str, dict[str, Any]] = {}
        for number in range(count):
            fixed: dict[str, Any] = {"queue": self.rng.choice(["plain", "sdk"]), "type": TYPE}
            fixed["overlap"] = self.rng.choice(POLICIES)
            if fixed["overlap"] != "skip" and self.rng.random() < 0.4:
                fixed["max_running"] = self.rng.randint(1, 3)
            if self.rng.random() < 0.25:
                fixed["start_deadline"] = self.rng.choice(["500ms", "2s", "8s"])
            if self.rng.random() < 0.25:
                fixed["deadline"] = self.rng.choice(["1s", "3s", "10s"])
            fixed["max_tries"] = self.rng.randint(1, 3)
            self.schedules[f"s{number}"] = fixed
        self.answers: dict[str, list[str]] = {}
        """Execution ids that were told, by nonce."""

    def limit_of(self, schedule_id: str) -> int | None:
        fixed = self.schedules[schedule_id]
        if fixed["overlap"] == "terminate_other":
            return None  # it does not wait for the end of what it terminates
        return Terms(Overlap(fixed["overlap"]), fixed.get("max_running")).limit

    async def run(self) -> None:
        for schedule_id in self.schedules:
            self._put(schedule_id)
            await asyncio.sleep(self.rng.expovariate(3))
        while True:
            await asyncio.sleep(self.rng.expovariate(0.5))
            schedule_id = self.rng.choice(list(self.schedules))
            if self.rng.random() < 0.25:
                await self._click(schedule_id)
            else:
                self._edit(schedule_id)

    async def _click(self, schedule_id: str) -> None:
        """Ask for a run, several times with one nonce: it is not known who answers, nor whether he does."""
        nonce = f"n{len(self.answers)}"
        self.answers[nonce] = []
        body = msgspec.json.encode({"id": schedule_id, "nonce": nonce})
        asked = [asyncio.ensure_future(self._ask(body)) for _ in range(self.rng.randint(1, 3))]
        try:
            await asyncio.wait(asked, timeout=10)
        finally:
            for each in asked:
                each.cancel()
            told = await asyncio.gather(*asked, return_exceptions=True)
        self.answers[nonce] += [each for each in told if isinstance(each, str)]

    async def _ask(self, body: bytes) -> str | None:
        await asyncio.sleep(self.rng.choice([0.0, 0.1, 2.0]))
        replica = self.rng.choice(self.site.alive) if self.site.alive else None
        if replica is None or replica.wiring is None:
            return None
        answer = await replica.wiring.api.answer("schedule.trigger", body)
        reply = msgspec.json.decode(answer.body)
        return str(reply["execution_id"]) if "execution_id" in reply else None

    def close(self, *, besides: Collection[str] = ()) -> None:
        """Nothing is to fire any more; half of the schedules go, the others stay without a trigger."""
        for schedule_id, fixed in self.schedules.items():
            if schedule_id in besides:
                continue
            if self.rng.random() < 0.5:
                self.site.remove(schedule_id)
            else:
                self.site.put(schedule_id, msgspec.json.encode(fixed | {"manual": True}))

    def _edit(self, schedule_id: str) -> None:
        kind = self.rng.random()
        if kind < 0.1:
            self.site.remove(schedule_id)
        elif kind < 0.2:
            self.site.put(schedule_id, self.rng.choice(GARBAGE))
        else:
            self._put(schedule_id)

    def _put(self, schedule_id: str) -> None:
        document = self.schedules[schedule_id] | self._trigger()
        if self.rng.random() < 0.2:
            document["start_delay"] = self.rng.choice(["500ms", "3s"])
        if self.rng.random() < 0.2:
            document["jitter"] = self.rng.choice(["400ms", "5s"])
        if self.rng.random() < 0.1:
            document["ends_at"] = format_instant(self.site.later(self.rng.uniform(1, 20)))
        if "at" not in document and self.rng.random() < 0.2:
            document["paused"] = True
            if self.rng.random() < 0.7:
                document["paused_until"] = format_instant(self.site.later(self.rng.uniform(0, 8)))
        self.site.put(schedule_id, msgspec.json.encode(document))

    def _trigger(self) -> dict[str, Any]:
        match self.rng.randrange(5):
            case 0:
                return {"every": self.rng.choice(["1s", "2s", "5s"])}
            case 1:
                return {"cron": self.rng.choice(["* * * * * *", "*/3 * * * * *", "5/20 * * * * *"])}
            case 2:
                return {"after": self.rng.choice(["1s", "2s", "5s"])}
            case 3:
                instants = sorted(self.site.later(self.rng.uniform(-5, 20)) for _ in range(self.rng.randint(1, 4)))
                return {"at": [format_instant(each.replace(microsecond=0)) for each in instants]}
            case _:
                return {"every": "1s", "anchor": "2026-11-21T00:00:00.250Z"}


class Regret:
    """Somebody who looks at what has ended, and wants some of it again; and who cancels what he has just asked for.

    His dice are his own: a history without him stays what it was.
    """

    def __init__(self, site: Site) -> None:
        self.site, self.rng = site, random.Random(f"regret {site.seed}")
        self.asked: dict[tuple[str, int], list[dict[str, Any]]] = {}
        """What was answered, by the execution and the drive that was over."""
        self.cancelled: set[str] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1.0))
            records = list(self.site.journal.last().values())
            if not records:
                continue
            if self.rng.random() < 0.2:
                await self._cancel(self.rng.choice(records[-20:]))
            else:
                ended = [each for each in records if can_redrive(each)][-30:]
                if ended:
                    await self._retry(self.rng.choice(ended))

    async def _retry(self, execution: Execution) -> None:
        """Several times, of several replicas: it is not known who answers, nor whether he does."""
        body = msgspec.json.encode({"id": execution.id, "expected_drive": execution.drive})
        told = self.asked.setdefault((execution.id, execution.drive), [])
        asked = [asyncio.ensure_future(self._ask("retry", body)) for _ in range(self.rng.randint(1, 3))]
        try:
            await asyncio.wait(asked, timeout=10)
        finally:
            for each in asked:
                each.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            told += [each for each in answers if isinstance(each, dict)]

    async def _cancel(self, execution: Execution) -> None:
        self.cancelled.add(execution.id)
        body = msgspec.json.encode({"id": execution.id, "grace": self.rng.choice(["0s", "2s"])})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ask("cancel", body), 10)

    async def _ask(self, verb: str, body: bytes) -> dict[str, Any] | None:
        await asyncio.sleep(self.rng.choice([0.0, 0.0, 0.1, 2.0]))
        replica = self.rng.choice(self.site.alive) if self.site.alive else None
        if replica is None or replica.wiring is None:
            return None
        answering = asyncio.ensure_future(replica.wiring.api.answer(f"execution.{verb}", body))
        answer = await asyncio.shield(answering)  # who asked may go; who was asked goes on (seed 407)
        return dict(msgspec.json.decode(answer.body))


class Nemesis:
    """What goes wrong with replicas, with the network, with the server. `evil` 0: nothing."""

    def __init__(self, site: Site, replicas: int, evil: float, *, traps: bool = False) -> None:
        self.site, self.rng, self.evil = site, random.Random(site.rng.random()), evil
        self._traps = random.Random(f"traps {site.seed}") if traps else None
        self.labels = [f"r{number}" for number in range(replicas)]
        self.is_over = False
        self._pending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        for label in self.labels:
            self.site.start(label)
        if self._traps is not None:
            self._spawn(self._trap(self._traps))
        while self.evil:
            await asyncio.sleep(self.rng.expovariate(0.25 * self.evil))
            act = self.rng.choice(
                [self._kill, self._kill, self._stop, self._freeze, self._watches, self._net, self._down]
            )
            self._spawn(act())

    async def end(self) -> None:
        """Peace: everything runs, and every label has a replica again."""
        self.is_over = True
        await asyncio.gather(*self._pending)
        self.site.trouble.share = 0.0
        self.site.server.down = False
        for each in self.site.replicas:
            each.network.thaw()
        missing = set(self.labels) - {each.label for each in self.site.alive}
        for label in sorted(missing):
            self.site.start(label)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _sleep(self, seconds: float) -> None:
        while seconds > 0 and not self.is_over:
            await asyncio.sleep(min(1.0, seconds))
            seconds -= 1.0

    def _victim(self) -> Replica | None:
        return self.rng.choice(self.site.alive) if self.site.alive else None

    async def _kill(self) -> None:
        await self._end_one("kill", lambda victim: victim.kill())

    async def _stop(self) -> None:
        await self._end_one("stop", lambda victim: victim.stop())

    async def _end_one(self, kind: str, end: Callable[[Replica], Coroutine[Any, Any, None]]) -> None:
        victim = self._victim()
        if victim is None:
            return
        self.site.trouble.note(kind)
        victim.is_over = True
        victim.network.thaw()
        await end(victim)
        await self._sleep(self.rng.choice([0.2, 2.0, 10.0]))
        self.site.start(victim.label)

    async def _freeze(self) -> None:
        victim = self._victim()
        if victim is None or victim.network.is_frozen:
            return
        self.site.trouble.note("freeze")
        victim.network.freeze()
        await self._sleep(self.rng.choice([1.0, 6.0, 12.0, 75.0]))
        victim.network.thaw()

    async def _trap(self, rng: random.Random) -> None:
        """One replica after the other stops right before a write takes effect, and goes on when all has changed."""
        trouble = self.site.trouble
        while not self.is_over:
            await self._sleep(rng.uniform(1, 6))
            trouble.trap, trouble.trapped = rng.choice(TRAPS), None
            until = self.site.later(5)
            while trouble.trapped is None and self.site.now() < until and not self.is_over:
                await asyncio.sleep(0.05)
            await self._sleep(rng.choice([2.0, 8.0, 15.0]))
            if trouble.trapped is not None:
                trouble.trapped.thaw()
        trouble.trap = None

    async def _watches(self) -> None:
        self.site.trouble.note("stalled watches")
        for bucket in self.site.buckets.values():
            for consumer in bucket.stream.consumers.values():
                if self.rng.random() < 0.3:
                    consumer.stalled = True  # type: ignore[attr-defined]

    async def _net(self) -> None:
        self.site.trouble.share = self.rng.choice([0.01, 0.05, 0.3])
        await self._sleep(self.rng.uniform(1, 10))
        self.site.trouble.share = 0.0

    async def _down(self) -> None:
        self.site.trouble.note("down")
        self.site.server.down = True
        await self._sleep(self.rng.choice([1.0, 4.0]))
        self.site.server.down = False


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
