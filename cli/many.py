"""One verb for many executions: show what it would meet, ask, go on through single failures, tell them at the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from msgspec import Raw, Struct

from cli.choosing import OLDER, Chosen, Filter, choose, records_of
from cli.output import Column, Format, clean, print_array, print_json, print_table, say, warn
from scheduler.client import Client, ListNotes
from scheduler.core.errors import InvalidArgument, NotFound, ScheddError, Unavailable
from scheduler.wire.record import Record

RATE_DEFAULT, RATE_MAX = 50.0, 1000.0
SHOWN_MAX = 20  # before the question; a dry run shows all
AT_ONCE = 8
UNAVAILABLE_MAX = 3  # in a row: nobody is there, and the rest would only wait for its turn to fail

DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Show which ones, and stop.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]
Rate = Annotated[float, typer.Option("--rate", metavar="N", min=0.1, max=RATE_MAX, help="At most that many a second.")]


def tries(execution: Chosen | Record) -> str:
    """`2/3`; of one that was retried counted over all drives, as the record does: `5/6`."""
    return f"{execution.attempt}/{execution.attempts_before + execution.max_tries}"


COLUMNS: Sequence[Column[Chosen]] = (
    Column("ID", lambda each: each.id),
    Column("STATE", lambda each: each.state, rigid=True),
    Column("TRY", tries, rigid=True, right=True),
    Column("QUEUE", lambda each: each.queue),
    Column("TYPE", lambda each: each.type, wide=True),
    Column("REASON", lambda each: each.reason or (each.error.type if each.error else "")),
)


class Verb(Struct, frozen=True):
    """`retry`, `retried`. `act` does it to one, and returns the record."""

    name: str
    done: str
    act: Callable[[Chosen], Awaitable[bytes]]


class Way(Struct, frozen=True):
    """How to go about it."""

    dry_run: bool
    yes: bool
    rate: float
    shown: Format

    def check(self, ids: list[str]) -> None:
        """Raises InvalidArgument where nobody could be asked."""
        is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        if not (ids or self.yes or self.dry_run or is_terminal):
            raise InvalidArgument("nobody to ask: give --yes to do it, or --dry-run to see which ones", field="yes")


async def for_each(client: Client, verb: Verb, ids: list[str], wanted: Filter, state: str, way: Way) -> None:
    """Choose, show, ask, do, tell. Who names ids has chosen already, and is not asked."""
    notes = ListNotes()
    if way.dry_run and way.shown.json:
        missing: list[NotFound] = []
        await print_array(records_of(client, ids, wanted, state, notes, missing))
    else:
        choice = await choose(client, ids, wanted, state, notes)
        missing = choice.missing
        await _go_about(verb, choice.found, way, asks=not ids, nothing=f"--state {wanted.state or state}")
    if notes.older:
        warn(OLDER)
    for each in missing:
        warn(f"not {verb.done}: {each.message}")
    if missing:
        raise typer.Exit(1)


async def _go_about(verb: Verb, chosen: Sequence[Chosen], way: Way, *, asks: bool, nothing: str) -> None:
    if not chosen:
        if way.shown.json:
            say("[]")
        warn(f"No execution matches ({nothing}).")
    elif way.dry_run:
        print_table(chosen, COLUMNS)
        warn(f"{_count(len(chosen))} would be {verb.done}.")
    elif way.yes or not asks or _agreed(verb, chosen):
        await _carry_out(verb, chosen, way)


def _agreed(verb: Verb, chosen: Sequence[Chosen]) -> bool:
    print_table(chosen[:SHOWN_MAX], COLUMNS)
    if len(chosen) > SHOWN_MAX:
        say(f"... and {len(chosen) - SHOWN_MAX:,} more (--dry-run shows all)")
    if typer.confirm(f"{verb.name.capitalize()} {_count(len(chosen))}?"):
        return True
    warn("Nothing done.")
    raise typer.Exit(1)


def _count(number: int) -> str:
    return "1 execution" if number == 1 else f"{number:,} executions"


async def _carry_out(verb: Verb, chosen: Sequence[Chosen], way: Way) -> None:
    outcome = _Outcome([None] * len(chosen), keeps=way.shown.json)
    with _progress(len(chosen)) as step:
        pace, left = _Pace(way.rate), iter(enumerate(chosen))
        await asyncio.gather(*(_go_through(verb, left, pace, outcome, step) for _ in range(AT_ONCE)))
    failed = [
        (each.id, found) for each, found in zip(chosen, outcome.found, strict=True) if isinstance(found, ScheddError)
    ]
    done = [found for found in outcome.found if isinstance(found, bytes)]
    untried = len(chosen) - len(done) - len(failed)
    if way.shown.json:
        print_json(Raw(b"[" + b",".join(done) + b"]"))
    else:
        say(f"{_count(len(done))} {verb.done}.")
    for execution_id, problem in failed:
        warn(f"not {verb.done}: {clean(execution_id)}: {problem.message}")
    if untried:
        warn(f"{_count(untried)} not tried: no daemon answers any more.")
    if failed:
        raise typer.Exit(1)


class _Outcome(Struct):
    """By place: the record, what met it, or None: not tried. `unavailable`: how many of the last ones nobody did."""

    found: list[bytes | ScheddError | None]
    keeps: bool
    unavailable: int = 0


class _Pace:
    """So many a second, whoever asks."""

    def __init__(self, rate: float) -> None:
        self._every_s, self._clock = 1 / rate, asyncio.get_running_loop().time
        self._due_s = self._clock()

    async def turn(self) -> None:
        due_s = max(self._due_s, self._clock())
        self._due_s = due_s + self._every_s
        await asyncio.sleep(max(0.0, due_s - self._clock()))


async def _go_through(
    verb: Verb, left: Iterator[tuple[int, Chosen]], pace: _Pace, outcome: _Outcome, step: Callable[[], None]
) -> None:
    """One of those who share what is left. Single failures are kept; who is alone at last stops."""
    for place, each in left:
        await pace.turn()
        if outcome.unavailable >= UNAVAILABLE_MAX:
            return
        try:
            record = await verb.act(each)
            outcome.found[place] = record if outcome.keeps else b""  # many records are more than we could hold
            outcome.unavailable = 0
        except ScheddError as problem:
            outcome.found[place] = problem
            outcome.unavailable = outcome.unavailable + 1 if isinstance(problem, Unavailable) else 0
        step()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar beside the answer, on a terminal, for what takes a while."""
    if not sys.stderr.isatty() or total < SHOWN_MAX:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
