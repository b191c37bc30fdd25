"""Whoever asks for something in a history: a client that cannot make up his mind, and one that regrets what was."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection
from typing import Any

import msgspec

from scheduler.core.lifecycle import can_redrive
from scheduler.core.model.execution import Execution
from scheduler.core.model.schedule import Overlap
from scheduler.core.overlap import Terms
from scheduler.wire.instants import format_instant
from tests.unit.simulation.site import Site
from tests.unit.simulation.workers import TYPE

POLICIES = ("skip", "allow", "allow", "buffer_one", "buffer_all", "latest", "cancel_other", "terminate_other")
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
