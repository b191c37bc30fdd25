"""A real server, replica and SDK worker for each file of this folder."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.acceptance.contract_site import Caller, Place, stand_together
from tests.acceptance.harness import Site
from tests.acceptance.sdk.serving import Served


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from stand_together(tmp_path_factory.mktemp("sdk"), "a", SCHEDD_ACK_WAIT="2s")


@pytest.fixture(scope="module")
def served(place: Place) -> Iterator[Served]:
    """One worker for all tests of the module, started before its queue exists."""
    worker = Served("served", place.folder, place.url)
    yield worker
    worker.signal(signal.SIGKILL)
    worker._process.wait(10)


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    async with Site(place.folder, place.url) as found:
        yield found


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.client)
