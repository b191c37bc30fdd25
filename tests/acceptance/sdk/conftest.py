"""A real server, replica and SDK worker for each file of this folder; requests to them as in the tests of the API."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.api.conftest import api, site
from tests.acceptance.contract_site import Place, stand_together
from tests.acceptance.sdk.serving import Served

__all__ = ["api", "site"]


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
