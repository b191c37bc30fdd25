"""Events out: bounded, repeated until acknowledged, and each one given up is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable
from scheduler.jetstream import events as module
from scheduler.jetstream.events import NatsEvents
from scheduler.jetstream.requests import Ack, Message, Requests
from scheduler.memory.clock import VirtualClock
from scheduler.wire import headers as h
from scheduler.wire.events import decode_event
from scheduler.wire.names import Names


class FakeRequests:
    """Answers each publish with the next of `answers`, then with acks."""

    def __init__(self) -> None:
        self.answers: list[ScheddError] = []
        self.published: list[Message] = []
        self.tried: list[Message] = []

    async def publish_many(self, messages: Sequence[Message]) -> list[Ack | ScheddError]:
        await asyncio.sleep(0)
        results: list[Ack | ScheddError] = []
        for message in messages:
            self.tried.append(message)
            results.append(self.answers.pop(0) if self.answers else Ack(seq=1))
            if isinstance(results[-1], Ack):
                self.published.append(message)
        return results


@pytest.fixture
def dropped() -> list[str]:
    return []


@pytest.fixture
def requests() -> FakeRequests:
    return FakeRequests()


@pytest.fixture
async def events(
    requests: FakeRequests, dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NatsEvents]:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    made = NatsEvents(cast("Requests", requests), Names(), VirtualClock(), dropped=dropped.append, buffer_max=5)
    await made.open()
    yield made
    await made.close(0.0)


def kinds(messages: Sequence[Message]) -> list[str]:
    return [decode_event(message.payload).kind for message in messages]


async def test_repeated(events: NatsEvents, requests: FakeRequests, dropped: list[str]) -> None:
    """What was not acknowledged goes again, the same id and body, and nothing is dropped."""
    requests.answers = [Unavailable("electing"), Unavailable("electing")]
    for kind in ("applied", "paused", "resumed"):
        await events.publish(kind, "x", {})
    await events.close()
    assert sorted(kinds(requests.published)) == ["applied", "paused", "resumed"]
    assert kinds(requests.tried) == ["applied", "paused", "resumed", "applied", "paused"]
    assert requests.tried[0] == requests.tried[3]
    ids = [(message.headers or {})[h.MSG_ID] for message in requests.published]
    assert ids == [decode_event(message.payload).id for message in requests.published]
    assert dropped == []


async def test_refused(events: NatsEvents, requests: FakeRequests, dropped: list[str]) -> None:
    """An event that the server never takes is dropped, not repeated."""
    requests.answers = [InvalidArgument("too large")]
    await events.publish("applied", "x", {})
    await events.publish("paused", "x", {})
    await events.close()
    assert kinds(requests.published) == ["paused"]
    assert dropped == ["refused"]


async def test_full(events: NatsEvents, requests: FakeRequests, dropped: list[str]) -> None:
    """When the buffer is full the newest are dropped; publishing never waits."""
    for _ in range(8):
        await events.publish("applied", "x", {})
    await events.close()
    assert len(requests.published) == 5
    assert dropped == ["buffer_full"] * 3


async def test_closed_before_they_are_sent(events: NatsEvents, requests: FakeRequests, dropped: list[str]) -> None:
    """What could not be sent until the end is told, and closing twice tells it once."""
    requests.answers = [Unavailable("down")] * 1_000_000
    await events.publish("applied", "x", {})
    await events.publish("paused", "x", {})
    await events.close(0.05)
    await events.close()
    assert dropped == ["closed", "closed"]
