"""The worker's side of the guardian: it hears of every process group before a program runs in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

SCRIPT = Path(__file__).with_name("guardian.py")
END_S = 10.0


class Guard:
    """A folder for the results of runs, and the process that cleans up behind a worker that died. A context manager."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="schedd-exec-"))
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """The pipe's end tells it to end what is left, and to go."""
        if self._process is not None:
            self._process.communicate(timeout=END_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, group: int) -> None:
        """From now on the group does not outlive this process."""
        self._groups.add(group)
        self._tell(b"+%d\n" % group)

    def discard(self, group: int) -> None:
        """The group is over: its number may be somebody else's soon."""
        self._groups.discard(group)
        self._tell(b"-%d\n" % group)

    def _tell(self, line: bytes) -> None:
        """A guardian that was killed is followed by another one, which hears of all groups."""
        try:
            self._write(line)
        except BrokenPipeError:
            self._start()

    def _start(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(END_S)
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(SCRIPT), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            bufsize=0,
        )  # fmt: skip
        for group in self._groups:
            self._write(b"+%d\n" % group)

    def _write(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)
