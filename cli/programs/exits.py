"""What the end of a program means for its attempt. Pure.

Exit code 0: succeeded. 64 and 65, EX_USAGE and EX_DATAERR of sysexits.h(3head) (the command line or the input is wrong,
so no further try would help): failed for good; `--no-retry` names other codes. Every other one, EX_TEMPFAIL (75) among
them, and death by a signal: tried again while tries are left.
"""

from __future__ import annotations

import re
import signal

from scheduler.core.errors import InvalidArgument
from scheduler.worker import Fail, Retry

NO_RETRY = "64,65"
_CODES = re.compile(r"\d{1,3}(?:,\d{1,3})*", re.ASCII)
CANNOT_RUN = 126
NOT_FOUND = 127


class ExitCode(Retry):
    """The program failed. `details`, the end of what it wrote to standard error, is on record as its traceback."""

    __module__ = "exec"  # the record says exec.ExitCode

    def __init__(self, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.details = details


class FinalExitCode(Fail):
    """The program failed, and says that no further try would help."""

    __module__ = "exec"

    def __init__(self, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.details = details


def read_codes(text: str) -> frozenset[int]:
    """The exit codes of `--no-retry`: `64,65`; empty: none. Raises InvalidArgument."""
    codes = frozenset(int(code) for code in text.split(",")) if _CODES.fullmatch(text) else frozenset()
    if text and (not codes or not all(1 <= code <= 255 for code in codes)):
        raise InvalidArgument(f"--no-retry {text!r:.40}: write exit codes from 1 to 255, as 64,65", field="no_retry")
    return codes


def failure_of(code: int, no_retry: frozenset[int], stderr_tail: list[str]) -> ExitCode | FinalExitCode | None:
    """What to raise for an exit code (negative: the signal that killed it); None if it succeeded."""
    if code == 0:
        return None
    told = f"killed by {_signal(-code)}" if code < 0 else f"exit code {code}{_meaning(code)}"
    last = next((line for line in reversed(stderr_tail) if line.strip()), "")
    message = f"{told}: {last.strip()}" if last else told
    kind = FinalExitCode if code in no_retry else ExitCode
    return kind(message, "\n".join(stderr_tail) or None)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _meaning(code: int) -> str:
    return {CANNOT_RUN: " (it cannot be executed)", NOT_FOUND: " (command not found)"}.get(code, "")
