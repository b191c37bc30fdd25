"""The start-up self-test of the fence, against a server that does not keep it."""

from __future__ import annotations

from typing import cast
from unittest.mock import Mock

import pytest
from nats.aio.client import Client

from scheduler.core.errors import Conflict, Internal, Unavailable
from scheduler.jetstream.errors import InFlight
from scheduler.jetstream.requests import Ack, Message, Requests
from scheduler.jetstream.timeline import NatsTimeline
from scheduler.wire import headers as h
from scheduler.wire.names import Names


class FakeRequests:
    """Gives these answers in turn, and the last one for ever."""

    def __init__(self, *answers: Ack | Exception) -> None:
        self._answers = answers
        self.published: list[Message] = []

    async def publish(self, message: Message) -> Ack:
        answer = self._answers[min(len(self.published), len(self._answers) - 1)]
        self.published.append(message)
        if isinstance(answer, Exception):
            raise answer
        return answer


def timeline(requests: FakeRequests) -> NatsTimeline:
    return NatsTimeline(cast("Requests", requests), cast("Client", Mock()), Names())


async def test_no_fence() -> None:
    """A server that accepts a wrong epoch is not planned on, and the probe it accepted can never fire."""
    requests = FakeRequests(Ack(seq=5))
    with pytest.raises(Internal, match="SCHEDD_TIMELINE"):
        await timeline(requests).prove_fence()
    (probe,) = requests.published
    assert probe.headers is not None
    assert h.SCHEDULE not in probe.headers
    assert probe.headers[h.TTL] == "1"
    assert probe.headers[h.EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT] == "schedd.epoch"


async def test_fence() -> None:
    """A refusal is the proof."""
    await timeline(FakeRequests(Conflict("wrong last sequence"))).prove_fence()


async def test_a_leader_at_work_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is being replicated just then proves nothing: it is asked again, and not for ever."""
    monkeypatch.setattr("scheduler.jetstream.timeline.PROOF_PAUSES_S", (0.0, 0.0))
    busy = InFlight("wrong last sequence (10164)")
    requests = FakeRequests(busy, busy, Conflict("wrong last sequence"))
    await timeline(requests).prove_fence()
    assert len(requests.published) == 3
    with pytest.raises(Internal):
        await timeline(FakeRequests(busy, Ack(seq=5))).prove_fence()
    with pytest.raises(Unavailable):
        await timeline(FakeRequests(busy)).prove_fence()


async def test_no_answer() -> None:
    """A server that does not answer proves nothing."""
    with pytest.raises(Unavailable):
        await timeline(FakeRequests(Unavailable("electing"))).prove_fence()
