"""How fast does a replica dispatch, against the same writes by a bare client? Prints one line of JSON.

    .venv/bin/python -m tests.bench.dispatch [--fires 20000] [--rounds 3] [--uvloop]

Both sides take the same number of due messages from the timeline and do for each: record `claimed`, claim + task as an
atomic pair, record `queued`, ack. The raw side is an untouched nats-py client: it decides nothing, encodes constant
bodies and keeps as many batches under way as the dispatcher does. They take turns in who goes first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from datetime import datetime, timedelta

from scheduler.core.model.occurrence import Occurrence
from scheduler.jetstream.queues import BATCH_PAIRS
from scheduler.jetstream.requests import Message
from scheduler.jetstream.timeline import NatsTimeline
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.timeline import Due
from scheduler.services.dispatcher import BATCHES_MAX, Dispatcher
from scheduler.services.handing_over import LateOnes
from scheduler.services.launch import Launcher
from scheduler.services.records import Records
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.services.settlement import Settlement
from scheduler.services.slots import SlotKeeper
from scheduler.wire import headers as h
from scheduler.wire.ids import execution_id
from scheduler.wire.schedule import ScheduleLimits
from tests.bench.arming import take_office
from tests.bench.staging import Stage, staged

PAIRS = BATCH_PAIRS  # as the adapter groups them
BATCH = 256
SCHEDULES = 200


async def arm_due(stage: Stage, start: datetime, fires: int) -> None:
    """Arm `fires` occurrences that are due at once, and wait until the server has fired them."""
    timeline = stage.adapters.timeline
    office = await take_office(stage, start, 0)
    arms = [
        Occurrence(f"bench-{n % SCHEDULES:05d}", at := start + timedelta(seconds=n // SCHEDULES), at, 1)
        for n in range(fires)
    ]
    for at in range(0, fires, 500):
        office = await timeline.commit(office, arms=arms[at : at + 500], disarms=(), watermark=office.watermark)
    while (await stage.pending_due()) < fires:
        await asyncio.sleep(0.1)


class Counting(RecordingTelemetry):
    """Counts verdicts and remembers nothing else, so that the bench measures the dispatcher and not its witness."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts = 0

    def verdict(self, *, verdict: str, reason: str, count: int = 1) -> None:
        self.verdicts += count

    def lateness(self, seconds: float) -> None: ...

    def dispatched(self, *, batch: int) -> None: ...


async def dispatch_ours(stage: Stage, schedules: ScheduleCache, fires: int) -> float:
    telemetry = Counting()
    rows = StatusRows(stage.adapters.status)
    slots = SlotKeeper(rows)
    records = Records(stage.adapters.executions, telemetry, claim_floor_s=1800)
    settlement = Settlement(slots, stage.adapters.events, stage.clock, schedules.holds_slot, telemetry)
    launcher = Launcher(
        records=records,
        slots=slots,
        queues=stage.adapters.queues,
        settlement=settlement,
        clock=stage.clock,
        claim_floor_s=1800,
        is_full=lambda queue: False,
    )
    dispatcher = Dispatcher(
        timeline=stage.adapters.timeline,
        schedules=schedules,
        records=records,
        launcher=launcher,
        late_ones=LateOnes(rows),
        settlement=settlement,
        clock=stage.clock,
        telemetry=telemetry,
    )
    began = time.perf_counter()
    task = asyncio.create_task(dispatcher.run())
    while telemetry.verdicts < fires:
        await asyncio.sleep(0.002)
    took = time.perf_counter() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return took


async def dispatch_raw(stage: Stage, fires: int) -> float:
    """Fetch, record, pair batch, record, ack: the same writes with constant bodies, as many batches under way."""
    names, requests = stage.names, stage.bare
    timeline = NatsTimeline(requests, requests.client, names)
    await timeline.open()
    record = b'{"state":"claimed","filler":"' + b"x" * 560 + b'"}'
    queued = b'{"state":"queued","filler":"' + b"x" * 680 + b'"}'
    task_headers = {f"Schedd-Header-{n}": "2026-11-21T08:00:00.000Z" for n in range(11)}
    done = 0

    async def work(batch: list[Due], room: asyncio.Semaphore) -> None:
        nonlocal done
        ids = [execution_id(due.schedule_id, due.nominal_at) for due in batch]
        key = f"$KV.{names.executions}."
        create = {h.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}
        created = await requests.publish_many([Message(key + each, record, create) for each in ids])
        pending = []
        for at in range(0, len(ids), PAIRS):
            pairs: list[Message] = []
            for each in ids[at : at + PAIRS]:
                pairs.append(Message(names.claim(each, 0), b"", {**create, h.TTL: "1800"}))
                pairs.append(Message(names.task("bench", each), b'{"n":1}', task_headers))
            pending.append(await requests.start_batch(pairs))
        for batch_under_way in pending:
            await batch_under_way.result()
        await requests.publish_many(
            [
                Message(key + each, queued, {h.EXPECTED_LAST_SUBJECT_SEQUENCE: str(ack.seq)})
                for each, ack in zip(ids, created, strict=True)
            ]
        )
        await timeline.ack([due.ack for due in batch])
        done += len(batch)
        room.release()

    room = asyncio.Semaphore(BATCHES_MAX)
    tasks = set()
    began = time.perf_counter()
    taken = 0
    while taken < fires:
        await room.acquire()
        batch = [each for each in await timeline.pull_due(BATCH, 2.0) if isinstance(each, Due)]
        taken += len(batch)
        tasks.add(asyncio.create_task(work(batch, room)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - began
    await timeline.close()
    return took


async def main(fires: int, rounds: int) -> None:
    ours, raws, ratios = [], [], []
    for number_of in range(rounds):
        async with staged() as stage:
            await stage.adapters.queues.ensure("bench")
            how = b'"overlap":"allow","catch_up":{"after":"1h"}'
            body = b'{"every":"1s","queue":"bench","type":"bench","payload":{"n":1},' + how + b"}"
            for number in range(SCHEDULES):
                await stage.adapters.schedules.put(f"bench-{number:05d}", body)
            schedules = ScheduleCache(stage.adapters.schedules, stage.clock, ScheduleLimits())
            await schedules.start()
            start = stage.clock.now().replace(microsecond=0) - timedelta(days=2)
            took = {}
            for turn, side in enumerate(("raw", "own") if number_of % 2 else ("own", "raw")):
                await arm_due(stage, start - timedelta(days=2 * turn), fires)
                took[side] = await (
                    dispatch_raw(stage, fires) if side == "raw" else dispatch_ours(stage, schedules, fires)
                )
            raw, own = took["raw"], took["own"]
            await schedules.stop()
            ours.append(fires / own)
            raws.append(fires / raw)
            ratios.append(raw / own)
    figures = {
        "bench": "dispatch",
        "fires": fires,
        "dispatcher_per_s": round(statistics.median(ours)),
        "raw_per_s": round(statistics.median(raws)),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(each, 3) for each in ratios],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fires", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    if options.uvloop:
        import uvloop

        uvloop.run(main(options.fires, options.rounds))
    else:
        asyncio.run(main(options.fires, options.rounds))
