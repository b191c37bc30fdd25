"""How refusals of a batch are narrowed down to the pairs that cause them, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from scheduler.core.errors import Conflict, Internal, ScheddError, Unavailable
from scheduler.jetstream.errors import InFlight
from scheduler.jetstream.queues import BATCH_PAIRS, UNDER_WAY_MAX, NatsTaskQueues
from scheduler.jetstream.requests import Ack, Message, Requests
from scheduler.memory.clock import VirtualClock
from scheduler.ports.queues import Pair, Queued
from scheduler.wire.names import Names


class FakeRequests:
    """Accepts batches unless one of their claims is in `refusing`, which names the error."""

    def __init__(self) -> None:
        self.refusing: dict[str, ScheddError] = {}
        self.batches: list[int] = []
        self.under_way = self.most_under_way = 0
        self.seq = 0
        self.unsent = False

    async def start_batch(self, messages: Sequence[Message]) -> FakeBatch:
        if self.unsent:
            raise Unavailable("not connected")
        self.batches.append(len(messages) // 2)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        return FakeBatch(self, messages)

    async def stored_many(self, stream: str, queries: Sequence[dict[str, Any]]) -> list[None]:
        return [None for _ in queries]


class FakeBatch:
    def __init__(self, requests: FakeRequests, messages: Sequence[Message]) -> None:
        self._requests = requests
        self._messages = messages

    async def result(self) -> Ack:
        self._requests.under_way -= 1
        for message in self._messages:
            for claim, problem in self._requests.refusing.items():
                if claim in message.subject:
                    raise problem
        self._requests.seq += len(self._messages)
        return Ack(seq=self._requests.seq)


def pairs(count: int, *, body: bytes = b"") -> list[Pair]:
    at = datetime(2026, 11, 21, 8, tzinfo=UTC)
    return [Pair(f"s{number}.{at:%Y%m%dT%H%M%S}000Z", 0, "Q", body, {}, 60) for number in range(count)]


async def publish(requests: FakeRequests, given: list[Pair]) -> list[Queued | ScheddError]:
    return await NatsTaskQueues(cast("Requests", requests), Names(), VirtualClock()).publish(given)


async def test_in_flight_is_narrowed_down() -> None:
    """A claim that another replica is writing right now holds back its own pair only."""
    requests = FakeRequests()
    requests.refusing["claim.s70."] = InFlight("in flight")
    results = await publish(requests, pairs(200))
    assert [number for number, result in enumerate(results) if isinstance(result, InFlight)] == [70]
    assert len({result.task_seq for result in results if isinstance(result, Queued)}) == 199


async def test_a_conflict_without_a_claim() -> None:
    """A refusal that no stored claim explains is narrowed down too, and comes out as an error to repeat."""
    requests = FakeRequests()
    requests.refusing["claim.s3."] = Conflict("wrong last sequence")
    results = await publish(requests, pairs(20))
    assert isinstance(results[3], Unavailable)
    assert sum(isinstance(result, Queued) for result in results) == 19


async def test_other_refusals_are_told_at_once() -> None:
    """An error that is no pair's fault is not asked for again pair by pair."""
    requests = FakeRequests()
    requests.refusing["claim.s3."] = Internal("no")
    results = await publish(requests, pairs(20))
    assert all(isinstance(result, Internal) for result in results)
    assert requests.batches == [20]


async def test_not_connected() -> None:
    """A batch that cannot even be sent fails for each of its pairs."""
    requests = FakeRequests()
    requests.unsent = True
    results = await publish(requests, pairs(3))
    assert all(isinstance(result, Unavailable) for result in results)


async def test_batches_are_bounded() -> None:
    """Batches are bounded in pairs and in bytes, and so is how many are under way at once."""
    requests = FakeRequests()
    results = await publish(requests, pairs(BATCH_PAIRS * 10 + 1))
    assert requests.batches == [BATCH_PAIRS] * 10 + [1]
    assert 1 < requests.most_under_way <= UNDER_WAY_MAX
    assert [result.task_seq for result in results if isinstance(result, Queued)] == list(
        range(2, 2 * (BATCH_PAIRS * 10 + 1) + 1, 2)
    )
    requests.batches.clear()
    await publish(requests, pairs(100, body=b"x" * 64 * 1024))
    assert max(requests.batches) * 64 * 1024 <= 2 * 1024 * 1024
    assert sum(requests.batches) == 100
    requests.batches.clear()
    await publish(requests, pairs(2, body=b"x" * 8 * 1024 * 1024))
    assert requests.batches == [1, 1]
