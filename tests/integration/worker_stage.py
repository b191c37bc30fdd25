"""A stage for workers: a provisioned server, the hand of a dispatcher, the eyes of a tracker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.js.errors import NotFoundError

from scheduler.core.model.execution import Execution, Kind
from scheduler.jetstream.provisioning import ensure_queue, provision
from scheduler.jetstream.requests import Requests
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.wire.task import task_headers
from scheduler.worker import Worker
from tests.nats_servers import Server

ROOT = Path(__file__).resolve().parents[2]
NAMES = Names()
ACK_WAIT_S = 1.2
QUICK = {"initial": "50ms", "max": "200ms", "jitter": 0}
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Stage:
    """One provisioned server with queues, seen from outside the workers."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.url = server.url
        self._numbers = itertools.count()
        self.client: Any = None
        self.js: Any = None

    async def open(self, *queues: str) -> None:
        """Connect, and make what the daemon makes."""
        self.client = await nats.connect(self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_quiet)
        self.js = self.client.jetstream()
        self._requests = Requests(self.client)
        await self._requests.open()
        await provision(self._requests, NAMES)
        for queue in queues:
            await self.add_queue(queue)

    async def close(self) -> None:
        await self._requests.close()
        await self.client.close()

    async def add_queue(self, queue: str, *, ack_wait_s: float = ACK_WAIT_S, max_deliver: int = 20) -> None:
        await ensure_queue(self._requests, NAMES, queue, ack_wait_s=ack_wait_s, max_deliver=max_deliver)

    async def answers(self) -> bool:
        """Whether the server is there and its streams too."""
        try:
            await self.js.stream_info(NAMES.tasks)
        except Exception:
            return False
        return True

    async def put(self, type_: str, payload: bytes | None = b'{"n":1}', *, queue: str = "Q", **fields: Any) -> str:
        """Queue one task, as the dispatcher would; its execution id. `fields` are those of the record."""
        nominal_at = NOON + timedelta(seconds=next(self._numbers))
        schedule = fields.pop("schedule", "some.schedule")
        execution = Execution(
            id=execution_id(schedule, nominal_at), schedule=schedule, generation=1, epoch=1,
            kind=Kind.AUTO, nominal_at=nominal_at, fire_at=nominal_at, queue=queue, type=type_, payload=payload,
            **fields,
        )  # fmt: skip
        headers = task_headers(execution, nominal_at - timedelta(minutes=1), nominal_at + timedelta(minutes=1))
        await self.js.publish(NAMES.task(queue, execution.id), payload or b"", headers=headers)
        return execution.id

    async def reports(self, execution: str, kind: str = "*", queue: str = "Q") -> list[tuple[int, str, Any]]:
        """(attempt, kind, body) of every report so far, in order."""
        subject = f"{NAMES.namespace}.report.{queue}.{execution}.*.{kind}"
        found: list[tuple[int, str, Any]] = []
        seq = 1
        while True:
            request = msgspec.json.encode({"seq": seq, "next_by_subj": subject})
            reply = await self.client.request(f"$JS.API.STREAM.MSG.GET.{NAMES.reports}", request, timeout=5)
            message = msgspec.json.decode(reply.data).get("message")
            if message is None:
                return found
            attempt, word = message["subject"].split(".")[-2:]
            body = msgspec.json.decode(msgspec.convert(message["data"], bytes))
            found.append((int(attempt), word, body))
            seq = message["seq"] + 1

    async def outcomes(self, execution: str, queue: str = "Q") -> list[tuple[int, str]]:
        return [(attempt, body["outcome"]) for attempt, _, body in await self.reports(execution, "finished", queue)]

    async def final(self, execution: str, *, queue: str = "Q", within_s: float = 15) -> dict[str, Any]:
        """The final report, and that the task has left the stream; waits for both."""

        async def look() -> dict[str, Any] | None:
            bodies = [body for *_, body in await self.reports(execution, "finished", queue)]
            ends = [body for body in bodies if body["outcome"] != "retry"]
            return ends[0] if ends and not await self.is_queued(execution, queue) else None

        return await eventually(look, within_s=within_s)

    async def is_queued(self, execution: str, queue: str = "Q") -> bool:
        try:
            await self.js.get_last_msg(NAMES.tasks, NAMES.task(queue, execution))
        except NotFoundError:
            return False
        return True

    async def rows(self) -> list[dict[str, Any]]:
        bucket = await self.js.key_value(NAMES.workers)
        try:
            keys = await bucket.keys()
        except nats.js.errors.NoKeysError:
            return []
        return [msgspec.json.decode((await bucket.get(key)).value) for key in keys]

    @contextlib.asynccontextmanager
    async def serving(self, worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(worker.serve())
        try:
            yield task
        finally:
            await worker.stop()
            await asyncio.gather(task, return_exceptions=True)

    @contextlib.contextmanager
    def process(self, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A real worker process, its log in `worker.log`; ended when the block is left."""
        env = {**os.environ, "NATS_URL": self.url, "PYTHONPATH": str(ROOT)}
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", program, *arguments], env=env, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


async def eventually(look: Callable[[], Any], *, within_s: float = 10) -> Any:
    """The first true answer of an async `look`."""
    async with asyncio.timeout(within_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.03)


@contextlib.asynccontextmanager
async def staged(server: Server, folder: Path) -> AsyncIterator[Stage]:
    """A stage with one queue, Q, whose ack wait is short."""
    stage = Stage(server, folder)
    await stage.open("Q")
    try:
        yield stage
    finally:
        await stage.close()


async def _quiet(problem: Exception) -> None:
    """Servers go away in these tests."""
