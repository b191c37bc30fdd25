"""`schedctl events`: what happened, and what happens."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Raw

from cli.connecting import Connection, connected
from cli.output import Format, clean, console, print_array, print_json_lines, shown_as, warn
from cli.spans import METAVAR, instant_of
from scheduler.client import Event, Watch
from scheduler.wire.events import Kind
from scheduler.wire.instants import format_instant

SINCE = "1h"
WIDTH_MAX = 160  # of the data of one event, on a terminal; a pipe and --json get all of it
LARGE = frozenset({"definition", "calendar_definitions"})
STYLES: Mapping[str, str] = {
    Kind.APPLIED: "green", Kind.RESUMED: "green", Kind.INVALID: "red", Kind.PAUSED: "yellow", Kind.VERDICTS: "yellow",
    Kind.DELETED: "yellow", Kind.LEADER: "cyan", Kind.ADMIN: "magenta",
}  # fmt: skip
KIND_WIDTH = max(len(kind) for kind in Kind)


@connected
@shown_as("json")
async def events(
    connection: Connection,
    shown: Format,
    follow: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on with what comes.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help=f"One of {', '.join(Kind)}; may be repeated.")
    ] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="ID", help="About this schedule.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar=METAVAR, help=f"From so long ago, or from this instant on; default {SINCE}; -f: now."
        ),
    ] = None,
) -> None:
    """Show what happened: definitions applied, executions finished, who did what. With `--json -f` each is one line."""
    begin = instant_of(since or SINCE, field="since") if since or not follow else "now"
    async with connection.client() as client:
        read = client.watch if follow else client.events
        async with read(kind or None, schedule=schedule, since=begin) as watch:
            if shown.json:
                bodies = _bodies(watch)
                await (print_json_lines(bodies) if follow else print_array(bodies))
            elif not await _print(watch):
                warn(f"No events since {begin}. Earlier ones: --since 24h; those to come: -f")


async def _bodies(watch: Watch) -> AsyncIterator[Raw]:
    async for event in watch:
        yield Raw(event.body)


async def _print(watch: Watch) -> int:
    out, count, most = console(), 0, WIDTH_MAX if sys.stdout.isatty() else None
    async for event in watch:
        out.print(
            line(event, most), soft_wrap=True,
            style=STYLES.get(Kind(event.kind), "") if event.kind in list(Kind) else "",
        )  # fmt: skip
        sys.stdout.flush()
        count += 1
    return count


def line(event: Event, most: int | None = None) -> str:
    """`2026-11-21 09:52:41.066Z  finished  report  state=succeeded ...`; what is large is left out, as is what `most`
    characters of data have no room for."""
    at = format_instant(event.at).replace("T", " ")
    facts = "  ".join(_facts(event.data))
    facts = facts if most is None or len(facts) <= most else facts[: most - 1] + "…"
    return clean(f"{at}  {event.kind:<{KIND_WIDTH}}  {event.schedule or '-'}  {facts}").rstrip()


def _facts(data: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name, value in data.items():
        if isinstance(value, dict) and name not in LARGE:
            found += _facts(value)
        elif value is not None and name not in LARGE:
            found.append(f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}")
    return found
