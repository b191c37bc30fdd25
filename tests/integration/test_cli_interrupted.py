"""`schedctl` interrupted by Ctrl-C or by a reader that leaves: quiet, with the right exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests.integration.cli_process import HELLO, ROOT, start
from tests.integration.fake_daemon import FakeDaemon


async def test_ctrl_c_is_130_and_quiet(url: str, daemon: FakeDaemon) -> None:
    """Ctrl-C while waiting for an answer: exit 130, nothing on stderr."""
    daemon.faults = [lambda: None] * 10
    process = await start("status", "--nats", url)
    await daemon.asked.wait()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert err == b""


async def test_a_closed_pipe_is_quiet(url: str, daemon: FakeDaemon) -> None:
    """`schedctl list --json | head -1`: no message, no failure."""
    for number in range(2000):
        daemon.put(f"s{number:04}", {**HELLO, "payload": "x" * 200})
    daemon._page = 100
    process = await start("list", "--json", "--nats", url)
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # the only way to close the reading end early
    err = await process.stderr.read()
    assert await process.wait() == 0
    assert err == b""


async def test_ctrl_c_while_it_is_loaded() -> None:
    """Nothing on stderr but what Python itself prints before it runs us; exit code 130, as later on."""
    program = "import sys, _signal; sys.modules['cli.schedctl'] = None; import cli.entry as entry\n"
    program += "class Finder:\n  def find_spec(self, name, *more):\n    if name == 'typer': raise KeyboardInterrupt\n"
    program += "sys.meta_path.insert(0, Finder()); del sys.modules['cli.schedctl']; entry.schedctl()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


async def test_a_reader_that_leaves_a_coloured_table(url: str, daemon: FakeDaemon) -> None:
    """`status --detailed | head -1` is no failure, whoever writes the line that finds nobody."""
    env = {**os.environ, "NATS_URL": url}
    script = f"{sys.executable} -m cli.schedctl status --detailed | head -1; exit ${{PIPESTATUS[0]}}"
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (process.returncode, err, b"LEVEL" in out) == (0, b"", True)


async def test_a_reader_that_leaves_a_page_of_help() -> None:
    """`schedctl --help | head -1`, under pipefail: no failure."""
    script = f"{sys.executable} -m cli.schedctl --help | true; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
