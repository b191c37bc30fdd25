"""Several answers at once: all of them, or the first problem and nothing left running."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.errors import Unavailable
from scheduler.services.together import all_of


async def test_all_answers_in_order() -> None:
    """However long each takes."""

    async def answer(number: int) -> int:
        for _ in range(3 - number):
            await asyncio.sleep(0)
        return number

    assert await all_of(answer(number) for number in range(3)) == [0, 1, 2]
    assert await all_of([]) == []


async def test_one_problem_ends_the_others() -> None:
    """They are cancelled, and waited for: what they clean up is clean when the problem is raised."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("waits")

    async def breaks() -> None:
        await asyncio.sleep(0)
        raise Unavailable("electing")

    with pytest.raises(Unavailable, match="electing"):
        await all_of([waits(), breaks(), waits()])
    assert ended == ["waits", "waits"]
