"""A stage for workers: a real server on a random port with the assets of contract part 1, and a dispatcher's hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.js import api
from nats.js.errors import NotFoundError

from scheduler.core.model.execution import Execution, Kind
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.wire.task import task_headers
from scheduler.worker import Worker

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(sys.executable).with_name("nats-server")
NAMES = Names()
ACK_WAIT_S = 1.2
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Stage:
    """One server. `restart` keeps its port and its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self.client: Any = None
        self.js: Any = None

    async def start(self) -> None:
        await self.start_server()
        self.client = await nats.connect(self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        self.js = self.client.jetstream()

    def _spawn_server(self) -> None:
        arguments = [str(SERVER), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder)]
        self._process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)

    async def start_server(self) -> None:
        self._spawn_server()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    def stop_server(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()
        self.stop_server()

    async def provision(self, *queues: str, ack_wait_s: float = ACK_WAIT_S, max_deliver: int = 20) -> None:
        """Streams, bucket and consumers as the daemon makes them."""
        await self.js.add_stream(
            name=NAMES.tasks, subjects=[NAMES.all_tasks, NAMES.all_claims], retention="workqueue",
            allow_msg_ttl=True, discard="new",
        )  # fmt: skip
        await self.js.add_stream(name=NAMES.reports, subjects=[NAMES.all_reports])
        await self.js.add_stream(name=NAMES.logs, subjects=[NAMES.all_logs])
        await self.js.create_key_value(bucket=NAMES.workers)
        for queue in queues:
            await self.add_queue(queue, ack_wait_s=ack_wait_s, max_deliver=max_deliver)

    async def add_queue(self, queue: str, *, ack_wait_s: float = ACK_WAIT_S, max_deliver: int = 20) -> None:
        config = api.ConsumerConfig(
            durable_name=queue, filter_subject=NAMES.tasks_of(queue), ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s, max_deliver=max_deliver, sample_freq="100",
        )  # fmt: skip
        await self.js.add_consumer(NAMES.tasks, config)

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
