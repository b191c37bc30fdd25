"""10,000 executions through two workers that fail, hang, block, stall and die: one end for each, no attempt twice.

What happened is told by the workers' own files, written through to the disk before a function does anything.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from tests.acceptance.attempts import TERMINAL, Note, Report, check_attempts
from tests.acceptance.evidence import grid, id_of
from tests.acceptance.harness import Site, eventually, utc_now
from tests.acceptance.processes import SdkWorker

MAX_TRIES = 5
ACK_WAIT_S = 2
PROGRAM = """
import asyncio, json, os, signal, time, zlib
from scheduler.worker import Fail, Retry, Worker

worker = Worker("sdk", concurrency=40)
file = open(os.environ["EVIDENCE"], "ab", buffering=0)

def note(ctx, what):
    file.write(json.dumps({"id": ctx.execution_id, "attempt": ctx.attempt, "what": what}).encode() + b"\\n")
    os.fsync(file.fileno())

def fate(ctx):
    return zlib.crc32(f"{os.environ['SEED']} {ctx.execution_id} {ctx.attempt}".encode()) % 1000

async def tick(payload, ctx):
    note(ctx, "start")
    number = fate(ctx)
    if number < 80:
        note(ctx, "raise")
        raise ValueError("by chance")
    if number < 100:
        note(ctx, "retry")
        raise Retry("busy", after=0.3)
    if number < 110:
        note(ctx, "fail")
        raise Fail("no use")
    if number < 130:
        note(ctx, "hang")
        await asyncio.sleep(3600)
    if number < 135:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note(ctx, "deaf")
            await asyncio.sleep(1)
    if number < 137:
        note(ctx, "block")
        time.sleep(0.7)
    if number < 138:
        note(ctx, "die")
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.02)
    note(ctx, "ok")

def tock(payload, ctx):
    note(ctx, "start")
    number = fate(ctx)
    if number < 80:
        note(ctx, "raise")
        raise ValueError("by chance")
    if number < 100:
        note(ctx, "hang")
        time.sleep(3)
        return
    time.sleep(0.02)
    note(ctx, "ok")

quick = {"initial": "200ms", "max": "1s"}
worker.task("tick", timeout="1500ms", backoff=quick, grace="300ms")(tick)
worker.task("tock", timeout="1500ms", backoff=quick, grace="300ms", concurrency=8)(tock)
worker.run()
"""
SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("schedules", "seconds"), [(30, 10), pytest.param(50, 200, marks=SLOW)])
async def test_each_execution_has_one_end_and_no_attempt_starts_twice(
    site: Site, dice: random.Random, schedules: int, seconds: int
) -> None:
    """300 in CI, 10,000 as a slow test: exactly one terminal state each, at most max_tries attempts, none twice."""
    await site.replicas("a", SCHEDD_HORIZON="8s", SCHEDD_ACK_WAIT=f"{ACK_WAIT_S}s")
    crew = Crew(site, dice)
    crew.hire()
    crew.hire()
    begin = utc_now() + timedelta(seconds=2)
    until = begin + timedelta(seconds=seconds)
    second = timedelta(seconds=1)
    must = set()
    for n in range(schedules):
        tick = {
            "every": "1s", "starts_at": begin.isoformat(), "ends_at": until.isoformat(), "queue": "sdk",
            "type": "tock" if n % 5 == 0 else "tick", "overlap": "allow", "max_tries": MAX_TRIES,
        }  # fmt: skip
        await site.put(f"s-{n}", tick)
        nominals = grid(second, begin - timedelta(milliseconds=1), until - timedelta(milliseconds=1))
        must |= {id_of(f"s-{n}", at) for at in nominals}
    assert len(must) == schedules * seconds
    await crew.suffer(until)
    records = await _decided(site, crew, must, within_s=40 if seconds < 60 else 240)
    await crew.go()
    notes, reports = crew.notes(), await _reports(site)
    findings = check_attempts(must, notes, records, reports, max_tries=MAX_TRIES)
    print(f"{findings}; {crew.harm}")
    if findings.faults:
        worst = next(iter(findings.faults.values()))[0].split()[0]
        print([each for each in notes if each.id == worst], [each for each in reports if each.id == worst])
        print(json.dumps(records.get(worst), indent=1))
    assert not findings.faults, str(findings)
    assert await site.stored_count("SCHEDD_TASKS", "schedd.task.>") == 0
    assert findings.ends.get("raise")
    assert findings.ends.get("hang")
    assert all(crew.harm[deed] for deed in ("killed", "stalled")), crew.harm


HOLDING = """
import json, os, time
from scheduler.worker import Worker

worker = Worker("sdk", concurrency=40)
file = open(os.environ["EVIDENCE"], "ab", buffering=0)

def note(ctx, what):
    file.write(json.dumps({"id": ctx.execution_id, "attempt": ctx.attempt, "what": what}).encode() + b"\\n")
    os.fsync(file.fileno())

@worker.task("hold")
def hold(payload, ctx):
    note(ctx, "start")
    time.sleep(1)
    note(ctx, "ok")

