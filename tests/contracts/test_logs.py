"""Log lines: in order, of exactly one execution, none missing, from any place on."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.errors import Unavailable
from tests.contracts.stages import Stage

ID = "a.20261121T080000000Z"
OTHER = "a.b.20261121T080000000Z"


async def written(stage: Stage, count: int, execution_id: str = ID, *, first: int = 0) -> list[bytes]:
    bodies = [f"line {number}".encode() for number in range(first, first + count)]
    for body in bodies:
        await stage.put(stage.names.log(execution_id), body)
    return bodies


async def test_nothing(stage: Stage) -> None:
    """An execution that logged nothing has no lines, and that is no error."""
    assert await stage.logs.after(ID, 0, 10) == []


async def test_in_order(stage: Stage) -> None:
    """Lines come as they were sent, with the server's time, and those of others do not."""
    bodies = await written(stage, 3)
    await written(stage, 2, OTHER)
    bodies += await written(stage, 1, first=3)
    before = stage.now()
    lines = await stage.logs.after(ID, 0, 10)
    assert [line.body for line in lines] == bodies
    assert [line.seq for line in lines] == sorted({line.seq for line in lines})
    assert all(abs((line.at - before).total_seconds()) < 30 for line in lines)
    assert await stage.logs.after(ID, lines[-1].seq, 10) == []


async def test_from_any_place(stage: Stage) -> None:
    """Page after page is the same as all at once; a place in the middle of nowhere is as good as any."""
    bodies = await written(stage, 40)
    found: list[bytes] = []
    seq = 0
    while page := await stage.logs.after(ID, seq, 7):
        assert len(page) <= 7
        found += [line.body for line in page]
        seq = page[-1].seq
    assert found == bodies
    assert await stage.logs.after(ID, seq + 1000, 7) == []


async def test_many(stage: Stage) -> None:
    """Thousands of lines are read at once, and no more than asked for."""
    bodies = [f"line {number}".encode() for number in range(1500)]
    for at in range(0, len(bodies), 100):  # each has its own time to be stored, on a slow machine too
        await asyncio.gather(*(stage.put(stage.names.log(ID), body) for body in bodies[at : at + 100]))
    lines = await stage.logs.after(ID, 0, 2000)
    assert {line.body for line in lines} == set(bodies)
    assert [line.seq for line in lines] == sorted({line.seq for line in lines})
    assert await stage.logs.after(ID, 0, 1200) == lines[:1200]
    assert await stage.logs.after(ID, lines[99].seq, 2000) == lines[100:]


async def test_without_a_server(stage: Stage) -> None:
    """Silence is never taken for an empty log."""
    await written(stage, 1)
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.logs.after(ID, 0, 10)
