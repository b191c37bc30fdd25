"""`schedctl` on a terminal: colours, width, questions."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.integration.fake_daemon import FakeDaemon, execution

HELLO = {"every": "10s", "queue": "default", "type": "hello"}
ROOT = Path(__file__).parents[2]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


async def on_terminal(url: str, *arguments: str, typed: str = "", **env: str) -> tuple[int, str]:
    """Exit code and everything shown on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.schedctl", *arguments, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**clean, "TERM": "xterm-256color", "NATS_URL": url, **env},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = await asyncio.to_thread(read_all, ours)
    os.close(ours)
    return await process.wait(), shown.replace("\r\n", "\n")


def read_all(file: int) -> str:
    content = b""
    while True:
        try:
            part = os.read(file, 65536)
        except OSError:  # the last writer has gone
            part = b""
        if not part:
            return content.decode()
        content += part


async def test_colours_and_width(url: str, daemon: FakeDaemon) -> None:
    """A terminal gets colours, and no line longer than it is wide; states are whole."""
    daemon.executions = [execution("a-schedule-with-quite-a-long-id", n, state="superseded") for n in range(3)]
    code, shown = await on_terminal(url, "executions", "list")
    assert code == 0
    assert "\x1b[" in shown
    plain = ESCAPES.sub("", shown)
    assert max(map(len, plain.splitlines())) <= 80
    assert plain.count("superseded") == 3


@pytest.mark.parametrize(("typed", "code"), [("n\n", 1), ("y\n", 0)])
async def test_a_bulk_verb_asks(url: str, daemon: FakeDaemon, typed: str, code: int) -> None:
    """What a selector found is shown, and only a yes goes on."""
    for name in ("a", "b"):
        daemon.put(name, HELLO)
    found, shown = await on_terminal(url, "pause", "-l", "!x", typed=typed)
    assert found == code
    assert "2 schedules to pause: a, b" in shown
    assert "Pause 2 schedules? [y/N]" in shown
    assert ("a paused" in shown) is (code == 0)
    assert ("paused" in daemon.schedules["a"][1]) is (code == 0)


async def test_no_color_is_respected(url: str, daemon: FakeDaemon) -> None:
    """NO_COLOR (no-color.org) turns colours off on a terminal too."""
    daemon.put("failed", {"cron": "never"})
    _, shown = await on_terminal(url, "list", NO_COLOR="1")
    assert "\x1b[31m" not in shown
    assert "invalid" in shown


async def test_json_has_no_colours(url: str, daemon: FakeDaemon) -> None:
    """--json is JSON on a terminal too."""
    daemon.put("hello", HELLO)
    _, shown = await on_terminal(url, "list", "--json")
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "left"),
    [((), "n\n", 1, True), ((), "y\n", 0, False), (("--yes",), "", 0, False), ((), "\x04", 130, True)],
)
async def test_delete_asks(
    url: str, daemon: FakeDaemon, arguments: tuple[str, ...], typed: str, code: int, left: bool
) -> None:
    """On a terminal `delete` asks; no and the end of input leave everything as it was; --yes does not ask."""
    daemon.put("hello", HELLO)
    found, shown = await on_terminal(url, "delete", "hello", *arguments, typed=typed)
    assert found == code, shown
    assert ("hello" in daemon.schedules) is left
    assert ("Delete hello?" in shown) is not bool(arguments)
    assert "Traceback" not in shown


@pytest.mark.parametrize(("typed", "code", "state"), [("n\n", 1, "failed"), ("y\n", 0, "queued")])
async def test_a_retry_of_many_asks(url: str, daemon: FakeDaemon, typed: str, code: int, state: str) -> None:
    """It shows the first of what the filter found, says how many there are, and does nothing without a yes."""
    daemon.executions = [execution(number=place, state="failed") for place in range(24)]
    found, shown = await on_terminal(url, "executions", "retry", "--state", "failed", "--rate", "1000", typed=typed)
    assert found == code, shown
    assert {each["state"] for each in daemon.executions} == {state}
    for text in ("hello.20261121T080000000Z", "... and 4 more", "Retry 24 executions?"):
        assert text in shown
    assert "hello.20261121T080023000Z" not in shown
    assert "Traceback" not in shown
