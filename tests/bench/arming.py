"""How fast does the planner arm, against a raw loop of fenced batches? Prints one line of JSON.

    .venv/bin/python -m tests.bench.arming [--schedules 1000] [--seconds 60] [--rounds 3]

Raw ceiling: the same number of arms as the planner makes, as fenced atomic batches of 500 with constant bodies by
an untouched nats-py client, one batch in flight. Both run against the same embedded server, one after the other, and
take turns in who goes first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from datetime import datetime, timedelta

from scheduler.core.errors import Fenced
from scheduler.core.leadership import Term
from scheduler.jetstream.requests import Message
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.announcing import Announcer
from scheduler.services.leader import Tenure
from scheduler.services.planner import BATCH_MAX, Planner
from scheduler.services.rows import StatusRows
from scheduler.services.schedules import ScheduleCache
from scheduler.wire import headers as h
from scheduler.wire.ids import format_nominal
from scheduler.wire.instants import format_instant
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.timeline import encode_watermark
from tests.bench.staging import Stage, staged


async def take_office(stage: Stage, until: datetime, applied: int) -> Office:
    """A new term; tried again while a batch of the term before is still landing."""
    while True:
        epoch, mark = await stage.adapters.timeline.epoch(), await stage.adapters.timeline.watermark()
        with contextlib.suppress(Fenced):
            return await stage.adapters.timeline.take_office(
                holder="bench",
                lease_rev=1,
                at=stage.clock.now(),
                expect_epoch=0 if epoch is None else epoch.seq,
                watermark=Watermark(until, applied),
                expect_watermark=0 if mark is None else mark.seq,
            )


async def arm_planned(stage: Stage, schedules: ScheduleCache, start: datetime, seconds: int) -> tuple[int, float]:
    """Arm (start, start + seconds] of every schedule by the planner; the number of arms and the seconds it took."""
    office = await take_office(stage, start, await stage.adapters.schedules.last_revision())
    telemetry = RecordingTelemetry()
    planner = Planner(
        timeline=stage.adapters.timeline,
        schedules=schedules,
        rows=StatusRows(stage.adapters.status),
        queues=stage.adapters.queues,
        announcer=Announcer(stage.adapters.events),
        clock=stage.clock,
        telemetry=telemetry,
        horizon=start + timedelta(seconds=seconds) - stage.clock.now(),
    )
    tenure = Tenure(stage.clock, Term(1, stage.clock.boottime_s() + 3600), office)
    end = start + timedelta(seconds=seconds - 2)
    began = time.perf_counter()
    task = asyncio.create_task(planner.run(tenure))
    while tenure.office.watermark.until < end and not task.done():
        await asyncio.sleep(0.002)
    took = time.perf_counter() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sum(call["armed"] for call in telemetry.of("planned")), took


async def arm_raw(stage: Stage, start: datetime, count: int) -> float:
    """The same number of arms by a bare loop; the seconds it took."""
    office = await take_office(stage, start, 0)
    names = stage.names
    fence = {
        h.EXPECTED_LAST_SUBJECT_SEQUENCE: str(office.epoch),
        h.EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: names.epoch,
    }
    fire_at, nominal = format_instant(start), format_nominal(start)
    body = json.dumps({"v": 1, "generation": 1, "fire_at": fire_at, "epoch": office.epoch}).encode()
    mark_seq, mark = office.watermark_seq, encode_watermark(until=start, applied=0, calendars=0)
    subjects = [f"{names.namespace}.arm.raw{number}.{nominal}" for number in range(count)]
    targets = [f"{names.namespace}.due.raw{number}.{nominal}" for number in range(count)]
    began = time.perf_counter()
    for at in range(0, count, BATCH_MAX):
        batch = [
            Message(subject, body, {h.SCHEDULE: "@at " + fire_at, h.SCHEDULE_TARGET: target, **fence})
            for subject, target in zip(subjects[at : at + BATCH_MAX], targets[at : at + BATCH_MAX], strict=True)
        ]
        closing = {h.ROLLUP: "sub", h.EXPECTED_LAST_SUBJECT_SEQUENCE: str(mark_seq)}
        ack = await stage.bare.publish_batch([*batch, Message(names.watermark, mark, closing)])
        mark_seq = ack.seq
    return time.perf_counter() - began


async def main(schedules_count: int, seconds: int, rounds: int) -> None:
    ratios, planned_rates, raw_rates = [], [], []
    for number_of in range(rounds):
        async with staged() as stage:
            body = b'{"every":"1s","queue":"bench","type":"bench","overlap":"allow"}'
            for number in range(schedules_count):
                await stage.adapters.schedules.put(f"bench-{number:05d}", body)
            schedules = ScheduleCache(stage.adapters.schedules, stage.clock, ScheduleLimits())
            await schedules.start()
            start = stage.clock.now().replace(microsecond=0) + timedelta(hours=1)
            raw_count = schedules_count * seconds
            raw_first = number_of % 2 == 1
            raw_took = await arm_raw(stage, start + timedelta(hours=1), raw_count) if raw_first else 0.0
            armed, took = await arm_planned(stage, schedules, start, seconds)
            raw_took = raw_took or await arm_raw(stage, start + timedelta(hours=1), raw_count)
            await schedules.stop()
            planned_rates.append(armed / took)
            raw_rates.append(raw_count / raw_took)
            ratios.append(planned_rates[-1] / raw_rates[-1])
    figures = {
        "bench": "arming",
        "arms": armed,
        "planner_per_s": round(statistics.median(planned_rates)),
        "raw_per_s": round(statistics.median(raw_rates)),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(each, 3) for each in ratios],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(main(options.schedules, options.seconds, options.rounds))
