"""Workers of both kinds, as unreliable as the seed wants them; they touch the server directly."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from scheduler.core.errors import Conflict, Unavailable
from scheduler.core.model.execution import Failure
from scheduler.core.model.schedule import Backoff
from scheduler.memory.consumers import MemoryConsumer
from scheduler.memory.messages import Delivery, Write
from scheduler.wire import headers as h
from scheduler.wire.instants import parse_instant
from scheduler.wire.reports import (
    FINISHED,
    STARTED,
    Cancel,
    Finished,
    Running,
    Started,
    WorkerRow,
    decode,
    encode,
    parse_report_subject,
)
from scheduler.worker.deciding import (
    Bury,
    Done,
    Ending,
    Forfeit,
    How,
    Past,
    Start,
    Tries,
    Wait,
    decide_delivery,
    decide_outcome,
)
from tests.unit.simulation.site import Site

BEAT_S, ROW_TTL_S = 10.0, 30
WORK_MAX_S = 2.5
TYPE = "t"


class Workers:
    """`reliable`: from now on every worker does what it should, at once. `is_away`: none of them takes anything."""

    def __init__(self, site: Site, queue: str) -> None:
        self.site, self.queue = site, queue
        self.rng = random.Random(site.rng.random())
        self.consumer: MemoryConsumer = site.server.queue(queue)
        self.reliable = self.is_away = False
        self.deliveries = self.died = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        self.spawn(self._pull())

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _pull(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.02, 0.25))
            for delivery in [] if self.is_away else self.consumer.take(self.rng.randint(1, 4)):
                self.deliveries += 1
                self.take_on(delivery)

    def take_on(self, delivery: Delivery) -> None:
        raise NotImplementedError

    def is_up_to(self, share: float) -> bool:
        """Whether something that goes wrong that often does so now."""
        return not self.reliable and self.rng.random() < share


class PlainWorkers(Workers):
    """They know nothing of schedd: ack, nak, TERM, or silence."""

    def take_on(self, delivery: Delivery) -> None:
        self.spawn(self._work(delivery))

    async def _work(self, delivery: Delivery) -> None:
        await asyncio.sleep(self.rng.uniform(0, WORK_MAX_S))
        if self.is_up_to(0.05):
            self.died += 1
        elif self.is_up_to(0.05):
            self.consumer.nak(delivery.token, self.rng.choice([0.0, 1.0, 5.0]))
        elif self.is_up_to(0.03):
            self.consumer.term(delivery.token, "no")
        else:
            self.consumer.ack(delivery.token)


class SdkWorkers(Workers):
    """One worker process of the SDK at a time, by the SDK's own decisions; when it dies another one comes."""

    def __init__(self, site: Site, queue: str) -> None:
        super().__init__(site, queue)
        self._lives = 0
        self._mine: set[asyncio.Task[None]] = set()
        self._running: dict[str, int] = {}
        self._is_dying = False
        self._asked: dict[tuple[str, int], asyncio.Event] = {}
        """Whether to end, by the execution and the drive in hand."""
        site.server.on_cancel = self._on_cancel

    @property
    def worker(self) -> str:
        return f"{self.queue}-{self._lives}"

    def begin(self) -> None:
        super().begin()
        self.spawn(self._beat())

    def take_on(self, delivery: Delivery) -> None:
        task = self.spawn(self._work(delivery))
        self._mine.add(task)
        task.add_done_callback(self._mine.discard)

    async def _beat(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(BEAT_S)

    def _tell(self) -> None:
        running = tuple(Running(each, attempt) for each, attempt in self._running.items())
        row = WorkerRow(worker=self.worker, queues=(self.queue,), types=(TYPE,), running=running)
        bucket = self.site.buckets["workers"]
        subject = f"$KV.{bucket.name}.{self.worker}"
        bucket.stream.store([Write(subject, encode(row), rollup=True, ttl_s=ROW_TTL_S)])

    def _die(self) -> None:
        """SIGKILL of the process: its other runs go with it."""
        self.died += 1
        self._lives += 1
        self._running.clear()
        for task in list(self._mine):
            if task is not asyncio.current_task():
                task.cancel()
        self._mine.clear()
        self._tell()

    async def _work(self, delivery: Delivery) -> None:
        with contextlib.suppress(Unavailable):  # it comes again
            await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        headers = delivery.message.headers
        execution_id, before = headers[h.EXECUTION_ID], int(headers[h.ATTEMPTS_BEFORE])
        max_tries = int(headers[h.MAX_TRIES])
        for _ in range(4):
            past = self._look_up(execution_id) if delivery.delivered > 1 else None
            step = decide_delivery(
                past,
                attempts_before=before,
                max_tries=max_tries,
                deliveries=delivery.delivered,
                ack_wait_s=self.consumer.limits.ack_wait_s,
                heard_at=None,
                now=self.site.now(),
            )
            match step:
                case Wait(delay_s):
                    return self.consumer.nak(delivery.token, delay_s)
                case Done():
                    return self.consumer.ack(delivery.token)
                case Bury(attempt, finished):
                    self._finish(execution_id, attempt, finished)
                    return self.consumer.ack(delivery.token)
                case Start(attempt) | Forfeit(attempt, _):
                    if self._claim(execution_id, attempt):
                        forfeit = step.finished if isinstance(step, Forfeit) else None
                        return await self._run(delivery, execution_id, Tries(
                            attempt=attempt, attempts_before=before, max_tries=max_tries,
                            deliveries=delivery.delivered, max_deliver=self.consumer.limits.max_deliver,
                        ), forfeit)  # fmt: skip
                    delivery = Delivery(delivery.message, 2, delivery.token)
        return self.consumer.nak(delivery.token, self.consumer.limits.ack_wait_s)

    def _on_cancel(self, queue: str, execution_id: str, cancel: Cancel) -> None:
        """A core message: a busy process may miss it, and one that was sent before a retry says nothing about that."""
        key = execution_id, cancel.drive or 0
        if queue == self.queue and key in self._asked and not self.is_up_to(0.3):
            self._asked[key].set()

    async def _run(self, delivery: Delivery, execution_id: str, tries: Tries, forfeit: Finished | None) -> None:
        self._running[execution_id] = tries.attempt
        key = execution_id, int(delivery.message.headers.get(h.DRIVE, 0))
        asked = self._asked[key] = asyncio.Event()
        given = delivery.message.headers.get(h.DEADLINE)
        deadline = None if given is None else parse_instant(given)
        try:
            how = await self._work_until(asked, deadline)
            if self.is_up_to(0.03):
                return self._die()
            finished = forfeit or self._outcome(tries, how, deadline)
            self._finish(execution_id, tries.attempt, finished)
        finally:
            self._running.pop(execution_id, None)
            self._asked.pop(key, None)
        if self.is_up_to(0.03):  # reported, and dead before the answer to the queue
            self.died += 1
        elif finished.is_final:
            self.consumer.ack(delivery.token)
        else:
            self.consumer.nak(delivery.token, finished.retry_in_s or 0.0)
        return None

    async def _work_until(self, asked: asyncio.Event, deadline: datetime | None) -> How:
        work_s = self.rng.uniform(0, WORK_MAX_S)
        left_s = math.inf if deadline is None else max(0.0, (deadline - self.site.now()).total_seconds())
        try:
            async with asyncio.timeout(min(work_s, left_s)):
                await asked.wait()
        except TimeoutError:
            return How.RETURNED if work_s <= left_s else How.TIMED_OUT
        return How.CANCELLED

    def _outcome(self, tries: Tries, how: How, deadline: datetime | None) -> Finished:
        ending = Ending(how=how)
        if how is How.RETURNED and self.is_up_to(0.15):
            ending = Ending(how=How.RAISED, failure=Failure("ValueError", "boom"))
        at, spread = self.site.now(), self.rng.random()
        return decide_outcome(ending, tries, Backoff(), spread=spread, at=at, deadline=deadline)

    def _claim(self, execution_id: str, attempt: int) -> bool:
        subject = self.site.names.report(self.queue, execution_id, attempt, STARTED)
        try:
            self.site.server.reports.store([Write(subject, encode(Started(worker=self.worker)), expect=0)])
        except Conflict:
            return False
        return True

    def _finish(self, execution_id: str, attempt: int, finished: Finished) -> None:
        """Expects that the next attempt has not started: what ends too late ends nothing."""
        names = self.site.names
        following = names.report(self.queue, execution_id, attempt + 1, STARTED)
        write = Write(
            names.report(self.queue, execution_id, attempt, FINISHED), encode(finished), expect=0, expect_on=following
        )
        with contextlib.suppress(Conflict):
            self.site.server.reports.store([write])

    def _look_up(self, execution_id: str) -> Past | None:
        names, reports = self.site.names, self.site.server.reports
        started = reports.last_matching(names.reports_of(self.queue, execution_id, STARTED))
        if started is None:
            return None
        attempt = parse_report_subject(names, started.subject).attempt
        finished = reports.last_of(names.report(self.queue, execution_id, attempt, FINISHED))
        body = decode(started.data, Started)
        return Past(
            attempt=attempt,
            started_at=started.at,
            worker=body.worker,
            by=body.by,
            finished=None if finished is None else decode(finished.data, Finished),
            finished_at=None if finished is None else finished.at,
        )
