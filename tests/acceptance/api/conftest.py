"""Three real replicas for each file of this folder, and plain NATS requests to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.acceptance.contract_site import Caller, Place, stand_together
from tests.acceptance.harness import Site


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from stand_together(tmp_path_factory.mktemp("api"), "a", "b", "c")


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    async with Site(place.folder, place.url) as found:
        yield found


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.client)
