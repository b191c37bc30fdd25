"""For tests of `schedctl`: a real NATS server, a stand-in for the daemon's API on it, and the command beside them.

For those of workers: a server with a queue, and a worker of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler.worker import Worker
from tests.integration.cli_process import Cli, Result, run
from tests.integration.fake_daemon import FakeDaemon, connected, nats_server
from tests.integration.worker_stage import Stage, staged
from tests.nats_servers import Server


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with nats_server(tmp_path) as url:
        yield url


@pytest.fixture
async def daemon(url: str) -> AsyncIterator[FakeDaemon]:
    async with connected(url) as client:
        daemon = FakeDaemon()
        await daemon.serve(client)
        yield daemon


@pytest.fixture
def cli(url: str, daemon: FakeDaemon) -> Cli:
    async def call(*arguments: str, **more: str) -> Result:
        return await run(*arguments, **{"NATS_URL": url, **more})

    return call


@pytest.fixture
async def stage(nats_server: Server, tmp_path: Path) -> AsyncIterator[Stage]:
    """A provisioned server with one queue, Q, whose ack wait is short."""
    async with staged(nats_server, tmp_path) as stage:
        yield stage


@pytest.fixture
def worker(stage: Stage) -> Worker:
    return Worker("Q", nats=stage.url, stop_grace="5s")
