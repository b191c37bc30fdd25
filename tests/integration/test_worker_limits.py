"""A type's own limit, a task's own queue and middleware, on a real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from scheduler.worker import Worker
from tests.integration.worker_stage import Stage, eventually


class Gauge:
    """How many run at once, by name; `gate` lets them end."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done: list[str] = []
        self.gate = asyncio.Event()

    async def run(self, name: str) -> None:
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])
        await self.gate.wait()
        self.now[name] -= 1
        self.done.append(name)


async def test_a_full_type_starves_no_other(stage: Stage) -> None:
    """Twelve tasks of a type with two places lie before a quick one: it runs, of them two at once, none is lost."""
    gauge = Gauge()
    worker = Worker("Q", concurrency=4, nats=stage.url)

    @worker.task("slow", concurrency=2)
    async def slow(payload: Any) -> None:
        await gauge.run("slow")

    @worker.task("quick")
    async def quick(payload: Any) -> str:
        return "done"

    ids = [await stage.put("slow") for _ in range(12)]
    last = await stage.put("quick")
    async with stage.serving(worker):
        assert (await stage.final(last))["result"] == "done"
        assert gauge.most["slow"] == 2
        gauge.gate.set()
        for id_ in ids:
            assert (await stage.final(id_))["outcome"] == "succeeded"
    assert gauge.most["slow"] == 2
    assert Counter(gauge.done) == {"slow": 12}
    assert {tuple(await stage.outcomes(id_)) for id_ in ids} == {((1, "succeeded"),)}


async def test_what_is_too_much_for_one_goes_to_another(stage: Stage) -> None:
    """An idle peer gets what a full worker does not run; and what a worker cannot run at all it does not ask for."""
    gauges = [Gauge(), Gauge()]
    workers = []
    for gauge in gauges:
        worker = Worker("Q", concurrency=10, nats=stage.url)

        @worker.task("slow", concurrency=2)
        async def slow(payload: Any, gauge: Gauge = gauge) -> None:
            await gauge.run("slow")

        workers.append(worker)
    async with stage.serving(workers[0]):
        ids = [await stage.put("slow") for _ in range(6)]
        await eventually(lambda: _reached(gauges[0], 2))
        info = await stage.js.consumer_info("SCHEDD_TASKS", "Q")
        assert (info.num_ack_pending, info.num_pending) == (2, 4), "nothing is held that a peer could run"
        async with stage.serving(workers[1]):
            await eventually(lambda: _reached(gauges[1], 2))
            for gauge in gauges:
                gauge.gate.set()
            for id_ in ids:
                await stage.final(id_)
    assert [gauge.most["slow"] for gauge in gauges] == [2, 2]
    assert sum(len(gauge.done) for gauge in gauges) == 6


async def _reached(gauge: Gauge, count: int) -> bool:
    return gauge.now["slow"] == count


async def test_what_waits_for_its_type_goes_back_at_once_when_the_worker_stops(stage: Stage) -> None:
    """Nobody waits out the grace of a worker that would not have run it: it costs one delivery and no attempt."""
    gauge = Gauge()
    worker = Worker("Q", concurrency=4, nats=stage.url, stop_grace="30s")

    @worker.task("slow", concurrency=1)
    async def slow(payload: Any) -> None:
        await gauge.run("slow")

    @worker.task("other")
    async def other(payload: Any) -> None: ...

    serving = asyncio.create_task(worker.serve())
    first, second = await stage.put("slow"), await stage.put("slow")
    await eventually(lambda: _delivered(stage, 2))
    stopping = asyncio.create_task(worker.stop())
    peer, ran = Worker("Q", nats=stage.url), []

    @peer.task("slow")
    async def at_once(payload: Any, ctx: Any) -> None:
        ran.append((ctx.execution_id, ctx.attempt))

    async with stage.serving(peer):
        await stage.final(second, within_s=12)
        assert ran == [(second, 1)]
        gauge.gate.set()
        await stage.final(first)
    await asyncio.gather(stopping, serving)
    assert gauge.done == ["slow"]


async def _delivered(stage: Stage, count: int) -> bool:
    return bool((await stage.js.consumer_info("SCHEDD_TASKS", "Q")).num_ack_pending == count)


async def test_a_task_of_one_queue_is_not_run_from_another(stage: Stage) -> None:
    """`queue="B"`: the type's tasks in Q are handed back without an attempt, and a worker that takes them gets them."""
    await stage.add_queue("B")
    worker, ran = Worker("Q", "B", nats=stage.url), []

    @worker.task("t", queue="B")
    async def of_b(payload: Any, ctx: Any) -> None:
        ran.append(ctx.queue)

    in_q, in_b = await stage.put("t"), await stage.put("t", queue="B")
    async with stage.serving(worker):
        await stage.final(in_b, queue="B")
        await asyncio.sleep(0.3)
        assert await stage.reports(in_q) == []
        assert await stage.is_queued(in_q)
    assert ran == ["B"]


async def test_middleware_surrounds_every_attempt(stage: Stage) -> None:
    """Each attempt goes through all layers, a retry too; the timeout holds for the layers as well."""
    worker, seen = Worker("Q", nats=stage.url), []

    @worker.middleware
    async def noted(call_next: Any, payload: Any, ctx: Any) -> Any:
        seen.append((ctx.execution_id, ctx.attempt, payload))
        result = await call_next(payload, ctx)
        return {"result": result}

    @worker.middleware
    def sync(call_next: Any, payload: Any, ctx: Any) -> Any:
        return call_next({**payload, "tenant": "crm"})

    @worker.task("t", backoff={"initial": "10ms"})
    async def second_time(payload: Any, ctx: Any) -> Any:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return payload

    @worker.middleware
    async def slow(call_next: Any, payload: Any, ctx: Any) -> Any:
        if ctx.type == "late":
            await asyncio.sleep(30)
        return await call_next()

    @worker.task("late", timeout="200ms", max_tries=1)
    def late(payload: Any) -> None: ...

    async with stage.serving(worker):
        id_, other = await stage.put("t", b'{"n": 1}'), await stage.put("late")
        assert (await stage.final(id_))["result"] == {"result": {"n": 1, "tenant": "crm"}}
        assert (await stage.final(other))["outcome"] == "timed_out"
    assert seen[:2] == [(id_, 1, {"n": 1}), (other, 1, {"n": 1})] or len(seen) == 3
    assert [attempt for seen_id, attempt, _ in seen if seen_id == id_] == [1, 2]
