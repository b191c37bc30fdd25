"""Who watches, waits and follows while connections close, streams vanish and callers lose patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any

import pytest

from scheduler.client import Client, Event, events
from scheduler.core.errors import Unavailable
from scheduler.jetstream.provisioning import provision
from scheduler.jetstream.requests import Message, Requests
from scheduler.wire.events import encode_event
from scheduler.wire.names import Names
from tests.nats_servers import Server

NAMES = Names()
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)
RUN = "a.20261121T080000000Z"


async def publish(requests: Requests, first: int, count: int, filler: str = "") -> None:
    for number in range(first, first + count):
        data = {"n": number, "filler": filler}
        body = encode_event(NAMES, event_id=f"{number}", kind="finished", schedule_id="a", at=AT, data=data)
        await requests.publish(Message(NAMES.event("finished", "a"), body))


@pytest.fixture
async def client(requests: Requests, nats_server: Server) -> AsyncIterator[Client]:
    await provision(requests, NAMES)
    async with Client.connect(nats_server.url) as client:
        yield client


async def test_a_closed_connection_ends_everybody(requests: Requests, client: Client) -> None:
    """Whoever waits, watches or follows when the connection is closed is told so at once."""
    watch = client.watch()
    await watch.open()
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(work)
        for work in (client.wait(RUN), anext(watch), _drained(client.executions.logs(RUN, follow=True)))
    ]
    await asyncio.sleep(1.5)
    assert not any(each.done() for each in waiting)
    await client.connection.close()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in results), results


async def _drained(lines: AsyncIterator[Any]) -> None:
    async for _ in lines:
        pass


async def test_impatient_callers_miss_nothing(requests: Requests, client: Client) -> None:
    """Who gives up on the next event, at whatever moment, finds it when it asks again."""
    dice, seen = random.Random(7), list[int]()
    async with client.watch() as watch:
        telling = asyncio.create_task(publish(requests, 0, 400))
        async with asyncio.timeout(60):
            while len(seen) < 400:
                try:
                    async with asyncio.timeout(dice.choice((0.0, 0.001, 0.003, 0.01))):
                        seen.append((await anext(watch)).data["n"])
                except TimeoutError:
                    continue
        await telling
    assert seen == list(range(400))


async def test_a_stream_that_is_made_anew(requests: Requests, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted under a watch and a listener: both go on with what is told in the new one, from its first event."""
    monkeypatch.setattr(events, "LOOK_S", 0.3)
    heard: list[int] = []

    @client.on("finished")
    def hears(event: Event) -> None:
        heard.append(event.data["n"])

    await client.listening()
    async with client.watch(["finished"]) as watch:
        await publish(requests, 0, 20)
        async with asyncio.timeout(20):
            assert [(await anext(watch)).data["n"] for _ in range(20)] == list(range(20))
            await requests.api(f"STREAM.DELETE.{NAMES.events}")
            await asyncio.sleep(1.0)
            await provision(requests, NAMES)
            await publish(requests, 20, 5)
            assert [(await anext(watch)).data["n"] for _ in range(5)] == list(range(20, 25))
            while len(heard) < 25:
                await asyncio.sleep(0.05)
    assert heard == list(range(25))


async def test_a_slow_listener_and_large_events(requests: Requests, client: Client) -> None:
    """More than it can take, for longer than its consumer lives: all of it, in order."""
    heard: list[int] = []

    @client.on("finished")
    async def hears(event: Event) -> None:
        await asyncio.sleep(0.005)
        heard.append(event.data["n"])

    await client.listening()
    await publish(requests, 0, 600, "x" * 60_000)
    async with asyncio.timeout(60):
        while len(heard) < 600:
            await asyncio.sleep(0.05)
    assert heard == list(range(600))


async def test_who_leaves_in_the_middle(requests: Requests, client: Client, nats_server: Server) -> None:
    """Closing a watch, a listener and a follower while NATS is away takes moments, and leaves nothing running."""
    before = len(asyncio.all_tasks())
    watch = client.watch()
    await watch.open()

    @client.on()
    def hears(event: Event) -> None: ...

    await client.listening()
    waiting: list[Awaitable[Any]] = [asyncio.ensure_future(each) for each in (anext(watch), client.wait(RUN))]
    await nats_server.kill()
    await asyncio.sleep(0.5)
    async with asyncio.timeout(6):
        for each in waiting:
            each.cancel()  # type: ignore[attr-defined]
        await asyncio.gather(*waiting, return_exceptions=True)
        await watch.aclose()
        await client.stop_listening()
    await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) <= before + 1
    await nats_server.start()
