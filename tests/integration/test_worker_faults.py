"""Workers that die, stall or compete: who runs what, how often, and what is on record afterwards."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.errors import Unavailable
from scheduler.wire.reports import BY_DAEMON, Started, encode
from scheduler.worker import TaskContext, Worker, connecting, session
from scheduler.worker import worker as worker_module
from tests.integration.worker_stage import ACK_WAIT_S, NAMES, Stage, eventually

PROGRAM = """
import asyncio, os, sys, time
from scheduler.worker import Worker

worker = Worker("Q", stop_grace=sys.argv[2])
evidence = open(sys.argv[1], "a", buffering=1)

def note(word, ctx):
    evidence.write(f"{word} {ctx.execution_id} {ctx.attempt} {os.getpid()}\\n")

@worker.task("hang")
async def hang(payload, ctx):
    note("start", ctx)
    await asyncio.sleep(60)

@worker.task("block")
def block(payload, ctx):
    note("start", ctx)
    time.sleep(60)

@worker.task("deaf")
async def deaf(payload, ctx):
    note("start", ctx)
    while True:
        try:
            await asyncio.to_thread(time.sleep, 60)
        except asyncio.CancelledError:
            pass

@worker.task("short")
async def short(payload, ctx):
    note("start", ctx)
    await asyncio.sleep(1)
    note("end", ctx)
    return "done"

@worker.task("stalled")
async def stalled(payload, ctx):
    note("start", ctx)
    await asyncio.sleep(0.3)
    note("end", ctx)
    return os.getpid()

worker.run()
"""


class Evidence:
    """What the worker processes wrote down themselves: lines of (word, execution, attempt, pid)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def starts(self, execution: str) -> list[int]:
        return [int(line.split()[2]) for line in self._lines() if line.startswith(f"start {execution} ")]

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    async def started(self, execution: str, attempt: int) -> bool:
        async def look() -> bool:
            return attempt in self.starts(execution)

        return bool(await eventually(look))


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "evidence")


async def test_a_killed_worker_is_followed_by_attempt_two(stage: Stage, evidence: Evidence) -> None:
    """kill -9 in the middle of a run: the task comes again after the ack wait, and attempt 2 runs to its end."""
    with stage.process(PROGRAM, str(evidence.path), "5s") as process:
        execution = await stage.put("hang", max_tries=2)
        await evidence.started(execution, 1)
        process.kill()
        killed_at = time.monotonic()
    worker = Worker("Q", nats=stage.url)
    worker.task("hang")(_attempt)
    async with stage.serving(worker):
        final = await stage.final(execution)
    assert final["result"] == 2
    assert time.monotonic() - killed_at < 3 * ACK_WAIT_S
    assert [report[:2] for report in await stage.reports(execution)] == [
        (1, "started"), (2, "started"), (2, "finished"),
    ]  # fmt: skip


async def test_at_most_once_is_kept_through_a_kill(stage: Stage, evidence: Evidence) -> None:
    """With max_tries 1 a killed run is never started again: its loss is reported failed, its task taken away."""
    worker = Worker("Q", nats=stage.url)
    starts: list[int] = []

    @worker.task("hang")
    async def run(payload: Any, ctx: TaskContext) -> None:
        starts.append(ctx.attempt)

    with stage.process(PROGRAM, str(evidence.path), "5s") as process:
        execution = await stage.put("hang", max_tries=1)
        await evidence.started(execution, 1)
        process.kill()
    async with stage.serving(worker):
        final = await stage.final(execution)
        await asyncio.sleep(2 * ACK_WAIT_S)
    assert starts == []
    assert evidence.starts(execution) == [1]
    assert (final["outcome"], final["error"]["type"]) == ("failed", "WorkerLost")
    assert await stage.outcomes(execution) == [(1, "failed")]


async def test_tries_end_although_every_worker_dies(stage: Stage, evidence: Evidence) -> None:
    """A task that kills its worker each time is buried when its tries are used up: the queue drains."""
    execution = await stage.put("hang", max_tries=2)
    for attempt in (1, 2):
        with stage.process(PROGRAM, str(evidence.path), "5s") as process:
            await evidence.started(execution, attempt)
            process.kill()
    worker = Worker("Q", nats=stage.url)
    worker.task("hang")(_attempt)
    async with stage.serving(worker):
        final = await stage.final(execution)
    assert "attempt 2" in final["error"]["message"]
    assert evidence.starts(execution) == [1, 2]
    assert not await stage.is_queued(execution), "the queue has drained"