worker.run()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_worker_that_wakes_just_when_its_tasks_are_taken_over(site: Site) -> None:
    """Thirty runs stand still with their worker, and go on in the moment in which the next attempts are claimed: each
    execution has one end, and an attempt whose forerunner ended after all is given up, not run."""
    await site.replicas("a", SCHEDD_HORIZON="8s", SCHEDD_ACK_WAIT=f"{ACK_WAIT_S}s")
    await site.put("held", {"manual": True, "queue": "sdk", "type": "hold", "overlap": "allow", "max_tries": MAX_TRIES})
    forfeits = 0
    for turn in range(8):
        first = site.sdk_worker(HOLDING, name=f"first-{turn}")
        asked = [await site.request("schedule.trigger", {"id": "held", "nonce": f"{turn}-{n}"}) for n in range(30)]
        must = {each["execution_id"] for each in asked}
        await eventually(lambda first=first: _has_started(first, 30), within_s=20)
        first.signal(signal.SIGSTOP)
        taken_over = asyncio.Event()
        heard = await site.client.subscribe("schedd.report.sdk.*.*.2.started", cb=_setting(taken_over))
        second = site.sdk_worker(HOLDING, name=f"second-{turn}")
        await asyncio.wait_for(taken_over.wait(), 30)
        first.signal(signal.SIGCONT)
        await heard.unsubscribe()
        records = await _decided(site, None, must, within_s=40)
        notes = [Note(**note) for worker in (first, second) for note in worker.notes()]
        reports = [each for each in await _reports(site) if each.id in must]
        mine = {id_: record for id_, record in records.items() if id_ in must}
        findings = check_attempts(must, notes, mine, reports, max_tries=MAX_TRIES)
        print(findings)
        assert not findings.faults, str(findings)
        forfeits += findings.forfeits
        for worker in (first, second):
            await worker.kill()
    print(f"{forfeits} given up")


async def _has_started(worker: SdkWorker, count: int) -> bool:
    return len(worker.notes()) >= count


def _setting(event: asyncio.Event) -> Callable[[Any], Awaitable[None]]:
    async def hear(_: Any) -> None:
        event.set()

    return hear


class Crew:
    """Two workers at any time, and what is done to them."""

    def __init__(self, site: Site, dice: random.Random) -> None:
        self._site, self._dice = site, dice
        self._workers: list[SdkWorker] = []
        self.harm = {"killed": 0, "stalled": 0, "stopped": 0, "died": 0}

    def hire(self) -> None:
        name = f"sdk-{len(self._workers)}"
        seed = str(self._dice.random())
        self._workers.append(self._site.sdk_worker(PROGRAM, name=name, SEED=seed))

    async def suffer(self, until: Any) -> None:
        """Kill, stall and stop one of the two, again and again; who has died is replaced."""
        turn = 0
        while utc_now() < until:
            await asyncio.sleep(self._dice.uniform(1.5, 3.5))
            self.replace()
            victim = self._dice.choice(self._alive())
            match turn % 3:
                case 0:
                    victim.signal(signal.SIGKILL)
                    self.harm["killed"] += 1
                case 1:
                    victim.signal(signal.SIGSTOP)
                    await asyncio.sleep(self._dice.uniform(0.5, 2.5) * ACK_WAIT_S)
                    victim.signal(signal.SIGCONT)
                    self.harm["stalled"] += 1
                case 2:
                    victim.signal(signal.SIGTERM)
                    self.harm["stopped"] += 1
            self.replace()
            turn += 1

    async def go(self) -> None:
        for worker in self._alive():
            await worker.kill()

    def notes(self) -> list[Note]:
        return [Note(**note) for worker in self._workers for note in worker.notes()]

    def _alive(self) -> list[SdkWorker]:
        return [worker for worker in self._workers if worker.exit_code is None]

    def replace(self) -> None:
        self.harm["died"] = sum(worker.exit_code not in {None, 0} for worker in self._workers) - self.harm["killed"]
        while len(self._alive()) < 2:
            self.hire()


async def _decided(site: Site, crew: Crew | None, must: set[str], *, within_s: float) -> dict[str, dict[str, Any]]:
    """Wait until each has come to its end, at most that long; the records as they are then."""
    until_s = time.monotonic() + within_s
    while True:
        if crew is not None:
            crew.replace()
        records = await site.records()
        left = [id_ for id_ in must if records.get(id_, {}).get("state") not in TERMINAL]
        if not left or time.monotonic() > until_s:
            return records
        await asyncio.sleep(1)


async def _reports(site: Site) -> list[Report]:
    """Every started and finished report there is."""
    found: list[Report] = []
    unacked = ConsumerConfig(ack_policy=AckPolicy.NONE)
    subscription = await site.js.pull_subscribe("schedd.report.>", stream="SCHEDD_REPORTS", config=unacked)
    left = (await site.js.stream_info("SCHEDD_REPORTS")).state.messages
    while left > 0:
        messages = await subscription.fetch(min(left, 500), timeout=10)
        left -= len(messages)
        for message in messages:
            _, _, _, schedule, nominal, attempt, kind = message.subject.split(".")
            if kind != "progress":
                body = json.loads(message.data)
                word = "started" if kind == "started" else str(body["outcome"])
                word = "forfeit" if str(body.get("note")).startswith("not run:") else word
                found.append(Report(f"{schedule}.{nominal}", int(attempt), word))
    await subscription.unsubscribe()
    return found
