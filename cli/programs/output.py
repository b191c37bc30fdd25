"""What a program prints, as log lines: bounded in number and length, whatever it is. Pure.

A line is cut at `LINE_MAX` bytes. The first `HEAD` lines are told at once; of what follows the last `TAIL` are told at
the end, after a line that says how many were left out: the end of a long output is what one looks for. Bytes that are
not UTF-8 are spelled `\\xff`. An output of a gigabyte costs the time to read it, and no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

LINE_MAX = 4_000
HEAD = 400
TAIL = 50
"""Two streams of these stay below the lines that an attempt may log."""


class Lines:
    """One stream, fed in pieces of any size."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._open = b""  # a line that has not ended yet, at most LINE_MAX + 1 bytes of it
        self._tail: deque[bytes] = deque(maxlen=TAIL)
        self._last: deque[bytes] = deque(maxlen=TAIL)
        self._count = 0

    def feed(self, data: bytes) -> None:
        first, *others = data.split(b"\n") if self._count < HEAD else self._newest(data)
        self._open += first[: LINE_MAX + 1 - len(self._open)]
        for piece in others:
            self._end_line(self._open)
            self._open = piece[: LINE_MAX + 1]

    def _newest(self, data: bytes) -> list[bytes]:
        """Beyond the head only the last lines can ever be told: the others are counted and not cut out."""
        begin, *ends = data.rsplit(b"\n", TAIL + 1)
        if len(ends) <= TAIL:
            return [begin, *ends]
        self._count += begin.count(b"\n") + 1
        self._open = b""
        return ends

    def close(self) -> None:
        """The stream is over: its last line may have no end, and what was held back is told."""
        if self._open:
            self._end_line(self._open)
            self._open = b""
        left_out = self._count - HEAD - len(self._tail)
        if left_out > 0:
            self._tell(f"... {left_out:,} lines left out ...")
        while self._tail:
            self._tell(text_of(self._tail.popleft()))

    def last(self, count: int) -> list[str]:
        """The last lines, at most `count` and `TAIL`."""
        return [text_of(line) for line in list(self._last)[-count:]]

    def _end_line(self, line: bytes) -> None:
        self._count += 1
        self._last.append(line)
        if self._count <= HEAD:
            self._tell(text_of(line))
        else:
            self._tail.append(line)


def text_of(line: bytes) -> str:
    """The line as text; one that was cut says so."""
    text = line[:LINE_MAX].removesuffix(b"\r").decode("utf-8", "backslashreplace")
    return f"{text}... (cut)" if len(line) > LINE_MAX else text
