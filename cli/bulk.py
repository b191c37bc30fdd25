"""Many changes at once: bounded, in order, with a progress bar on a terminal, and every failure told at the end."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from cli.output import clean, warn
from scheduler.core.errors import Internal, ScheddError, Unavailable

WIDTH = 64  # requests under way; the daemon plans what arrives together in one batch
BAR_FROM = 50  # changes from which on a bar is worth it
FAILURES_SHOWN = 20

T = TypeVar("T")
R = TypeVar("R")


async def carry_out(
    items: Sequence[T], change: Callable[[T], Awaitable[R]], *, title: str, width: int = WIDTH
) -> AsyncIterator[tuple[T, R | ScheddError]]:
    """What became of each item, in their order; once nobody answers any more, the rest is not tried.

    Whoever stops listening stops what has not begun; what has begun is waited for, so that nothing ends half told.
    """
    running: deque[tuple[T, asyncio.Task[R]]] = deque()
    waiting, gone = iter(items), False
    try:
        with progress(title, len(items)) as advance:
            while True:
                while not gone and len(running) < width and (item := next(waiting, _END)) is not _END:
                    running.append((item, asyncio.ensure_future(change(item))))  # type: ignore[arg-type]  # not _END
                if not running:
                    return
                item, task = running.popleft()
                try:
                    outcome: R | ScheddError = await task
                except ScheddError as problem:
                    outcome = problem
                    gone = gone or isinstance(problem, Unavailable)
                advance()
                yield item, outcome
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


_END: object = object()


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error while the block runs, if that is a terminal; call what it gives for each one done."""
    if total < BAR_FROM or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def tell_failures(failures: Sequence[tuple[str, ScheddError]], *, total: int, tried: int, what: str) -> None:
    """Each failure in a line, then the error that ends the command. Nothing if there is none.

    `what`: "not paused". Failures of one kind keep their exit code; mixed ones are a plain failure.
    """
    if not failures:
        return
    for schedule_id, problem in failures[:FAILURES_SHOWN]:
        warn(f"{schedule_id}: {clean(problem.message)}")
    if len(failures) > FAILURES_SHOWN:
        warn(f"and {len(failures) - FAILURES_SHOWN:,} more")
    untried = f", {total - tried:,} not tried" if tried < total else ""
    kinds = {type(problem) for _, problem in failures}
    kind = kinds.pop() if len(kinds) == 1 else Internal
    gone = [problem for _, problem in failures if isinstance(problem, Unavailable)]
    raise (type(gone[0]) if gone else kind)(f"{len(failures):,} of {total:,} schedules were {what}{untried}")
