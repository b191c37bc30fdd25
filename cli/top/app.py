"""The screen. It shows what it is given: who looks, and how often, comes in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Input, Static

from cli.output import STYLES
from cli.top.look import (
    FAILED_TITLES,
    QUEUE_TITLES,
    RUNNING_TITLES,
    SORTS,
    Look,
    Row,
    failed_rows,
    queue_rows,
    running_rows,
    summary,
    troubles,
)

ROWS_MAX = 200


class Top(App[None]):
    """`look` is asked every `every_s` seconds, one at a time."""

    TITLE = "schedctl top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: auto; max-height: 5; padding: 0 1; }
    #filter { display: none; height: 1; border: none; padding: 0 1; }
    #filter.shown { display: block; }
    DataTable { height: 1fr; scrollbar-size-vertical: 1; }
    #queues { max-height: 7; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "Quit"),
        Binding("p,space", "pause", "Pause"),
        Binding("s", "sort", "Sort"),
        Binding("slash", "filter", "Filter"),
        Binding("escape", "clear", "Clear", show=False),
    ]

    def __init__(self, look: Callable[[], Awaitable[Look]], *, every_s: float) -> None:
        super().__init__()
        self._look, self._every_s = look, every_s
        self._last: Look | None = None
        self._paused = False
        self._sort = 0
        self._only = ""

    def compose(self) -> ComposeResult:
        yield Static("looking ...", id="summary")
        yield Input(placeholder="part of an id, queue, type or worker; Enter keeps it, Escape clears it", id="filter")
        with Vertical():
            for name, titles in (("queues", QUEUE_TITLES), ("running", RUNNING_TITLES), ("failed", FAILED_TITLES)):
                table: DataTable[Text] = DataTable(id=name, cursor_type="row", zebra_stripes=False, cell_padding=1)
                table.add_columns(*titles)
                yield table
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#running").focus()
        self.run_worker(self._watch(), name="looks", exclusive=True)

    async def _watch(self) -> None:
        from asyncio import sleep

        while True:
            if not self._paused:
                self._last = await self._look()
                self._show()
            await sleep(self._every_s)

    # --- keys

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._show()

    def action_sort(self) -> None:
        self._sort = (self._sort + 1) % len(SORTS)
        self._show()

    def action_filter(self) -> None:
        self.query_one("#filter", Input).add_class("shown").focus()

    def action_clear(self) -> None:
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._only = event.value
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("shown")
        self.query_one("#running").focus()

    # --- drawing

    def _show(self) -> None:
        look = self._last
        if look is None or not self.is_running:  # a look may come back when the screen is being taken down
            return
        self.query_one("#summary", Static).update(Text("\n").join(self._header(look)))
        self._fill("queues", queue_rows(look, self._only))
        self._fill("running", running_rows(look, SORTS[self._sort], self._only))
        self._fill("failed", failed_rows(look, self._only))

    def _header(self, look: Look) -> list[Text]:
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in summary(look)]
        if look.health is not None:
            lines[0].stylize(f"bold {STYLES.get(look.health.level.upper(), '')}", 0, len(look.health.level))
        modes = (f"by {SORTS[self._sort]}", "PAUSED" if self._paused else "", f"/{self._only}" if self._only else "")
        lines.append(Text(" · ".join(mode for mode in modes if mode), style="dim"))
        notes = [f"no answer: {look.problem}"] if look.problem else troubles(look)[:2]
        return [*lines, *(Text(note, style="yellow", no_wrap=True, overflow="ellipsis") for note in notes)]

    def _fill(self, name: str, rows: Sequence[Row]) -> None:
        """Anew each time: a few rows; the cursor stays where it was."""
        table: DataTable[Text] = self.query_one(f"#{name}", DataTable)
        at = table.cursor_row
        table.clear()
        for row in rows[:ROWS_MAX]:
            table.add_row(*(Text(cell, style=STYLES.get(cell, ""), no_wrap=True) for cell in row.cells))
        table.move_cursor(row=min(at, len(rows) - 1) if rows else 0, animate=False)
