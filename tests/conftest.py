"""What every test gets: no task may outlive its test.

Fixtures with servers are in `tests/nats_servers.py`; loaded here when they exist, so that pure tests never need one.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

_SETTLE_TURNS = 20  # turns of the loop that a task just cancelled may still take to end
pytest_plugins = ["tests.nats_servers"] if Path(__file__).with_name("nats_servers.py").exists() else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every async test the leak check, as its outermost fixture: the others have cleaned up when it looks."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_tasks_left_behind")


@pytest.fixture
async def no_tasks_left_behind() -> AsyncIterator[None]:
    """Fail a test whose tasks are still running after its fixtures were torn down."""
    before = asyncio.all_tasks()
    yield
    left = await _leftover(before)
    for task in left:
        task.cancel()
    assert not left, f"tasks left behind: {sorted(task.get_name() for task in left)} {left}"


async def _leftover(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    for _ in range(_SETTLE_TURNS):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0)
    return left
