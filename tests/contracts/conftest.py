"""The stages of the contract suites: one server for all of them, a namespace for each test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from scheduler.wire.names import Names
from tests.contracts.bucket_stages import BucketStage, MemoryBucketStage, NatsBucketStage
from tests.contracts.memory_stage import MemoryStage
from tests.contracts.nats_stage import NatsStage
from tests.contracts.stages import Stage
from tests.nats_servers import Server, connected

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("contracts") / "nats")
    server.spawn()
    yield server
    asyncio.run(server.kill())


@pytest.fixture(params=["memory", "nats"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    server: Server = request.getfixturevalue("contract_server")
    await server.ready()
    async with connected(server.url) as requests:
        nats_stage = NatsStage(requests.client, Names(f"t{next(_numbers)}"))
        await nats_stage.open()
        yield nats_stage
        await nats_stage.close()


@pytest.fixture(params=["memory", "nats"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[BucketStage]:
    if request.param == "memory":
        yield MemoryBucketStage()
        return
    server = request.getfixturevalue("shared_server")
    async with connected(server.url, timeout_s=5.0) as requests:
        stage = NatsBucketStage(requests, Names(f"bucket{next(_numbers)}"))
        await stage.open()
        yield stage
