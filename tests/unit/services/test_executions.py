"""The index of executions: bounded, in step with the bucket, and quiet about what is none of its business."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.core.model.execution import State
from scheduler.memory.clock import START
from tests.unit.services.api.stage import Stage


async def started(**limits: int) -> Stage:
    stage = Stage(**limits)
    await stage.start()
    return stage


async def test_it_knows_recent_and_open_ones() -> None:
    """By order of writes, newest first; a terminal write closes an execution, a marker forgets it."""
    stage = await started()
    first = await stage.record("a", 1, State.QUEUED)
    second = await stage.record("a", 2, State.RUNNING)
    await stage.clock.settle()
    assert [seen.id for seen in stage.index.recent()] == [second, first]
    assert stage.index.open_count == 2
    await stage.record("a", 1, State.SUCCEEDED)
    await stage.clock.settle()
    assert [seen.id for seen in stage.index.recent()] == [first, second]
    assert [seen.id for seen in stage.index.open_before(stage.clock.now() + timedelta(days=1))] == [second]
    found = stage.index.get(first)
    assert found is not None
    assert (found.state, found.revision) == (State.SUCCEEDED, 3)
    await stage.executions.delete(second)
    await stage.clock.settle()
    assert stage.index.get(second) is None
    assert stage.index.open_count == 0
    await stage.stop()


async def test_open_ones_by_age() -> None:
    """Only what nobody has touched since the given time, longest untouched first."""
    stage = await started()
    ids = []
    for number in range(4):
        ids.append(await stage.record("a", number, State.QUEUED))
        await stage.clock.advance(10)
    await stage.record("a", 0, State.RUNNING)
    await stage.clock.settle()
    assert stage.index.open_ids(START + timedelta(seconds=25)) == ids[1:3]
    assert stage.index.open_ids(START + timedelta(hours=1)) == [*ids[1:], ids[0]]
    await stage.stop()


async def test_it_is_bounded_and_says_what_it_drops() -> None:
    """Beyond its limits the oldest fall out, each counted; an open one stays known although it is not recent."""
    stage = await started(recent_max=3, open_max=2)
    queued = await stage.record("open", 0, State.QUEUED)
    for number in range(5):
        await stage.record("a", number)
    await stage.clock.settle()
    assert len(stage.index) == 3
    assert stage.index.get(queued) is not None
    assert stage.telemetry.count("dropped", what="execution_index", reason="recent_full") == 3
    for number in (1, 2):
        await stage.record("open", number, State.QUEUED)
    await stage.clock.settle()
    assert stage.index.open_count == 2
    assert stage.index.get(queued) is None
    assert stage.telemetry.count("dropped", what="execution_index", reason="open_full") == 1
    await stage.stop()


async def test_other_keys_are_no_executions() -> None:
    """Nonces are passed over; what is no record is counted and harms nobody."""
    stage = await started()
    await stage.executions.put("_nonce.a.n1", b"a.20261121T080000000Z-mn1")
    stage.executions.put_raw("a.20261121T080000000Z", b"\xff garbage")
    known = await stage.record("c", 1)
    entry = await stage.executions.get(known)
    assert entry is not None
    stage.executions.put_raw("b.20261121T080000000Z", entry.value)
    await stage.clock.settle()
    assert [seen.id for seen in stage.index.recent()] == [known]
    assert stage.telemetry.count("dropped", what="execution_index", reason="unreadable") == 2
    await stage.stop()


async def test_a_start_looks_at_the_last_writes_only() -> None:
    """With a long history behind it a start reads the window, not the bucket."""
    stage = Stage(start_window=10)
    for number in range(50):
        await stage.record("a", number)
    await stage.start()
    assert len(stage.index) == 10
    await stage.stop()


@pytest.mark.parametrize("stalled", [False, True])
async def test_current_waits_for_the_watch_or_reads_past_it(stalled: bool) -> None:
    """What was written before the call is in the index after it, whether or not the watch delivers."""
    stage = await started()
    if stalled:
        stage.executions.stall_watches()
    written = await stage.record("a", 1)
    await stage.run(stage.index.current(), within_s=1.0)
    assert stage.index.get(written) is not None
    await stage.stop()
