from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.services.api.stage import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Started, and everything counts as applied."""
    found = Stage()
    await found.start()
    yield found
    await found.stop()
