"""One look as text: for scripts, for a terminal without textual, for a report."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from cli.output import Column, print_table, say
from cli.top.look import (
    FAILED_TITLES,
    QUEUE_TITLES,
    RUNNING_TITLES,
    Look,
    Row,
    failed_rows,
    queue_rows,
    running_rows,
    summary,
    troubles,
)

ROWS = 10


def print_look(look: Look) -> None:
    for line in [*summary(look), *troubles(look)]:
        say(line)
    _table(QUEUE_TITLES, queue_rows(look), "No queues yet.", rigid=2)
    _table(RUNNING_TITLES, running_rows(look), "Nothing runs.", rigid=3)
    _table(FAILED_TITLES, failed_rows(look), "Nothing failed lately.", rigid=3)


def _table(titles: Sequence[str], rows: Sequence[Row], empty: str, *, rigid: int) -> None:
    """Columns after the first and before the `rigid`th keep their width."""
    say()
    if not rows:
        say(empty)
        return
    columns: list[Column[_Cells]] = [
        Column(title, lambda row, place=place: row.cells[place], rigid=0 < place < rigid)  # type: ignore[misc]
        for place, title in enumerate(titles)
    ]
    print_table([_Cells(row.cells) for row in rows[:ROWS]], columns)
    if len(rows) > ROWS:
        say(f"and {len(rows) - ROWS:,} more")


class _Cells(Struct):
    cells: tuple[str, ...]
