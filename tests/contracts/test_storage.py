"""How full everything is: what was stored is counted, and a server that is away is told as such."""

from __future__ import annotations

import pytest

from scheduler.core.errors import Unavailable
from tests.contracts.stages import Stage


async def test_what_is_stored_is_counted(stage: Stage) -> None:
    """Each stream is there once; a message more is a message more, and takes room."""
    before = {each.name: each for each in await stage.storage.stores()}
    assert {stage.names.tasks, stage.names.timeline, stage.names.reports, stage.names.events} <= before.keys()
    assert list(before) == sorted(before)
    room = await stage.storage.room()
    await stage.put(stage.names.report("Q", "a.20261121T080000000Z", 1, "progress"), b"x" * 100)
    after = {each.name: each for each in await stage.storage.stores()}
    reports = stage.names.reports
    assert after[reports].messages == before[reports].messages + 1
    assert after[reports].size >= before[reports].size + 100
    assert (after[reports].copies, after[reports].copies_wanted) == (1, 1)
    assert (await stage.storage.room()).used >= room.used + 100


async def test_a_server_that_is_away(stage: Stage) -> None:
    """Unavailable, from both."""
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.storage.stores()
    with pytest.raises(Unavailable):
        await stage.storage.room()
