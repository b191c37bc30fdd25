"""Fault runs stand on the same site as the acceptance runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import FAILED, dice, pytest_runtest_makereport, server, site
from tests.acceptance.harness import R3, Site
from tests.nats_servers import Cluster

__all__ = ["dice", "pytest_runtest_makereport", "server", "site"]


@pytest.fixture
async def wide(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A site on three NATS nodes, without replicas yet; its logs are shown if the test fails."""
    async with Site(tmp_path, cluster.urls, env=R3) as found:
        yield found
        if request.node.stash.get(FAILED, False):
            found.show_logs()
