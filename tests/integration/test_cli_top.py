"""`schedctl top` on a real terminal, in a real process."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.integration.fake_daemon import FakeDaemon, connected, execution, nats_server

ROOT = Path(__file__).parents[2]
WITHOUT = "import sys; sys.modules['textual'] = None; from cli.schedctl import main; main(sys.argv[1:])"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with nats_server(tmp_path) as url, connected(url) as client:
        daemon = FakeDaemon()
        daemon.executions = [execution("broken", 1, state="failed"), execution("busy", 2, state="running")]
        await daemon.serve(client)
        yield url


class Terminal:
    """A program on a terminal of 80x24."""

    def __init__(self, url: str, *program: str) -> None:
        self.program = program
        self.env = {**os.environ, "TERM": "xterm-256color", "NATS_URL": url}
        self.shown = b""

    async def start(self) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *self.program, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=self.env,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self._ours, False)

    async def see(self, *words: str) -> None:
        """Wait until all of them have been on the screen."""
        async with asyncio.timeout(20):
            while not all(word.encode() in self.shown for word in words):
                self._read()
                await asyncio.sleep(0.02)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    async def end(self) -> int:
        async with asyncio.timeout(10):
            while self.process.returncode is None:
                self._read()
                await asyncio.sleep(0.02)
        self._read()
        os.close(self._ours)
        return self.process.returncode

    def _read(self) -> None:
        try:
            self.shown += os.read(self._ours, 65536)
        except OSError:  # nothing there, or nobody left
            return


@pytest.mark.parametrize("keys", ["q", "\x03"])
async def test_it_shows_and_ends(url: str, keys: str) -> None:
    """Health, what runs and what failed are shown; q and Ctrl-C end it with 0 and give the terminal back."""
    terminal = Terminal(url, "-m", "cli.schedctl", "top", "--every", "0.2")
    await terminal.start()
    await terminal.see("leader a, epoch 7", "EMAIL", "busy.", "broken.", "Quit")
    terminal.press(keys)
    assert await terminal.end() == 0
    assert b"Traceback" not in terminal.shown
    assert b"\x1b[?1049l" in terminal.shown  # the ordinary screen again


async def test_it_is_ended_from_outside(url: str) -> None:
    """SIGTERM gives the terminal back as a key does: no raw input, no second screen is left to whoever sits there."""
    terminal = Terminal(url, "-m", "cli.schedctl", "top", "--every", "0.2")
    await terminal.start()
    await terminal.see("leader a, epoch 7", "Quit")
    terminal.process.terminate()
    assert await terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.shown


async def test_without_textual(url: str) -> None:
    """One sentence that says how to install it, exit 1; --once works all the same."""
    terminal = Terminal(url, "-c", WITHOUT, "top")
    await terminal.start()
    assert await terminal.end() == 1
    assert b"pip install 'schedd[tui]'" in terminal.shown
    terminal = Terminal(url, "-c", WITHOUT, "top", "--once")
    await terminal.start()
    await terminal.see("leader a, epoch 7", "broken.")
    assert await terminal.end() == 0
