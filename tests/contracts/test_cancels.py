"""Cancel messages, and attempts that the daemon takes."""

from __future__ import annotations

import msgspec
import pytest

from scheduler.core.errors import Unavailable, Unsure
from scheduler.core.model.execution import Action
from tests.contracts.stages import Stage

TAIL = "20261121T080000000Z"
STARTED = b'{"worker":"w1","at":"2026-11-21T08:00:00.500Z"}'


async def test_a_message_for_who_listens(stage: Stage) -> None:
    """Subject and body as the contract says; another queue's workers hear nothing."""
    heard, others = await stage.listen("Q"), []
    await stage.cancels.send("Q", f"a.b.{TAIL}", Action.CANCEL, 2.5)
    await stage.cancels.send("Q", f"a.b.{TAIL}-mx", Action.TERMINATE, None)
    await stage.cancels.send("other", f"x.{TAIL}", Action.CANCEL, None)
    await stage.cancels.send("Q", f"a.{TAIL}", Action.CANCEL, 0.0, 2)
    await stage.sleep(0.2)
    assert [(subject, msgspec.json.decode(body)) for subject, body in heard] == [
        (stage.names.cancel("Q", f"a.b.{TAIL}"), {"action": "cancel", "grace_s": 2.5}),
        (stage.names.cancel("Q", f"a.b.{TAIL}-mx"), {"action": "terminate"}),
        (stage.names.cancel("Q", f"a.{TAIL}"), {"action": "cancel", "grace_s": 0.0, "drive": 2}),
    ]
    assert others == []


async def test_nobody_listens(stage: Stage) -> None:
    """Sent is sent."""
    await stage.cancels.send("Q", f"a.{TAIL}", Action.CANCEL, 0.0)


async def test_cut_off(stage: Stage) -> None:
    """Without a server it is Unavailable."""
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.cancels.send("Q", f"a.{TAIL}", Action.CANCEL, 0.0)


async def test_take_an_attempt(stage: Stage) -> None:
    """Nobody has it: it is the daemon's, again too; the report says by whom."""
    for _ in range(2):
        assert await stage.reports.take("Q", f"a.{TAIL}", 1, stage.now())
    (report,) = await stage.reports.all_of("Q", f"a.{TAIL}")
    assert (report.attempt, msgspec.json.decode(report.body)["by"]) == (1, "daemon")


@pytest.mark.parametrize("body", [STARTED, b"{}", b"\xff"])
async def test_take_what_a_worker_has(stage: Stage, body: bytes) -> None:
    """A worker's claim stands, readable or not; the next attempt is free."""
    await stage.put(stage.names.report("Q", f"a.{TAIL}", 1, "started"), body)
    assert not await stage.reports.take("Q", f"a.{TAIL}", 1, stage.now())
    assert await stage.reports.take("Q", f"a.{TAIL}", 2, stage.now())


async def test_a_take_without_an_answer(stage: Stage) -> None:
    """It landed: read back. It is still on its way: Unsure, and then it is ours when asked again."""
    stage.lose_ack_next()
    assert await stage.run(stage.reports.take("Q", f"a.{TAIL}", 1, stage.now()))
    stage.land_late()
    with pytest.raises(Unsure):
        await stage.run(stage.reports.take("Q", f"b.{TAIL}", 1, stage.now()))
    await stage.land()
    assert await stage.run(stage.reports.take("Q", f"b.{TAIL}", 1, stage.now()))
