"""Writes to a bucket that meet another one of the same key, which is still being replicated (10164)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from scheduler.core.errors import Conflict, ScheddError
from scheduler.jetstream.buckets import IN_FLIGHT_PAUSES_S, NatsBucket
from scheduler.jetstream.errors import InFlight
from scheduler.jetstream.requests import Ack, Message, Requests
from scheduler.ports.stores import Write


class Busy:
    """Requests of which those to busy keys are refused for now, so many times each."""

    def __init__(self, **busy: int) -> None:
        self._busy = busy
        self.sent: list[str] = []

    async def publish_many(self, messages: Sequence[Message]) -> list[Ack | ScheddError]:
        return [self._publish(each.subject.rpartition(".")[2]) for each in messages]

    def _publish(self, key: str) -> Ack | ScheddError:
        self.sent.append(key)
        if self._busy.get(key, 0) > 0:
            self._busy[key] -= 1
            return InFlight("wrong last sequence (10164)")
        return Conflict("wrong last sequence") if key == "taken" else Ack(seq=len(self.sent))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.jetstream.buckets.IN_FLIGHT_PAUSES_S", (0.0,) * len(IN_FLIGHT_PAUSES_S))


async def written(requests: Busy, *keys: str) -> list[int | ScheddError]:
    bucket = NatsBucket(cast("Requests", requests), "b")
    return await bucket.put_many([Write(key, b"x", expect=1) for key in keys])


async def test_it_is_sent_again() -> None:
    """Refused, and not stored: that one alone is sent again, until it is; a conflict is an answer."""
    requests = Busy(slow=2)
    first, slow, taken = await written(requests, "first", "slow", "taken")
    assert (first, slow) == (1, 5)
    assert isinstance(taken, Conflict)
    assert requests.sent == ["first", "slow", "taken", "slow", "slow"]


async def test_not_for_ever() -> None:
    """A write that stays in flight is told as such, after a few tries."""
    requests = Busy(stuck=1000)
    (result,) = await written(requests, "stuck")
    assert isinstance(result, InFlight)
    assert len(requests.sent) == 1 + len(IN_FLIGHT_PAUSES_S)
