"""The programs of scheduler/PROTOCOL.md, run as they stand there; what the machine has no tools for is skipped."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scheduler.client import Client
from scheduler.testing import LocalSchedd
from tests.acceptance.processes import clean_environment

ROOT = Path(__file__).parents[2]
JAVASCRIPT = ROOT / "tests" / "javascript"
PAGE = (ROOT / "scheduler" / "PROTOCOL.md").read_text()
TOOLS_S = 120


def program(language: str) -> str:
    """The first block of that language: a whole one."""
    return str(re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])


def fetched(*command: str, cwd: Path) -> None:
    """Run what fetches packages; where they are not to be had, there is nothing to try."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TOOLS_S, check=False)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} could not fetch the packages: {done.stderr.strip()[-300:]}")


async def tried(schedule: str, *command: str, cwd: Path) -> None:
    """Both puts count, and the task that was pulled and acknowledged is on record as succeeded."""
    async with LocalSchedd() as local, Client.connect(local.nats_url) as client:
        env = {**clean_environment(), "NATS_URL": local.nats_url}
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert (await client.schedules.get(schedule)).definition["payload"] == {"to": "ben"}
        [name] = re.findall(rf"^({schedule}\.\S+) ", out.decode(), re.MULTILINE)
        async with asyncio.timeout(20):
            while (await client.executions.get(name)).state != "succeeded":
                await asyncio.sleep(0.1)


async def test_the_javascript_program() -> None:
    """Node runs it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    if not (JAVASCRIPT / "node_modules" / "@nats-io").is_dir():
        fetched(npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", cwd=JAVASCRIPT)
    await tried("from-js", node, "--input-type=module", "-e", program("javascript"), cwd=JAVASCRIPT)


async def test_the_go_program(tmp_path: Path) -> None:
    """Go compiles and runs it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    (tmp_path / "try.go").write_text(program("go"))
    fetched(go, "mod", "init", "try", cwd=tmp_path)
    fetched(go, "mod", "tidy", cwd=tmp_path)
    fetched(go, "build", "-o", "try", ".", cwd=tmp_path)
    await tried("from-go", str(tmp_path / "try"), cwd=tmp_path)


@pytest.mark.parametrize("stream", ["SCHEDD_TASKS", "schedd-schedules", "schedd.api.v1.schedule.put", "schedd.event.>"])
def test_the_lines_of_the_nats_cli_name_what_there_is(stream: str) -> None:
    """They cannot be run here; at least their subjects are those of the other two, or of the table below."""
    page = PAGE.replace("schedd.event.<kind>.<schedule-id or _>", "schedd.event.>")
    assert stream in program("sh")
    assert page.count(stream) > 1
