"""Asks the daemon, look by look. A look that fails says why and keeps what the last one found."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict

from msgspec import structs
from nats.aio.msg import Msg

from cli.top.look import Look
from scheduler.client import Client, executions_request, first
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.system.clock import SystemClock
from scheduler.wire import api
from scheduler.wire.names import Names
from scheduler.wire.record import Record
from scheduler.wire.reports import PROGRESS, Progress, decode

RECENT_MAX = 500
RUNNING_MAX = 200
PROGRESS_MAX = 2_000
ID_DOTS = 6  # a wildcard stands for one token: ids with more dots show no progress


class Looker:
    """One client, look after look."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._names = client, Names(namespace)
        self._clock = SystemClock()
        self._progress: OrderedDict[str, Progress] = OrderedDict()
        self._last = Look(at=self._clock.now(), recent_max=RECENT_MAX)

    async def listen(self) -> None:
        """Hear how far runs are, as their workers tell it; who is not permitted to sees no progress, and the rest."""
        for dots in range(1, ID_DOTS + 2):
            execution = ".".join("*" * (dots + 1))
            subject = f"{self._names.namespace}.report.*.{execution}.*.{PROGRESS}"
            with contextlib.suppress(Exception):
                await self._client.connection.subscribe(subject, cb=self._hear)

    async def _hear(self, message: Msg) -> None:
        _, _, rest = message.subject.removeprefix(f"{self._names.namespace}.").split(".", 2)
        execution_id = rest.rsplit(".", 2)[0]
        with contextlib.suppress(InvalidArgument):
            self._progress[execution_id] = decode(message.data, Progress)
            self._progress.move_to_end(execution_id)
            if len(self._progress) > PROGRESS_MAX:
                self._progress.popitem(last=False)

    async def look(self) -> Look:
        """Never raises: a daemon that is away is something to look at, too."""
        try:
            health, recent, running = await asyncio.gather(
                self._client.health(), self._executions(None, RECENT_MAX), self._executions("running", RUNNING_MAX)
            )
        except ScheddError as problem:
            self._last = structs.replace(self._last, at=self._clock.now(), problem=problem.message)
            return self._last
        self._last = Look(
            at=self._clock.now(), health=health, recent=recent, recent_max=RECENT_MAX, running=running,
            progress=dict(self._progress),
        )  # fmt: skip
        return self._last

    async def _executions(self, state: str | None, most: int) -> list[Record]:
        pages = self._client.calls.pages("execution.list", executions_request(state=state))
        return [api.decode_reply(bytes(item), Record) async for item in first(pages, most)]
