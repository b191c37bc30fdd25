"""What takes as long as an execution does: waiting for its end, and following its log to its last line.

Both go on through reconnects and changes of replicas. While the daemon cannot be asked they keep asking: `wait` until
its own time-out, `follow` for `PATIENCE_S`; neither once the connection is closed for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
from msgspec import Raw, Struct
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from scheduler.client.calls import Calls
from scheduler.client.hints import Hints
from scheduler.client.requests import PAGE, lines_request
from scheduler.core.errors import InvalidArgument, NotFound, Unavailable
from scheduler.core.lifecycle import TERMINAL
from scheduler.system.clock import SystemClock
from scheduler.wire import api
from scheduler.wire.events import Kind, decode_event
from scheduler.wire.ids import parse_execution_id
from scheduler.wire.record import Record

PATIENCE_S = 60.0  # how long nobody may answer somebody who follows
AGAIN_S = 0.5
LOOK_S = 1.0  # between two looks at the record of somebody who logs all the time
SETTLE_S = 0.5  # after the end, until its last lines are there on each server
TO_COME = timedelta(minutes=1)  # an execution that is due may not be on record yet


class StillRunning(Unavailable, TimeoutError):
    """`Client.wait`: the time is up, and the execution is not over. `record` is what it last was, if it was there."""

    def __init__(self, message: str, record: Record | None) -> None:
        super().__init__(message)
        self.record = record


class _Page(Struct):
    items: list[Raw]
    cursor: str


async def wait(connection: NatsClient, calls: Calls, execution_id: str, timeout_s: float | None) -> Record:
    """See `Client.wait`."""
    key = parse_execution_id(execution_id)
    seen: Record | None = None
    try:
        async with asyncio.timeout(timeout_s), _hints(connection, calls, execution_id, lines=False) as hints:
            while True:
                try:
                    seen = await _get(calls, execution_id)
                except NotFound:
                    if key.nominal_at < SystemClock().now() - TO_COME:
                        raise
                except Unavailable:
                    if connection.is_closed:
                        raise
                    await asyncio.sleep(AGAIN_S)
                    continue
                if seen is not None and seen.state in TERMINAL:
                    return seen
                await hints.wait(hints.pause_s)
    except TimeoutError:
        state = "not on record" if seen is None else f"still {seen.state}"
        raise StillRunning(f"execution {execution_id!r} is {state} after {timeout_s:g} s", seen) from None


async def follow(
    connection: NatsClient, calls: Calls, execution_id: str, *, attempt: int | None, level: str | None
) -> AsyncIterator[Raw]:
    """The lines as they come, each once; ends by itself once the execution is over and its last lines have come."""
    clock = asyncio.get_running_loop().time
    request = lines_request(execution_id, attempt=attempt, level=level, follow=True, limit=PAGE)
    answered_s = looked_s = clock()
    over = False
    async with _hints(connection, calls, execution_id, lines=True) as hints:
        while True:
            try:
                page = await calls.call("execution.logs", request, _Page)
                for line in page.items:
                    yield line
                request = msgspec.structs.replace(request, cursor=page.cursor)
                if not page.items and over:
                    return
                if not page.items or clock() - looked_s > LOOK_S:
                    over, looked_s = await _is_over(calls, execution_id), clock()
                answered_s = clock()
            except Unavailable:
                if connection.is_closed or clock() - answered_s > PATIENCE_S:
                    raise
                await asyncio.sleep(AGAIN_S)
                continue
            if over:
                await asyncio.sleep(0 if page.items else SETTLE_S)
            elif not page.items:
                await hints.wait(hints.pause_s)


async def _is_over(calls: Calls, execution_id: str) -> bool:
    try:
        return (await _get(calls, execution_id)).state in TERMINAL
    except NotFound:  # it was there: it has ended, and its record has gone since
        return True


async def _get(calls: Calls, execution_id: str) -> Record:
    return await calls.call("execution.get", api.Id(id=execution_id), Record)


def _hints(connection: NatsClient, calls: Calls, execution_id: str, *, lines: bool) -> Hints:
    """Of its end, and of its lines."""
    names = calls.names
    try:
        ended = names.event(Kind.FINISHED, parse_execution_id(execution_id).schedule_id)
    except InvalidArgument:  # the daemon says better what is wrong with it
        return Hints(connection, [])

    def wakes(message: Msg) -> bool:
        return message.subject != ended or _told_of(message.data) in {None, execution_id}

    return Hints(connection, [ended, names.log(execution_id)] if lines else [ended], wakes)


def _told_of(body: bytes) -> object:
    try:
        return decode_event(body).data.get("execution_id")
    except InvalidArgument:
        return None
