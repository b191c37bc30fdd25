"""Fixtures of acceptance and fault runs; `tests/faults` takes them from here."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Site, roomy_server
from tests.acceptance.standing import Standing, stand
from tests.nats_servers import Server


@pytest.fixture
def dice() -> random.Random:
    """Random choices of a run, from a seed that is printed; TEST_SEED repeats them."""
    seed = int(os.environ.get("TEST_SEED") or secrets.randbelow(2**32))
    print(f"TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """One NATS with JetStream."""
    found = roomy_server(tmp_path)
    await found.start()
    yield found
    await found.kill()


@pytest.fixture
async def site(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A site on one NATS, without replicas yet; its logs are shown if the test fails."""
    async with Site(tmp_path, server.url) as found:
        yield found
        if request.node.stash.get(FAILED, False):
            found.show_logs()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """One server and one replica for all tests of a module: take ids and queues of your own."""
    yield from stand(tmp_path_factory.mktemp("standing"))


@pytest.fixture
async def contract(standing: Standing, tmp_path: Path) -> AsyncIterator[Site]:
    """A site on what stands, for one test."""
    async with Site(tmp_path, standing.url) as found:
        yield found


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report
