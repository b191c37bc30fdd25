"""`schedd demo`: a server, a replica, a worker and a few schedules in this process, and a table of what happens.

What is shown is kept apart from what is run: `Board` holds the executions, `Screen` (a terminal) and `Lines` (anything
else) show them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self

from cli.output import clean, console, instant, say, seconds, styled, warn
from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import format_instant, parse_duration
from scheduler.wire.record import Record

if TYPE_CHECKING:
    from rich.table import Table

    from scheduler.client import Client
    from scheduler.worker import Worker

QUEUE = "demo"
POLL_S = 0.2
SETTLE_S = 6.0  # how long what runs at the end may still take
LONGEST = timedelta(hours=1)
ROWS_KEPT = 500
LINE_MAX = 80
OVER = frozenset(
    {"succeeded", "failed", "cancelled", "timed_out", "lost", "skipped", "missed", "paused", "superseded", "expired"}
)
TITLES = ("FIRED AT", "SCHEDULE", "STATE", "TRY", "LATE", "TOOK", "RESULT")


def schedules(now: datetime) -> dict[str, dict[str, Any]]:
    """What the demo schedules: an interval, a cron expression, a flaky task that is tried again, a one-shot."""
    soon = format_instant(now.replace(microsecond=0) + timedelta(seconds=4))
    return {
        "hello": {"every": "1s", "queue": QUEUE, "type": "demo:hello", "payload": {"name": "world"}},
        "report": {"cron": "*/3 * * * * *", "queue": QUEUE, "type": "demo:report"},
        "flaky": {"every": "5s", "queue": QUEUE, "type": "demo:flaky", "backoff": {"initial": "300ms"}},
        "once": {"at": soon, "queue": QUEUE, "type": "demo:hello"},
    }


def make_worker(nats_url: str) -> Worker:
    """A worker as users write them."""
    from scheduler.worker import TaskContext, Worker

    worker = Worker(QUEUE, nats=nats_url)

    @worker.task("demo:hello")
    async def hello(payload: Any) -> str:
        return f"hello, {(payload or {}).get('name', 'you')}"

    @worker.task("demo:report")
    async def report(payload: Any) -> dict[str, int]:
        await asyncio.sleep(0.6)
        return {"pages": 3}

    @worker.task("demo:flaky")
    async def flaky(payload: Any, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise ConnectionError("the first attempt always fails")
        return f"attempt {ctx.attempt} did it"

    return worker


class Board:
    """The executions of the demo as last seen."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def take(self, records: Iterable[Record]) -> list[Record]:
        """Take in what was read; those that changed, oldest first."""
        changed = [record for record in records if self._is_news(record)]
        self._records.update({record.id: record for record in changed})
        return sorted(changed, key=lambda record: (record.fire_at, record.id))

    def _is_news(self, record: Record) -> bool:
        known = self._records.get(record.id)
        return known is None or (known.state, known.attempt) != (record.state, record.attempt)

    def newest(self, count: int) -> list[Record]:
        """The newest ones, oldest first."""
        ordered = sorted(self._records.values(), key=lambda record: (record.fire_at, record.id))
        return ordered[-count:]

    @property
    def is_settled(self) -> bool:
        """Nothing is under way."""
        return all(record.state in OVER for record in self._records.values())

    @property
    def has_succeeded(self) -> bool:
        """There were executions, and every one succeeded."""
        return bool(self._records) and all(record.state == "succeeded" for record in self._records.values())

    def summary(self) -> str:
        """`23 executions: 23 succeeded`."""
        counts = Counter(str(record.state) for record in self._records.values())
        told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        return f"{len(self._records)} executions" + (f": {told}" if told else "")


def cells(record: Record) -> tuple[str, ...]:
    """One row of the table, as TITLES."""
    return (
        instant(record.fire_at)[11:],
        record.schedule,
        str(record.state),
        f"{record.attempt}/{record.max_tries}" if record.attempt else "-",
        seconds(record.lateness_s),
        seconds(record.duration_s) if record.state in OVER else "-",
        outcome(record),
    )


def outcome(record: Record) -> str:
    """The result of what succeeded; why the rest did not (yet)."""
    if record.state == "succeeded":
        result = bytes(record.result).decode("utf-8", "replace")
        return "" if result == "null" else clean(result)
    if record.error is not None:
        return clean(f"{record.error.type}: {record.error.message}")
    return record.reason or ""