async def test_a_redelivered_task_is_run_by_one(stage: Stage, evidence: Evidence) -> None:
    """Many workers, many tasks of a killed one delivered again: each attempt starts once."""
    executions = [await stage.put("hang", max_tries=3) for _ in range(8)]
    with stage.process(PROGRAM, str(evidence.path), "5s") as process:
        for execution in executions:
            await evidence.started(execution, 1)
        process.kill()
    seen: list[tuple[str, int]] = []
    workers = [Worker("Q", nats=stage.url, concurrency=4) for _ in range(3)]

    async def run(payload: Any, ctx: TaskContext) -> None:
        seen.append((ctx.execution_id, ctx.attempt))
        await asyncio.sleep(0.2)

    for worker in workers:
        worker.task("hang")(run)
    async with stage.serving(workers[0]), stage.serving(workers[1]), stage.serving(workers[2]):
        for execution in executions:
            assert (await stage.final(execution))["outcome"] == "succeeded"
    assert sorted(seen) == sorted((execution, 2) for execution in executions)


async def test_the_same_task_delivered_twice_is_claimed_once(stage: Stage) -> None:
    """Two copies of one task, as a broken publisher might send, in two workers at once: one start, one end."""
    starts = 0

    async def run(payload: Any) -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(2 * ACK_WAIT_S)

    workers = [Worker("Q", nats=stage.url, concurrency=1) for _ in range(2)]
    for worker in workers:
        worker.task("t")(run)
    execution = await stage.put("t")
    copy = await stage.js.get_last_msg(NAMES.tasks, NAMES.task("Q", execution))
    await stage.js.publish(NAMES.task("Q", execution), copy.data, headers=dict(copy.headers))
    async with stage.serving(workers[0]), stage.serving(workers[1]):
        await stage.final(execution)
        await asyncio.sleep(ACK_WAIT_S)
    assert starts == 1
    assert await stage.outcomes(execution) == [(1, "succeeded")]


async def test_a_stalled_worker_cannot_end_its_successor(stage: Stage, evidence: Evidence) -> None:
    """SIGSTOP past the ack wait, SIGCONT while attempt 2 runs: the end of attempt 1 is refused, its ack never sent."""
    worker = Worker("Q", nats=stage.url)
    took_over = asyncio.Event()

    @worker.task("stalled")
    async def run(payload: Any, ctx: TaskContext) -> str:
        took_over.set()
        await asyncio.sleep(2)
        return f"attempt {ctx.attempt}"

    with stage.process(PROGRAM, str(evidence.path), "5s") as process:
        execution = await stage.put("stalled", max_tries=2)
        await evidence.started(execution, 1)
        process.send_signal(signal.SIGSTOP)
        async with stage.serving(worker):
            async with asyncio.timeout(10):
                await took_over.wait()
            process.send_signal(signal.SIGCONT)
            await eventually(lambda: _wrote(evidence, f"end {execution} 1"))
            await asyncio.sleep(0.3)
            assert await stage.is_queued(execution)
            assert (await stage.final(execution))["result"] == "attempt 2"
    assert await stage.outcomes(execution) == [(2, "succeeded")]


async def test_an_outage_of_nats_is_no_silence_of_a_worker(stage: Stage) -> None:
    """NATS away for longer than the ack wait: another worker that finds the run again waits, and it ends well."""
    await stage.add_queue("SLOW", ack_wait_s=4)
    workers = [Worker("SLOW", nats=stage.url, concurrency=1) for _ in range(2)]
    starts: list[int] = []
    running = asyncio.Event()

    async def run(payload: Any, ctx: TaskContext) -> str:
        starts.append(ctx.attempt)
        running.set()
        await asyncio.sleep(9)
        return "done"

    for worker in workers:
        worker.task("t")(run)
    async with stage.serving(workers[0]), stage.serving(workers[1]):
        execution = await stage.put("t", queue="SLOW", max_tries=1)
        await running.wait()
        await stage.server.kill()
        await asyncio.sleep(5)
        await stage.server.start()
        await eventually(stage.answers)
        assert (await stage.final(execution, queue="SLOW"))["outcome"] == "succeeded"
    assert starts == [1]


async def test_an_attempt_of_the_daemon_is_not_followed(stage: Stage) -> None:
    """Where the daemon took the attempt to cancel a queued execution, no worker starts one, however often delivered."""
    worker = Worker("Q", nats=stage.url)
    worker.task("t")(_attempt)
    execution = await stage.put("t")
    await stage.js.publish(NAMES.report("Q", execution, 1, "started"), encode(Started(worker="r1", by=BY_DAEMON)))
    async with stage.serving(worker):
        await asyncio.sleep(3.5 * ACK_WAIT_S)
        assert [report[:2] for report in await stage.reports(execution)] == [(1, "started")]


