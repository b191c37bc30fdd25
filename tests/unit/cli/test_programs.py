"""What a program prints and how it ends, without running one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.programs.exits import ExitCode, FinalExitCode, failure_of, read_codes
from cli.programs.output import HEAD, LINE_MAX, TAIL, Lines
from scheduler.core.errors import InvalidArgument

CODES = frozenset({64, 65})


def told(*pieces: bytes) -> list[str]:
    found: list[str] = []
    lines = Lines(found.append)
    for piece in pieces:
        lines.feed(piece)
    lines.close()
    return found


@given(
    st.lists(st.sampled_from([b"a", b"bb", b"", b"\xc3\xbc"]), max_size=3 * HEAD // 2 + 2 * TAIL),
    st.lists(st.integers(1, 200), min_size=1, max_size=8),
)
def test_lines_are_the_same_however_they_come(lines: list[bytes], sizes: list[int]) -> None:
    """Cut into any pieces, the head and the tail are told, in order, and the number of those between is right."""
    data = b"".join(line + b"\n" for line in lines)
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    texts = [line.decode() for line in lines]
    expected = texts
    if len(texts) > HEAD + TAIL:
        expected = [*texts[:HEAD], f"... {len(texts) - HEAD - TAIL:,} lines left out ...", *texts[-TAIL:]]
    assert told(*pieces) == expected
    assert told(data) == expected


def test_a_long_line_is_cut_and_a_last_one_needs_no_end() -> None:
    """Bytes beyond the limit are dropped, the next line is whole; what is not UTF-8 is spelled."""
    assert told(b"x" * LINE_MAX, b"y" * 10, b"\nnext\r\n", b"\xff end") == [
        "x" * LINE_MAX + "... (cut)",
        "next",
        "\\xff end",
    ]


def test_the_last_lines_are_kept_for_the_record() -> None:
    """The newest ones, whether they were told or held back."""
    lines = Lines(lambda text: None)
    lines.feed(b"".join(b"%d\n" % number for number in range(1000)))
    assert lines.last(3) == ["997", "998", "999"]


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (65, FinalExitCode, "exit code 65: why"),
        (75, ExitCode, "exit code 75: why"),
        (127, ExitCode, "exit code 127 (command not found): why"),
        (-9, ExitCode, "killed by SIGKILL: why"),
        (-63, ExitCode, "killed by signal 63: why"),
    ],
)
def test_how_it_ended(code: int, kind: type[Exception], message: str) -> None:
    """The message names code or signal and the last line of standard error; 65 is final."""
    failure = failure_of(code, CODES, ["first", "why ", ""])
    assert isinstance(failure, kind)
    assert str(failure) == message
    assert failure.details == "first\nwhy \n"


def test_success_is_no_failure() -> None:
    """Exit code 0."""
    assert failure_of(0, CODES, ["noise"]) is None


@pytest.mark.parametrize("text", ["0", "256", "x", "64,,65", "64,", "-1"])
def test_codes_that_are_none(text: str) -> None:
    """Anything but codes from 1 to 255 with commas between is refused, and the option is named."""
    with pytest.raises(InvalidArgument, match="--no-retry"):
        read_codes(text)


def test_codes() -> None:
    """A list, or none at all."""
    assert read_codes("64,65") == CODES
    assert read_codes("") == frozenset()
