"""What commands print: tables for people, `--json` and `--names` for scripts.

Colours only on a terminal. A table keeps to the width of the terminal (or to COLUMNS): states and times are always
whole, ids and texts give way by wrapping. Into a pipe nothing is cut. Text of others never reaches the terminal with
its control characters.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec
import typer
from msgspec import Raw, Struct

from cli.errors import ReaderGone
from cli.options import Command, expand, option
from scheduler.core.errors import InvalidArgument

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

T = TypeVar("T", bound=Struct)
UNLIMITED = 100_000  # columns, where no terminal sets a limit
GAP = 2
NARROW = 12  # columns that an id or a text needs at least
WIDE = 120  # from here on a table shows its extra columns
STYLES = {
    "active": "green", "succeeded": "green", "fired": "green", "applied": "green",
    "running": "cyan", "queued": "blue", "claimed": "blue", "waiting": "blue", "retrying": "magenta",
    "unexplained": "red", "pending": "blue", "failed": "red", "timed_out": "red", "lost": "red", "invalid": "red",
    "paused": "yellow", "skipped": "yellow", "missed": "yellow", "cancelled": "yellow", "expired": "yellow",
    "superseded": "dim", "exhausted": "dim",
    "OK": "green", "WARN": "yellow", "CRIT": "red",
}  # fmt: skip


class Format(NamedTuple):
    """How a read was asked to be shown; neither: a table."""

    json: bool = False
    names: bool = False


_JSON = option("json", bool, "--json", default=False, text="Print exactly the bodies of the API.")
_NAMES = option("names", bool, "--names", default=False, text="Print ids only, one a line.")


def shown_as(*words: str) -> Callable[[Command], Command]:
    """Give a command the options `--json` and, for a list, `--names`; it gets them as `shown`."""
    parameters: list[inspect.Parameter] = [{"json": _JSON, "names": _NAMES}[word] for word in words]

    def collect(values: Mapping[str, Any]) -> Format:
        found = Format(**values)
        if found.json and found.names:
            raise typer.BadParameter("--json and --names exclude each other")
        return found

    return lambda function: expand(function, "shown", parameters, collect)


class Column(NamedTuple, Generic[T]):
    """`rigid` columns keep their width, the others wrap; `wide` ones show only where there is room."""

    title: str
    value: Callable[[T], str]
    rigid: bool = False
    wide: bool = False
    right: bool = False


# --- text


def clean(text: str) -> str:
    """The text with control characters (escape sequences, new lines) spelled out."""
    return "".join(char if char.isprintable() else _spelled(char) for char in text)


def _spelled(char: str) -> str:
    return " " if char in "\n\t\r" else char.encode("unicode_escape").decode()


def clean_lines(text: str) -> str:
    """As `clean`, but lines stay lines: for tracebacks."""
    return "\n".join(clean(line) for line in text.splitlines())


def styled(text: str) -> Text:
    """A cell: states in their colour, everything else as it is."""
    from rich.text import Text

    return Text(clean(text), style=STYLES.get(text, ""))


def instant(text: str | None) -> str:
    """`2026-11-21T08:00:00.000Z` as `2026-11-21 08:00:00Z`, with the milliseconds only if there are any."""
    if not text:
        return "-"
    return re.sub(r"^(\S{10})T(\S{8})(\.000)?", r"\1 \2", text)


def seconds(value: float | None) -> str:
    """`12ms`, `3.2s`, `1m05s`, `2h05m`."""
    if value is None:
        return "-"
    sign, value = ("-" if value < 0 else ""), abs(value)
    if value < 0.9995:
        return f"{sign}{value * 1000:.0f}ms"
    if value < 59.95:
        return f"{sign}{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{sign}{minutes}m{rest:02d}s" if minutes < 60 else f"{sign}{minutes // 60}h{minutes % 60:02d}m"


# --- printing


def console(stream: Any = None) -> Console:
    """A console on stdout as it is now: width and colours are those of the moment."""
    from rich.console import Console

    target = stream or sys.stdout
    narrow = target.isatty() or os.environ.get("COLUMNS", "").isdigit()
    made = Console(file=target, width=None if narrow else UNLIMITED, highlight=False, markup=False, emoji=False)
    made.on_broken_pipe = _reader_gone  # type: ignore[method-assign]  # its own ends the process with 1
    return made


def _reader_gone() -> None:
    raise ReaderGone


def say(text: str = "") -> None:
    """A line for whoever reads the answer."""
    print(text)


def warn(text: str) -> None:
    """A line beside the answer: errors, hints, warnings."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def paint(text: str, style: str) -> None:
    """A line in a colour, on a terminal; the text may hold anything."""
    if not sys.stdout.isatty():
        say(clean(text))
        return
    from rich.text import Text

    console().print(Text(clean(text), style=style))