async def test_a_lower_limit_ends_what_another_worker_would_retry(stage: Stage) -> None:
    """A task handed back for a retry comes to a worker that allows no more tries: it is ended, and not run."""
    first = Worker("Q", nats=stage.url)
    second = Worker("Q", nats=stage.url)

    @first.task("t", backoff={"initial": "700ms", "jitter": 0})
    async def fails(payload: Any) -> None:
        raise ValueError("first")

    @second.task("t", max_tries=1)
    async def never(payload: Any) -> None:
        pytest.fail("ran")

    execution = await stage.put("t", max_tries=3)
    async with stage.serving(first):
        await eventually(lambda: stage.outcomes(execution))
    async with stage.serving(second):
        final = await stage.final(execution)
    assert (final["error"]["message"], final["note"]) == ("first", "not run: max_tries 1 is used up")
    assert await stage.outcomes(execution) == [(1, "retry"), (2, "failed")]


async def test_sigterm_lets_a_run_end_and_exits_0(stage: Stage, evidence: Evidence) -> None:
    """SIGTERM: no more pulling, the run ends and is reported, exit code 0; what came later stays queued, untouched."""
    with stage.process(PROGRAM, str(evidence.path), "5s") as process:
        execution = await stage.put("short")
        await evidence.started(execution, 1)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        later = await stage.put("short")
        assert await asyncio.to_thread(process.wait, 5) == 0
    assert (await stage.final(execution))["result"] == "done"
    assert await stage.reports(later) == []
    assert await stage.rows() == []


@pytest.mark.parametrize("type_", ["hang", "block", "deaf"])
async def test_sigterm_hands_back_what_does_not_end(stage: Stage, evidence: Evidence, type_: str) -> None:
    """After the grace, runs that hang, block or swallow their cancellation are handed back; exit code 0 still."""
    with stage.process(PROGRAM, str(evidence.path), "300ms") as process:
        execution = await stage.put(type_)
        await evidence.started(execution, 1)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert await stage.outcomes(execution) == [(1, "retry")]
    worker = Worker("Q", nats=stage.url)
    worker.task(type_)(_attempt)
    async with stage.serving(worker):
        assert (await stage.final(execution, within_s=3))["result"] == 2


async def test_a_worker_stops_although_nats_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody to report to, stop() ends all the same; the run is then taken for lost, and followed."""
    monkeypatch.setattr(session, "REPORT_S", 0.5)
    monkeypatch.setattr(session, "TIDY_S", 0.1)
    worker = Worker("Q", nats=stage.url, stop_grace="100ms")
    running = asyncio.Event()

    @worker.task("t")
    async def run(payload: Any) -> None:
        running.set()
        await asyncio.sleep(60)

    async with stage.serving(worker):
        execution = await stage.put("t")
        await running.wait()
        await stage.server.kill()
        async with asyncio.timeout(5):
            await worker.stop()
    await stage.server.start()
    await eventually(stage.answers)
    second = Worker("Q", nats=stage.url)
    second.task("t")(_attempt)
    async with stage.serving(second):
        assert (await stage.final(execution))["result"] == 2


async def test_a_connection_closed_for_good_ends_serving(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client gives up for ever, serve() raises Unavailable: whoever runs the worker starts it anew."""
    clients: list[Any] = []

    async def connect_and_keep(*args: Any, **options: Any) -> Any:
        clients.append(await connecting.connect_when_there(*args, **options))
        return clients[-1]

    monkeypatch.setattr(worker_module, "connect_when_there", connect_and_keep)
    worker = Worker("Q", nats=stage.url)
    worker.task("t")(_attempt)
    async with stage.serving(worker) as serving:
        await stage.final(await stage.put("t"))
        await clients[0].close()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(serving, 5)


async def test_a_cancelled_serve_hands_back_at_once(stage: Stage) -> None:
    """Cancelling the task that serves waits for no grace: what runs is handed back, and the cancellation goes on."""
    worker = Worker("Q", nats=stage.url, stop_grace="30s")
    running = asyncio.Event()

    @worker.task("t")
    async def run(payload: Any) -> None:
        running.set()
        await asyncio.sleep(60)

    async with stage.serving(worker) as serving:
        execution = await stage.put("t")
        await running.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, 5)
    assert await stage.outcomes(execution) == [(1, "retry")]


async def test_a_worker_waits_for_nats(stage: Stage, evidence: Evidence) -> None:
    """Started while nobody listens, a worker waits, says so once, and works when the server is there."""
    await stage.server.kill()
    with stage.process(PROGRAM, str(evidence.path), "1s") as process:
        await asyncio.sleep(7)
        assert process.poll() is None
        await stage.server.start()
        await eventually(stage.answers)
        execution = await stage.put("short")
        assert (await stage.final(execution))["result"] == "done"
    assert (stage.folder / "worker.log").read_text().count("waiting for NATS") == 1


async def _attempt(payload: Any, ctx: TaskContext) -> int:
    return ctx.attempt


async def _wrote(evidence: Evidence, text: str) -> bool:
    return text in evidence.path.read_text()
