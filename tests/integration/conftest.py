"""For tests of `schedctl`: a real NATS server, a stand-in for the daemon's API on it, and the command beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.cli_process import Cli, Result, run
from tests.integration.fake_daemon import FakeDaemon, connected, nats_server


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
