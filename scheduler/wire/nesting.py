"""How deep JSON is nested, without reading it: what is kept as it is must be readable wherever it is kept.

Parsers end at some depth, and which one depends on who calls them from where. So whatever schedd stores and passes on
is held to a depth that all of them take.
"""

from __future__ import annotations

import re

DEPTH_MAX = 200
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def is_too_deep(raw: bytes, depth_max: int = DEPTH_MAX) -> bool:
    """Whether objects and arrays of this JSON (any bytes will do) are nested deeper than that."""
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return False
    depth = 0
    for match in _TOKENS.finditer(raw):
        token = match.group()
        if token in b"[{":
            depth += 1
            if depth > depth_max:
                return True
        elif token in b"]}":
            depth -= 1
    return False