def print_json(body: bytes | Raw) -> None:
    """A body of the API, indented; numbers and order stay as they came."""
    say(msgspec.json.format(bytes(body), indent=2).decode("utf-8", "replace"))


def print_table(rows: Iterable[T], columns: Sequence[Column[T]]) -> None:
    from rich.table import Table

    out = console()
    shown = [column for column in columns if not column.wide or out.width >= WIDE]
    cells = [[column.value(row) for column in shown] for row in rows]
    if _least_width(shown, cells) > out.width:
        _print_stacked(shown, cells)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in shown:
        table.add_column(
            column.title, no_wrap=column.rigid, overflow="fold", justify="right" if column.right else "left"
        )
    for row in cells:
        table.add_row(*map(styled, row))
    _print_trimmed(out, table)


def _least_width(columns: Sequence[Column[T]], cells: Sequence[Sequence[str]]) -> int:
    """The width below which such a table could not be read."""
    whole = [max(len(column.title), *(len(row[place]) for row in cells), 0) for place, column in enumerate(columns)]
    least = [width if column.rigid else min(width, NARROW) for column, width in zip(columns, whole, strict=True)]
    return sum(least) + GAP * (len(columns) - 1)


def _print_stacked(columns: Sequence[Column[T]], cells: Sequence[Sequence[str]]) -> None:
    """Where a table has no room: each row as lines of its own."""
    for number, row in enumerate(cells):
        if number:
            say()
        print_facts([(column.title, cell) for column, cell in zip(columns, row, strict=True) if cell not in {"", "-"}])


def print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Names and values, one a line; facts without a value are left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(name, styled(value))
    _print_trimmed(console(), table)


def _print_trimmed(out: Console, table: Table) -> None:
    """Without the blanks that fill the last column: nobody wants them in a file."""
    with out.capture() as captured:
        out.print(table)
    out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def heading(text: str) -> None:
    from rich.text import Text

    out = console()
    out.print()
    out.print(Text(text, style="bold"))


async def print_list(
    items: AsyncIterator[Raw],
    kind: type[T],
    columns: Sequence[Column[T]],
    shown: Format,
    *,
    empty: str,
) -> int:
    """A list in the format asked for, and its length; every item has an `id`, or is a `worker` or an `action`.

    `empty` tells what to do next.
    """
    if shown.json:
        return await print_array(items)
    if shown.names:
        return await _print_names(items)
    rows = [msgspec.json.decode(item, type=kind) async for item in items]
    if rows:
        print_table(rows, columns)
    else:
        warn(empty)
    return len(rows)


async def _print_names(items: AsyncIterator[Raw]) -> int:
    count = 0
    async for item in items:
        named = msgspec.json.decode(item, type=_Named)
        say(named.name)
        count += 1
    return count


class _Named(Struct):
    id: str = ""
    worker: Any = ""  # of a worker its id, of an execution who carried it out
    schedule: Any = ""  # of an action its id, of a schedule the definition
    action: str = ""

    @property
    def name(self) -> str:
        """What the commands of its kind take."""
        return f"{self.schedule} {self.action}" if self.action else self.id or self.worker


async def print_array(items: AsyncIterator[Raw]) -> int:
    """One array, written as the pages come: a long list needs no memory."""
    count = 0
    async for item in items:
        begin = ",\n" if count else "[\n"
        sys.stdout.write(begin + msgspec.json.format(bytes(item), indent=2).decode("utf-8", "replace"))
        count += 1
    say("\n]" if count else "[]")
    return count


async def print_json_lines(items: AsyncIterator[Raw]) -> None:
    """One body a line, at once: for who reads along."""
    async for item in items:
        sys.stdout.write(bytes(item).decode("utf-8", "replace") + "\n")
        sys.stdout.flush()


def agreed(question: str) -> bool:
    """Ask on a terminal; a script has no one to ask, and means what it says."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return typer.confirm(question)


def must_agree(question: str, *, yes: bool) -> None:
    """Ask before many things are changed at once, unless `--yes` was given. Raises InvalidArgument where nobody can be
    asked, typer.Exit(1) at a no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgument("nobody to ask: give --yes to go on without", field="yes")
    if not typer.confirm(question):
        warn("Nothing done.")
        raise typer.Exit(1)
