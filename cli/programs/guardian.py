"""Ends the process groups of a worker that died: `python -I -S guardian.py FOLDER`, a script that needs nothing else.

Its standard input is a pipe from the worker: `+123` a group began, `-123` it is over. The end of that pipe is the end
of the worker, whatever ended it; then every group left gets SIGTERM, a moment later SIGKILL, and FOLDER is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable

GRACE_S = 2.0
LOOK_S = 0.05


def main(folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when the worker has gone, not before
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    end(groups)
    shutil.rmtree(folder, ignore_errors=True)


def end(groups: Iterable[int]) -> None:
    """SIGTERM, up to `GRACE_S` to tidy up, SIGKILL."""
    left = {group for group in groups if send(group, signal.SIGTERM)}
    until_s = time.monotonic() + GRACE_S
    while left and time.monotonic() < until_s:
        time.sleep(LOOK_S)
        left = {group for group in left if send(group, 0)}
    for group in left:
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Whether anything was there to get the signal; 0 only asks."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1])
