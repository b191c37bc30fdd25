"""The Python client while NATS nodes and replicas die: every answer it gave is what is found at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scheduler.client import Client
from scheduler.core.errors import Conflict, NotFound, Unavailable, Unsure
from tests.acceptance.harness import Site
from tests.nats_servers import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
GONE: dict[str, Any] = {}


class User:
    """Works on a few schedules of its own; `believes` what may be stored of each: one state, or more when unsure."""

    def __init__(self, client: Client, number: int, dice: random.Random) -> None:
        self.client, self.dice = client, dice
        self.ids = [f"u{number}-{letter}" for letter in "abc"]
        self.believes: dict[str, list[dict[str, Any]]] = {each: [GONE] for each in self.ids}
        self.runs: list[str] = []
        self.unsure = self.sure = 0

    async def work(self, until_s: float) -> None:
        clock = asyncio.get_running_loop().time
        verbs: list[Callable[[str], Awaitable[None]]] = [
            self.put, self.put, self.create, self.edit, self.pause, self.delete, self.read, self.trigger, self.trigger,
        ]  # fmt: skip
        while clock() < until_s:
            await self.dice.choice(verbs)(self.dice.choice(self.ids))
            await asyncio.sleep(0.02)

    def _definition(self) -> dict[str, Any]:
        return {"manual": True, "queue": "Q", "type": "t", "overlap": "allow", "payload": self.dice.randrange(10**9)}

    async def _write(self, schedule_id: str, after: dict[str, Any], call: Awaitable[Any]) -> Any:
        """One write: done, not done, or nobody can tell."""
        try:
            reply = await call
        except (NotFound, Conflict):
            raise
        except Unavailable:  # "stored, not yet applied", or no answer: see Unsure
            self.unsure += 1
            self.believes[schedule_id] = [*self.believes[schedule_id], after]
            return None
        self.sure += 1
        self.believes[schedule_id] = [after]
        return reply

    async def put(self, schedule_id: str) -> None:
        definition = self._definition()
        believed = self.believes[schedule_id]
        states = [{**definition, **({"paused": True} if old.get("paused") else {})} for old in believed]
        try:
            await self.client.schedules.put(schedule_id, definition)
        except Unavailable:
            self.unsure += 1
            self.believes[schedule_id] = [*believed, *states]
        else:
            self.sure += 1
            self.believes[schedule_id] = states

    async def create(self, schedule_id: str) -> None:
        """Create only: refused where it exists, and never refused because of our own first try."""
        definition = self._definition()
        try:
            await self._write(schedule_id, definition, self.client.schedules.put(schedule_id, definition,
                                                                                 expected_revision=0))  # fmt: skip
        except Conflict:
            assert self.believes[schedule_id] != [GONE]
            self.believes[schedule_id] = [each for each in self.believes[schedule_id] if each != GONE]

    async def edit(self, schedule_id: str) -> None:
        """Read, change, write back with the revision: nobody else writes here, so a conflict would be our own."""
        item = await self._item(schedule_id)
        if item is None:
            return
        definition = {**item.definition, "payload": self.dice.randrange(10**9)}
        await self._write(
            schedule_id, definition, self.client.schedules.put(schedule_id, definition, expected_revision=item.revision)
        )

    async def pause(self, schedule_id: str) -> None:
        item = await self._item(schedule_id)
        if item is None:
            return
        if item.definition.get("paused"):
            definition = {name: value for name, value in item.definition.items() if name != "paused"}
            await self._write(schedule_id, definition, self.client.schedules.resume(schedule_id))
        else:
            await self._write(
                schedule_id, {**item.definition, "paused": True}, self.client.schedules.pause(schedule_id)
            )

    async def delete(self, schedule_id: str) -> None:
        try:
            await self._write(schedule_id, GONE, self.client.schedules.delete(schedule_id))
        except NotFound:
            assert GONE in self.believes[schedule_id]
            self.believes[schedule_id] = [GONE]

    async def read(self, schedule_id: str) -> None:
        await self._item(schedule_id)

    async def trigger(self, schedule_id: str) -> None:
        try:
            reply = await self.client.schedules.trigger(schedule_id)
        except NotFound:
            assert GONE in self.believes[schedule_id]
        except Unavailable:
            self.unsure += 1
        else:
            self.sure += 1
            self.runs.append(reply.execution_id)

    async def _item(self, schedule_id: str) -> Any:
        """What is stored, which must be something we believe in; from then on only that."""
        try:
            item = await self.client.schedules.get(schedule_id)
        except NotFound:
            found = GONE
        except Unavailable:
            return None
        else:
            found = item.definition
        assert found in self.believes[schedule_id], (schedule_id, found, self.believes[schedule_id])
        if self.unsure == 0:
            self.believes[schedule_id] = [found]
        return item if found != GONE else None


async def test_mixed_operations_while_leaders_die(wide: Site, cluster: Cluster, dice: random.Random) -> None:
    """Two nodes that lead our streams are killed one after the other, then a replica: no answer was wrong.

    What was answered is so at the end, what was refused is not, and only what raised Unsure (or "not yet applied") may
    be either; a trigger that was answered is exactly one execution, and its end is seen by who waits for it.
    """
    replicas = await wide.replicas("a", "b")
    wide.worker("Q")
    clock = asyncio.get_running_loop().time
    async with Client.connect(cluster.urls, name="test") as client:
        users = [User(client, number, dice) for number in range(3)]
        working = [asyncio.create_task(user.work(clock() + 24)) for user in users]
        for stream in ("KV_schedd-schedules", "KV_schedd-executions"):
            await asyncio.sleep(2)
            name = await cluster.leader_of(stream)
            await cluster.kill(name)
            await asyncio.sleep(6)
            await cluster.start(name)
        await replicas[0].kill()
        wide.replica("a")
        await asyncio.gather(*working)
        for user in users:
            await settled(user)
        runs = [run for user in users for run in user.runs]
        assert len(runs) == len(set(runs))
        ends = await asyncio.gather(*(client.wait(run, timeout=60) for run in runs[-40:]))
        assert {record.state for record in ends} <= {"succeeded", "cancelled"}, ends
        for user in users:
            for schedule_id in user.ids:
                found = {record.id async for record in client.executions.list(schedule=schedule_id)}
                told = {run for run in user.runs if run.startswith(f"{schedule_id}.")}
                assert told <= found
                assert len(found - told) <= user.unsure
    sure, unsure = sum(user.sure for user in users), sum(user.unsure for user in users)
    print(f"{sure} writes answered, {unsure} unsure, {len(runs)} runs")
    assert sure > 40
    assert unsure <= 3 + sure // 10


async def settled(user: User) -> None:
    """What is found is what was answered."""
    for schedule_id in user.ids:
        async with asyncio.timeout(30):
            while True:
                try:
                    item = await user.client.schedules.get(schedule_id)
                    found = item.definition
                except NotFound:
                    found = GONE
                except Unsure:
                    continue
                break
        assert found in user.believes[schedule_id], (schedule_id, found, user.believes[schedule_id])
