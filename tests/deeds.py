"""What a test did to processes, servers and links: counted where it is done to something that lives, told at its end.

A fault run is worth nothing if its fault did not happen. Each test of one asserts that by its own means; this is what
its page can show.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

_seen: Counter[str] = Counter()
_counts = [True]


def note(deed: str) -> None:
    """`SIGKILL to a replica`, `a link cut`: it has happened."""
    if _counts[-1]:
        _seen[deed] += 1


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What is done in it is no fault: a test that tidies up."""
    _counts.append(False)
    try:
        yield
    finally:
        _counts.pop()


def forget() -> None:
    """A test begins."""
    _seen.clear()


def told() -> str:
    """One line; empty when nothing was done."""
    counts = ", ".join(f"{count}x {deed}" for deed, count in sorted(_seen.items()))
    return f"happened: {counts}" if counts else ""