class View(Protocol):
    """Somebody who shows the board."""

    def show(self, board: Board, changed: Sequence[Record]) -> None: ...


class Lines:
    """For logs and pipes: a line for each change."""

    def __enter__(self) -> Self:
        say(_line(TITLES))
        sys.stdout.flush()
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()

    def show(self, board: Board, changed: Sequence[Record]) -> None:
        for record in changed:
            say(_line(cells(record)))
        sys.stdout.flush()


def _line(texts: Sequence[str]) -> str:
    """One line of at most 80 characters; a long result gives way."""
    widths = (13, 8, 10, 3, 5, 5, 0)
    line = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()
    return line if len(line) <= LINE_MAX else line[: LINE_MAX - 1] + "…"


class Screen:
    """For a terminal: a table that grows until it fills the screen, then scrolls."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = console()
        self._live = Live(console=self._console, auto_refresh=False, transient=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, board: Board, changed: Sequence[Record]) -> None:
        if changed:
            self._live.update(table_of(board, max(5, self._console.height - 5)), refresh=True)


def table_of(board: Board, rows: int) -> Table:
    """The newest executions; states, times and spans whole at 80 columns, only the result is cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in TITLES:
        right = title in {"TRY", "LATE", "TOOK"}
        table.add_column(title, no_wrap=title != TITLES[-1], justify="right" if right else "left")
    for record in board.newest(rows):
        row = [styled(cell) for cell in cells(record)]
        row[-1].no_wrap, row[-1].overflow = True, "ellipsis"  # its column gives way, its lines stay one
        table.add_row(*row)
    return table


# --- running it


def show(duration: str) -> int:
    """Run the demo; 0 if every execution succeeded. Raises InvalidArgument, Unavailable."""
    span = parse_duration(duration, field="for")
    if not timedelta(seconds=1) <= span <= LONGEST:
        raise InvalidArgument("--for: use 1s to 1h", field="for")
    return asyncio.run(_run(span.total_seconds()))


async def _run(for_s: float) -> int:
    """SIGTERM ends it as Ctrl-C does: by cancelling, so that everything is cleaned up."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    board = Board()
    await _perform(board, for_s)
    say(board.summary())
    if not board.has_succeeded:
        warn("not every execution succeeded")
    return 0 if board.has_succeeded else 1


async def _perform(board: Board, for_s: float) -> None:
    from scheduler.client import Client
    from scheduler.testing import LocalSchedd

    async with (
        LocalSchedd() as local,
        Client.connect(local.nats_url, name="schedd demo") as client,
        _working(local.nats_url),
    ):
        with Screen() if sys.stdout.isatty() else Lines() as view:
            await _play(client, board, view, for_s)


async def _play(client: Client, board: Board, view: View, for_s: float) -> None:
    from scheduler.system.clock import SystemClock

    definitions = schedules(SystemClock().now())
    for schedule_id, definition in definitions.items():
        await client.schedules.put(schedule_id, definition)
    await _watch(client, board, view, for_s)
    for schedule_id in definitions:
        await client.schedules.delete(schedule_id)
    await _settle(client, board, view)


@asynccontextmanager
async def _working(nats_url: str) -> AsyncIterator[None]:
    worker = make_worker(nats_url)
    serving = asyncio.create_task(worker.serve(), name="demo-worker")
    try:
        yield
    finally:
        await worker.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _watch(client: Client, board: Board, view: View, for_s: float) -> None:
    until = asyncio.get_running_loop().time() + for_s
    while asyncio.get_running_loop().time() < until:
        await _look(client, board, view)
        await asyncio.sleep(POLL_S)


async def _settle(client: Client, board: Board, view: View) -> None:
    """What was due before the end may end; the first look afterwards sees all of it."""
    until = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        await _look(client, board, view)
        if board.is_settled or asyncio.get_running_loop().time() > until:
            return
        await asyncio.sleep(POLL_S)


async def _look(client: Client, board: Board, view: View) -> None:
    from scheduler.client import first

    records = [record async for record in first(client.executions.list(queue=QUEUE), ROWS_KEPT)]
    view.show(board, board.take(records))
