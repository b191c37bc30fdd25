"""The leak checks of conftest must themselves be able to fail."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

LEAKING = """
import asyncio

async def test_leaks():
    globals()["kept"] = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
"""
CLEAN = """
import asyncio

async def test_is_clean():
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
"""
ORPHANING = """
import subprocess

def test_leaves_a_grandchild():
    subprocess.run(["sh", "-c", "sleep 600 >/dev/null 2>&1 &"], check=True)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> pytest.Pytester:
    """A tiny project with our conftest."""
    pytester.makeconftest((request.config.rootpath / "tests" / "conftest.py").read_text())
    pytester.makeini("[pytest]\nasyncio_mode=auto\nasyncio_default_fixture_loop_scope=function\n")
    return pytester


def test_a_forgotten_task_fails_its_test(project: pytest.Pytester) -> None:
    """A task that outlives its test is an error that names the task."""
    project.makepyfile(LEAKING)
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*tasks left behind: *forgotten*"])


def test_a_cancelled_task_is_no_leak(project: pytest.Pytester) -> None:
    """A task that was cancelled just before the end of its test is given the turns it needs to end."""
    project.makepyfile(CLEAN)
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_forgotten_process_fails_the_run(project: pytest.Pytester) -> None:
    """A process whose parent has ended is found all the same, named, ended, and the run is no success."""
    project.makepyfile(ORPHANING)
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["process left behind: * sleep 600 *"])
