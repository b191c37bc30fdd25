"""Posting to an endpoint: what comes of it, by the twin and over a real connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from scheduler.core.delivering import Answer
from scheduler.memory.clock import VirtualClock
from scheduler.memory.posting import MemoryPoster
from scheduler.ports.webhooks import Post, Poster
from scheduler.system.posting import HttpPoster
from scheduler.wire.targets import Target, read_target
from tests.integration.receivers import OK, Receiver, answer

ERROR = answer("500 Oh")


class Place(Protocol):
    poster: Poster

    @contextlib.asynccontextmanager
    async def endpoint(self, *statuses: int) -> AsyncIterator[Target]:
        """One that answers so, request by request; without any it never answers."""
        yield NotImplemented

    async def post(self, post: Post) -> Answer: ...

    @property
    def bodies(self) -> list[bytes]: ...


class MemoryPlace:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.twin = MemoryPoster(self.clock)

    @contextlib.asynccontextmanager
    async def endpoint(self, *statuses: int) -> AsyncIterator[Target]:
        target = read_target("https://hooks.example/hook", field="url")
        self.twin.answers[target.host].extend(Answer(status=each) for each in statuses)
        if not statuses:
            self.twin.hangs.add(target.host)
        yield target

    async def post(self, post: Post) -> Answer:
        task = asyncio.create_task(self.twin.post(post))
        while not task.done():
            await self.clock.advance(0.05)
        return task.result()

    @property
    def bodies(self) -> list[bytes]:
        return [each.post.body for posted in self.twin.posted.values() for each in posted]


class HttpPlace:
    def __init__(self) -> None:
        self.real = HttpPoster()
        self.receiver: Receiver | None = None

    @contextlib.asynccontextmanager
    async def endpoint(self, *statuses: int) -> AsyncIterator[Target]:
        answers = [OK if each == 200 else ERROR for each in statuses]
        async with Receiver(lambda number: answers[number] if answers else None) as self.receiver:
            yield read_target(self.receiver.url, field="url")

    async def post(self, post: Post) -> Answer:
        return await self.real.post(post)

    @property
    def bodies(self) -> list[bytes]:
        assert self.receiver is not None
        return [each.body for each in self.receiver.received]


@pytest.fixture(params=[MemoryPlace, HttpPlace], ids=["memory", "http"])
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.param()
    return made


def post_to(target: Target, body: bytes = b"{}") -> Post:
    return Post(target, {"Content-Type": "application/json"}, body, 0.5)


async def test_what_it_answers(place: Place) -> None:
    """Request by request: the body arrives as it is, the status comes back, and an error of the endpoint is none of
    ours."""
    async with place.endpoint(200, 500, 200) as target:
        found = [await place.post(post_to(target, b'{"n":%d}' % number)) for number in range(3)]
        assert [(each.status, each.problem) for each in found] == [(200, ""), (500, ""), (200, "")]
        assert place.bodies == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


async def test_one_that_never_answers(place: Place) -> None:
    """The time is over, and that is told as such."""
    async with place.endpoint() as target:
        assert await place.post(post_to(target)) == Answer(problem="timeout")
