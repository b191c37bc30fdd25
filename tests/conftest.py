"""What every test gets: no task outlives its test, and no process outlives the run.

Fixtures with servers are in `tests/nats_servers.py`; loaded here when they exist, so that pure tests never need one.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import hypothesis
import pytest

from tests import deeds

_SETTLE_TURNS = 20  # turns of the loop that a task just cancelled may still take to end
_SETTLE_S = 2.0  # how long a process just killed may still take to end
_MARK = ("TESTS_OF", str(os.getpid()))  # in the environment of whatever this run starts
# How long an example takes is the machine's affair; what takes too long ends by its test's time-out.
hypothesis.settings.register_profile(
    "schedd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("schedd")
pytest_plugins = ["tests.nats_servers"] if Path(__file__).with_name("nats_servers.py").exists() else []


def pytest_sessionstart() -> None:
    """Mark our environment: a server whose parent was killed -9 is known by it at the end.

    A shell starts its background jobs with SIGINT ignored, and what we start would inherit that: Ctrl-C is under test.
    """
    os.environ.update([_MARK])
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a process that a test started, or any child of one, is still there; and end it."""
    until_s = time.monotonic() + _SETTLE_S
    while (left := _running()) and time.monotonic() < until_s:
        time.sleep(0.05)
    for pid, command in left.items():
        print(f"\nprocess left behind: {pid} {command}")
        os.kill(pid, signal.SIGKILL)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _running() -> dict[int, str]:
    """Processes of this run by /proc (Linux; elsewhere none are seen), without those that have ended already."""
    found, mark = {}, "=".join(_MARK).encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = place.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
            ours = int(parent) == os.getpid() or mark in place.joinpath("environ").read_bytes().split(b"\0")
            if ours and state != "Z" and int(place.name) != os.getpid():
                found[int(place.name)] = place.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """What the test did to processes and servers is told at its end, within what is kept of its output."""
    deeds.forget()
    try:
        yield
    finally:
        if told := deeds.told():
            print(told)


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
