"""Log lines as people read them: one each, values behind the message, what has several lines below it.

    2026-11-21 09:52:41.066Z  info     #2  sending  to=ann

Text of others: control characters are spelled out, so that no line moves the cursor or changes the colour.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from cli.output import clean, clean_lines, console
from scheduler.wire.lines import Line

STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}
LEVEL_WIDTH = len("critical")


async def print_lines(items: AsyncIterator[Raw]) -> int:
    """Each as it comes; how many there were."""
    out, count = console(), 0
    async for item in items:
        line = msgspec.json.decode(item, type=Line)
        for text in shown(line):
            out.print(text, style=STYLES.get(line.level), soft_wrap=True)
        sys.stdout.flush()
        count += 1
    return count


def shown(line: Line) -> Iterator[str]:
    """The texts of one line, the first with the message."""
    attempt = f"#{line.attempt}" if line.attempt is not None else "  "
    message, *more = clean_lines(line.message).split("\n")
    values = {name: text for name, text in _texts(line.values) if "\n" not in text}
    tail = "".join(f"  {clean(name)}={clean(text)}" for name, text in values.items())
    yield f"{line.at.replace('T', ' ')}  {clean(line.level):<{LEVEL_WIDTH}}  {attempt}  {message}{tail}".rstrip()
    yield from (f"    {each}" for each in more)
    for name, text in _texts(line.values):
        if name not in values:
            yield f"    {clean(name)}:"
            yield from (f"        {each}" for each in clean_lines(text.rstrip()).split("\n"))


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        yield name, value if isinstance(value, str) else msgspec.json.encode(value).decode()
