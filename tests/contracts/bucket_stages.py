"""Where the bucket suite plays: on the memory twin, and on a real bucket of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from scheduler.core.errors import ScheddError
from scheduler.jetstream.buckets import NatsBucket
from scheduler.jetstream.requests import Message, Requests
from scheduler.jetstream.topology import topology
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.server import MemoryServer
from scheduler.ports.stores import Bucket, Entry
from scheduler.wire.names import Names

WAIT_S = 10.0
_STEP_S = 0.05
MANY = 5000


class BucketStage(Protocol):
    """A bucket, and what anybody else may do to it."""

    bucket: Bucket

    async def put_raw(self, key: str, value: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Write as a foreign client, with any key and any headers."""

    async def sleep(self, seconds: float) -> None: ...
    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; fails after ten seconds."""


class MemoryBucketStage:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.twin = MemoryBucket(self.server, "schedd-executions")
        self.bucket: Bucket = self.twin

    async def put_raw(self, key: str, value: bytes, headers: Mapping[str, str] | None = None) -> int:
        return self.twin.put_raw(key, value, headers)

    async def sleep(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(WAIT_S / _STEP_S)):
            if condition():
                return
            await self.clock.advance(_STEP_S)
        raise AssertionError("it never came true")


class NatsBucketStage:
    """The executions bucket, as the topology declares it."""

    def __init__(self, requests: Requests, names: Names) -> None:
        self.requests = requests
        self.names = names
        self.real = NatsBucket(requests, names.executions)
        self.bucket: Bucket = self.real

    async def open(self) -> None:
        name = f"KV_{self.names.executions}"
        (stream,) = [one for one in topology(self.names).streams if one.name == name]
        await self.requests.api(f"STREAM.CREATE.{name}", stream.config(1))

    async def put_raw(self, key: str, value: bytes, headers: Mapping[str, str] | None = None) -> int:
        message = Message(f"$KV.{self.names.executions}.{key}", value, dict(headers or {}) or None)
        return (await self.requests.publish(message)).seq

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(_STEP_S)


class Delivered:
    """What a watch has delivered."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def __call__(self, entries: Sequence[Entry]) -> None:
        self.entries.extend(entries)

    @property
    def revisions(self) -> list[int]:
        return [entry.revision for entry in self.entries]


def written(results: list[int | ScheddError]) -> list[int]:
    assert all(isinstance(result, int) for result in results), [each for each in results if not isinstance(each, int)]
    return [result for result in results if isinstance(result, int)]
