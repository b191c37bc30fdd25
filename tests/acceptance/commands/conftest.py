"""A real server and replica for each file of this folder, commands as processes, nothing imported from schedd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.commands.running import Cli
from tests.acceptance.contract_site import Caller, Place, stand_together
from tests.acceptance.harness import Site


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from stand_together(tmp_path_factory.mktemp("commands"), "a")


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    async with Site(place.folder, place.url) as found:
        yield found


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.client)


@pytest.fixture
def cli(place: Place, tmp_path: Path) -> Cli:
    return Cli(place.url, tmp_path)
